"""The recipe of a landscape: what its file says of how it was made, as plain JSON values."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..directions import Directions, dead_filters, recipe
from ..landscape import ALIKE
from ..objectives.base import Batch
from ..objectives.batches import data_checksum
from ..version import __version__
from ..weights.parameters import Snapshot, checksum
from ..weights.plane import Plane
from ..weights.sharding import whole

# What every landscape's file says of its values.
HOW = {
    "reduction": "mean over samples, accumulated in float64",
    "standard_error": "of the mean against that of all the data that the samples are a random part of (finite "
    "population correction); where all are taken, or nobody knows of how many, against that of all data of their kind. "
    "From the spread of single samples, where the losses tell it, else from that of batches, where chance made these; "
    "times t/2 of Student's t, so that ±2 cover 95.45 %; NaN where unknown",
    "checksums": "XXH3, 128 bits, of types, shapes and bits",
}


def directions_recipe(directions: Directions, snapshot: Snapshot, plane: Plane) -> dict[str, Any]:
    """The entries of a landscape's file about its directions, as plain JSON values."""
    moved = [name for name in plane.origin if any(bool((whole(d[name]) != 0).any()) for d in plane.directions)]
    axes = plane.axes() if len(moved) <= plane.ndim else []
    return {
        **recipe(directions),
        **({"axes": axes} if axes else {}),
        "cosine": plane.cosine(),
        "span": plane.span(ALIKE),
        "lengths": plane.norms(),
        "moved_parameters": sum(plane.origin[name].numel() for name in moved),
        "resting_parameters": sum(t.numel() for n, t in plane.origin.items() if n not in set(moved)),
        "dead_filters": dead_filters(snapshot, moved),
    }


def recipe_of(
    net: nn.Module, snapshot: Snapshot, plane: Plane, directions: Directions, batches: Sequence[Batch], **more: Any
) -> dict[str, Any]:
    """The entries of a landscape's file about how it was made, as plain JSON values.

    Args:
        net: the user's module.
        snapshot: its weights.
        plane: on which the points lie.
        directions: what gave the plane.
        batches: the frozen data.
        more: further entries, e.g. the objective's name.
    """
    size = sum(batch.size for batch in batches)
    return {
        "module": type(net).__name__,
        "samples": size,
        "batches": len(batches),
        "samples_by_data": {"data": size},
        "data_checksum": {"data": data_checksum(batches)},
        "weights_checksum": checksum(snapshot.params.values()),
        **HOW,
        "precision": str(next(iter(snapshot.params.values())).dtype).removeprefix("torch."),
        "directions": {
            **directions_recipe(directions, snapshot, plane),
            "checksum": checksum(d[name] for d in plane.directions for name in plane.origin),
        },
        "versions": {
            "lightning_landscape": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        **more,
    }
