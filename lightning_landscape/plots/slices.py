"""Curves: the values along each direction through the centre, with their ±2 standard-error bands."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..landscape import Landscape
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
from .scales import HUGE, Scale, make_scale


def draw_slices(
    landscape: Landscape, metric: str | None = None, *, ax: Axes | None = None, color_scale: str = "global"
) -> Figure:
    """One curve a direction, the other coordinate nearest to 0.

    Args:
        landscape: 1-D or 2-D.
        metric: the name of the values to draw; None for the main loss.
        ax: where to draw; None for a new figure.
        color_scale: one of COLOR_SCALES, for the y axis.

    Returns:
        The figure that holds the axes.

    Raises:
        ValueError: if the landscape is 3-D, or the metric or the colour scale is unknown.
    """
    require_ndim(landscape, "slices")
    name = landscape.metric(metric)
    grid = landscape.grid
    curves = [landscape.slice_values(i, name) for i in range(grid.ndim)]
    done = [_slice(landscape, landscape.done, i) for i in range(grid.ndim)]
    scale = make_scale(np.concatenate(curves), color_scale, np.concatenate(done))
    ax = open_axes(ax, 7.4, 4.9)
    _frame(ax, landscape, scale)
    start = 0
    for i, axis in enumerate(grid.axes):
        part = slice(start, start + len(axis))
        start += len(axis)
        _curve(ax, landscape, name, i, scale.shown[part])
        _rug(ax, axis, scale.broken[part], scale.missing[part], DIRECTION_COLORS[i])
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


def _slice(landscape: Landscape, array: NDArray[Any], direction: int) -> NDArray[Any]:
    """The part of a grid-shaped array along one direction through the centre."""
    index: list[Any] = list(landscape.grid.center_index)
    index[direction] = slice(None)
    return array[tuple(index)]


def _frame(ax: Axes, landscape: Landscape, scale: Scale) -> None:
    """The limits first: a band or a star must not stretch them."""
    ends = [axis[[0, -1]] for axis in landscape.grid.axes]
    ax.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
    if scale.log:
        ax.set_yscale("log")
        margin = (scale.high / scale.low) ** 0.06
        ax.set_ylim(scale.low / margin, scale.high * margin)
        ax.set_yticks(*round_ticks(scale))
        ax.minorticks_off()
    else:
        margin = 0.06 * (scale.high - scale.low)
        ax.set_ylim(scale.low - margin, scale.high + margin)
    if scale.empty:
        ax.set_yticks([])
    ax.grid(True, color=RULE, linewidth=0.5, alpha=0.6)
    ax.axvline(0, color=RULE, linewidth=0.8)


def _curve(ax: Axes, landscape: Landscape, name: str, direction: int, shown: Any) -> None:
    """One curve with its band; gaps where there is no value."""
    axis, color = landscape.grid.axes[direction], DIRECTION_COLORS[direction]
    label = f"{GREEK[direction]}: along direction {direction + 1}"
    for other, points in enumerate(landscape.grid.axes):
        if other != direction:
            label += f"  ({GREEK[other]} = {short(points[landscape.grid.center_index[other]], 3)})"
    bend = landscape.curvature(name)[direction]
    if np.isfinite(bend):
        label += f",  curvature {short(bend, 3)}"
    values = shown.filled(np.nan)
    # Dots too where a gap leaves a point alone, or where there are few.
    dots = "." if len(axis) <= 25 or shown.mask.any() else ""
    # Dashes too, not colour alone: equal curves stay both visible.
    look: Any = {"color": color, "linewidth": 1.8, "linestyle": ("-", (0, (4, 1.5)))[direction]}
    ax.plot(axis, values, marker=dots, markersize=5, label=label, zorder=3, **look)
    errors = landscape.slice_errors(direction, name)
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
