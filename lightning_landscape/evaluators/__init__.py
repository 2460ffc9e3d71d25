"""Evaluators: how points are computed. One file and one row in EVALUATORS each; every one equals Sequential."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..isolation.effects import one_pass
from ..isolation.module_copy import module_copy
from ..isolation.rng import preserved
from ..objectives.base import Batch, LossFunction, Objective
from ..weights.plane import Plane
from .affine.affine import Affine, find_affine
from .base import Evaluator, EvaluatorWrapper, Measurement, Measurements, Stream
from .forked import Forked
from .mean_and_error import correction, mean_and_error
from .sequential import Sequential
from .vmapped import Vmapped

EVALUATORS: dict[str, Callable[..., Any]] = {
    "sequential": Sequential,
    "affine": lambda module, **options: Affine(Sequential(module, **options)),
}
if sys.platform == "linux":
    EVALUATORS["forked"] = lambda module, **options: Forked(Sequential(module, **options), processes=2)

__all__ = [
    "EVALUATORS",
    "Affine",
    "Evaluator",
    "EvaluatorWrapper",
    "Forked",
    "Measurement",
    "Measurements",
    "Sequential",
    "Stream",
    "Vmapped",
    "correction",
    "evaluate",
    "find_affine",
    "mean_and_error",
]


def evaluate(
    objective: Objective | Callable[[Any, Any], Any],
    module: nn.Module,
    plane: Plane,
    points: np.ndarray,
    batches: Sequence[Batch],
    *,
    seed: int = 42,
) -> dict[str, np.ndarray]:
    """The value of every metric at every point, for a plain `nn.Module`.

    The module itself is not touched: a copy of it in eval mode is moved. Every point starts from the same
    random streams (`seed`), which are put back at the end.

    Args:
        objective: an `Objective`, or a function ``(module, batch data) -> tensor or mapping`` as for
            `LossFunction`.
        module: the module whose parameters the plane moves.
        plane: origin and k directions.
        points: shape (n, k), in lengths of the directions.
        batches: the frozen data.
        seed: of the random numbers that every point shares.

    Returns:
        One float64 array of shape (n,) a metric: means over the samples.

    The quadratic ½ θᵀθ on a line through θ = (1, 1) along (1, 0):

    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.weight.data.fill_(1.0)
    >>> plane = Plane({"weight": net.weight.detach()}, ({"weight": torch.tensor([[1.0, 0.0]])},))
    >>> half_square = lambda module, batch: 0.5 * (module.weight ** 2).sum()
    >>> evaluate(half_square, net, plane, np.array([[-1.0], [0.0], [1.0]]), [Batch(None, 1)])["loss"]
    array([0.5, 1. , 2.5])
    """
    if not isinstance(objective, Objective):
        objective = LossFunction(objective)
    columns: dict[str, np.ndarray] = {}
    with one_pass(), preserved(), torch.inference_mode(False):  # inference tensors could not be moved
        evaluator = Sequential(module_copy(module, {}).eval(), seed=seed)
        for i, measurements in enumerate(evaluator(objective, plane, points, batches)):
            for name, (value, _) in measurements.items():
                columns.setdefault(name, np.full(len(points), np.nan))[i] = value
    return columns
