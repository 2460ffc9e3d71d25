"""The reading of a landscape: plain sentences on what it says, what it can't say, and what to change.

One file a topic. Each gives sentences on one `Surface`, by the thresholds of `ReadingSettings`.
"""

from __future__ import annotations

from .center import center_sentence
from .change import change_sentences
from .curvature import curvature_sentences
from .extent import color_sentence, noise_sentence, range_sentence
from .headline import headline
from .measured import direction_sentences, point_sentences, slice_sentence, span_sentence, train_mode_sentence
from .settings import IN_NATS, SETTINGS, ReadingSettings
from .surface import Surface
from .text import Reading
from .uphill import uphill_distances, uphill_sentences

__all__ = ["IN_NATS", "SETTINGS", "Reading", "ReadingSettings", "Surface", "read", "span_sentence", "uphill_distances"]


def read(surface: Surface, before: Surface | None = None, settings: ReadingSettings = SETTINGS) -> Reading:
    """The sentences on one metric, a loss: lower is better.

    Args:
        surface: the metric.
        before: the same metric earlier in the training, to say how it changed.
        settings: the thresholds.

    >>> import numpy as np
    >>> from ..recipe import Recipe
    >>> from ..report import Report
    >>> x = np.linspace(-1, 1, 5)
    >>> none = np.zeros(5, bool)
    >>> bowl = Surface("loss", (x,), 1 + 2 * x**2, np.full(5, 0.1), ~none, none, 1.0, True, Recipe(), Report())
    >>> print(read(bowl).sentences[0])
    No point of the grid is lower than the centre, where loss is 1 (standard error 0.1).
    >>> print(read(bowl).headline)
    the centre is the lowest point of the grid; +10 % at a distance of 0.1 along x; +1 at 0.667 along x
    """
    if not surface.done.any():
        return Reading(("No point is done yet: there is nothing to read.",), "no point is done yet")
    sentences = (
        center_sentence(surface, settings),
        *uphill_sentences(surface, settings),
        *(() if before is None else change_sentences(surface, before, settings)),
        *curvature_sentences(surface, settings),
        *range_sentence(surface, settings),
        *color_sentence(surface),
        *noise_sentence(surface, settings),
        *point_sentences(surface),
        *direction_sentences(surface),
        *train_mode_sentence(surface),
        slice_sentence(surface),
    )
    return Reading(sentences, headline(surface, before, settings))
