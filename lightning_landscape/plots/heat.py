"""A heat map: one cell of colour around each grid point, nothing interpolated."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ..landscape import Landscape
from .backdrop import cell_edges, dress_plane
from .bars import color_bar
from .frames import Frame
from .furniture import describe_landscape, open_axes, require_ndim, root
from .scales import scale_of
from .settings import default_settings
from .style import STYLE
from .trail import trail_of
from .trail_lines import draw_trail, trail_frame


@default_settings()
def draw_heat(
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
    """The surface as cells of colour, each of which reaches half-way to its neighbours.

    Args:
        landscape: 2-D.
        metric: the name of the values to draw; None for the main loss.
        ax: where to draw; None for a new figure.
        color_scale: one of COLOR_SCALES.
        vmin, vmax: the ends of the colours; None for those of `color_scale`. Values beyond take the end colours.
        levels: the boundaries of the colours in place of both, e.g. ``np.arange(0, 10, 0.5)``; None for round ones.
        until: the step up to which the path of the training is drawn; None for all of it.

    Returns:
        The figure that holds the axes.

    Raises:
        ValueError: if the landscape is not 2-D, a name is unknown, or the range or the
            levels do not increase.
    """
    require_ndim(landscape, "heat")
    name = landscape.metric(metric)
    scale = scale_of(landscape, name, color_scale, vmin=vmin, vmax=vmax, levels=levels)
    trail = trail_of(landscape, name, until)
    ax = open_axes(ax, trail_frame(landscape, Frame()))
    if not scale.empty:
        x, y = (cell_edges(axis) for axis in landscape.grid.axes)
        ax.pcolormesh(x, y, scale.values.T, norm=scale.norm, cmap=STYLE.colormap, gid="values")  # rows are y
    dress_plane(ax, landscape, scale, cells=True)
    draw_trail(ax, trail)
    describe_landscape(ax, landscape, name, scale.note(), trail.caption if trail else "")
    if not scale.empty:
        color_bar(ax, scale)
    return root(ax)
