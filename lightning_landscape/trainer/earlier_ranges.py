"""The ranges that an earlier part of a training has found, for the part that goes on from its checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..directions import recipe as recipe_of
from ..landscape import AXIS_NAMES, Landscape
from ..output import DATA_FORMATS, DATA_NAME
from ..storage import LandscapeFileError, load
from ..storage.json_values import plain
from .measure import Settings

log = logging.getLogger(__name__)


def earlier_ranges(folders: Sequence[Path], settings: Settings, module: str, step: int) -> Landscape | None:
    """The last landscape of a training up to a step, if its ranges were found as these settings would; else None.

    Args:
        folders: of the passes of the training.
        settings: of the pass that begins.
        module: the class of the module.
        step: the number of the training's steps until now.
    """
    fitting = [found for found in _landscapes(folders) if _fits(found, settings, module, step)]
    return max(fitting, key=lambda found: found.recipe.step or 0, default=None)


def _landscapes(folders: Sequence[Path]) -> Iterator[Landscape]:
    """The landscapes in the folders of passes; those in progress, too."""
    for folder in (path for root in folders if root.is_dir() for path in sorted(root.glob("step=*"))):
        files = [path for name in DATA_FORMATS if (path := folder / f"{DATA_NAME}.{name}").exists()]
        try:
            yield from map(load, files[:1])
        except (LandscapeFileError, OSError) as error:
            log.info("%s is not read for its ranges: %s", files[0], error)


def _fits(found: Landscape, settings: Settings, module: str, step: int) -> bool:
    """True if the ranges of a landscape are those that the settings would have found before this step."""
    recipe, grid = found.recipe, settings.grid
    searched = [AXIS_NAMES[direction] for direction in settings.searched]
    at_rest = [i for i in range(grid.ndim) if i not in settings.searched]
    return (
        [*recipe.ranges] == searched
        and recipe.module == module
        and recipe.mode == settings.mode
        and [*recipe.data] == [*settings.data]
        and recipe.directions is not None
        and {"kind": recipe.directions.kind, **recipe.directions.settings} == plain(recipe_of(settings.directions))
        and found.grid.shape == grid.shape
        and all(np.array_equal(found.grid.axes[i], grid.axes[i]) for i in at_rest)
        and (recipe.step or 0) <= step
    )
