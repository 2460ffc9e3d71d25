"""The making of a landscape's recipe from what it is measured with."""

from __future__ import annotations

import platform

import torch

from ..directions import Directions, Facts, dead_filters, facts_of
from ..recipe import DataRecipe, DirectionsRecipe
from ..version import __version__
from ..weights.parameters import Snapshot, checksum
from ..weights.plane import Plane
from ..weights.sharding import whole
from .data import FrozenData


def directions_recipe(directions: Directions | Facts, snapshot: Snapshot, plane: Plane) -> DirectionsRecipe:
    """The recipe of the directions of a plane.

    Args:
        directions: what gave them, or the facts on it.
        snapshot: the weights of the whole module.
        plane: the directions, and the weights that they may move.
    """
    moved = [name for name in plane.origin if any(bool((whole(d[name]) != 0).any()) for d in plane.directions)]
    facts = directions if isinstance(directions, Facts) else facts_of(directions)
    settings = dict(facts.recipe)
    return DirectionsRecipe(
        kind=settings.pop("kind"),
        settings=settings,
        cosine=plane.cosine(),
        span=plane.span(alike=0.99),
        lengths=plane.norms(),
        axes=plane.axes() if len(moved) <= plane.ndim else [],
        moved_parameters=sum(plane.origin[name].numel() for name in moved),
        resting_parameters=sum(t.numel() for n, t in plane.origin.items() if n not in set(moved)),
        dead_filters=dead_filters(snapshot, moved),
        checksum=checksum(d[name] for d in plane.directions for name in plane.origin),
        labels=list(facts.labels),
    )


def data_recipe(data: FrozenData, available: int | None = None) -> DataRecipe:
    """The recipe of the data of one surface.

    Args:
        data: what every point is measured on.
        available: how many samples there would be without a time limit; None where there is none, or nobody knows.
    """
    return DataRecipe(data.size, len(data.batches), data.checksum, data.note, data.population, available)


def versions(**libraries: str) -> dict[str, str]:
    """The versions of the libraries that a landscape depends on."""
    return {
        "lightning_landscape": __version__,
        "torch": torch.__version__,
        **libraries,
        "python": platform.python_version(),
    }
