"""Bands of colour between lines at round values; some of the lines are labelled, as on a map for hikers."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from ..landscape import Grid, Landscape
from .backdrop import dress_plane
from .bands import fill_bands
from .bars import color_bar
from .frames import Frame
from .furniture import describe_landscape, join_parts, open_axes, require_ndim, root
from .good import draw_good, good_levels
from .levels import labels, round_levels
from .passes import draw_passes
from .ranges import SETTINGS, thin
from .scales import Scale, scale_of
from .settings import default_settings
from .style import STYLE
from .trail import trail_of
from .trail_lines import draw_trail, trail_frame


@default_settings()
def draw_contour(
    landscape: Landscape,
    metric: str | None = None,
    *,
    ax: Axes | None = None,
    color_scale: str = "global",
    vmin: float | None = None,
    vmax: float | None = None,
    levels: ArrayLike | None = None,
    until: float | None = None,
) -> Figure:
    """The surface as bands of colour between labelled lines, with the border of what is as good as the centre.

    Args:
        landscape: 2-D.
        metric: the name of the values to draw; None for the main loss.
        ax: where to draw; None for a new figure.
        color_scale: one of COLOR_SCALES; the lines keep to its range.
        vmin, vmax: the ends of the colours; None for those of `color_scale`. Values beyond take the end colours.
        levels: the boundaries of the colours in place of both, e.g. ``np.arange(0, 10, 0.5)``; None for round ones.
        until: the step up to which the path of the training is drawn; None for all of it.

    Returns:
        The figure that holds the axes.

    Raises:
        ValueError: if the landscape is not 2-D, a name is unknown, or the range or the
            levels do not increase.
    """
    require_ndim(landscape, "contour")
    name = landscape.metric(metric)
    scale = scale_of(landscape, name, color_scale, vmin=vmin, vmax=vmax, levels=levels)
    trail = trail_of(landscape, name, until)
    ax = open_axes(ax, trail_frame(landscape, Frame()))
    lines, major = _levels(scale)
    bands = fill_bands(ax, landscape.grid, scale, boundaries=_boundaries(scale, lines))
    if bands is not None and scale.message is None:
        _draw_lines(ax, landscape.grid, scale, lines, major)
        draw_good(ax, landscape, name, scale)
    dress_plane(ax, landscape, scale)
    marks = draw_passes(ax, landscape, name, scale)
    draw_trail(ax, trail)
    describe_landscape(ax, landscape, name, join_parts(scale.note(), marks), trail.caption if trail else "")
    if bands is not None:
        color_bar(ax, scale, mappable=bands, marks=good_levels(landscape, name).values())
    return root(ax)


def _levels(scale: Scale) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The values of the lines, and a mask of the labelled ones."""
    if not scale.custom_levels:
        return round_levels(scale.low, scale.high, SETTINGS.lines, scale.log)
    major = np.zeros(len(scale.levels), bool)
    major[thin(len(major), 9)] = True
    return scale.levels, major


def _boundaries(scale: Scale, lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """The boundaries of the bands: the lines, and the ends of the colours."""
    inside = lines[(lines > scale.low) & (lines < scale.high)]
    return np.concatenate([[scale.low], inside, [scale.high]])


def _draw_lines(ax: Axes, grid: Grid, scale: Scale, levels: NDArray[np.float64], major: NDArray[np.bool_]) -> None:
    """Draws the lines that values reach, with labels where there is room."""
    # Matplotlib warns of a set of levels that no line reaches.
    inside = (levels > scale.values.min()) & (levels < scale.values.max())
    levels, major = levels[inside], major[inside]
    if not len(levels):
        return
    x, y = grid.axes
    look: Any = {"colors": [STYLE.ink], "linewidths": np.where(major, 0.7, 0.35).tolist(), "alpha": 0.75}
    lines = ax.contour(x, y, scale.values.T, levels, **look)  # rows are y
    if major.any():
        texts = dict(zip(levels[major].tolist(), labels(levels[major]), strict=True))
        drawn: list[tuple[float, float]] = []
        for label in ax.clabel(lines, levels[major], fmt=texts, fontsize=STYLE.small_size, inline=False, zorder=5):
            label.set(color=STYLE.ink, alpha=1, path_effects=[withStroke(linewidth=2.2, foreground="white")])
            place = _share(label.get_position(), grid)
            if _has_room(place, drawn):
                drawn.append(place)
            else:
                label.remove()


def _share(place: tuple[float, float], grid: Grid) -> tuple[float, float]:
    """A place in the plane as shares of its axes."""
    x, y = (float((at - axis[0]) / (axis[-1] - axis[0])) for at, axis in zip(place, grid.axes, strict=True))
    return x, y


def _has_room(place: tuple[float, float], neighbours: list[tuple[float, float]], gap: float = 0.1) -> bool:
    """True if a label is clear of the frame, which would cut it, and of those drawn before it: the inner ones.

    Args:
        place: of the label, as shares of the axes.
        neighbours: the places of the labels before it.
        gap: between two labels; one of four letters is as long.
    """
    clear = all(0.03 < share < 0.97 for share in place)
    return clear and all(np.hypot(place[0] - x, place[1] - y) > gap for x, y in neighbours)
