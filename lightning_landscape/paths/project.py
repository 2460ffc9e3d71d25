"""Recorded weights on the plane of a landscape: one function makes every trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from ..trajectory import Trajectory
from ..weights.parameters import Params
from ..weights.plane import Plane


@dataclass(eq=False)
class Recorded:
    """The records of a training, oldest first.

    Args:
        steps: the T steps of recording.
        weights: the T sets of weights on the CPU: a list, or a sequence that reads each from a file when asked for it.
        metrics, history, checkpoints: as of a `Trajectory`.
    """

    steps: Sequence[float]
    weights: Sequence[Params]
    metrics: Mapping[str, ArrayLike] = field(default_factory=dict)
    history: Mapping[str, ArrayLike] = field(default_factory=dict)
    checkpoints: ArrayLike = ()

    def trajectory(self, plane: Plane) -> Trajectory:
        """The records, each projected onto the plane by least squares; errors as `trajectory_of`."""
        return trajectory_of(
            self.steps,
            self.weights,
            plane,
            metrics=self.metrics,
            history=self.history,
            checkpoints=self.checkpoints,
        )


def trajectory_of(
    steps: Sequence[float],
    weights: Sequence[Params],
    plane: Plane,
    *,
    metrics: Mapping[str, ArrayLike] | None = None,
    history: Mapping[str, ArrayLike] | None = None,
    checkpoints: ArrayLike = (),
) -> Trajectory:
    """The path of recorded weights on a plane, each projected by least squares (`Plane.locate`).

    One record is in memory at a time. No loss is measured.

    Args:
        steps: the T steps of recording.
        weights: the T sets of weights, oldest first.
        plane: origin and k directions.
        metrics, history, checkpoints: as of a `Trajectory`.

    Raises:
        ValueError: if there is no record, or one does not fit the plane or has no step.

    >>> import torch
    >>> plane = Plane({"w": torch.zeros(2)}, ({"w": torch.tensor([2.0, 0.0])},))
    >>> path = trajectory_of([0, 10], [{"w": torch.tensor([4.0, 3.0])}, {"w": torch.zeros(2)}], plane)
    >>> path.points.tolist(), path.residuals.tolist(), path.distances.tolist()
    ([[2.0], [0.0]], [3.0, 0.0], [5.0, 0.0])
    """
    if not len(weights):
        raise ValueError("Nothing was recorded: call record(module, step) during the training.")
    if len(steps) != len(weights):
        raise ValueError(f"There are {len(steps)} steps and {len(weights)} sets of weights: give one step a record.")
    points, residuals, distances = np.empty((len(steps), plane.ndim)), np.empty(len(steps)), np.empty(len(steps))
    for t, step in enumerate(steps):
        record = weights[t]
        _check(record, step, plane)
        points[t], residuals[t], distances[t] = plane.locate(record)
    return Trajectory(
        np.array(steps, dtype=np.float64),
        points,
        residuals,
        distances,
        metrics=_columns(metrics),
        history=_columns(history),
        checkpoints=np.array(checkpoints, dtype=np.float64),
    )


def _columns(given: Mapping[str, ArrayLike] | None) -> dict[str, np.ndarray]:
    """Copies of some columns, in float64."""
    return {name: np.array(column, dtype=np.float64) for name, column in (given or {}).items()}


def _check(record: Params, step: float, plane: Plane) -> None:
    """Raises ValueError if a record lacks a parameter of the plane, or has one of another shape."""
    for name, tensor in plane.origin.items():
        if name not in record:
            raise ValueError(
                f"The weights recorded at step {step:g} have no {name!r}: they are of another module. Record the "
                "module that is measured."
            )
        if record[name].shape != tensor.shape:
            raise ValueError(
                f"The weights recorded at step {step:g} have shape {tuple(record[name].shape)} for {name!r}, the "
                f"plane has {tuple(tensor.shape)}: they are of another module. Record the module that is measured."
            )
