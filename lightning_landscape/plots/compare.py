"""Two landscapes on the same axes, in one colour scale, and their difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..landscape import Grid, Landscape
from .backdrop import lay_plane
from .bars import color_bar, round_ticks
from .filled import fill
from .furniture import (
    COLORMAP,
    DIRECTION_COLORS,
    FAINT,
    INK,
    RULE,
    SMALL_SIZE,
    axis_label,
    dress,
    foot,
    footing,
    heading,
    inexact,
    moment,
    provenance,
    say,
    star,
    wrap,
)
from .levels import short
from .scales import HUGE, LEVELS, TINY, Scale, make_scale, readable_top
from .settings import default_settings

DIVERGING = colormaps["RdBu_r"]  # red: B is higher


@default_settings()
def draw_comparison(
    a: Landscape, b: Landscape, metric: str | None = None, *, names: tuple[str, str] = ("A", "B")
) -> Figure:
    """A and B in the same colours (1-D: on the same axis), and B − A in colours around 0.

    Args:
        a, b: 1-D or 2-D, on equal grids.
        metric: the name of the values to compare; None for the main loss of `a`.
        names: what to call the two.

    Returns:
        A new figure.

    Raises:
        ValueError: if the grids differ or are 3-D, or one of the two has no such metric.
    """
    name = common_metric(a, b, metric, names)
    require_same_grid(a, b, names)
    if a.grid.ndim > 2:
        raise ValueError(f"comparisons draw 1-D and 2-D landscapes, these are {a.grid.ndim}-D: compare their slices.")
    return (_curves if a.grid.ndim == 1 else _maps)((a, b), name, names)


def common_metric(a: Landscape, b: Landscape, metric: str | None = None, names: tuple[str, str] = ("A", "B")) -> str:
    """`metric`, or the main loss of `a`; ValueError unless both have it."""
    wanted = a.main if metric is None else metric
    for landscape, called in zip((a, b), names, strict=True):
        if wanted not in landscape.values:
            raise ValueError(f"metric={wanted!r} is not in {called}; it has: {', '.join(landscape.values)}.")
    return wanted


def require_same_grid(a: Landscape, b: Landscape, names: tuple[str, str] = ("A", "B")) -> None:
    """Raises ValueError unless both landscapes have the same points."""
    if a.grid != b.grid:
        grids = [" × ".join(_axis(axis) for axis in landscape.grid.axes) for landscape in (a, b)]
        raise ValueError(
            f"the grids differ: {names[0]} has {grids[0]}, {names[1]} has {grids[1]}: compute both on the same ranges."
        )


def _axis(axis: NDArray[np.float64]) -> str:
    return f"{len(axis)} points in [{short(float(axis[0]))}, {short(float(axis[-1]))}]"


def difference(a: Landscape, b: Landscape, metric: str) -> Any:
    """B − A, masked where one of the two has no finite value; shape of the grid."""
    both = a.done & b.done & np.isfinite(a.values[metric]) & np.isfinite(b.values[metric])
    with np.errstate(invalid="ignore", over="ignore"):
        values = b.values[metric] - a.values[metric]
    return np.ma.masked_array(np.where(both, values, 0.0), ~both | ~np.isfinite(values))


def _maps(pair: tuple[Landscape, Landscape], name: str, names: tuple[str, str]) -> Figure:
    grid = pair[0].grid
    figure, axes = _open(13.6, 5.0, 1, 3)
    scale = make_scale(np.stack([x.values[name] for x in pair]), done=np.stack([x.done for x in pair]))
    values = difference(*pair, name)
    colors = _around_zero(values, scale)
    parts = [scale.part(0), scale.part(1), colors]
    notes = [
        _joined(f"{name}{moment(x)}", replace(p, remark="").note(), inexact(x, name))
        for x, p in zip(pair, parts, strict=False)
    ]
    notes[0] = _joined(notes[0], f"both: {scale.remark}")
    notes.append(colors.remark if colors.message else _joined(colors.remark, _share(values, names)))
    lines = max(wrap(ax, note, SMALL_SIZE).count("\n") + 1 for ax, note in zip(axes, notes, strict=True))
    titles = (*names, f"{names[1]} − {names[0]}")
    for ax, title, note, part, cmap in zip(axes, titles, notes, parts, (COLORMAP, COLORMAP, DIVERGING), strict=True):
        drawn = fill(ax, grid, part, cmap)
        _furnish(ax, grid, part)
        if part.message is not None or part.empty:
            say(ax, part.message or "no value to show")
        heading(ax, title, note, lines)
    for ax, landscape in zip(axes, pair, strict=False):
        foot(ax, landscape, name)
    if not scale.empty:
        color_bar(axes[1], scale, name)
    if colors.message is None:
        color_bar(axes[2], colors, f"difference of {name}", drawn)
    return figure


def _around_zero(values: Any, both: Scale) -> Scale:
    """Colours from −m to m, m the largest difference that leaves the others readable."""
    body = np.sort(np.abs(values.compressed()))
    missing = both.missing.any(axis=0)
    blank = np.ma.getmaskarray(values)
    most, message, remark = 1.0, None, ""
    if not len(body):
        message = remark = "no point with a finite value in both"
    elif body[-1] == 0:
        message = remark = "no difference anywhere"
    else:
        most = max(readable_top(body), 1e-100)
        remark = f"colours −{short(most)} … {short(most)}"
        above = int((body > most).sum())
        remark += (
            f", {above:,} {'point' if above == 1 else 'points'} beyond (up to ±{short(body[-1])})" if above else ""
        )
    low, high = bool((values < -most).any()), bool((values > most).any())
    extend: Any = "both" if low and high else "min" if low else "max" if high else "neither"
    levels = np.linspace(-most, most, LEVELS + 1)
    nothing = np.zeros(blank.shape, bool)
    return Scale(
        Normalize(-most, most),
        levels,
        extend,
        False,
        values,
        missing & blank,
        blank & ~missing,
        nothing,
        message,
        remark,
    )


def _share(values: Any, names: tuple[str, str]) -> str:
    count = values.count()
    return f"{names[1]} is lower at {(values < 0).sum() / count:.0%} of {count:,} points" if count else ""


def _curves(pair: tuple[Landscape, Landscape], name: str, names: tuple[str, str]) -> Figure:
    axis = pair[0].grid.axes[0]
    figure, (top, bottom) = _open(7.6, 6.6, 2, 1, height_ratios=(2, 1), sharex=True)
    scale = make_scale(np.stack([x.values[name] for x in pair]), done=np.stack([x.done for x in pair]))
    styles: tuple[Any, ...] = ("-", (0, (4, 1.5)))
    errors = [x.standard_errors.get(name, np.full(x.grid.shape, np.nan)) for x in pair]
    top.set_yscale("log" if scale.log else "linear")
    for place, called in enumerate(names):
        center = pair[place].center.get(name, np.nan)
        label = f"{called}: {short(center)} at θ*" if np.isfinite(center) else called
        values, color = scale.part(place).shown.filled(np.nan), DIRECTION_COLORS[place]
        top.plot(axis, values, color=color, linewidth=1.8, linestyle=styles[place], label=label, zorder=3)
        _band(top, axis, values, errors[place], color, "± 2 standard errors" if place else None)
    margin = 0.06 * (scale.high - scale.low)
    factor = (scale.high / scale.low) ** 0.06 if scale.log else 1.0
    ends = (scale.low / factor, scale.high * factor) if scale.log else (scale.low - margin, scale.high + margin)
    top.set(xlim=(axis[0], axis[-1]), ylim=ends)
    if scale.log:
        top.set_yticks(*round_ticks(scale))
        top.minorticks_off()
    top.set_ylabel(name, parse_math=False)
    if scale.message is not None:
        say(top, scale.message)
    note = scale.note(*["gap"] * 3).replace("colours", "y axis")
    heading(top, f"{names[0]} and {names[1]}", _joined(name, note))
    values = difference(*pair, name)
    bottom.axhline(0, color=INK, linewidth=0.8)
    bottom.plot(axis, values.filled(np.nan), color=DIRECTION_COLORS[2], linewidth=1.8, zorder=3)
    together = np.sqrt(errors[0] ** 2 + errors[1] ** 2)
    _band(
        bottom,
        axis,
        values.filled(np.nan),
        together,
        DIRECTION_COLORS[2],
        "± 2 standard errors, were the two independent",
    )
    body = np.sort(np.abs(values.compressed()))
    if len(body) and readable_top(body) < body[-1]:
        most = 1.1 * readable_top(body)
        bottom.set_ylim(-most, most)
    bottom.set_ylabel("difference")
    heading(bottom, "", f"{names[1]} − {names[0]}")
    bottom.set_xlabel(axis_label(0))
    for ax in (top, bottom):
        ax.grid(True, color=RULE, linewidth=0.5, alpha=0.6)
        dress(ax)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=SMALL_SIZE + 0.5, frameon=False, labelcolor=FAINT, loc="best")
    footing(
        bottom,
        "\n".join(
            f"{_joined(f'{called}{moment(x)}', provenance(x, name), inexact(x, name))}"
            for called, x in zip(names, pair, strict=True)
        ),
    )
    return figure


def _band(ax: Axes, axis: NDArray[np.float64], values: Any, errors: Any, color: str, label: str | None) -> None:
    """± 2 standard errors around a curve, where they are known; within the frame on a logarithmic axis."""
    reach = 2 * np.minimum(errors, HUGE)
    if np.isfinite(values + reach).any():
        low = np.maximum(values - reach, TINY) if ax.get_yscale() == "log" else values - reach
        ax.fill_between(axis, low, values + reach, color=color, alpha=0.18, linewidth=0, zorder=2, label=label)


def _open(width: float, height: float, rows: int, columns: int, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white", layout="constrained")
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=0.1, h_pad=0.1)
    return figure, figure.subplots(rows, columns, **options)


def _furnish(ax: Axes, grid: Grid, scale: Scale) -> None:
    lay_plane(ax, grid, scale)
    star(ax, 0.0, 0.0)
    ax.set_xlabel(axis_label(0))
    ax.set_ylabel(axis_label(1))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    dress(ax)


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)
