"""The lines around the centre at a little more than its loss: what is inside the first is as good as the centre."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ..landscape import Landscape
from ..reading import IN_NATS, ReadingSettings
from ..reading import SETTINGS as THRESHOLDS
from .frames import frame_of
from .levels import short
from .scales import Scale
from .style import STYLE


def good_levels(landscape: Landscape, metric: str, settings: ReadingSettings = THRESHOLDS) -> dict[str, float]:
    """The values up to which a point is as good as the centre, by their labels; none for what is no loss.

    They are those of the reading: ten per cent, and one unit of the loss, which is a nat for a cross-entropy. A metric
    is a loss if it is the main one, or has "loss" in its name.

    >>> from lightning_landscape.landscape import Grid
    >>> bowl = Landscape(Grid.from_ranges((-1, 1, 3)), {"loss": np.array([3.0, 0.5, 3.0])}, "loss")
    >>> good_levels(bowl, "loss")
    {'+10 %': 0.55, '+1': 1.5}
    """
    center = landscape.center.get(metric, np.nan)
    if not np.isfinite(center) or (metric != landscape.main and "loss" not in metric.lower()):
        return {}
    share, rise = settings.rise_share, settings.rise
    nats = " nat" if landscape.recipe.objective in IN_NATS else ""
    percent = center * (1 + share) if center > 0 else np.nan  # ten per cent of zero or less say nothing
    return {f"+{short(100 * share)} %": percent, f"+{short(rise)}{nats}": center + rise}


def draw_good(ax: Axes, landscape: Landscape, metric: str, scale: Scale) -> None:
    """Draws these lines, and a legend of those that values reach."""
    if scale.message is not None:
        return
    x, y = landscape.grid.axes
    handles = []
    for (label, level), dashes in zip(good_levels(landscape, metric).items(), STYLE.good_dashes, strict=False):
        if not scale.values.min() < level < scale.values.max():
            continue
        # A white rim keeps it apart from every band.
        for width, color, style in ((2.4, "white", "-"), (1.4, STYLE.good, dashes)):
            look: Any = {"colors": [color], "linewidths": width, "linestyles": [style], "zorder": 4}
            ax.contour(x, y, scale.values.T, [level], **look)
        look = {"color": STYLE.good, "linewidth": 1.5, "linestyle": dashes}
        text = f"{label}: as good as ★" if "%" in label else label  # one more is far from a small loss
        handles.append(Line2D([], [], label=text, **look))
    if handles:
        _add_legend(ax, handles)


def _add_legend(ax: Axes, handles: list[Line2D]) -> None:
    """Adds the legend above the axes; the caller's own axes have no room there, they take it inside."""
    look: Any = {"fontsize": STYLE.tick_size, "labelcolor": STYLE.good, "handlelength": 1.8, "columnspacing": 1.0}
    if frame_of(ax) is None:
        ax.legend(handles=handles, **look)
        return
    place: Any = {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "ncols": 3, "frameon": False, "borderaxespad": 0.1}
    ax.legend(handles=handles, borderpad=0.2, handletextpad=0.5, **place, **look)
