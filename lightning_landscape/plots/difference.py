"""Two landscapes on the same axes, in one colour scale, and their difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..landscape import Landscape
from .backdrop import dress_plane
from .bands import fill_bands
from .bars import color_bar
from .curves import draw_band, limit_values
from .furniture import (
    add_footer,
    add_message,
    add_title,
    axis_label,
    dress_axes,
    inexact,
    join_parts,
    moment,
    provenance,
    wrap,
)
from .levels import short
from .ranges import SETTINGS, count_points, readable_top
from .runs import Runs
from .scales import MaskedValues, Scale, find_extend, make_scale
from .settings import default_settings
from .show import Picture
from .style import STYLE

Pair = tuple[Landscape, Landscape]
Names = tuple[str, str]


@default_settings()
def draw_difference(runs: Runs, metric: str) -> Figure:
    """A and B in the same colours (1-D: on the same axis), and B − A in colours around 0.

    Args:
        runs: two of them, 1-D or 2-D, on equal grids.
        metric: the name of the values to compare.
    """
    (first, a), (second, b) = runs.landscapes.items()
    return (_draw_curves if runs.ndim == 1 else _draw_maps)((a, b), metric, (first, second), runs.note)


def difference(a: Landscape, b: Landscape, metric: str) -> MaskedValues:
    """B − A, masked where one of the two has no finite value; shape of the grid."""
    both = a.done & b.done & np.isfinite(a.values[metric]) & np.isfinite(b.values[metric])
    with np.errstate(invalid="ignore", over="ignore"):
        values = b.values[metric] - a.values[metric]
    return np.ma.masked_array(np.where(both, values, 0.0), ~both | ~np.isfinite(values))


def _shared_scale(pair: Pair, name: str) -> Scale:
    """One scale for the values of both, stacked along a first axis."""
    return make_scale(np.stack([x.values[name] for x in pair]), done=np.stack([x.done for x in pair]))


def _draw_maps(pair: Pair, name: str, names: Names, planes: str) -> Figure:
    """Both landscapes and their difference as bands of colour, side by side."""
    figure, grid = Picture(figsize=(13.6, 5.6), dpi=100, facecolor="white"), pair[0].grid
    axes = figure.subplots(1, 3, gridspec_kw={"left": 0.05, "right": 0.92, "wspace": 0.42, "bottom": 0.17, "top": 0.8})
    scale, values = _shared_scale(pair, name), difference(*pair, name)
    colors = _scale_around_zero(values, scale)
    parts = [scale.part(0), scale.part(1), colors]
    notes = [
        join_parts(f"{name}{moment(x)}", replace(part, remark="").note(), inexact(x, name))
        for x, part in zip(pair, parts, strict=False)
    ]
    notes[0] = join_parts(notes[0], f"both: {scale.remark}")
    notes.append(colors.remark if colors.message else join_parts(colors.remark, _count_lower(values, names)))
    lines = max(wrap(ax, note, STYLE.small_size).count("\n") + 1 for ax, note in zip(axes, notes, strict=True))
    for ax, title, note, part in zip(axes, (*names, f"{names[1]} − {names[0]}"), notes, parts, strict=True):
        bands = fill_bands(ax, grid, part, STYLE.difference_colormap if part is colors else STYLE.colormap)
        dress_plane(ax, pair[0], part)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(4))
        add_title(ax, title, note, lines)
    for ax, text in zip(axes, (*(provenance(x, name) for x in pair), planes), strict=True):
        add_footer(ax, text)
    if not scale.empty:
        color_bar(axes[1], scale, label=name, cax=_beside(axes[1]))
    if colors.message is None:
        color_bar(axes[2], colors, label=f"difference of {name}", mappable=bands, cax=_beside(axes[2]))
    return figure


def _beside(ax: Axes) -> Axes:
    """New axes for the colour bar of `ax`, beside them."""
    return ax.inset_axes((1.02, 0, 0.035, 1))


def _scale_around_zero(values: MaskedValues, both: Scale) -> Scale:
    """Colours from −m to m, m the largest difference that leaves the others readable."""
    body = np.sort(np.abs(values.compressed()))
    top, message = 1.0, None
    if not len(body):
        message = "no point with a finite value in both"
    elif body[-1] == 0:
        message = "no difference anywhere"
    else:
        top = max(readable_top(body), 1e-100)
    above = int((body > top).sum())
    beyond = f", {count_points(above)} beyond (up to ±{short(body[-1])})" if above else ""
    missing, blank = both.missing.any(axis=0), np.ma.getmaskarray(values)
    return Scale(
        norm=Normalize(-top, top),
        levels=np.linspace(-top, top, SETTINGS.levels + 1),
        extend=find_extend(values.compressed(), -top, top),
        log=False,
        values=values,
        missing=missing & blank,
        broken=blank & ~missing,
        hidden=np.zeros(blank.shape, bool),
        message=message,
        remark=message or f"colours −{short(top)} … {short(top)}{beyond}",
    )


def _count_lower(values: MaskedValues, names: Names) -> str:
    """A remark on the share of points at which the second landscape is lower."""
    count = values.count()
    return f"{names[1]} is lower at {(values < 0).sum() / count:.0%} of {count:,} points" if count else ""


def _draw_curves(pair: Pair, name: str, names: Names, planes: str) -> Figure:
    """Both landscapes as curves on one axis, and their difference below."""
    figure = Picture(figsize=(7.6, 6.6), dpi=100, facecolor="white")
    places = {"left": 0.11, "right": 0.97, "bottom": 0.19, "top": 0.87, "hspace": 0.22}
    top, bottom = figure.subplots(2, 1, height_ratios=(2, 1), sharex=True, gridspec_kw=places)
    errors = [x.standard_errors.get(name, np.full(x.grid.shape, np.nan)) for x in pair]
    _draw_both(top, pair, name, names, errors)
    _draw_difference(bottom, pair[0].grid.axes[0], difference(*pair, name), np.sqrt(errors[0] ** 2 + errors[1] ** 2))
    add_title(bottom, "", f"{names[1]} − {names[0]}")
    for ax, *axis_labels in ((top, "", name), (bottom, axis_label(pair[0], 0), "difference")):
        ax.grid(True, color=STYLE.rule, linewidth=0.5, alpha=0.6)
        dress_axes(ax, *axis_labels)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=STYLE.tick_size, frameon=False, labelcolor=STYLE.faint, loc="best")
    lines = [
        join_parts(f"{label}{moment(x)}", provenance(x, name), inexact(x, name))
        for label, x in zip(names, pair, strict=True)
    ]
    add_footer(bottom, "\n".join([*lines, planes] if planes else lines))
    return figure


def _draw_both(ax: Axes, pair: Pair, name: str, names: Names, errors: list[NDArray[np.float64]]) -> None:
    """Draws both curves with their bands of errors, on the axis of the shared scale."""
    axis, scale = pair[0].grid.axes[0], _shared_scale(pair, name)
    limit_values(ax, scale)
    for i, (landscape, label) in enumerate(zip(pair, names, strict=True)):
        center = landscape.center.get(name, np.nan)
        label += f": {short(center)} at θ*" if np.isfinite(center) else ""
        values, color = scale.part(i).values.filled(np.nan), STYLE.directions[i]
        look: Any = {"color": color, "linewidth": 1.8, "linestyle": STYLE.dashes[i]}
        ax.plot(axis, values, label=label, zorder=3, **look)
        draw_band(ax, axis, values, errors[i], color, "± 2 standard errors" if i else None)
    ax.set_xlim(axis[0], axis[-1])
    add_message(ax, scale.message)
    note = scale.note("gap", "gap", "gap").replace("colours", "y axis")
    add_title(ax, f"{names[0]} and {names[1]}", join_parts(name, note))


def _draw_difference(ax: Axes, axis: NDArray[np.float64], values: MaskedValues, errors: NDArray[np.float64]) -> None:
    """Draws the curve of differences with its band, clipped where a few would hide all others."""
    color, curve = STYLE.directions[2], values.filled(np.nan)
    ax.axhline(0, color=STYLE.ink, linewidth=0.8)
    ax.plot(axis, curve, color=color, linewidth=1.8, zorder=3)
    draw_band(ax, axis, curve, errors, color, "± 2 standard errors, were the two independent")
    body = np.sort(np.abs(values.compressed()))
    if len(body) and readable_top(body) < body[-1]:
        top = 1.1 * readable_top(body)
        ax.set_ylim(-top, top)
