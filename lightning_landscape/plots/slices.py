"""Curves: the values along each direction through the centre, with their ±2 standard-error bands."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..landscape import Grid, Landscape
from .bars import round_ticks
from .furniture import (
    DIRECTION_COLORS,
    FAINT,
    GREEK,
    RULE,
    SMALL_SIZE,
    axis_label,
    dress,
    foot,
    head,
    open_axes,
    require_ndim,
    root,
    say,
    star,
)
from .levels import short
from .ranges import check_range
from .scales import HUGE, Scale, make_scale
from .settings import default_settings

DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)))


@default_settings()
def draw_slices(
    landscape: Landscape,
    metric: str | None = None,
    *,
    ax: Axes | None = None,
    color_scale: str = "global",
    xlim: tuple[float, float] | None = None,
    value_max: float | None = None,
    log: bool = False,
) -> Figure:
    """One curve a direction, the other coordinates nearest to 0.

    Args:
        landscape: 1-D, 2-D or 3-D.
        metric: the name of the values to draw; None for the main loss.
        ax: where to draw; None for a new figure.
        color_scale: one of COLOR_SCALES, for the y axis.
        xlim: the ends of the x axis, in lengths of the directions; None for the whole grid.
        value_max: the upper end of the y axis, where curves may leave it; None for that of `color_scale`.
        log: a logarithmic y axis, as color_scale="log".

    Returns:
        The figure that holds the axes.

    Raises:
        ValueError: if the landscape has more directions, the metric or the colour scale is unknown, or a
            range is empty or holds no point.
    """
    require_ndim(landscape, "slices")
    name = landscape.metric(metric)
    grid = landscape.grid
    parts = [_visible(axis, xlim) for axis in grid.axes]
    if not any(part.stop > part.start for part in parts):
        raise ValueError(f"xlim={xlim} holds no point: the grid runs {_ends(grid)}.")
    curves = [landscape.slice_values(i, name)[part] for i, part in enumerate(parts)]
    done = [_slice(landscape, landscape.done, i)[part] for i, part in enumerate(parts)]
    color_scale = "log" if log else color_scale
    scale = make_scale(np.concatenate(curves), color_scale, np.concatenate(done), vmax=value_max)
    ax = open_axes(ax, 7.4, 4.9)
    _frame(ax, landscape, scale, xlim, value_max)
    start = 0
    for i, part in enumerate(parts):
        here = slice(start, start + part.stop - part.start)
        start = here.stop
        _curve(ax, landscape, name, i, part, scale.shown[here])
        _rug(ax, grid.axes[i][part], scale.broken[here], scale.missing[here], DIRECTION_COLORS[i])
    star(ax, 0.0, landscape.center.get(name, np.nan))
    if scale.message is not None:
        say(ax, scale.message)
    ax.set_xlabel(axis_label(0) if grid.ndim == 1 else "distance from θ*  (lengths of the direction)")
    ax.set_ylabel(name, parse_math=False)
    dress(ax)
    if not scale.empty:
        ax.legend(fontsize=SMALL_SIZE + 0.5, frameon=False, labelcolor=FAINT, loc="best")
    note = scale.note(broken="× above", missing="○ below", hidden="gap")
    head(ax, landscape, name, note.replace("colours", "y axis"))
    foot(ax, landscape, name)
    return root(ax)


def _visible(axis: NDArray[np.float64], xlim: tuple[float, float] | None) -> slice:
    """The points of an axis within `xlim`, and one beyond each end, so that curves reach the frame."""
    if xlim is None:
        return slice(0, len(axis))
    low, high = xlim
    check_range(low, high)
    start, stop = np.searchsorted(axis, low), np.searchsorted(axis, high, side="right")
    if start == len(axis) or stop == 0:
        return slice(0, 0)
    return slice(max(int(start) - 1, 0), min(int(stop) + 1, len(axis)))


def _ends(grid: Grid) -> str:
    return " and ".join(f"from {short(float(axis[0]))} to {short(float(axis[-1]))}" for axis in grid.axes)


def _slice(landscape: Landscape, array: NDArray[Any], direction: int) -> NDArray[Any]:
    """The part of a grid-shaped array along one direction through the centre."""
    index: list[Any] = list(landscape.grid.center_index)
    index[direction] = slice(None)
    return array[tuple(index)]


def _frame(
    ax: Axes, landscape: Landscape, scale: Scale, xlim: tuple[float, float] | None, value_max: float | None
) -> None:
    """The limits first: a band or a star must not stretch them."""
    ends = [axis[[0, -1]] for axis in landscape.grid.axes]
    ax.set_xlim(xlim or (min(low for low, _ in ends), max(high for _, high in ends)))
    if scale.log:
        ax.set_yscale("log")
        margin = (scale.high / scale.low) ** 0.06
        ax.set_ylim(scale.low / margin, scale.high * margin)
        ax.set_yticks(*round_ticks(scale))
        ax.minorticks_off()
    else:
        margin = 0.06 * (scale.high - scale.low)
        ax.set_ylim(scale.low - margin, scale.high + margin)
    if value_max is not None and scale.message is None:
        ax.set_ylim(top=value_max)
    if scale.empty:
        ax.set_yticks([])
    ax.grid(True, color=RULE, linewidth=0.5, alpha=0.6)
    ax.axvline(0, color=RULE, linewidth=0.8)


def _curve(ax: Axes, landscape: Landscape, name: str, direction: int, part: slice, shown: Any) -> None:
    """The visible part of one curve with its band; gaps where there is no value."""
    axis, color = landscape.grid.axes[direction][part], DIRECTION_COLORS[direction]
    label = f"{GREEK[direction]}: along direction {direction + 1}"
    centre = [float(points[i]) for points, i in zip(landscape.grid.axes, landscape.grid.center_index, strict=True)]
    others = [f"{GREEK[i]} = {short(at, 3)}" for i, at in enumerate(centre) if i != direction]
    label += f"  ({', '.join(others)})" if others else ""
    bend = landscape.curvature(name)[direction]
    if np.isfinite(bend):
        label += f",  curvature {short(bend, 3)}"
    values = shown.filled(np.nan)
    # Dots too where a gap leaves a point alone, or where there are few.
    dots = "." if len(axis) <= 25 or shown.mask.any() else ""
    # Dashes too, not colour alone: equal curves stay both visible.
    look: Any = {"color": color, "linewidth": 1.8, "linestyle": DASHES[direction]}
    ax.plot(axis, values, marker=dots, markersize=5, label=label, zorder=3, **look)
    errors = landscape.slice_errors(direction, name)[part]
    known = np.isfinite(errors) & ~shown.mask
    errors = np.minimum(errors, HUGE)  # twice the largest float64 is infinite
    if known.any():
        low, high = (np.where(known, values + sign * 2 * errors, np.nan) for sign in (-1, 1))
        if ax.get_yscale() == "log":
            low = np.maximum(low, ax.get_ylim()[0])
        band: Any = {"color": color, "alpha": 0.18, "linewidth": 0, "zorder": 2}
        ax.fill_between(
            axis,
            low,
            high,
            label="± 2 standard errors" if direction == landscape.grid.ndim - 1 else None,
            **band,
        )


def _rug(
    ax: Axes, axis: NDArray[np.float64], broken: NDArray[np.bool_], missing: NDArray[np.bool_], color: str
) -> None:
    """Marks at the upper edge for values that are not finite, at the lower edge for points not evaluated."""
    for mask, marker, height in ((broken, "x", 0.975), (missing, "o", 0.025)):
        if mask.any():
            look: Any = {
                "color": color,
                "markersize": 4,
                "linestyle": "",
                "fillstyle": "none",
                "zorder": 4,
                "clip_on": False,
            }
            ax.plot(axis[mask], np.full(mask.sum(), height), marker, transform=ax.get_xaxis_transform(), **look)
