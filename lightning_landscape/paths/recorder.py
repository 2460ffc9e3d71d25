"""Recorder: the weights along a training, and their path on a plane."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike

import numpy as np
from torch import nn

from ..weights.parameters import Snapshot
from .files import Kept, steps_of
from .project import Recorded


class Recorder(Recorded):
    """A record of the weights of a module during a training: T × P numbers on the CPU, or files.

    Attributes:
        steps: the T times of recording, in the caller's unit: epochs or steps.
        weights: the T sets of weights, oldest first; those in files are read when they are asked for.
        metrics: by name, the T values that were given with them; NaN where none was given.

    >>> net, recorder = nn.Linear(2, 1), Recorder()
    >>> for step in range(3):
    ...     recorder.record(net, step, train_loss=1.0 / (step + 1))
    ...     _ = net.weight.data.add_(1.0)
    >>> recorder.steps, recorder.metrics["train_loss"][1]
    ([0, 1, 2], 0.5)
    """

    steps: list[float]
    weights: Kept
    metrics: dict[str, list[float]]

    def __init__(self) -> None:
        super().__init__([], Kept(), {})

    @classmethod
    def of_files(cls, paths: Iterable[str | PathLike[str]]) -> Recorder:
        """A recorder of the weights in checkpoint files, which are read one at a time, when they are needed.

        The step of a file is its ``global_step``, else its ``last_iter``, else the number in its name. The files are
        sorted by it.

        Args:
            paths: the files, in any order, e.g. ``Path("checkpoints").glob("*.ckpt")``.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if a file holds no state dict, has no step, or two have the same.
        """
        recorder, steps = cls(), steps_of(paths)
        recorder.steps, recorder.weights = [*steps.values()], Kept(steps)
        return recorder

    def record(self, module: nn.Module, step: float, **metrics: float | None) -> None:
        """Copy the module's trainable weights and the statistics of its BatchNorm; the module is only read.

        Args:
            module: the module with the weights.
            step: the time, in the caller's unit.
            metrics: numbers to record with them; None for unknown.
        """
        for name in self.metrics.keys() | metrics.keys():
            value = metrics.get(name)
            column = self.metrics.setdefault(name, [np.nan] * len(self.steps))
            column.append(np.nan if value is None else float(value))
        self.steps.append(step)
        weights = Snapshot.view(module, buffers=True).params
        self.weights.append({name: tensor.to("cpu", copy=True) for name, tensor in weights.items()})
