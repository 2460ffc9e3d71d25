"""Colour bars with round numbers, as high as the axes beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from .frames import fitting_size, frame_of
from .levels import labels, round_levels
from .ranges import thin
from .scales import Scale
from .style import STYLE


def color_bar(
    ax: Axes,
    scale: Scale,
    *,
    label: str = "",
    mappable: ScalarMappable | None = None,
    marks: Iterable[float] = (),
    max_ticks: int = 9,
    size: float = STYLE.tick_size,
    beside: Sequence[Axes] = (),
    **options: Any,
) -> Colorbar:
    """The colour bar of `scale` beside `ax`, with at most `max_ticks` round numbers of that text size.

    It is as high as `ax`, or as the insets of `ax` that it stands `beside`. A line crosses it at each of the `marks`.
    """
    parent: Any = ax.figure
    if mappable is None:
        mappable, options = ScalarMappable(scale.norm, STYLE.colormap), {"extend": scale.extend} | options
    frame = frame_of(ax)
    fitted = "cax" not in options and ax.name != "3d"
    if frame is not None and "cax" not in options:
        options = {"cax": parent.add_axes(frame.bar_axes)}
    elif "cax" not in options:
        options = {"pad": 0.02, "aspect": 28} | options
    if fitted and frame is not None:
        _match_height(options["cax"], ax, beside)
    bar: Colorbar = parent.colorbar(mappable, ax=ax, **options)
    bar.ax.set_label("<colorbar>")  # as matplotlib names those that it makes
    bar.outline.set(edgecolor=STYLE.rule, linewidth=0.8)
    bar.set_label(label, fontsize=STYLE.label_size, color=STYLE.ink, parse_math=False)
    ticks, texts = round_ticks(scale, max_ticks)
    if frame is not None:
        room = 72 * (frame.right - sum(frame.bar) - frame.margin) - 6  # the tick and its gap
        size = fitting_size(texts, room, size)
    bar.set_ticks(ticks.tolist(), labels=texts)
    bar.ax.tick_params(labelsize=size, colors=STYLE.faint, length=3)
    bar.minorticks_off()
    if fitted and frame is None:
        _match_height(bar.ax, ax, beside)
    for mark, dashes in zip(marks, STYLE.good_dashes, strict=False):
        if scale.low < mark < scale.high:
            bar.ax.axhline(mark, color=STYLE.good, linewidth=1.5, linestyle=dashes)
    return bar


def _match_height(bar_axes: Axes, ax: Axes, beside: Sequence[Axes]) -> None:
    """Keeps a colour bar as high as its axes, which an equal aspect shrinks after the layout."""
    inner: Any = bar_axes.get_axes_locator()

    def locate(_: object, renderer: object) -> Bbox:
        old, new = bar_axes.get_position(original=True), ax.get_position()
        box = old if inner is None else inner(bar_axes, renderer)
        if beside:
            for inset in beside:
                place: Any = inset.get_axes_locator()
                inset.apply_aspect(place(inset, renderer))
            spans = [inset.get_position() for inset in beside]
            return Bbox.from_extents(box.x0, min(s.y0 for s in spans), box.x1, max(s.y1 for s in spans))
        y0, y1 = (new.y0 + (y - old.y0) / old.height * new.height for y in (box.y0, box.y1))
        return Bbox.from_extents(box.x0, y0, box.x1, y1)

    bar_axes.set_axes_locator(locate)


def round_ticks(scale: Scale, max_count: int = 9) -> tuple[NDArray[np.float64], list[str]]:
    """At most `max_count` round values, or levels that were asked for, and their labels; one for a flat surface."""
    ticks = np.array([0.5 * (scale.low + scale.high)])
    if scale.custom_levels:
        ticks = scale.levels[thin(len(scale.levels), max_count)]
    elif scale.message is None and scale.log:
        ticks, _ = round_levels(scale.low, scale.high, max_count, log=True)
    elif scale.message is None:
        ticks, _ = round_levels(scale.low, scale.high, max_count)
    return ticks, labels(ticks)
