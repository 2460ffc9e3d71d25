"""Vmapped: several points in one call of the step. Networks so small that calls cost more than numbers gain by it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..objectives.base import Batch, Objective, Observation
from ..objectives.single_losses import at_once
from ..weights.parameters import canonical_name
from ..weights.plane import Plane
from .affine.replay import moving_parameters
from .base import Evaluator, EvaluatorWrapper, Measurements, ObjectiveWrapper, Stream
from .grouped import Grouped

log = logging.getLogger(__name__)


class Vmapped(EvaluatorWrapper):
    """Points in chunks: the step runs once for a chunk, with the parameters of all its points (`torch.func.vmap`).

    A convolution is one with more groups (`Grouped`). The random numbers are those of a single point: all share them.
    Some steps can't run for several points at once: Python's decisions on values, `item()`, metrics of the whole set.
    Such a step raises, and the inner evaluator measures all points from there on, one after the other. It also does
    where the plane moves buffers. It also does if the last point of the first chunk differs, which is measured in both
    ways. The last bits of a value may depend on which points are asked for together.

    Args:
        inner: measures single points.
        points: the number of points in a chunk.
    """

    def __init__(self, inner: Evaluator, points: int) -> None:
        super().__init__(inner)
        self._points = points

    @property
    def at_once(self) -> int:
        """The points of a chunk."""
        return self._points

    def __call__(self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]) -> Stream:
        points = np.asarray(points, dtype=np.float64)
        if len(points) < self.at_once or _moves_buffers(self.module, plane):
            yield from self.inner(objective, plane, points, batches)
            return
        chunks = points[: len(points) // self.at_once * self.at_once].reshape(-1, self.at_once, points.shape[-1])
        done = 0
        together = _SeveralPoints(objective, self.module, plane)
        stream = iter(self.inner(together, plane, chunks[:, 0], batches))
        for chunk in chunks:
            try:
                together.move(chunk)
                rows = together.split(next(stream))
                if not done and not _are_equal(rows[-1], next(iter(self.inner(objective, plane, chunk[-1:], batches)))):
                    raise ValueError("the values differ")
            except Exception as error:  # noqa: BLE001  # an error of the step itself comes again at its point
                log.debug("measured one by one: %s: %s", type(error).__name__, error)
                break
            done += len(chunk)
            yield from rows
        stream.close()
        together.forget()
        if done < len(points):
            yield from self.inner(objective, plane, points[done:], batches)


class _SeveralPoints(ObjectiveWrapper):
    """An objective at several points: the metric `name` of point i is called "i name".

    Metrics of the whole set are missing. A chunk that does not fit into the memory is not divided: single points
    might fit.
    """

    def __init__(self, objective: Objective, module: nn.Module, plane: Plane) -> None:
        super().__init__(objective)
        self.plane = plane
        moving = moving_parameters(module, plane)
        self._moving = {name: p for name, p in module.named_parameters() if id(p) in moving}
        self._stacked: dict[str, Tensor] = {}

    def move(self, points: np.ndarray) -> None:
        """Set the points that later calls measure, shape (m, k)."""
        self.forget()
        lanes = [self.plane.at(point) for point in points]
        self._stacked = {
            f"probe.{name}": _stack([lane[canonical_name(name)] for lane in lanes], parameter)
            for name, parameter in self._moving.items()
        }
        self._count = len(points)

    def forget(self) -> None:
        """Give the memory of the points back."""
        self._stacked = {}

    @property
    def alone(self) -> Objective:
        """The objective at one point."""
        return self.objective

    def split(self, measured: Measurements) -> list[Measurements]:
        """The measurements of each point."""
        rows: list[Measurements] = [{} for _ in range(self._count)]
        for key, value in measured.items():
            lane, _, name = key.partition(" ")
            rows[int(lane)][name] = value
        return rows

    def finish(self) -> dict[str, float]:
        """Nothing: a metric of the whole set would be of all points together."""
        return {}

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """One observation a point and metric."""
        call = _ObjectiveModule(self.objective, module)
        notes: dict[str, Observation] = {}

        def once(parameters: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            notes.update(functional_call(call, parameters, (batch,)))
            singles = {name: each for name, o in notes.items() if (each := at_once(o.each)) is not None}
            return {name: torch.as_tensor(o.value) for name, o in notes.items()}, singles

        with Grouped():
            together, singles = vmap(once, randomness="same")(self._stacked)
        return {
            f"{i} {name}": notes[name]._replace(value=value, each=singles[name][i] if name in singles else None)
            for name, values in together.items()
            for i, value in enumerate(values.unbind())
        }


class _ObjectiveModule(nn.Module):
    """An objective as the forward pass of a module, whose parameters `functional_call` can replace."""

    def __init__(self, objective: Objective, probe: nn.Module) -> None:
        super().__init__()
        self.objective, self.probe = objective, probe

    def forward(self, batch: Batch) -> dict[str, Observation]:
        return self.objective(self.probe, batch)


def _moves_buffers(module: nn.Module, plane: Plane) -> bool:
    """True if some direction moves a buffer, which points in one call would share."""
    buffers = plane.origin.keys() & {canonical_name(name) for name, _ in module.named_buffers()}
    return any(bool(direction[name].any()) for direction in plane.directions for name in buffers)


def _stack(lanes: list[Tensor], parameter: Tensor) -> Tensor:
    """The values at all points, each with the strides of the parameter (e.g. the channels as the fastest axis).

    >>> _stack([torch.zeros(2, 3), torch.ones(2, 3)], torch.zeros(3, 2).T).stride()
    (6, 1, 2)
    """
    strides = torch.empty_like(parameter).stride()
    together = lanes[0].new_empty_strided((len(lanes), *parameter.shape), (parameter.numel(), *strides))
    return torch.stack(lanes, out=together)


def _are_equal(a: Measurements, b: Measurements, tolerance: float = 1e-6) -> bool:
    """True if values and standard errors are equal, relative to the value."""
    return list(a) == list(b) and all(
        np.allclose(a[name], b[name], rtol=tolerance, atol=tolerance * abs(b[name].value), equal_nan=True) for name in a
    )
