"""Filled contours: 30 levels and a colour bar."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ..landscape import Grid, Landscape
from .backdrop import dress_plane
from .bars import color_bar
from .furniture import describe_landscape, open_axes, require_ndim, root
from .scales import Scale, make_scale
from .settings import default_settings
from .style import STYLE


@default_settings()
def draw_filled(
    landscape: Landscape,
    metric: str | None = None,
    *,
    ax: Axes | None = None,
    color_scale: str = "global",
    vmin: float | None = None,
    vmax: float | None = None,
    levels: ArrayLike | None = None,
) -> Figure:
    """The surface as bands of colour.

    Args:
        landscape: 2-D.
        metric: the name of the values to draw; None for the main loss.
        ax: where to draw; None for a new figure.
        color_scale: one of COLOR_SCALES.
        vmin, vmax: the ends of the colours; None for those of `color_scale`. Values beyond take the end colours.
        levels: the boundaries of the colours in place of both, e.g. ``np.arange(0, 10, 0.5)``; None for round ones.

    Returns:
        The figure that holds the axes.

    Raises:
        ValueError: if the landscape is not 2-D, the metric or the colour scale is unknown, the range is
            empty, or the levels do not increase.
    """
    require_ndim(landscape, "filled")
    name = landscape.metric(metric)
    scale = make_scale(landscape.values[name], color_scale, landscape.done, vmin=vmin, vmax=vmax, levels=levels)
    ax = open_axes(ax, 7.2, 6.3)
    bands = fill_bands(ax, landscape.grid, scale)
    dress_plane(ax, landscape.grid, scale)
    describe_landscape(ax, landscape, name, scale.note())
    if bands is not None:
        color_bar(ax, scale, name, bands)
    return root(ax)


def fill_bands(ax: Axes, grid: Grid, scale: Scale, cmap: Colormap = STYLE.colormap) -> ContourSet | None:
    """The bands of colour alone, or None if there is nothing to draw.

    Args:
        ax: where to draw.
        grid: 2-D.
        scale: the range of the colours, and the values to draw.
        cmap: the colours.
    """
    if scale.empty:
        return None
    look: Any = {"levels": scale.levels, "norm": scale.norm, "cmap": cmap, "extend": scale.extend}
    x, y = grid.axes
    return ax.contourf(x, y, scale.values.T, **look)  # rows are y for matplotlib
