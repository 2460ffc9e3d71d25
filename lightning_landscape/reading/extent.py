"""The sentences on the range, the colours and the noise."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .measured import part
from .settings import PATHS, SETTINGS, ReadingSettings
from .surface import Surface
from .text import axis_name, number, percent


def range_sentence(surface: Surface, settings: ReadingSettings) -> Iterator[str]:
    """The sentence on a range that is too small, too large, or neither."""
    center, (low, high) = surface.origin, surface.ends
    if not math.isfinite(center) or math.isnan(low):
        return
    limit = max(settings.far_multiple * center, settings.far_least)
    times = f", {settings.far_multiple:g} times the centre" if limit > settings.far_least else ""
    far = ~np.isfinite(surface.values) | (surface.values > limit)
    share = float(far[surface.done].mean())
    change = max(high - center, center - low)
    all_finite = bool(surface.finite[surface.done].all())
    if share > settings.far_share:
        yield (
            f"The range is too large: {percent(share)} of the points are not finite or above {number(limit)}{times}. "
            f"Narrow it{_range_advice(surface, 1 / settings.zoom)}."
        )
    elif all_finite and not change:
        yield f"Flat in this range: all values are {number(low)}. {_widen(surface, settings)}"
    elif all_finite and is_lost_in_noise(surface, settings):
        yield (
            f"Flat in this range: the relief of {number(surface.relief)} is less than {settings.flat_errors:g} "
            f"standard errors of {number(surface.error)}. {_widen(surface, settings)} Or measure more samples "
            "(max_samples)."
        )
    elif all_finite and change < settings.rise_share * center:
        why = f"the largest change of the loss is {percent(change / center)}"
        yield f"Flat in this range: {why}. {_widen(surface, settings)}"
    else:
        yield f"The range is neither too small nor too large: the loss goes from {number(low)} to {number(high)}."


def color_sentence(surface: Surface) -> Iterator[str]:
    """The sentence on points beyond the colours of the pictures, if there are any."""
    if surface.colors is None or not surface.finite.any():
        return
    low, high = surface.colors
    known = surface.values[surface.finite]
    beyond = int(((known < low) | (known > high)).sum())
    if beyond:
        farthest = max(surface.ends, key=lambda value: max(low - value, value - high))
        yield (
            f"With color_scale='global' the colours run from {number(low)} to {number(high)}: "
            f"{part(beyond, int(surface.done.sum()))} lie beyond them, as far as {number(farthest)}. A narrower range "
            "has fewer of them."
        )


def is_lost_in_noise(surface: Surface, settings: ReadingSettings = SETTINGS) -> bool:
    """True if the relief is less than a few standard errors; False where these are unknown."""
    return surface.relief < settings.flat_errors * surface.error


def _widen(surface: Surface, settings: ReadingSettings) -> str:
    if surface.kind in PATHS:
        return "Along a path between weights that is a result."
    return f"Widen it{_range_advice(surface, settings.zoom)}."


def _range_advice(surface: Surface, factor: float) -> str:
    """The range of each axis, times a factor, as an argument; empty where the range doesn't hold 0."""
    ranges = [(factor * float(axis[0]), factor * float(axis[-1]), len(axis)) for axis in surface.axes]
    if len(ranges) > 3 or not all(low <= 0 <= high and math.isfinite(high - low) for low, high, _ in ranges):
        return ""
    texts = [f"{axis_name(i)}=({low + 0.0:g}, {high:g}, {count})" for i, (low, high, count) in enumerate(ranges)]
    return f", e.g. {', '.join(texts)}"


def noise_sentence(surface: Surface, settings: ReadingSettings) -> Iterator[str]:
    """The sentence on the standard error beside the relief."""
    error, relief = surface.error, surface.relief
    if not surface.finite.any():
        return
    if math.isnan(error):
        yield (
            "No standard error is known, so that noise can't be told from shape: measure more than one batch, or "
            "give an objective with one value a sample."
        )
    elif relief > 0 and not is_lost_in_noise(surface, settings):  # else the sentence on the range has said it
        share = error / relief
        text = f"The median standard error of {number(error)} is {percent(share)} of the relief of {number(relief)}"
        noisy = share > settings.noisy_share
        yield f"{text}: noisy. Measure more samples (max_samples)." if noisy else f"{text}: small beside the shape."
