"""Captions above tiles: the sample's index, its classes and its loss."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from ..landscape import Sample
from .furniture import root
from .levels import short
from .style import STYLE


def caption(item: Sample) -> tuple[str, ...]:
    """The lines of a tile's title: the sample, its classes where they are known, and its loss.

    Few letters: ten tiles stand side by side on a card.

    >>> caption(Sample(12, 0.021, label=7, prediction=7, probability=0.98))
    ('#12', 'y=7, ŷ=7', 'L=0.021')
    >>> caption(Sample(3, 4.6, label=7, prediction=1))
    ('#3', 'y=7 ≠ ŷ=1', 'L=4.6')
    """
    known = {"y": item.label, "ŷ": item.prediction}
    joint = " ≠ " if is_wrong(item) else ", "
    classes = joint.join(f"{letter}={value}" for letter, value in known.items() if value is not None)
    return tuple(line for line in (f"#{item.index}", classes, f"L={short(item.center, 3)}") if line)


def is_wrong(item: Sample) -> bool:
    """True if the sample is known to be misclassified."""
    return item.label is not None and item.prediction is not None and item.label != item.prediction


def caption_size(frame: Axes, columns: int, items: tuple[Sample, ...]) -> float:
    """The text size at which no title runs into its neighbour's."""
    points = 72 * root(frame).get_figwidth() * frame.get_position(original=True).width / columns
    longest = max(len(line) for item in items for line in caption(item))
    return float(np.clip(points / (0.6 * longest), 3.5, STYLE.small_size))
