"""The planes through the centre of a 3-D landscape, side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ..landscape import Grid, Landscape
from .backdrop import add_backdrop
from .bands import fill_bands
from .bars import color_bar
from .cells import Cell
from .frames import Frame
from .furniture import (
    GREEK,
    add_message,
    add_star,
    axis_label,
    describe_landscape,
    dress_axes,
    hide_frame,
    open_axes,
    require_ndim,
    root,
)
from .levels import short
from .scales import MaskedValues, Scale, make_scale, options_of_part
from .settings import default_settings
from .style import STYLE

PLANES = ((0, 1), (0, 2), (1, 2))  # the two directions of each plane


@default_settings()
def draw_sections(
    landscape: Landscape,
    metric: str | None = None,
    *,
    ax: Axes | None = None,
    color_scale: str = "global",
    vmin: float | None = None,
    vmax: float | None = None,
    levels: ArrayLike | None = None,
) -> Figure:
    """The three planes through the point nearest to the centre, in one colour scale.

    Args:
        landscape: 3-D.
        metric: the name of the values to draw; None for the main loss.
        ax: the place to draw at, filled with three axes; None for a new figure.
        color_scale: one of COLOR_SCALES, over the points of the three planes.
        vmin, vmax: the ends of the colours; None for those of `color_scale`. Values beyond take the end colours.
        levels: the boundaries of the colours in place of both, e.g. ``np.arange(0, 10, 0.5)``; None for round ones.

    Returns:
        The figure that holds the axes.

    Raises:
        ValueError: if the landscape is not 3-D, a name is unknown, or the range or the
            levels do not increase.
    """
    require_ndim(landscape, "sections")
    name = landscape.metric(metric)
    note, scale = _scale(landscape, name, color_scale, vmin=vmin, vmax=vmax, levels=levels)
    frame = open_axes(ax, Frame(width=9.0, height=3.8, left=0.2))
    hide_frame(frame)
    cells = [Cell(frame, 0, place, 1, len(PLANES), left=36, bottom=24) for place in range(len(PLANES))]
    panels = [cell.add_axes(f"plane {cell.column}") for cell in cells]
    for panel, (first, second) in zip(panels, PLANES, strict=True):
        _draw_plane(panel, landscape, scale, first, second)
    add_message(frame, scale.message)
    describe_landscape(frame, landscape, name, note)
    if not scale.empty:
        color_bar(frame, scale, fraction=0.05, beside=panels)
    return root(frame)


def _scale(landscape: Landscape, name: str, color_scale: str, **ends: Any) -> tuple[str, Scale]:
    """The note, and the colours of the whole volume with all points beside the planes hidden.

    The colours and the counts are of the points in the planes, each once.
    """
    grid = landscape.grid
    inside = np.zeros(grid.shape, bool)
    for missing in range(3):
        inside[_plane_index(grid, missing)] = True
    flat = make_scale(
        landscape.values[name][inside],
        done=landscape.done[inside],
        **options_of_part(landscape, name, color_scale, **ends),
    )
    values: MaskedValues = np.ma.masked_all(grid.shape)
    values[inside] = flat.values
    masks: dict[str, Any] = {kind: np.zeros(grid.shape, bool) for kind in ("missing", "broken", "hidden")}
    for kind, mask in masks.items():
        mask[inside] = getattr(flat, kind)
    return flat.note(), replace(flat, values=values, **masks)


def _plane_index(grid: Grid, direction: int) -> tuple[int | slice, ...]:
    """The index of the plane at the point of `direction` that is nearest to 0."""
    return tuple(grid.center_index[d] if d == direction else slice(None) for d in range(3))


def _draw_plane(ax: Axes, landscape: Landscape, scale: Scale, first: int, second: int) -> None:
    """Draws the plane of two directions, at the point of the third that is nearest to 0."""
    third, grid = 3 - first - second, landscape.grid
    plane, part = Grid((grid.axes[first], grid.axes[second])), scale.part(_plane_index(grid, third))
    fill_bands(ax, plane, part)
    add_backdrop(ax, plane, part)
    if ax.get_aspect() == "auto":
        ax.set_box_aspect(1)
    look: Any = {"color": "white", "linewidth": 0.7, "alpha": 0.6, "linestyle": (0, (4, 3))}
    at = [float(axis[i]) for axis, i in zip(grid.axes, grid.center_index, strict=True)]
    ax.axvline(at[first], **look)  # where the other two planes cross this one
    ax.axhline(at[second], **look)
    if all(axis[0] <= 0 <= axis[-1] for axis in grid.axes):
        add_star(ax, 0.0, 0.0, size=12)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4))
        axis.labelpad = 1
    title = f"{GREEK[first]}, {GREEK[second]}  at {GREEK[third]} = {short(at[third], 3)}"
    ax.set_title(title, fontsize=STYLE.label_size, color=STYLE.faint, pad=4)
    dress_axes(ax, axis_label(landscape, first), axis_label(landscape, second))
