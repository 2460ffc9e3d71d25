"""Trajectory: the path of a training on the plane of a landscape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Columns = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The path of a training on a plane of k directions: T records of the weights, oldest first.

    Args:
        steps: the step of the optimiser at which each was recorded, shape (T,).
        points: the coordinates of the nearest point of the plane, shape (T, k), in lengths of each direction.
        residuals: the distance of each record from the plane, shape (T,).
        distances: the distance of each record from the centre θ* of the plane, shape (T,).
        losses: by metric of the landscape, the value of each record itself on the landscape's data, shape (T,).
        plane_losses: by metric, the value of the plane at `points`, shape (T,). It differs from `losses` where the
            path leaves the plane.
        metrics: other numbers recorded beside the weights, each of shape (T,); NaN where unknown.
        history: numbers of all N ≥ T records of the training, each of shape (N,). Weights are kept of T of them only.
            The columns are "step", "norm", "distance", "step_length", "cosine", "learning_rate" and "loss".
        checkpoints: the steps at which a checkpoint was saved, shape (C,).

    >>> path = Trajectory(np.arange(2.0), np.zeros((2, 2)), np.array([3.0, 0.0]), np.array([4.0, 0.0]))
    >>> path.residual_shares.tolist(), path.ndim
    ([0.75, 0.0], 2)
    """

    steps: Array
    points: Array
    residuals: Array
    distances: Array
    losses: Columns = field(default_factory=dict)
    plane_losses: Columns = field(default_factory=dict)
    metrics: Columns = field(default_factory=dict)
    history: Columns = field(default_factory=dict)
    checkpoints: Array = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        columns = {"points": self.points, "residuals": self.residuals, "distances": self.distances}
        for name, column in {**columns, **self.losses, **self.plane_losses, **self.metrics}.items():
            if len(column) != len(self.steps):
                raise ValueError(f"{name} has {len(column)} rows for {len(self.steps)} steps: give one row a step.")
        lengths = {name: len(column) for name, column in self.history.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"history has columns of different lengths: {lengths}. Give one row a record.")

    @property
    def ndim(self) -> int:
        """k, the number of coordinates of a point."""
        return self.points.shape[1]

    @property
    def residual_shares(self) -> Array:
        """residuals / distances, shape (T,): near 1 where the plane shows little of the record; 0 at the centre."""
        return np.divide(self.residuals, self.distances, out=np.zeros(len(self.steps)), where=self.distances > 0)


def equal_trajectories(a: Trajectory | None, b: Trajectory | None) -> bool:
    """True if both hold the same numbers, or both are None; NaN equals NaN."""
    if a is None or b is None:
        return a is b
    return all(_same(getattr(a, name), getattr(b, name)) for name in Trajectory.__dataclass_fields__)


def _same(p: Array | Mapping[str, Array], q: Array | Mapping[str, Array]) -> bool:
    if isinstance(p, Mapping) and isinstance(q, Mapping):
        return p.keys() == q.keys() and all(np.array_equal(p[key], q[key], equal_nan=True) for key in p)
    return np.array_equal(np.asarray(p), np.asarray(q), equal_nan=True)
