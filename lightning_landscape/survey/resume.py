"""Tests that tell whether points on disk are of a landscape in the making."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..landscape import Landscape
from ..recipe import Recipe
from ..storage.json_values import plain
from .same_loss import is_same_at_centre

# Two landscapes that agree in these are of one function.
FUNCTION = (
    "module", "weights_checksum", "objective", "mode", "seed", "precision", "rounding", "directions", "dir_type",
    "recalibrate",
)  # fmt: skip
# What decides at which points a function is evaluated.
POINTS = ("tolerance", "budget")


def differences(earlier: Landscape, landscape: Landscape) -> list[str]:
    """The entries by which `earlier` is of another function or another grid; an empty list if there are none.

    The centre is measured anew and must be the same: two functions may have one name.
    """
    common = earlier.center.keys() & landscape.center.keys()
    # What was the loss itself has no surface in a finished landscape, and must still be the loss.
    same_as_loss = {name: loss for name, loss in earlier.recipe.same_as_loss.items() if name in landscape.center}
    new = landscape.center.keys() - common - same_as_loss.keys()
    first, second = _function(earlier.recipe), _function(landscape.recipe)
    same = {
        "grid": earlier.grid == landscape.grid,
        "loss": earlier.main == landscape.main,
        **{name.replace("_", " "): first[name] == second[name] for name in first},
        "tiles": _tiles(earlier) == _tiles(landscape),
        "metrics": not (new and common) and all(is_same_at_centre(landscape, *pair) for pair in same_as_loss.items()),
        "value at the centre": all(repr(earlier.center[name]) == repr(landscape.center[name]) for name in common),
    }
    return [name for name, is_same in same.items() if not is_same]


def is_same_pass(earlier: Landscape, landscape: Landscape) -> bool:
    """True if `earlier` is what this very pass makes, or a part of it.

    The points of `earlier` must be of this function.
    """
    return all(getattr(earlier.recipe, name) == getattr(landscape.recipe, name) for name in POINTS)


def is_finished(earlier: Landscape | None, landscape: Landscape) -> bool:
    """True if `earlier` is all that this pass would make.

    The points of `earlier`, if it is given, must be of this function.
    """
    return earlier is not None and bool(earlier.done.all()) and is_same_pass(earlier, landscape)


def _function(recipe: Recipe) -> dict[str, Any]:
    """The entries of a recipe that decide the function, as they are read from a file."""
    fields = plain(asdict(recipe), "recipe")
    data = fields["data"]
    return {
        "data": [*data],
        "data_checksum": [entry["checksum"] for entry in data.values()],
        **{name: fields[name] for name in FUNCTION},
    }


def _tiles(landscape: Landscape) -> list[int]:
    """The indices of the samples that have a tile."""
    return [] if landscape.samples is None else [item.index for item in landscape.samples.items]
