"""Contour lines at round values; some of them are labelled, as on a map for hikers."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from ..landscape import Grid, Landscape
from .backdrop import dress_plane
from .furniture import describe_landscape, open_axes, require_ndim, root
from .levels import labels, round_levels
from .ranges import SETTINGS, thin
from .scales import Scale, make_scale
from .settings import default_settings
from .style import STYLE

# The bright end of the colours is unreadable as a thin line on white.
LINE_COLORS = ListedColormap(STYLE.colormap(np.linspace(0.0, 0.82, 256)))


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
) -> Figure:
    """The surface as contour lines with inline labels.

    Args:
        landscape: 2-D.
        metric: the name of the values to draw; None for the main loss.
        ax: where to draw; None for a new figure.
        color_scale: one of COLOR_SCALES; the lines keep to its range.
        vmin, vmax: the ends of the colours; None for those of `color_scale`. Values beyond take the end colours.
        levels: the boundaries of the colours in place of both, e.g. ``np.arange(0, 10, 0.5)``; None for round ones.

    Returns:
        The figure that holds the axes.

    Raises:
        ValueError: if the landscape is not 2-D, the metric or the colour scale is unknown, the range is
            empty, or the levels do not increase.
    """
    require_ndim(landscape, "contour")
    name = landscape.metric(metric)
    scale = make_scale(landscape.values[name], color_scale, landscape.done, vmin=vmin, vmax=vmax, levels=levels)
    ax = open_axes(ax, 6.6, 6.4)
    if scale.message is None:
        _draw_lines(ax, landscape.grid, scale)
    dress_plane(ax, landscape.grid, scale)
    describe_landscape(ax, landscape, name, scale.note())
    return root(ax)


def _draw_lines(ax: Axes, grid: Grid, scale: Scale) -> None:
    """Draws the lines that values reach, with labels where there is room."""
    levels, major = _levels(scale)
    # Matplotlib warns of a set of levels that no line reaches.
    inside = (levels > scale.values.min()) & (levels < scale.values.max())
    levels, major = levels[inside], major[inside]
    if not len(levels):
        return
    x, y = grid.axes
    widths = np.where(major, 1.5, 0.7).tolist()
    lines = ax.contour(x, y, scale.values.T, levels, norm=scale.norm, cmap=LINE_COLORS, linewidths=widths)  # rows are y
    if major.any():
        texts = dict(zip(levels[major].tolist(), labels(levels[major]), strict=True))
        for label in ax.clabel(lines, levels[major], fmt=texts, fontsize=8, inline_spacing=3):
            label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
            if not _has_room(label.get_position(), grid):
                label.remove()


def _levels(scale: Scale) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The values of the contour lines, and a mask of the labelled ones."""
    if not scale.custom_levels:
        return round_levels(scale.low, scale.high, SETTINGS.levels, scale.log)
    major = np.zeros(len(scale.levels), bool)
    major[thin(len(major), 9)] = True
    return scale.levels, major


def _has_room(place: tuple[float, float], grid: Grid) -> bool:
    """True if a label at `place` is clear of the frame, which would cut it."""
    ends = ((axis[0], axis[-1], 0.012 * (axis[-1] - axis[0])) for axis in grid.axes)
    return all(low + gap < at < high - gap for at, (low, high, gap) in zip(place, ends, strict=True))
