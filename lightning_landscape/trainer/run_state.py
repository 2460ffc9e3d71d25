"""The decisions that a run keeps from one landscape to the next, so that its landscapes can be compared."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..accelerations.trial import Choice
from ..landscape import Grid, Landscape
from ..plots.run_scale import RunScale
from ..recipe import RangeRecipe
from ..redraw import Drawn
from ..survey.find_range import PATH_REASON
from ..survey.plan import Plan
from .cost import Cost

if TYPE_CHECKING:
    from .measure import Settings


@dataclass
class RunState:
    """The decisions of a run; each is None until a landscape, or the rehearsal, has made it.

    Args:
        choice: the accelerations that were tried on this module. They are proved anew on the data of each landscape.
        cost: the time that measuring takes, as the rehearsal saw it.
        plan: the data and the fineness of all landscapes.
        grid: with the ranges that were found, so that all landscapes show the same part of their planes.
        ranges: how they were found.
        seconds: that the last landscape took.
        scale: on which the landscapes so far can be drawn.
        drawn: the pictures of each landscape, by its step.
    """

    choice: Choice | None = None
    cost: Cost | None = None
    plan: Plan | None = None
    grid: Grid | None = None
    ranges: dict[str, RangeRecipe] = field(default_factory=dict)
    seconds: float = 0.0
    scale: RunScale | None = None
    drawn: dict[int, Drawn] = field(default_factory=dict)

    def keep_ranges(self, landscape: Landscape | None) -> None:
        """Keep the ranges of a landscape, if they were found; not those of a path, which grows."""
        if landscape is None or any(r.reason == PATH_REASON for r in landscape.recipe.ranges.values()):
            return
        if landscape.recipe.ranges and self.grid is None:
            self.grid, self.ranges = landscape.grid, landscape.recipe.ranges

    def in_them(self, settings: Settings) -> Settings:
        """The settings of a pass, with the ranges that were found."""
        if self.grid is None:
            return settings
        return replace(settings, grid=self.grid, ranges=self.ranges, searched=())
