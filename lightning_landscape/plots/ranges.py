"""The ranges of colours, heights and levels: those that a caller asks for, and those that make values readable."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .levels import short


@dataclass(frozen=True)
class ScaleSettings:
    """Settings for the ranges that `make_scale` chooses.

    Args:
        levels: boundaries between the ends of the colours.
        lines: the most contour lines; with more, the labels of a small picture touch.
        quantiles: the ends of the colour scale "quantile".
        lower_spread: the share of a readable range that its lower half of values covers at least. Below it,
            an exploding rim takes all colours.
        upper_spread: the same for the upper half. It is small, as a sharp minimum is what the picture is for.
        log_ratio: values above zero are drawn logarithmically if the highest is more than that many times the lowest.
            Below two decades a linear picture still shows the shape of the minimum. A centre below 1 % of the range
            is such a case, too.
        tile_depth: how far below the lowest main loss logarithmic tiles go: a tenth of it. Samples that are predicted
            for sure have losses near zero, which would take most colours.
        log_center: the highest centre of a logarithmic picture, as a share of the linear range. An accuracy is near
            the upper end: there a logarithm would show its worst points.
    """

    levels: int = 30
    lines: int = 22
    quantiles: tuple[float, float] = (0.05, 0.95)
    lower_spread: float = 0.04
    upper_spread: float = 1e-4
    log_ratio: float = 100.0
    log_center: float = 0.5
    tile_depth: float = 10.0


SETTINGS = ScaleSettings()
LINEAR = replace(SETTINGS, log_ratio=np.inf)


@dataclass(frozen=True)
class Range:
    """The ends of the colours and the words about them, as in `Scale`."""

    low: float
    high: float
    remark: str
    log: bool = False
    message: str | None = None


def check_range(low: float | None, high: float | None, log: bool = False) -> None:
    """Raises ValueError unless the ends are finite, in order, and positive on a logarithmic scale.

    >>> check_range(0.0, None)
    >>> check_range(2, 1)
    Traceback (most recent call last):
    ValueError: the range from 2 to 1 is reversed or empty: give a low end below the high end.
    """
    ends = [end for end in (low, high) if end is not None]
    if not np.isfinite(ends).all():
        raise ValueError(f"the range from {low} to {high} has an end that is not finite: give finite numbers, or None.")
    if len(ends) == 2 and not ends[0] < ends[1]:
        raise ValueError(f"the range from {low} to {high} is reversed or empty: give a low end below the high end.")
    if log and ends and min(ends) <= 0:
        raise ValueError(f"the range from {low} to {high} is not positive: a logarithmic scale needs ends above 0.")


def checked_levels(levels: ArrayLike, log: bool = False) -> NDArray[np.float64]:
    """`levels` as an array, shape (n,).

    Raises:
        ValueError: unless they are at least two finite, increasing numbers, positive on a logarithmic scale.

    >>> checked_levels(np.arange(0, 1, 0.25))
    array([0.  , 0.25, 0.5 , 0.75])
    >>> checked_levels([1, 0])
    Traceback (most recent call last):
    ValueError: levels=[1, 0] must be at least two finite, increasing numbers, e.g. np.arange(0, 10, 0.5).
    """
    array = np.asarray(levels, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all() or not (array[1:] > array[:-1]).all():
        text = np.array2string(np.asarray(levels), separator=", ", threshold=8)
        raise ValueError(f"levels={text} must be at least two finite, increasing numbers, e.g. np.arange(0, 10, 0.5).")
    check_range(float(array[0]), float(array[-1]), log)
    return array


def thin(count: int, max_count: int) -> slice:
    """The step that leaves at most `max_count` of `count` things, the first among them.

    >>> list(range(10))[thin(10, 4)]
    [0, 3, 6, 9]
    """
    return slice(None, None, max(1, -(-count // max_count)))


def choose_range(
    body: NDArray[np.float64],
    color_scale: str,
    ends: tuple[float | None, float | None],
    settings: ScaleSettings,
    center: float = np.nan,
) -> Range:
    """The range of sorted finite values, with the ends that are asked for; `center` is the value at θ*."""
    if ends != (None, None):
        return _requested_range(body, color_scale, ends, settings)
    low, high = float(body[0]), float(body[-1])
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        margin, message = 1e-3 * max(abs(low), 1e-3), f"flat: all values {short(low)}"
        return Range(low - margin, low + margin, message, message=message)
    if color_scale == "log":
        return Range(low, high, f"logarithmic colours {short(low)} … {short(high)}", log=True)
    if color_scale == "quantile":
        return _quantile_range(body, settings)
    return (_decades_range if is_logarithmic(body, center, settings) else _readable_range)(body, settings)


def is_logarithmic(body: NDArray[np.float64], center: float = np.nan, settings: ScaleSettings = SETTINGS) -> bool:
    """True if sorted finite values tell more in logarithmic colours.

    >>> is_logarithmic(np.array([0.01, 0.5, 2.0])), is_logarithmic(np.array([0.0, 0.5, 2.0]))
    (True, False)
    >>> accuracy = np.array([0.5, 10.0, 98.0])
    >>> is_logarithmic(accuracy, center=98.0)
    False
    """
    if not len(body) or not body[0] > 0 or not body[-1] > settings.log_ratio * body[0]:
        return False
    return not center > body[0] + settings.log_center * (body[-1] - body[0])


def _requested_range(
    body: NDArray[np.float64], color_scale: str, ends: tuple[float | None, float | None], settings: ScaleSettings
) -> Range:
    """The range of which the caller asks for at least one end."""
    defaults = np.quantile(body, settings.quantiles) if color_scale == "quantile" else body[[0, -1]]
    low, high = (float(value if end is None else end) for value, end in zip(defaults, ends, strict=True))
    if not low < high:
        raise ValueError(
            f"the range from {short(low)} to {short(high)} is empty: the values run from {short(float(body[0]))} "
            f"to {short(float(body[-1]))}. Give an end among them, or None."
        )
    log = color_scale == "log"
    reason = "logarithmic colours " if log else "colours "
    return Range(low, high, f"{_describe(body, low, high, reason)}{_rounding(body)}", log)


def _quantile_range(body: NDArray[np.float64], settings: ScaleSettings) -> Range:
    """The range between two quantiles, or all of it where these are equal."""
    low, high = (float(q) for q in np.quantile(body, settings.quantiles))
    first, second = (short(100 * share) for share in settings.quantiles)
    if high - low > 1e-12 * max(abs(low), abs(high)):
        return Range(low, high, _describe(body, low, high, f"colours {first}–{second} %: "))
    low, high = float(body[0]), float(body[-1])
    remark = f"colours {short(low)} … {short(high)} (the {first} % and {second} % quantiles are equal)"
    return Range(low, high, remark)


def _readable_range(body: NDArray[np.float64], settings: ScaleSettings) -> Range:
    """The whole range, or a clipped one where exploding values would take all colours."""
    minimum, maximum = float(body[0]), float(body[-1])
    low, high = _window(body, settings)
    if low > minimum or high < maximum:
        return Range(low, high, _describe(body, low, high, "colours clipped to be readable: "))
    return Range(minimum, maximum, f"colours {short(minimum)} … {short(maximum)}{_rounding(body)}")


def _rounding(body: NDArray[np.float64]) -> str:
    """A remark on sorted values that differ by little more than their rounding; empty for others."""
    relief = float(body[-1] - body[0])
    is_tiny = 0 < relief < 1e-6 * max(abs(body[0]), abs(body[-1]))
    return f" (they differ by {short(relief, 2)} only: may be float32 rounding)" if is_tiny else ""


def _decades_range(body: NDArray[np.float64], settings: ScaleSettings) -> Range:
    """The logarithmic range of values above zero, clipped where even the logarithms explode."""
    minimum, maximum = float(body[0]), float(body[-1])
    exponents = np.log10(body)
    bottom, top = _window(exponents, settings)
    low = minimum if bottom <= exponents[0] else float(10**bottom)
    high = maximum if top >= exponents[-1] else float(10**top)
    return Range(low, high, _describe(body, low, high, "logarithmic colours "), log=True)


def _describe(body: NDArray[np.float64], low: float, high: float, reason: str) -> str:
    """The range of the colours, and how many points lie beyond each end, how far."""
    text = f"{reason}{short(low)} … {short(high)}"
    below, above = int((body < low).sum()), int((body > high).sum())
    if below:
        text += f", {count_points(below)} below (min {short(float(body[0]))})"
    if above:
        text += f", {count_points(above)} above (max {short(float(body[-1]))})"
    return text


def count_points(count: int) -> str:
    """A number of points in words.

    >>> count_points(1), count_points(1200)
    ('1 point', '1,200 points')
    """
    return f"{count:,} {'point' if count == 1 else 'points'}"


def _window(body: NDArray[np.float64], settings: ScaleSettings) -> tuple[float, float]:
    """The ends of the widest linear range in which sorted values are readable; of two far heaps it is the whole."""
    low, high = -readable_top(-body[::-1], settings.upper_spread), readable_top(body, settings.lower_spread)
    return (low, high) if low < high else (float(body[0]), float(body[-1]))


def readable_top(body: NDArray[np.float64], spread: float = SETTINGS.lower_spread) -> float:
    """The highest quantile q with the lower half of the values below q covering `spread` of [min, q].

    A quantile and not a multiple of the median: the explosion may well cover most of the plane.
    """
    for share in (1.0, 0.999, 0.99, 0.98, 0.95, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1, 0.05):
        top, middle = np.quantile(body, (share, share / 2), method="lower")
        if middle - body[0] > spread * (top - body[0]):
            return float(top)
    return float(body[-1])
