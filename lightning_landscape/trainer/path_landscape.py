"""The landscape of the path of a training, measured once at the end: its plane, its points, its pictures, its time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..directions import Directions
from ..landscape import Grid, Landscape
from ..output import Look
from ..plots.trail import shown_share
from ..reading.text import percent
from ..survey.plan import coarse_seconds
from .run_state import RunState

if TYPE_CHECKING:
    from .measure import Settings

KIND = "path"  # in names of folders and tags


@dataclass(frozen=True)
class PathSettings:
    """The landscape of a path.

    Args:
        points: of an axis. 25 × 25 cost a quarter of 51 × 51, and show as much of a smooth plane.
        least: the fewest records of which a plane is made with trajectory="auto". A path of fewer is a training for
            trial.
        plots: the kinds of its pictures.
    """

    points: int = 25
    least: int = 8
    plots: tuple[str, ...] = ("contour", "surface", "path")

    @property
    def grid(self) -> Grid:
        """Its points, on a range that is found later."""
        return Grid.from_ranges((-1, 1, self.points), (-1, 1, self.points))


SETTINGS = PathSettings()


def is_wanted(choice: object, directions: Directions, settings: Settings) -> bool:
    """True if a training with these settings has a landscape of its path: none that the ordinary one shows already.

    Args:
        choice: the setting `trajectory`.
        directions: of the plane of the path.
        settings: of the ordinary landscapes.
    """
    shows_it = isinstance(settings.directions, type(directions)) and settings.grid.ndim == SETTINGS.grid.ndim
    return choice is not False and not shows_it


def too_few(choice: object, count: float) -> str | None:
    """The reason why so many records are no path; empty where there is nothing to be said, None if they are one."""
    if choice == "auto" and count < SETTINGS.least:
        return ""
    least = SETTINGS.grid.ndim + 1
    return f"{count} records are too few for its plane, {least} are needed" if count < least else None


def changed_settings(directions: Directions, state: RunState) -> dict[str, Any]:
    """The settings that are others than those of the ordinary landscapes.

    Args:
        directions: of the plane of the path.
        state: of the run; its samples are taken, its ranges and its scale are not.
    """
    plan = None if state.plan is None else replace(state.plan, level=None)
    return {
        "grid": SETTINGS.grid,
        "searched": (0, 1),
        "ranges": {},
        "directions": directions,
        "samples": 0,
        "of_path": True,
        "run_state": RunState(choice=state.choice, cost=state.cost, plan=plan),
    }


def changed_look(look: Look) -> Look:
    """The pictures of a path; none where the user wants none."""
    return replace(look, plots=SETTINGS.plots if look.plots else ())


def needed_seconds(settings: Settings, shape: tuple[int, ...] | None = None) -> float:
    """The seconds that the coarsest landscape takes on the samples of the plan, or as far as is known.

    Args:
        settings: of the landscape of the path.
        shape: of a grid that is measured as a whole; None for the coarsest.
    """
    state = settings.run_state
    if (cost := state.cost) is None:
        return 0.0
    samples = cost.available if state.plan is None else state.plan.samples
    samples = min(n for n in (samples, cost.available, 2**20) if n is not None)
    gain = 1.0 if state.choice is None else math.prod(state.choice.speedup.values())
    if shape is not None:
        return math.prod(shape) * samples * cost.sample / gain
    return coarse_seconds(cost.sample / gain, cost.reading_per_sample, settings.grid.shape, samples)


def words(landscape: Landscape) -> str:
    """Words on a path in a landscape, for the line at the end."""
    path = landscape.trajectory
    if path is None:
        return f"without its path ({landscape.report.no_path})"
    return f"the path of {len(path.steps)} records, {percent(shown_share(path))} of it on the plane"
