"""Recorder: the weights along a training, and their path on a plane."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike

import numpy as np
from torch import Tensor, nn

from ..directions.between import weights_of
from ..trajectory import Trajectory
from ..weights.parameters import Params, Snapshot, norm, working_dtype
from ..weights.plane import Plane


class Recorder:
    """A record of the weights of a module during a training, on the CPU: T × P numbers.

    Attributes:
        steps: the T times of recording, in the caller's unit: epochs or steps.
        weights: the T sets of weights, oldest first.
        metrics: by name, the T values that were given with them; NaN where none was given.

    >>> net, recorder = nn.Linear(2, 1), Recorder()
    >>> for step in range(3):
    ...     recorder.record(net, step, train_loss=1.0 / (step + 1))
    ...     _ = net.weight.data.add_(1.0)
    >>> recorder.steps, recorder.metrics["train_loss"][1]
    ([0, 1, 2], 0.5)
    """

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.weights: list[dict[str, Tensor]] = []
        self.metrics: dict[str, list[float]] = {}

    @classmethod
    def of_files(cls, paths: Iterable[str | PathLike]) -> Recorder:
        """A recorder of the weights in checkpoint files, in their order; the steps are 0, 1, ….

        Raises:
            ValueError: if a file holds no state dict.
        """
        recorder = cls()
        for step, path in enumerate(paths):
            recorder._keep(weights_of(path), step)
        return recorder

    def record(self, module: nn.Module, step: float, **metrics: float | None) -> None:
        """Copy the module's trainable weights and the statistics of its BatchNorm; the module is only read.

        Args:
            module: the module with the weights.
            step: the time, in the caller's unit.
            metrics: numbers to record with them; None for unknown.
        """
        self._keep(Snapshot.view(module, buffers=True).params, step, **metrics)

    def _keep(self, weights: Params, step: float, **metrics: float | None) -> None:
        for name in self.metrics.keys() | metrics.keys():
            value = metrics.get(name)
            column = self.metrics.setdefault(name, [np.nan] * len(self.steps))
            column.append(np.nan if value is None else float(value))
        self.steps.append(step)
        self.weights.append({name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()})

    def trajectory(self, plane: Plane) -> Trajectory:
        """The recorded weights, each projected onto the plane by least squares.

        Raises:
            ValueError: if nothing was recorded, or a set of weights lacks a parameter of the plane.
        """
        if not self.weights:
            raise ValueError("Nothing was recorded: call record(module, step) during the training.")
        rows = []
        for step, weights in zip(self.steps, self.weights, strict=True):
            lacking = sorted(plane.origin.keys() - weights.keys())
            if lacking:
                raise ValueError(
                    f"The weights recorded at step {step} have no {lacking[0]!r}: they are of another module. "
                    "Record the module that is measured."
                )
            moved = {name: weights[name].to(tensor.device) for name, tensor in plane.origin.items()}
            point = plane.project(moved)
            rows.append((point, _distance(moved, plane.at(point)), _distance(moved, plane.origin)))
        points, residuals, distances = (np.array(column) for column in zip(*rows, strict=True))
        metrics = {name: np.array(column) for name, column in self.metrics.items()}
        return Trajectory(np.array(self.steps, float), points, residuals, distances, metrics=metrics)


def _distance(a: Params, b: Params) -> float:
    return norm({n: a[n].to(working_dtype(a[n].dtype)) - t.to(working_dtype(t.dtype)) for n, t in b.items()})
