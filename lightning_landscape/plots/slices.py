"""Curves of the values along each direction through the centre, with bands of ± 2 standard errors."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from ..landscape import Grid, Landscape
from .curves import draw_band, fit_ticks, limit_values
from .frames import Frame, frame_of, text_width
from .furniture import (
    GREEK,
    add_message,
    add_star,
    axes_label,
    describe_landscape,
    dress_axes,
    join_parts,
    open_axes,
    require_ndim,
    root,
)
from .levels import short
from .ranges import check_range
from .scales import Scale, make_scale, options_of_part
from .settings import default_settings
from .style import STYLE

Limits = tuple[float, float]


@default_settings()
def draw_slices(
    landscape: Landscape,
    metric: str | None = None,
    *,
    ax: Axes | None = None,
    color_scale: str = "global",
    vmin: float | None = None,
    vmax: float | None = None,
    levels: ArrayLike | None = None,
    xlim: Limits | None = None,
) -> Figure:
    """One curve a direction, the other coordinates nearest to 0.

    Args:
        landscape: 1-D, 2-D or 3-D.
        metric: the name of the values to draw; None for the main loss.
        ax: where to draw; None for a new figure.
        color_scale: one of COLOR_SCALES, for the y axis.
        vmin, vmax: the ends of the y axis, beyond which curves are cut; None for those of `color_scale`.
        levels: the ticks of the y axis, and its ends in place of both; None for round ones.
        xlim: the ends of the x axis, in lengths of the directions; None for the whole grid.

    Returns:
        The figure that holds the axes.

    Raises:
        ValueError: if the landscape has more directions, the metric or the colour scale is unknown, or a range
            holds no point.
    """
    require_ndim(landscape, "slices")
    name = landscape.metric(metric)
    grid = landscape.grid
    indices = [_index_slice(grid, direction, xlim) for direction in range(grid.ndim)]
    curves = [landscape.values[name][index] for index in indices]
    if not any(curve.size for curve in curves):
        ends = " and ".join(f"from {short(float(axis[0]))} to {short(float(axis[-1]))}" for axis in grid.axes)
        raise ValueError(f"xlim={xlim} holds no point: the grid runs {ends}.")
    done = np.concatenate([landscape.done[index] for index in indices])
    options = options_of_part(landscape, name, color_scale, vmin=vmin, vmax=vmax, levels=levels)
    scale = make_scale(np.concatenate(curves), done=done, **options)
    ax = open_axes(ax, Frame(height=4.0, right=0.16, top=0.66 if grid.ndim < 3 else 0.82))
    _draw_frame(ax, grid, scale, xlim)
    stop = 0
    for direction, (index, curve) in enumerate(zip(indices, curves, strict=True)):
        start, stop = stop, stop + len(curve)
        _draw_curve(ax, landscape, name, direction, index, scale.part(slice(start, stop)))
    _dress_curves(ax, landscape, name, scale)
    return root(ax)


def _index_slice(grid: Grid, direction: int, xlim: Limits | None) -> tuple[int | slice, ...]:
    """The index of the points along one direction through the centre, within `xlim`.

    One point beyond each end is among them, so that curves reach the frame.
    """
    axis = grid.axes[direction]
    low, high = xlim or (axis[0], axis[-1])
    check_range(low, high)
    start, stop = int(np.searchsorted(axis, low)), int(np.searchsorted(axis, high, side="right"))
    inside = start < len(axis) and stop > 0
    index: list[int | slice] = list(grid.center_index)
    index[direction] = slice(max(start - 1, 0), min(stop + 1, len(axis))) if inside else slice(0, 0)
    return tuple(index)


def _draw_frame(ax: Axes, grid: Grid, scale: Scale, xlim: Limits | None) -> None:
    """Sets the limits first: a band or a star must not stretch them."""
    ax.set_xlim(xlim or (min(axis[0] for axis in grid.axes), max(axis[-1] for axis in grid.axes)))
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    limit_values(ax, scale)
    if scale.empty:
        ax.set_yticks([])
    ax.grid(True, color=STYLE.rule, linewidth=0.5, alpha=0.6)
    ax.axvline(0, color=STYLE.rule, linewidth=0.8)


def _draw_curve(
    ax: Axes, landscape: Landscape, name: str, direction: int, index: tuple[int | slice, ...], scale: Scale
) -> None:
    """Draws the visible part of one curve with its band; gaps where there is no value."""
    part, color = index[direction], STYLE.directions[direction]
    axis, values = landscape.grid.axes[direction][part], scale.values.filled(np.nan)
    # Dots too where a gap leaves a point alone, or where there are few.
    dots = "." if len(axis) <= 25 or np.isnan(values).any() else ""
    look: Any = {"color": color, "linewidth": 1.8, "linestyle": STYLE.dashes[direction], "markersize": 5, "zorder": 3}
    ax.plot(axis, values, marker=dots, label=_describe_curve(landscape, name, direction), **look)
    _draw_parabola(ax, landscape, name, direction, axis)
    errors = landscape.slice_errors(direction, name)[part]
    errors = np.where(np.isfinite(errors), errors, np.nan)
    label = "± 2 SE" if direction == landscape.grid.ndim - 1 else None
    draw_band(ax, axis, values, errors, color, label, floor=ax.get_ylim()[0])
    _draw_marks(ax, axis, scale, color)


def _draw_parabola(ax: Axes, landscape: Landscape, name: str, direction: int, axis: NDArray[np.float64]) -> None:
    """Draws ½λt² through the centre, where the direction is an eigenvector of the Hessian and its λ is known."""
    recipe, grid = landscape.recipe.directions, landscape.grid
    center = landscape.center.get(name, np.nan)
    if recipe is None or recipe.kind != "hessian" or name != landscape.main or not np.isfinite(center):
        return
    elsewhere = any(grid.axes[i][at] for i, at in enumerate(grid.center_index) if i != direction)
    if elsewhere or len(recipe.lengths) <= direction:
        return
    eigenvalue = recipe.settings["eigenvalues"][direction]
    t = np.linspace(axis[0], axis[-1], 101)
    heights = center + 0.5 * eigenvalue * (recipe.lengths[direction] * t) ** 2
    look: Any = {"color": STYLE.directions[direction], "linewidth": 1.2, "linestyle": STYLE.dashes[-1], "zorder": 4}
    ax.plot(t, heights, gid="parabola", **look)


def _describe_curve(landscape: Landscape, name: str, direction: int) -> str:
    """The label of a curve: its letter, its curvature, and the place of the slice where that is not 0."""
    places = enumerate(zip(landscape.grid.axes, landscape.grid.center_index, strict=True))
    fixed = [f"{GREEK[i]} = {short(float(axis[at]), 3)}" for i, (axis, at) in places if i != direction and axis[at]]
    curvature = landscape.curvature(name)[direction]
    label = GREEK[direction] + (f" (at {', '.join(fixed)})" if fixed else "")
    return label + (f": curvature {short(curvature, 3)}" if np.isfinite(curvature) else "")


def _draw_marks(ax: Axes, axis: NDArray[np.float64], scale: Scale, color: str) -> None:
    """Marks values that are not finite at the upper edge, and points not evaluated at the lower edge."""
    look: Any = {"markersize": 4, "linestyle": "", "fillstyle": "none", "zorder": 4, "clip_on": False}
    for mask, marker, height in ((scale.broken, "x", 0.975), (scale.missing, "o", 0.025)):
        if mask.any():
            x, y = axis[mask], np.full(mask.sum(), height)
            ax.plot(x, y, marker, color=color, transform=ax.get_xaxis_transform(), **look)


def _dress_curves(ax: Axes, landscape: Landscape, name: str, scale: Scale) -> None:
    """Adds star, message, labels, legend, title and footer to axes that hold the curves."""
    add_star(ax, 0.0, landscape.center.get(name, np.nan))
    add_message(ax, scale.message)
    dress_axes(ax, axes_label(landscape, is_short=True).replace("direction 1", "the direction"), "")
    fit_ticks(ax)
    if not scale.empty:
        _add_legend(ax, landscape.grid.ndim)
    note = scale.note(broken="× above", missing="○ below", hidden="gap")
    parabolas = "dotted: ★ + ½λt²" if ax.findobj(lambda artist: artist.get_gid() == "parabola") else ""
    describe_landscape(ax, landscape, name, join_parts(parabolas, note.replace("colours", "y axis")))


def _add_legend(ax: Axes, curves: int) -> None:
    """Adds the legend above the axes, where no curve runs; inside those of the caller, which have no room there."""
    look: dict[str, Any] = {"fontsize": STYLE.tick_size, "frameon": False, "labelcolor": STYLE.faint}
    frame = frame_of(ax)
    if frame is None:
        ax.legend(loc="best", **look)
        return
    columns = 3 if curves < 3 else 2
    width = sum(text_width(text) + 2.2 + 0.5 + 1.2 for text in ax.get_legend_handles_labels()[1][:columns])
    look["fontsize"] = min(STYLE.tick_size, 72 * (frame.width - 3 * frame.margin) / width)
    rows = {"ncols": columns, "columnspacing": 1.2, "handlelength": 2.2, "handletextpad": 0.5}
    ax.legend(loc="lower left", bbox_to_anchor=(-0.14, 1.0), borderaxespad=0.1, borderpad=0.2, **rows, **look)
