"""From values to colours: a norm, level boundaries, and an honest note on what the colours leave out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from numpy.typing import ArrayLike, NDArray

from .levels import short
from .ranges import check_range, checked_levels

COLOR_SCALES = ("global", "quantile", "log")
LEVELS = 30
QUANTILES = (0.05, 0.95)
# A linear range is readable when the lower half of the values spreads over this part of it; below, an
# exploding rim takes all colours. Downwards far stricter: a sharp minimum is what the picture is for.
READABLE_BELOW, READABLE_ABOVE = 0.04, 1e-4
# Beyond these, differences, products (the shading of surfaces) and their inverses leave float64: drawn as
# the limit, and as zero.
HUGE, TINY = 1e100, 1e-100
MOST_DECADES = 8

Extend = Literal["neither", "both", "min", "max"]


@dataclass(frozen=True, eq=False)
class Scale:
    """The colours of one set of values, with the points that they leave out.

    Args:
        norm: value to [0, 1].
        levels: increasing boundaries, from the low end of the colours to their high end: LEVELS of them, or
            those that were asked for.
        extend: which ends have values beyond.
        log: whether the colours are logarithmic.
        shown: the values that can be drawn, the rest masked; shape of the values.
        missing: bool, the points that were not evaluated.
        broken: bool, the evaluated points that are NaN or infinite.
        hidden: bool, the finite points that a logarithm cannot show.
        message: what the picture must say in large, where the colours say nothing (flat, no finite value).
        remark: the range of the colours, and what they clip.
        asked: whether the levels were asked for: then lines and ticks lie on them.
    """

    norm: Normalize
    levels: NDArray[np.float64]
    extend: Extend
    log: bool
    shown: Any
    missing: NDArray[np.bool_]
    broken: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    message: str | None
    remark: str
    asked: bool = False

    @property
    def empty(self) -> bool:
        """True if there is nothing to draw."""
        return bool(np.ma.getmaskarray(self.shown).all())

    @property
    def low(self) -> float:
        """The value of the lowest colour."""
        return float(self.levels[0])

    @property
    def high(self) -> float:
        """The value of the highest colour."""
        return float(self.levels[-1])

    def part(self, index: int | tuple[Any, ...]) -> Scale:
        """The same colours for one of several surfaces."""
        shown, missing, broken, hidden = (a[index] for a in (self.shown, self.missing, self.broken, self.hidden))
        return replace(self, shown=shown, missing=missing, broken=broken, hidden=hidden)

    def note(self, broken: str = "grey", missing: str = "hatched", hidden: str = "blank") -> str:
        """A note on what was clipped, hidden or changed.

        The arguments say how points look that are not finite, not evaluated or hidden.
        """
        total = self.missing.size
        parts = [self.remark] if self.remark else []
        for mask, what, look in (
            (self.broken, "not finite", broken),
            (self.missing, "not evaluated", missing),
            (self.hidden, "≤ 0 hidden", hidden),
        ):
            if mask.any():
                parts.append(f"{mask.sum():,} of {total:,} points {what} ({look})")
        return " · ".join(parts)


def check_color_scale(color_scale: str) -> None:
    """Raises ValueError unless `color_scale` is one of COLOR_SCALES."""
    if color_scale not in COLOR_SCALES:
        raise ValueError(f"color_scale={color_scale!r} is unknown: choose one of {', '.join(COLOR_SCALES)}.")


def make_scale(
    values: ArrayLike,
    color_scale: str = "global",
    done: Any = None,
    *,
    vmin: float | None = None,
    vmax: float | None = None,
    levels: ArrayLike | None = None,
) -> Scale:
    """The scale that makes `values` readable.

    Args:
        values: any shape; NaN and ±inf allowed.
        color_scale: "global": from the lowest to the highest value, except where a few exploding values
            would leave one colour for all others: then logarithmic, or clipped, and the note says so.
            "quantile": from the 5 % to the 95 % quantile. "log": logarithmic, values ≤ 0 hidden.
        done: bool, broadcast to the shape of `values`: the evaluated points; None for all.
        vmin, vmax: the ends of the colours; None for the lowest and highest value, or quantile. With one of
            them the colours are linear, unless `color_scale` is "log".
        levels: the boundaries, and with them the ends; None for LEVELS between the ends.

    Raises:
        ValueError: if `color_scale` is none of these, a range is empty, or the levels do not increase.

    >>> make_scale([[0.0, 1.0], [2.0, float("nan")]]).note()
    'colours 0 … 2 · 1 of 4 points not finite (grey)'
    """
    check_color_scale(color_scale)
    boundaries = None if levels is None else checked_levels(levels, color_scale == "log")
    if boundaries is not None:
        vmin, vmax = float(boundaries[0]), float(boundaries[-1])
    check_range(vmin, vmax, color_scale == "log")
    array = np.asarray(values, dtype=np.float64)
    missing = np.zeros(array.shape, bool) if done is None else ~np.broadcast_to(done, array.shape)
    broken = ~missing & ~np.isfinite(array)
    finite = ~missing & ~broken
    hidden = finite & (array < TINY) if color_scale == "log" else np.zeros(array.shape, bool)
    visible = finite & ~hidden
    shown = np.ma.masked_array(np.clip(np.where(visible, array, 0.0), -HUGE, HUGE), ~visible)
    shown[abs(shown) < TINY] = 0.0
    body = np.sort(shown.compressed())

    log, low, high, message, remark = False, 0.0, 1.0, None, ""
    if not finite.any():
        message = remark = "no point evaluated yet" if missing.all() else "no finite value"
    elif not visible.any():
        message = remark = "no positive value: nothing to show on a logarithmic scale"
    elif (vmin, vmax) != (None, None):
        log = color_scale == "log"
        low, high = _asked(body, color_scale, vmin, vmax)
        remark = _clipped(body, low, high, "logarithmic colours " if log else "colours ")
    elif body[-1] - body[0] <= 1e-12 * max(abs(body[0]), abs(body[-1])):
        message = remark = f"flat: all values {short(body[0])}"
        margin = 1e-3 * max(abs(body[0]), 1e-3)
        low, high = body[0] - margin, body[0] + margin
    else:
        log, low, high, remark = _choose(body, color_scale)
    if log:
        shown = np.ma.maximum(shown, low / 10)  # zero has no logarithm
    below, above = bool((body < low).any()), bool((body > high).any())
    asked = boundaries is not None and message is None
    if boundaries is None or not asked:
        boundaries = np.geomspace(low, high, LEVELS) if log else np.linspace(low, high, LEVELS)
        boundaries[[0, -1]] = low, high  # exact: contourf drops a maximum that lies one rounding above
    extend: Extend = "both" if below and above else "min" if below else "max" if above else "neither"
    norm = LogNorm(low, high) if log else Normalize(low, high)
    return Scale(norm, boundaries, extend, log, shown, missing, broken, hidden, message, remark, asked)


def _asked(body: NDArray[np.float64], color_scale: str, vmin: float | None, vmax: float | None) -> tuple[float, float]:
    """The two ends of a range of which one at least is given."""
    ends = np.quantile(body, QUANTILES) if color_scale == "quantile" else body[[0, -1]]
    low, high = float(ends[0] if vmin is None else vmin), float(ends[1] if vmax is None else vmax)
    if not low < high:
        raise ValueError(
            f"the range from {short(low)} to {short(high)} is empty: the values run from {short(float(body[0]))} "
            f"to {short(float(body[-1]))}."
        )
    return low, high


def _choose(body: NDArray[np.float64], color_scale: str) -> tuple[bool, float, float, str]:
    """(logarithmic?, low, high, remark) for sorted finite values that are not flat."""
    minimum, maximum = float(body[0]), float(body[-1])
    span = f"{short(minimum)} … {short(maximum)}"
    if color_scale == "log":
        return True, minimum, maximum, f"logarithmic colours {span}"
    if color_scale == "quantile":
        low, high = (float(q) for q in np.quantile(body, QUANTILES))
        if high - low > 1e-12 * max(abs(low), abs(high)):
            return False, low, high, _clipped(body, low, high, "colours 5–95 %: ")
        return False, minimum, maximum, f"colours {span} (the 5 % and 95 % quantiles are equal)"

    low, high = _window(body)
    positive = body[body > 0]
    crowded = float(np.median(body)) - minimum <= READABLE_BELOW * (maximum - minimum)
    if crowded and minimum >= 0 and maximum > 100 * positive[0]:
        # float32 losses of sure predictions are exactly zero: they take the lowest colour.
        floor = minimum if minimum > 0 else max(float(positive[0]), maximum / 10**MOST_DECADES)
        exponents = np.log10(body[body >= floor])
        bottom, top = _window(exponents)
        low = floor if bottom <= exponents[0] else max(float(10**bottom), floor)
        high = maximum if top >= exponents[-1] else float(10**top)
        decades = f"logarithmic colours (values span {np.log10(maximum / floor):.0f} decades): "
        return True, low, high, _clipped(body, low, high, decades)
    if low > minimum or high < maximum:
        return False, low, high, _clipped(body, low, high, "colours clipped to be readable: ")
    tiny = maximum - minimum < 1e-6 * max(abs(minimum), abs(maximum))
    rounding = f" (they differ by {short(maximum - minimum, 2)} only: may be float32 rounding)" if tiny else ""
    return False, minimum, maximum, f"colours {span}{rounding}"


def _clipped(body: NDArray[np.float64], low: float, high: float, reason: str) -> str:
    """The range of the colours, and how many points lie beyond each end, how far."""
    text = f"{reason}{short(low)} … {short(high)}"
    below, above = int((body < low).sum()), int((body > high).sum())
    if below:
        text += f", {below:,} {'point' if below == 1 else 'points'} below (min {short(float(body[0]))})"
    if above:
        text += f", {above:,} {'point' if above == 1 else 'points'} above (max {short(float(body[-1]))})"
    return text


def _window(body: NDArray[np.float64]) -> tuple[float, float]:
    """The ends of the widest linear range in which sorted values are readable."""
    return -readable_top(-body[::-1], READABLE_ABOVE), readable_top(body)


def readable_top(body: NDArray[np.float64], least: float = READABLE_BELOW) -> float:
    """The highest quantile q with the lower half of the values below q spread over `least` of [min, q].

    A quantile and not a multiple of the median: the explosion may well cover most of the plane.
    """
    for share in (1.0, 0.999, 0.99, 0.98, 0.95, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1, 0.05):
        top, middle = np.quantile(body, (share, share / 2), method="lower")
        if middle - body[0] > least * (top - body[0]):
            return float(top)
    return float(body[-1])
