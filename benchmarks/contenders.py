"""Who measures: ours through the callback's machinery, what a careful engineer writes, and the naive loop."""

from __future__ import annotations

import copy
import inspect
import logging
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import lightning.pytorch as L
import numpy as np
import torch
from torch.func import functional_call
from torch.nn import functional as F

from lightning_landscape import Grid, Landscape, LossLandscapeCallback, Plane
from lightning_landscape.trainer.measure import Settings, measuring
from lightning_landscape.trainer.undisturbed import undisturbed

from .workloads import Workload

Tick = Callable[[int], None]
SMALL = 16  # samples at a time that a CPU keeps in its cache in float64


class Contender(Protocol):
    """One way to measure a landscape on an n × n grid over [−1, 1]².

    Attributes:
        name: in the table.
        note: what a reader of its row must know, or "".
        tolerance: of what it interpolates, as a share of the range; None if it evaluates every point.
    """

    name: str
    note: str
    tolerance: float | None

    def prepare(self, workload: Workload) -> None:
        """What is not measured: what its author would have tuned beforehand."""

    def plane(self, workload: Workload) -> Plane:
        """Where its points lie, by its own documentation."""

    def __call__(self, workload: Workload, n: int, tick: Tick) -> np.ndarray:
        """The mean loss, shape (n, n), first axis along the first direction; calls `tick` with the points done."""


class OnThePlane:
    """What most contenders share: nothing to tune, and the workload's own plane."""

    note = ""
    tolerance: float | None = None

    def prepare(self, workload: Workload) -> None:
        """See `Contender`."""

    def plane(self, workload: Workload) -> Plane:
        """See `Contender`."""
        return workload.plane


class _Over(Exception):
    """Ends a `Trainer.fit` in which the landscape was measured."""


@dataclass
class Ours(OnThePlane):
    """The module's own ``training_step`` in a Trainer, with the callback's settings and machinery.

    Args:
        name: in the table.
        options: of `LossLandscapeCallback`, beside the grid, all samples, and no tiles.

    Attributes:
        landscape: of the last run, as far as it came.
    """

    name: str = "ours"
    options: Mapping[str, Any] = field(default_factory=dict)
    landscape: Landscape | None = field(default=None, init=False)
    own_note: ClassVar[str] = ""
    _uses: dict[str, str] = field(default_factory=dict, init=False)

    def __call__(self, workload: Workload, n: int, tick: Tick) -> np.ndarray:
        """See `Contender`."""
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()  # else a round would use what the one before has compiled
        axis = (-1.0, 1.0, n)
        callback = LossLandscapeCallback(x=axis, y=axis, max_samples=None, samples=0, **self.options)
        options = _of_measure(callback.settings, self.options)
        keep = self._keep

        class Measure(L.Callback):
            def on_train_start(self, trainer: Any, pl_module: Any) -> None:
                tick(0)
                with undisturbed(trainer), measuring(trainer, pl_module, callback.settings, **options) as points:
                    for landscape in points:
                        keep(workload, landscape)
                        tick(int(landscape.evaluated.sum()))
                raise _Over

        with suppress(_Over), warnings.catch_warnings():
            # Lightning's advice to users, and what its newest version asks of torch's newest
            for advice in (".*does not have many workers", ".*smaller than the logging interval", ".*LeafSpec"):
                warnings.filterwarnings("ignore", advice)
            _trainer(Measure()).fit(copy.deepcopy(workload.module).train(), workload.loader())
        assert self.landscape is not None
        return self.landscape.loss

    def _keep(self, workload: Workload, landscape: Landscape) -> None:
        self.landscape = landscape
        if used := landscape.report.accelerations:
            self._uses[workload.name] = ", ".join(used)
            told = "; ".join(f"{name}: {names}" for name, names in self._uses.items())
            self.note = ". ".join(filter(None, [self.own_note, f"Used: {told}"]))


def _of_measure(settings: Settings, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that `measuring` takes itself; the others must be in the settings.

    Raises:
        RuntimeError: if one is in neither: the row would not be what its name says.
    """
    taken = inspect.signature(measuring).parameters
    for name in options:
        if name not in taken and not hasattr(settings, name):
            raise RuntimeError(f"{name} does not reach the measuring: the benchmark must learn where it goes.")
    return {name: value for name, value in options.items() if name in taken}


def _trainer(callback: L.Callback) -> L.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    return L.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


def ours() -> list[Ours]:
    """Ours with its defaults, and without accelerations."""
    return [Ours("ours", {"accelerate": True}), Ours("ours, plain", {"accelerate": False})]


class Tolerant(Ours):
    """Ours with fewer points, the rest interpolated.

    Args:
        tolerance: a share of the range.
    """

    own_note = "errors are shares of the range, at points that were not evaluated"

    def __init__(self, tolerance: float) -> None:
        super().__init__(f"ours, tolerance {tolerance:g}", {"accelerate": True, "tolerance": tolerance})
        self.tolerance = tolerance


@dataclass
class Careful(OnThePlane):
    """What a good engineer writes in an afternoon, knowing nothing of the model.

    Tensors in memory, `inference_mode`, `functional_call`, sums in float64, and the best of several batch sizes.
    """

    name: str = "careful"
    _sizes: dict[str, int] = field(default_factory=dict)
    CANDIDATES: ClassVar[tuple[int, ...]] = (16, 32, 64, 128, 256, 1024, 4096, 16384)

    def prepare(self, workload: Workload) -> None:
        """Find the best batch size; the note tells it."""
        candidates = [size for size in self.CANDIDATES if size <= max(16, workload.samples)]
        times = dict.fromkeys(candidates, float("inf"))
        for size in candidates * 3:  # the best of three, interleaved
            times[size] = min(times[size], self._time(workload, size))
        self._sizes[workload.name] = min(times, key=times.__getitem__)
        self.note = "batches of " + ", ".join(f"{size:,} ({name})" for name, size in self._sizes.items())

    def __call__(self, workload: Workload, n: int, tick: Tick) -> np.ndarray:
        """See `Contender`."""
        batches = workload.batches(self._sizes.get(workload.name))
        points = square(n).points
        values = np.empty(len(points))
        for i, point in enumerate(points):
            values[i] = self._point(workload, point, batches)
            tick(i + 1)
        return values.reshape(n, n)

    @torch.inference_mode()
    def _point(self, workload: Workload, point: np.ndarray, batches: list[Any]) -> float:
        origin, (first, second) = workload.plane.origin, workload.plane.directions
        a, b = map(float, point)
        params = {name: origin[name] + a * first[name] + b * second[name] for name in origin}
        total = torch.zeros((), dtype=torch.float64)
        for inputs, labels in batches:
            total += F.cross_entropy(functional_call(workload.module, params, (inputs,)), labels, reduction="sum")
        return float(total) / sum(len(labels) for _, labels in batches)

    def _time(self, workload: Workload, size: int) -> float:
        """Seconds a sample, of one pass over a part of the data."""
        batches = workload.batches(size)[: max(1, min(256, workload.samples) // size)]
        start = time.perf_counter()
        self._point(workload, np.array([0.3, -0.2]), batches)
        return (time.perf_counter() - start) / sum(len(labels) for _, labels in batches)


def square(n: int) -> Grid:
    """n × n points over [−1, 1]², last axis fastest."""
    return Grid.from_ranges((-1.0, 1.0, n), (-1.0, 1.0, n))


@torch.no_grad()
def naive(workload: Workload, plane: Plane, points: np.ndarray) -> np.ndarray:
    """The mean loss at points (P, 2) by the plainest loop in float64, shape (P,): what all values are compared with."""
    module = copy.deepcopy(workload.module).double()
    exact = lambda tensor: tensor.double() if tensor.is_floating_point() else tensor  # noqa: E731
    values = []
    for a, b in points:
        for name, parameter in module.named_parameters():
            if name in plane.origin:
                first, second = (direction[name].double() for direction in plane.directions)
                parameter.copy_(plane.origin[name].double() + a * first + b * second)
        losses = [F.cross_entropy(module(exact(x)), y, reduction="sum").item() for x, y in workload.batches(SMALL)]
        values.append(sum(losses) / workload.samples)
    return np.array(values)
