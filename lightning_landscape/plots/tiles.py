"""The landscapes of single samples, one tile each."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ..landscape import Grid, Landscape, Sample, Samples
from .backdrop import add_backdrop
from .bands import fill_bands
from .bars import color_bar, round_ticks
from .captions import caption, caption_size, is_wrong
from .cells import Cell, add_thumbnail
from .curves import limit_values
from .frames import Frame
from .furniture import (
    GREEK,
    add_message,
    add_star,
    axis_label,
    describe,
    hide_frame,
    inexact,
    join_parts,
    moment,
    open_axes,
    place_ylabel,
    provenance,
    require_ndim,
    root,
)
from .levels import short
from .ranges import LINEAR, SETTINGS
from .scales import Scale, check_color_scale, make_scale, options_of_part, scale_of
from .settings import default_settings
from .style import STYLE


@default_settings()
def draw_tiles(
    landscape: Landscape,
    metric: str | None = None,
    *,
    ax: Axes | None = None,
    color_scale: str = "global",
    vmin: float | None = None,
    vmax: float | None = None,
    levels: ArrayLike | None = None,
    layout: str = "2x5",
    share_colorbar: bool = True,
) -> Figure:
    """One small landscape a sample, with its picture, label and prediction where known.

    Args:
        landscape: 1-D or 2-D, with `samples`.
        metric: None or the main loss: samples hold no other.
        ax: the place to draw at, filled with a nested grid; None for a new figure.
        color_scale: one of COLOR_SCALES.
        vmin, vmax: the ends of the colours; None for those of `color_scale`. Values beyond take the end colours.
        levels: the boundaries of the colours in place of both, e.g. ``np.arange(0, 10, 0.5)``; None for round ones.
        layout: rows x columns.
        share_colorbar: True for one colour scale (1-D: one y axis) for all samples; else each has one.

    Returns:
        The figure that holds the tiles.

    Raises:
        ValueError: if the landscape is 3-D or has no samples, there are more samples than tiles, or an
            option is malformed.
    """
    require_ndim(landscape, "tiles")
    check_color_scale(color_scale)
    samples, rows, columns = _require_samples(landscape, metric, layout)
    flat, count = landscape.grid.ndim == 2, len(samples.items)
    whole, scales = _choose_scales(
        landscape, samples, share_colorbar, color_scale=color_scale, vmin=vmin, vmax=vmax, levels=levels
    )
    frame = open_axes(ax, _frame(landscape, rows, columns, flat and share_colorbar))
    _dress_frame(frame, landscape, whole)
    size = caption_size(frame, columns, samples.items)
    room = 0 if share_colorbar else 34 if flat else 22  # points right of a tile: for its colour bar, or for labels
    for b, (item, scale) in enumerate(zip(samples.items, scales, strict=True)):
        cell = Cell(frame, *divmod(b, columns), rows, columns, room, gap=4, caption=26)
        tile = cell.add_axes(f"tile {b}")
        _draw_tile(tile, landscape.grid, item, scale, size)
        _limit_ticks(tile, landscape.grid, b + columns >= count, not b % columns or not (flat or share_colorbar))
        if flat and not share_colorbar and not scale.empty:
            color_bar(tile, scale, cax=cell.add_bar(tile), max_ticks=5, size=STYLE.tile_size)
    if flat and share_colorbar and not whole.empty:
        # After the tiles: each of them resets the norm that they share, and with it the bar's ticks.
        color_bar(frame, whole, aspect=13 * rows, fraction=0.11 / columns)
    return root(frame)


def _require_samples(landscape: Landscape, metric: str | None, layout: str) -> tuple[Samples, int, int]:
    """The samples, and the rows and columns of a layout that holds them all."""
    rows, columns = parse_layout(layout)
    if landscape.metric(metric) != landscape.main:
        raise ValueError(f"metric={metric!r}: tiles show the main loss only. Give metric={landscape.main!r}, or None.")
    samples = landscape.samples
    if samples is None or not samples.items:
        raise ValueError(
            "tiles needs the landscapes of single samples, this landscape has none: measure it again with samples=10 "
            "of LossLandscapeCallback."
        )
    count = len(samples.items)
    if count > rows * columns:
        raise ValueError(
            f"layout={layout!r} holds {rows * columns} tiles for {count} samples: "
            f'give a larger one, e.g. layout="{-(-count // columns)}x{columns}", or ask for fewer samples.'
        )
    return samples, rows, columns


def _choose_scales(landscape: Landscape, samples: Samples, share: bool, **options: Any) -> tuple[Scale, list[Scale]]:
    """The scale of all samples together, and one a sample.

    The lowest colour of a logarithmic one is a tenth of that of the main loss (`ScaleSettings.tile_depth`).
    """
    shared = _shared_options(landscape, samples, **options)
    whole = make_scale(samples.values, done=landscape.done, **shared)
    if share:
        return whole, [whole.part(b) for b in range(len(samples.items))]
    scales = [make_scale(values, done=landscape.done, **options) for values in samples.values]
    return replace(whole, remark=_summarize(scales)), scales


def _shared_options(landscape: Landscape, samples: Samples, color_scale: str, **ends: Any) -> dict[str, Any]:
    """The options of a scale of all samples: logarithmic where the main loss is, or where they rise as far above it."""
    options = options_of_part(landscape, landscape.main, color_scale, **ends)
    finite, main = samples.values[np.isfinite(samples.values)], scale_of(landscape, landscape.main)
    if color_scale != "global" or options.keys() & ends.keys() or not len(finite):
        return options
    above = finite.max() / main.low if main.low > 0 and main.message is None else 0
    if finite.min() >= 0 and above > (1 if main.log else SETTINGS.log_ratio):
        return {"color_scale": "log", "vmin": max(main.low / SETTINGS.tile_depth, float(finite.min()))}
    return {"settings": LINEAR}


def _frame(landscape: Landscape, rows: int, columns: int, bar: bool) -> Frame:
    """The frame of so many tiles, which have the shape of the grid; with room for a colour bar, or none."""
    frame = Frame(left=0.42, right=0.62 if bar else 0.1, top=0.42)
    spans = [axis[-1] - axis[0] for axis in landscape.grid.axes]
    shape = min(max(spans[1] / spans[0], 0.4), 1.6) if len(spans) == 2 else 1.0
    tile = (frame.width - frame.left - frame.right) / columns
    return replace(frame, height=frame.top + frame.bottom + rows * (tile * shape * (1.0 if bar else 0.8) + 26 / 72))


def parse_layout(layout: str, name: str = "layout") -> tuple[int, int]:
    """Rows and columns of "2x5".

    Args:
        layout: the rows and columns, e.g. "2x5".
        name: the name of this argument in error messages.

    Raises:
        ValueError: if it is not two positive whole numbers with an x between.

    >>> parse_layout("2x5")
    (2, 5)
    """
    match = re.fullmatch(r"\s*([1-9]\d*)\s*[x×]\s*([1-9]\d*)\s*", str(layout))
    if match is None:
        raise ValueError(f'{name}={layout!r} is malformed: give "<rows>x<columns>", e.g. "2x5".')
    return int(match[1]), int(match[2])


def _summarize(scales: list[Scale]) -> str:
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


def _dress_frame(frame: Axes, landscape: Landscape, whole: Scale) -> None:
    """Adds title, labels and footer to the outer axes, of which nothing else is visible."""
    hide_frame(frame)
    labels = [axis_label(landscape, 0), GREEK[1] if landscape.grid.ndim == 2 else ""]
    for axis, label in zip((frame.xaxis, frame.yaxis), labels, strict=True):
        axis.set_label_text(label, fontsize=STYLE.tick_size, color=STYLE.ink, parse_math=False)
        axis.labelpad = 13 if axis is frame.xaxis else 24
    place_ylabel(frame)
    note = whole.note()
    if landscape.grid.ndim == 1:
        note = whole.note("gap", "gap", "gap").replace("colours", "y axis").replace("colour scale", "y axis")
    title = f"{landscape.main} of single samples{moment(landscape)}"
    describe(frame, title, join_parts(note, inexact(landscape, "samples")), provenance(landscape, landscape.main))


def _draw_tile(tile: Axes, grid: Grid, item: Sample, scale: Scale, size: float) -> None:
    """Draws the landscape of one sample with its caption, of that text size, and its picture."""
    crowd = _draw_map(tile, grid, scale) if grid.ndim == 2 else _draw_curve(tile, grid, item, scale)
    if scale.notice is not None:
        add_message(tile, scale.notice.replace(": ", ":\n"), size=STYLE.tile_size, height=0.2)
    wrong = is_wrong(item)
    look: Any = {"fontsize": size, "color": STYLE.alarm if wrong else STYLE.ink, "linespacing": 1.15}
    tile.set_title("\n".join(caption(item)), y=1.0, pad=3, **look)
    tile.tick_params(colors=STYLE.faint, labelsize=STYLE.tile_size, length=2)
    for spine in tile.spines.values():
        spine.set(color=STYLE.alarm if wrong else STYLE.rule, linewidth=1.6 if wrong else 0.6)
    if item.thumbnail is not None:
        add_thumbnail(tile, item.thumbnail, crowd)


def _limit_ticks(tile: Axes, grid: Grid, below: bool, beside: bool) -> None:
    """Leaves ticks at the two ends of the directions, with labels inwards of them, or none."""
    for axis, points, drawn in zip((tile.xaxis, tile.yaxis), grid.axes, (below, beside), strict=False):
        axis.set_ticks(
            points[[0, -1]].tolist() if drawn else [], [short(end, 3) for end in points[[0, -1]]] if drawn else []
        )
    for labels, names in ((tile.get_xticklabels(), ("left", "right")), (tile.get_yticklabels(), ("bottom", "top"))):
        for label, name in zip(labels, names, strict=False):
            label.set(**{"ha" if name in ("left", "right") else "va": name})
    if grid.ndim == 1 and not beside:
        tile.set_yticks([])


def _draw_map(tile: Axes, grid: Grid, scale: Scale) -> NDArray[np.float64]:
    """Draws bands of colour; returns the points that a thumbnail should not cover."""
    fill_bands(tile, grid, scale)
    add_backdrop(tile, grid, scale)
    if tile.get_aspect() == "auto":
        tile.set_box_aspect(1)
    add_star(tile, 0.0, 0.0, size=8)
    return np.zeros((1, 2))


def _draw_curve(tile: Axes, grid: Grid, item: Sample, scale: Scale) -> NDArray[np.float64]:
    """Draws the curve of a 1-D landscape; returns the points that a thumbnail should not cover."""
    axis = grid.axes[0]
    tile.plot(axis, scale.values.filled(np.nan), color=STYLE.directions[0], linewidth=1.4)
    tile.set_xlim(axis[0], axis[-1])
    tile.set_box_aspect(1)
    limit_values(tile, scale, 0.08)
    tile.set_yticks(*round_ticks(scale, 5))
    tile.minorticks_off()
    add_star(tile, 0.0, item.center, size=8)
    return np.stack([axis, scale.values.filled(scale.high)], axis=1)
