"""Paths of trainings with known places, distances and losses."""

from __future__ import annotations

import numpy as np

from lightning_landscape.trajectory import Trajectory


def walk(ndim: int = 2, metric: str = "loss", count: int = 6, **fields) -> Trajectory:
    """From 1.2, outside of ±1, straight to θ* at 0; half of the way is mostly off the plane.

    The share of the plane is 1 − Σ residual² / Σ distance²: in each record 0.36 or 0.84.
    """
    share = np.linspace(1, 0, count)
    points = 1.2 * share[:, None] * np.array([1.0, 0.6, -0.5, 0.2])[:ndim]
    distances = 3 * share
    residuals = distances * np.where(np.arange(count) < count // 2, 0.8, 0.4)
    steps = np.arange(0.0, 10 * count, 10)
    many = np.arange(0.0, steps[-1] + 1)
    rates = np.where(many < 25, 0.1, 0.01)
    known = {
        "losses": {metric: 0.2 + share},
        "plane_losses": {metric: 0.3 + share},
        "history": {
            "step": many, "norm": 5 + 0 * many, "distance": many / 10, "step_length": rates * (1 + many % 3),
            "cosine": np.cos(many), "learning_rate": rates, "loss": 0.1 + 1.5 / (1 + many),
        },
        "checkpoints": np.array([20.0, 40.0]),
    }  # fmt: skip
    return Trajectory(steps, points, residuals, distances, **{**known, **fields})
