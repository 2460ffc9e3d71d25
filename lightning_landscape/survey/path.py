"""The path of a training on a landscape's plane: the loss of each record, and that of the plane at its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from ..evaluators import Sequential
from ..landscape import Landscape
from ..trajectory import Trajectory
from ..weights.parameters import Params, canonical_name
from ..weights.plane import Plane
from ..weights.sharding import zero

if TYPE_CHECKING:
    from .survey import Surface


def outline_first(count: int) -> list[int]:
    """The places of so many records: the newest, the oldest, then those between, from coarse to fine.

    Whenever the time is over, the records that are done lie all along the path.

    >>> outline_first(9)
    [8, 0, 4, 2, 6, 1, 3, 5, 7]
    """
    ends = [count - 1, 0][: min(count, 2)]
    between = [t for t in range(count) if t not in ends]
    # The spacing of the coarsest outline, counted from the newest record, that holds a record.
    return ends + sorted(between, key=lambda t: -((count - 1 - t) & -(count - 1 - t)))


def weights_at(module: nn.Module, plane: Plane, record: Params) -> Plane:
    """A plane whose origin is a record; a module that is moved to it has the record's weights and statistics.

    Args:
        module: the module that is moved.
        plane: of the landscape, which names the parameters that move.
        record: the weights, and the floating-point buffers as far as they were recorded.
    """
    buffers = {canonical_name(name): buffer for name, buffer in module.named_buffers()}
    moved = {name: tensor for name, tensor in (*buffers.items(), *plane.origin.items()) if name in record}
    origin = {name: record[name].to(tensor.device, tensor.dtype, copy=True) for name, tensor in moved.items()}
    return Plane(origin, ({name: zero(tensor, tensor.dtype) for name, tensor in origin.items()},))


def measure_record(
    evaluator: Sequential, surfaces: Sequence[Surface], plane: Plane, path: Trajectory, record: Params, t: int
) -> None:
    """Fill in the losses of one record: its own, and those of the plane at its place; all on the landscape's data.

    Args:
        evaluator: the plain one. Its module is left at the record.
        surfaces: what is measured.
        plane: of the landscape.
        path: takes the values.
        record: the weights.
        t: the place of the record in the path.
    """
    at_record = weights_at(evaluator.module, plane, record)
    of_record: dict[str, float] = {}
    of_plane: dict[str, float] = {}
    for surface in surfaces:
        for table, where, point in ((of_plane, plane, path.points[t]), (of_record, at_record, np.zeros(1))):
            measured = next(iter(evaluator(surface.objective, where, point[None], surface.frozen.batches)))
            table.update({name: m.value for name, m in surface.recorded(measured).items()})
    path.record(t, of_record, of_plane)


def missing(landscape: Landscape) -> str:
    """A sentence on what is missing of the path of the training, and why; empty if nothing is."""
    path, reason = landscape.trajectory, landscape.report.no_path
    if path is None:
        return f"the path of the training is missing: {reason}." if reason else ""
    count = int((~path.measured).sum())
    return f"{count} of {len(path.steps)} records of the path have no loss: {reason or 'unknown'}." if count else ""
