"""Trail: the path of a training as a picture of its plane shows it, and words on the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..landscape import Grid, Landscape
from ..recipe import Recipe
from ..trajectory import Array, Trajectory
from .levels import short
from .marks import marks_of
from .scales import HUGE

Box = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class TrailSettings:
    """The limits of what is drawn of a path.

    Args:
        dot: the smallest extent of a path that is drawn, as a share of the picture's. A star is 0.05 wide; on a random
            plane a path is 0.005 wide.
        faint: the residual share above which a record is faint: most of its way from θ* leads off the plane.
        end: the distance from θ* up to which a path ends there, as a share of its longest.
        pieces: into how many pieces a line as wide as the picture is cut, to lie on a surface.
    """

    dot: float = 0.02
    faint: float = 0.5
    end: float = 0.02
    pieces: int = 80


SETTINGS = TrailSettings()


@dataclass(frozen=True, eq=False)
class Trail:
    """A path in the plane of a picture: T records, oldest first.

    Args:
        steps: of the records, shape (T,).
        points: their places, shape (T, 2).
        plane_losses: the value of the plane at these, shape (T,); NaN where it was not measured.
        faint: bool, those that are mostly off the plane, shape (T,).
        marks: the steps of checkpoints and changes of the learning rate.
        until: the step after which nothing is drawn.
        ends_at_star: True if the last record is θ*.
        is_dot: True if the path is too small to be drawn.
        caption: the words on it.
    """

    steps: Array
    points: Array
    plane_losses: Array
    faint: NDArray[np.bool_]
    marks: dict[str, Array]
    until: float
    ends_at_star: bool
    is_dot: bool
    caption: str

    def is_inside(self, axes: Sequence[Array]) -> NDArray[np.bool_]:
        """True for each record that lies on the grid of these axes, shape (T,)."""
        ends = np.array([axis[[0, -1]] for axis in axes])
        return np.asarray(((self.points >= ends[:, 0]) & (self.points <= ends[:, 1])).all(axis=1))

    def places(self, steps: Array) -> Array:
        """The places on the path at some steps, those between two records on the line between them, shape (n, 2)."""
        return np.stack([np.interp(steps, self.steps, column) for column in self.points.T], axis=-1)

    @property
    def drawn(self) -> tuple[Array, Array, NDArray[np.bool_]]:
        """The steps, places and faintness of the records up to `until`, and of `until` itself between two records."""
        count = int(np.searchsorted(self.steps, self.until, side="right"))
        steps, faint = self.steps[:count], self.faint[:count]
        if 0 < count < len(self.steps) and steps[-1] < self.until:
            steps, faint = np.append(steps, self.until), np.append(faint, self.faint[count])
        return steps, self.places(steps), faint


@np.errstate(over="ignore", invalid="ignore")
def trail_of(
    landscape: Landscape, metric: str, until: float | None = None, settings: TrailSettings = SETTINGS
) -> Trail | None:
    """The trail of a landscape of two directions; None where no path was recorded.

    Args:
        landscape: 2-D.
        metric: whose losses the caption compares.
        until: the step after which nothing is drawn; None for all.
        settings: the limits.
    """
    whole = landscape.trajectory
    path = None if whole is None else finite_part(whole)
    if whole is None or path is None or not len(path.steps):
        return None
    spans = np.array([axis[-1] - axis[0] for axis in landscape.grid.axes])
    extent = float((np.ptp(path.points, axis=0) / spans).max())
    is_dot = not extent >= settings.dot
    faint = path.residual_shares > settings.faint
    ends_at_star = bool(path.distances[-1] <= settings.end * path.distances.max())
    words = [_dot_words(extent)] if is_dot else _trail_words(landscape.grid, path, metric, faint)
    if not is_dot and not ends_at_star:
        words.append(_end_words(landscape.recipe))
    if lost := len(whole.steps) - len(path.steps):
        words.append(f"{_count(lost, 'record')} not finite")
    return Trail(
        steps=path.steps,
        points=path.points,
        plane_losses=path.plane_losses.get(metric, np.full(len(path.steps), np.nan)),
        faint=faint,
        marks={} if is_dot else marks_of(path),
        until=float(path.steps[-1] if until is None else until),
        ends_at_star=ends_at_star,
        is_dot=is_dot,
        caption=f"path of {_count(len(path.steps), 'record')}: " + " · ".join([_shown_words(path), *words]),
    )


def finite_part(path: Trajectory) -> Trajectory:
    """The records whose coordinates and distances are finite; those of a training that diverged are not.

    Those beyond HUGE count as infinite: their squares leave float64.
    """
    finite = (np.abs(np.column_stack([path.points, path.residuals, path.distances])) < HUGE).all(axis=1)
    if finite.all():
        return path
    columns: dict[str, Any] = {
        name: getattr(path, name)[finite] for name in ("steps", "points", "residuals", "distances", "measured")
    }
    tables: dict[str, Any] = {
        name: {key: column[finite] for key, column in getattr(path, name).items()}
        for name in ("losses", "plane_losses", "metrics")
    }
    return replace(path, **columns, **tables)


def shown_share(path: Trajectory) -> float:
    """The share of the squared distances from θ* that lies in the plane: 1 − Σ residual² / Σ distance².

    >>> shown_share(Trajectory(np.arange(2.0), np.zeros((2, 2)), np.array([3.0, 0.0]), np.array([5.0, 0.0])))
    0.64
    """
    whole = float((path.distances**2).sum())
    return max(0.0, 1 - float((path.residuals**2).sum()) / whole) if whole > 0 else 1.0


def _shown_words(path: Trajectory) -> str:
    return f"the plane shows {_percent(shown_share(path))} of it (squared distance from ★)"


def _dot_words(extent: float) -> str:
    return f"here a dot, {short(extent, 2)} of the picture wide, and not drawn"


def _end_words(recipe: Recipe) -> str:
    """
    >>> _end_words(Recipe(weights="averaged by EMAWeightAveraging")), _end_words(Recipe())
    ('it ends at □; ★ is averaged by EMAWeightAveraging', 'it ends at □, not at ★')
    """
    return "it ends at □, not at ★" if recipe.weights == Recipe.weights else f"it ends at □; ★ is {recipe.weights}"


def _trail_words(grid: Grid, path: Trajectory, metric: str, faint: NDArray[np.bool_]) -> list[str]:
    """Remarks on the records that are faint or outside, and on the loss of the weights themselves."""
    words = []
    if faint.any():
        words.append(f"{int(faint.sum())} faint: over half of the distance is off the plane")
    ends = np.array([axis[[0, -1]] for axis in grid.axes])
    outside = ((path.points < ends[:, 0]) | (path.points > ends[:, 1])).any(axis=1)
    if outside.any():
        words.append(f"{_count(int(outside.sum()), 'record')} outside of the picture")
    if metric in path.losses and metric in path.plane_losses:
        gap = path.losses[metric] - path.plane_losses[metric]
        gap = gap[np.isfinite(gap)]
        if len(gap):
            typical = float(np.median(gap))
            side = "below" if typical < 0 else "above"
            words.append(f"its own loss is {short(abs(typical), 2)} {side} the plane's (median)")
    return words


def _count(number: int, what: str) -> str:
    """
    >>> _count(1, "record"), _count(1200, "record")
    ('1 record', '1,200 records')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _percent(share: float) -> str:
    """Per cent, which are 0 or 100 only where the share is.

    >>> [_percent(share) for share in (0.0, 2e-5, 0.394, 0.99999, 1.0)]
    ['0 %', 'under 0.1 %', '39 %', 'over 99.9 %', '100 %']
    """
    if 0 < share < 1e-3:
        return "under 0.1 %"
    if 1 - 1e-3 < share < 1:
        return "over 99.9 %"
    return f"{short(100 * share, 2 if share < 0.99 else 3)} %"


def cut(points: Array, box: Box) -> tuple[Array, NDArray[np.intp], NDArray[np.bool_]]:
    """The parts of a line inside a box (Liang and Barsky 1984), of which each piece is cut by itself.

    Args:
        points: the corners of the line, shape (n, d); d ≥ 2, of which the box limits the first two.
        box: the lowest and highest x, and y.

    Returns:
        The ends of each piece that is left, shape (m, 2, d); its number among the n − 1; and True for each point that
        is inside, shape (n,).

    >>> cut(np.array([[-2.0, 0.0], [2.0, 0.0]]), ((-1, 1), (-1, 1)))[0].tolist()
    [[[-1.0, 0.0], [1.0, 0.0]]]
    """
    low, high = np.array(box, float).T
    plane = points[:, :2]
    inside = ((plane >= low) & (plane <= high)).all(axis=1)
    start, along = points[:-1], np.diff(points, axis=0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        crossings = np.stack([(low - start[:, :2]) / along[:, :2], (high - start[:, :2]) / along[:, :2]])
    level = along[:, :2] == 0  # such a piece meets no border of that axis
    beyond = level & ((start[:, :2] < low) | (start[:, :2] > high))
    enter = np.where(level, np.where(beyond, np.inf, -np.inf), crossings.min(axis=0)).max(axis=1).clip(0)
    leave = np.where(level, np.where(beyond, -np.inf, np.inf), crossings.max(axis=0)).min(axis=1).clip(None, 1)
    numbers = np.flatnonzero(enter < leave)
    ends = np.stack([start[numbers] + share[numbers, None] * along[numbers] for share in (enter, leave)], axis=1)
    return ends, numbers, inside
