"""The y axis and the error bands of curves."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from .bars import round_ticks
from .frames import fitting_size, frame_of
from .scales import HUGE, TINY, Scale
from .style import STYLE


def limit_values(ax: Axes, scale: Scale, margin: float = 0.06) -> None:
    """Sets the y axis to the range of `scale` and a share of it beyond, with round numbers; logarithmic like it."""
    if scale.log:
        factor = (scale.high / scale.low) ** margin
        ax.set_yscale("log")
        ax.set_ylim(scale.low / factor, scale.high * factor)
    else:
        gap = margin * (scale.high - scale.low)
        ax.set_ylim(scale.low - gap, scale.high + gap)
    ticks, texts = round_ticks(scale)
    ax.set_yticks(ticks, texts)
    ax.minorticks_off()


def fit_ticks(ax: Axes, gap: float = 7) -> None:
    """Makes the numbers of the y axis as small as the room of a frame needs.

    Args:
        ax: the axes.
        gap: the length of a tick and the space beside it, in points.
    """
    if (frame := frame_of(ax)) is not None:
        texts, room = [label.get_text() for label in ax.get_yticklabels()], 72 * (frame.left - frame.margin) - gap
        ax.tick_params(axis="y", labelsize=fitting_size(texts, room, STYLE.tick_size))


def draw_band(
    ax: Axes,
    axis: NDArray[np.float64],
    values: NDArray[np.float64],
    errors: NDArray[np.float64],
    color: str,
    label: str | None,
    floor: float = TINY,
) -> None:
    """Draws ± 2 standard errors around a curve, where both are known; not below `floor` on a logarithmic axis."""
    reach = 2 * np.minimum(errors, HUGE)  # twice the largest float64 is infinite
    if np.isfinite(values + reach).any():
        low = np.maximum(values - reach, floor) if ax.get_yscale() == "log" else values - reach
        ax.fill_between(axis, low, values + reach, color=color, alpha=0.18, linewidth=0, zorder=2, label=label)
