"""Colour bars with round numbers, as high as the axes beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from .furniture import COLORMAP, FAINT, INK, LABEL_SIZE, RULE, SMALL_SIZE
from .levels import labels, round_levels
from .ranges import thin
from .scales import Scale


def color_bar(
    ax: Axes,
    scale: Scale,
    label: str,
    mappable: Any = None,
    *,
    most: int = 9,
    size: float = SMALL_SIZE + 0.5,
    beside: Sequence[Axes] = (),
    **options: Any,
) -> Colorbar:
    """The colour bar of `scale` beside `ax`, with at most `most` round numbers of that text size.

    It is as high as `ax`, or as the insets of `ax` that it stands `beside`.
    """
    parent: Any = ax.figure
    source = ScalarMappable(scale.norm, COLORMAP) if mappable is None else mappable
    given = {"extend": scale.extend} if mappable is None else {}
    bar: Colorbar = parent.colorbar(
        source, ax=ax, **given, **({"pad": 0.02, "aspect": 28} | options if "cax" not in options else options)
    )
    bar.ax.tick_params(labelsize=size, colors=FAINT, length=3)
    bar.outline.set(edgecolor=RULE, linewidth=0.8)
    bar.set_label(label, fontsize=LABEL_SIZE, color=INK, parse_math=False)
    ticks, texts = round_ticks(scale, most)
    bar.set_ticks(ticks.tolist(), labels=texts)
    bar.minorticks_off()
    if "cax" not in options and ax.name != "3d":
        _match_height(bar.ax, ax, beside)
    return bar


def _match_height(bar_axes: Axes, ax: Axes, beside: Sequence[Axes]) -> None:
    """Keeps a colour bar as high as its axes, which an equal aspect shrinks after the layout."""
    inner: Any = bar_axes.get_axes_locator()

    def locate(axes: Any, renderer: Any) -> Bbox:
        box, old, new = inner(axes, renderer), axes.get_position(original=True), ax.get_position()
        if beside:
            for inset in beside:
                place: Any = inset.get_axes_locator()
                inset.apply_aspect(place(inset, renderer))
            spans = [inset.get_position() for inset in beside]
            return Bbox.from_extents(box.x0, min(s.y0 for s in spans), box.x1, max(s.y1 for s in spans))
        y0, y1 = (new.y0 + (y - old.y0) / old.height * new.height for y in (box.y0, box.y1))
        return Bbox.from_extents(box.x0, y0, box.x1, y1)

    bar_axes.set_axes_locator(locate)


def round_ticks(scale: Scale, most: int = 9) -> tuple[NDArray[np.float64], list[str]]:
    """At most `most` round values, or levels that were asked for, and their labels; one for a flat surface."""
    ticks = np.array([0.5 * (scale.low + scale.high)])
    if scale.asked:
        ticks = scale.levels[thin(len(scale.levels), most)]
    elif scale.message is None and scale.log:
        ticks, _ = round_levels(scale.low, scale.high, most, log=True)
    elif scale.message is None:
        margin = 1e-9 * (scale.high - scale.low)
        wide: Any = MaxNLocator(most - 1).tick_values(scale.low, scale.high)
        ticks = wide[(wide >= scale.low - margin) & (wide <= scale.high + margin)]
    return ticks, labels(ticks)
