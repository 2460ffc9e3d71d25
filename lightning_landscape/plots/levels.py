"""Round numbers between two values, for the lines and the labels of a picture."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Preferred numbers, from fine to coarse: evenly spaced on a logarithmic scale up to their rounding. They are R20 and
# R10 of ISO 3, then the steps of coins and half decades.
PREFERRED = tuple(
    tuple(float(number) for number in row.split())
    for row in (
        "1 1.12 1.25 1.4 1.6 1.8 2 2.24 2.5 2.8 3.15 3.55 4 4.5 5 5.6 6.3 7.1 8 9",
        "1 1.25 1.6 2 2.5 3.15 4 5 6.3 8",
        "1 2 5",
        "1 3",
        "1",
    )
)


def short(value: float, digits: int = 4) -> str:
    """A number in few characters.

    >>> short(0.12345678), short(1e6), short(-2e-07), short(12345.0)
    ('0.1235', '1e6', '−2e−7', '12345')
    """
    if abs(value) < 1e5 and float(value).is_integer():
        return f"{value:.0f}".replace("-", "−")
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    text = f"{mantissa}e{int(exponent)}" if exponent else mantissa
    return text.replace("-", "−")  # as matplotlib writes its ticks


def round_levels(
    low: float, high: float, max_count: int, log: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """At most `max_count` round numbers in [low, high], and a mask of those that deserve a label.

    >>> levels, major = round_levels(0.03, 2.04, 25)
    >>> len(levels), levels[major].round(3).tolist()
    (20, [0.5, 1.0, 1.5, 2.0])
    >>> levels, major = round_levels(0.5, 2e3, 12, log=True)
    >>> levels.tolist(), levels[major].tolist()
    ([0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0], [1.0, 10.0, 100.0, 1000.0])
    """
    # Within a decade, powers and their digits are too few.
    if log and high >= 10 * low:
        return _log_levels(low, high, max_count)
    return _linear_levels(low, high, max_count)


def _linear_levels(low: float, high: float, max_count: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    power = 10.0 ** math.floor(math.log10((high - low) / max_count))
    digit = next(d for d in (1, 2, 2.5, 5, 10, 20) if (high - low) / (d * power) <= max_count - 1 or d == 20)
    step = digit * power
    counts = np.arange(math.ceil(low / step), math.floor(high / step) + 1)
    stride = {2.5: 4, 5: 2}.get(digit, 5)
    major = counts % stride == 0
    if major.sum() < 3:  # few lines: label them all
        major = np.ones(len(counts), bool) if len(counts) < 8 else counts % 2 == 0
    return np.multiply(counts, step, dtype=np.float64), major


def _log_levels(low: float, high: float, max_count: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in PREFERRED:
        table = np.outer(_powers(first, last), digits).reshape(-1)
        levels = table[(table >= low) & (table <= high)]
        if len(levels) <= max_count:
            break
    else:
        stride = math.ceil((last - first) / (max_count - 1))
        levels = _powers(first, last)[::stride]
        levels = levels[(levels >= low) & (levels <= high)]
    return levels, _labelled(levels, max_count)


def _labelled(levels: NDArray[np.float64], max_count: int) -> NDArray[np.bool_]:
    """A mask of the logarithmic levels that deserve a label: every one, or those of coins, of half decades, of decades.

    The finest of these that leaves at most half of the lines, so that the innermost lines have labels too.
    """
    leading = levels / 10.0 ** np.floor(np.log10(levels) + 1e-9)
    for digits in PREFERRED[2:]:
        mask = np.array([np.isclose(lead, digits).any() for lead in leading])
        if 0 < mask.sum() <= max(3, max_count // 2):
            return mask
    return np.ones(len(levels), bool)


def _powers(first: int, last: int) -> NDArray[np.float64]:
    """10 to every exponent, rounded rightly, which not every `numpy.power` does."""
    return np.array([float(f"1e{exponent}") for exponent in range(first, last + 1)])


def labels(levels: NDArray[np.float64]) -> list[str]:
    """One short text a level, with the digits that tell neighbours apart.

    >>> labels(np.array([0.5, 1.0, 1.5]))
    ['0.5', '1', '1.5']
    >>> labels(np.array([0.123401, 0.123402]))
    ['0.123401', '0.123402']
    """
    if len(levels) == 1:
        return [short(float(levels[0]))]
    for digits in range(3, 16):
        texts = [short(float(level), digits) for level in levels]
        if len(set(texts)) == len(texts):
            # One digit more than "distinct" where rounding moves a level by a visible part of the step.
            rounded = np.array([float(f"{level:.{digits}g}") for level in levels])
            step = np.diff(levels).min()
            if np.abs(rounded - levels).max() <= 0.05 * step:
                break
    return texts
