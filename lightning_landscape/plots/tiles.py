"""The landscapes of single samples, one tile each."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..landscape import Landscape, Sample
from .backdrop import lay_plane
from .bars import color_bar, round_ticks
from .captions import caption, caption_size, is_wrong
from .cells import Cell, pin
from .filled import fill
from .furniture import (
    ALARM,
    DIRECTION_COLORS,
    FAINT,
    INK,
    RULE,
    SMALL_SIZE,
    axis_label,
    bare,
    foot,
    head,
    open_axes,
    require_ndim,
    root,
    say,
    star,
)
from .scales import Scale, check_color_scale, make_scale
from .settings import default_settings

BAR = 34  # points: the width of a tile's own colour bar with its labels


@default_settings()
def draw_tiles(
    landscape: Landscape,
    metric: str | None = None,
    *,
    ax: Axes | None = None,
    color_scale: str = "global",
    layout: str = "2x5",
    share_colorbar: bool = True,
) -> Figure:
    """One small landscape a sample, with its picture, label and prediction where known.

    Args:
        landscape: 1-D or 2-D, with `samples`.
        metric: None or the main loss: samples hold no other.
        ax: the place to draw at, filled with a nested grid; None for a new figure.
        color_scale: one of COLOR_SCALES.
        layout: rows x columns.
        share_colorbar: one colour scale (1-D: one y axis) for all samples, else one each.

    Returns:
        The figure that holds the tiles.

    Raises:
        ValueError: if the landscape is 3-D or has no samples, there are more samples than tiles, or an
            option is malformed.
    """
    require_ndim(landscape, "tiles")
    check_color_scale(color_scale)
    rows, columns = parse_layout(layout)
    if landscape.metric(metric) != landscape.main:
        raise ValueError(f"metric={metric!r}: samples hold the main loss only, {landscape.main!r}.")
    samples = landscape.samples
    if samples is None or not samples.items:
        raise ValueError(
            "tiles needs the landscapes of single samples, this landscape has none: compute it again and ask for some."
        )
    count = len(samples.items)
    if count > rows * columns:
        raise ValueError(
            f"layout={layout!r} holds {rows * columns} tiles for {count} samples: "
            f'give a larger one, e.g. layout="{-(-count // columns)}x{columns}", or ask for fewer samples.'
        )
    whole = make_scale(samples.values, color_scale, landscape.done)
    scales = [whole.part(b) for b in range(count)]
    if not share_colorbar:
        scales = [make_scale(values, color_scale, landscape.done) for values in samples.values]
        whole = replace(whole, remark=_summary(scales))

    flat = landscape.grid.ndim == 2
    own_bars = flat and not share_colorbar
    frame = open_axes(ax, *_size(landscape, rows, columns, own_bars))
    _dress_frame(frame, landscape)
    head(frame, landscape, "samples", _note(whole, landscape), f"{landscape.main} of single samples")
    foot(frame, landscape, landscape.main)
    own_axes = not flat and not share_colorbar
    size = caption_size(frame, columns, samples.items)
    for b, (item, scale) in enumerate(zip(samples.items, scales, strict=True)):
        cell = Cell(frame, *divmod(b, columns), rows, columns, BAR if own_bars else 22 if own_axes else 0)
        tile = cell.add_axes(f"tile {b}")
        _draw_tile(tile, landscape, item, scale, size)
        if b + columns < count:
            tile.set_xticks([])
        if b % columns and not own_axes:
            tile.set_yticks([])
        if own_bars and not scale.empty:
            color_bar(tile, scale, "", cax=cell.add_bar(tile), most=5, size=6.5)
    if flat and share_colorbar and not whole.empty:
        # After the tiles: each of them resets the norm that they share, and with it the bar's ticks.
        color_bar(frame, whole, landscape.main, aspect=13 * rows, fraction=0.11 / columns)
    return root(frame)


def _size(landscape: Landscape, rows: int, columns: int, own_bars: bool) -> tuple[float, float]:
    """Inches: few tiles are larger, so that their captions and the title have room; their shape is the grid's."""
    tile = min(max(6.2 / columns, 1.55), 2.6)
    spans = [axis[-1] - axis[0] for axis in landscape.grid.axes]
    shape = min(max(spans[1] / spans[0], 0.4), 1.6) if len(spans) == 2 else 1.0
    width = max(0.9 + columns * (tile + (0.17 if own_bars else 0.0)), 5.6)
    return width, 1.25 + rows * (tile * shape * (0.8 if own_bars else 1.0) + 0.3)


def parse_layout(layout: str, name: str = "layout") -> tuple[int, int]:
    """Rows and columns of "2x5".

    Args:
        layout: the text.
        name: what the caller calls this argument; used in error messages.

    Raises:
        ValueError: if it is not two positive whole numbers with an x between.

    >>> parse_layout("2x5")
    (2, 5)
    """
    match = re.fullmatch(r"\s*([1-9]\d*)\s*[x×]\s*([1-9]\d*)\s*", str(layout))
    if match is None:
        raise ValueError(f'{name}={layout!r} is malformed: give "<rows>x<columns>", e.g. "2x5".')
    return int(match[1]), int(match[2])


def _summary(scales: list[Scale]) -> str:
    """A remark on many scales at once: how many are logarithmic, clipped or flat."""
    text = "one colour scale each"
    for what, number in (
        ("logarithmic", sum(s.log for s in scales)),
        ("clipped", sum(s.extend != "neither" for s in scales)),
        ("flat", sum(s.message is not None and not s.empty for s in scales)),
    ):
        if number:
            text += f", {number} of {len(scales)} {what}"
    return text


def _note(whole: Scale, landscape: Landscape) -> str:
    """The note of all tiles together, in the words of bands or of curves."""
    if landscape.grid.ndim == 2:
        return whole.note()
    return whole.note("gap", "gap", "gap").replace("colours", "y axis").replace("colour scale", "y axis")


def _dress_frame(frame: Axes, landscape: Landscape) -> None:
    """The outer axes keep the title, the labels and the footer; all else of them is invisible."""
    bare(frame)
    labelled = [axis_label(0), axis_label(1) if landscape.grid.ndim == 2 else landscape.main]
    for axis, label in zip((frame.xaxis, frame.yaxis), labelled, strict=True):
        axis.set_label_text(label, fontsize=SMALL_SIZE + 0.5, color=INK, parse_math=False)
        axis.labelpad = 13 if axis is frame.xaxis else 24


def _draw_tile(tile: Axes, landscape: Landscape, item: Sample, scale: Scale, size: float) -> None:
    grid = landscape.grid
    if grid.ndim == 2:
        fill(tile, grid, scale)
        lay_plane(tile, grid, scale)
        if tile.get_aspect() == "auto":
            tile.set_box_aspect(1)
        star(tile, 0.0, 0.0, size=8)
        crowd = np.zeros((1, 2))
    else:
        crowd = _curve(tile, landscape, item, scale)
    if scale.message is not None or scale.empty:
        say(tile, (scale.message or "no value to show").replace(": ", ":\n"), size=6.5, height=0.2)
    for axis in (tile.xaxis, tile.yaxis)[: grid.ndim]:
        axis.set_major_locator(MaxNLocator(2))
    wrong = is_wrong(item)
    look: Any = {"fontsize": size, "color": ALARM if wrong else INK, "linespacing": 1.15}
    tile.set_title("\n".join(caption(item)), y=1.0, pad=3, **look)
    tile.tick_params(colors=FAINT, labelsize=6.5, length=2)
    for spine in tile.spines.values():
        spine.set(color=ALARM if wrong else RULE, linewidth=1.6 if wrong else 0.6)
    if item.thumbnail is not None:
        limits = np.array([tile.get_xlim(), tile.get_ylim()])
        if tile.get_yscale() == "log":
            limits[1], crowd = np.log10(limits[1]), np.stack([crowd[:, 0], np.log10(crowd[:, 1])], axis=1)
        width, height = limits[:, 1] - limits[:, 0]
        shape = 1.0 if tile.get_aspect() == "auto" else height / width
        pin(tile, item.thumbnail, (crowd - limits[:, 0]) / (width, height), shape)


def _curve(tile: Axes, landscape: Landscape, item: Sample, scale: Scale) -> NDArray[np.float64]:
    """The curve of a 1-D landscape; returns the points that a thumbnail should not cover."""
    axis = landscape.grid.axes[0]
    tile.plot(axis, scale.shown.filled(np.nan), color=DIRECTION_COLORS[0], linewidth=1.4)
    tile.set_xlim(axis[0], axis[-1])
    tile.set_box_aspect(1)
    if scale.log:
        tile.set_yscale("log")
        margin = (scale.high / scale.low) ** 0.08
        tile.set_ylim(scale.low / margin, scale.high * margin)
    else:
        margin = 0.08 * (scale.high - scale.low)
        tile.set_ylim(scale.low - margin, scale.high + margin)
    tile.set_yticks(*round_ticks(scale, 5))
    tile.minorticks_off()
    star(tile, 0.0, item.center, size=8)
    return np.stack([axis, scale.shown.filled(scale.high)], axis=1)
