"""From values to colours: a norm, level boundaries, and an honest note on what the colours leave out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from matplotlib.colors import LogNorm, Normalize
from numpy.typing import ArrayLike, NDArray

from ..landscape import Landscape
from .ranges import LINEAR, SETTINGS, Range, ScaleSettings, check_range, checked_levels, choose_range

COLOR_SCALES = ("global", "quantile", "log")
# Beyond these, differences, products (the shading of surfaces) and their inverses leave float64: drawn as
# the limit, and as zero.
HUGE, TINY = 1e100, 1e-100

Extend = Literal["neither", "both", "min", "max"]
MaskedValues = np.ma.MaskedArray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Scale:
    """The colours of one set of values, with the points that they leave out.

    Args:
        norm: value to [0, 1].
        levels: increasing boundaries, from the low end of the colours to their high end.
        extend: which ends have values beyond.
        log: True for logarithmic colours.
        values: the values that can be drawn; all others are masked.
        missing: bool, the points that were not evaluated.
        broken: bool, the evaluated points that are NaN or infinite.
        hidden: bool, the finite points that a logarithm cannot show.
        message: text in large where the colours say nothing (flat, no finite value).
        remark: the range of the colours, and what they clip.
        custom_levels: True for levels that the caller asked for: lines and ticks lie on them.
    """

    norm: Normalize
    levels: NDArray[np.float64]
    extend: Extend
    log: bool
    values: MaskedValues
    missing: NDArray[np.bool_]
    broken: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    message: str | None
    remark: str
    custom_levels: bool = False

    @property
    def empty(self) -> bool:
        """True if there is nothing to draw."""
        return bool(np.ma.getmaskarray(self.values).all())

    @property
    def notice(self) -> str | None:
        """The text in large, if the picture needs one."""
        return self.message or ("no value to show" if self.empty else None)

    @property
    def low(self) -> float:
        """The value of the lowest colour."""
        return float(self.levels[0])

    @property
    def high(self) -> float:
        """The value of the highest colour."""
        return float(self.levels[-1])

    def part(self, index: int | slice | tuple[int | slice, ...]) -> Scale:
        """The same colours for one of several surfaces."""
        part: Any = {name: getattr(self, name)[index] for name in ("values", "missing", "broken", "hidden")}
        return replace(self, **part)

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
    done: ArrayLike | None = None,
    *,
    vmin: float | None = None,
    vmax: float | None = None,
    levels: ArrayLike | None = None,
    center: float = np.nan,
    settings: ScaleSettings = SETTINGS,
) -> Scale:
    """The scale that makes `values` readable.

    Args:
        values: any shape; NaN and ±inf allowed.
        color_scale: "global": from the lowest to the highest value; logarithmic where that tells more
            (`is_logarithmic`); clipped where a few exploding values would take all colours. The note says so.
            "quantile": from the 5 % to the 95 % quantile. "log": logarithmic, values ≤ 0 hidden unless below `vmin`.
        done: bool, broadcast to the shape of `values`: the evaluated points; None for all.
        vmin, vmax: the ends of the colours; None for the lowest and highest value, or quantile. With one of
            them the colours are linear, unless `color_scale` is "log".
        levels: the boundaries, and with them the ends; None for equal steps between the ends.
        center: the value at θ*, which has a say in whether colours are logarithmic; NaN where it is unknown.
        settings: the settings of the ranges that are chosen.

    Raises:
        ValueError: if `color_scale` is none of these, a range is empty, or the levels do not increase.

    >>> make_scale([[0.0, 1.0], [2.0, float("nan")]]).note()
    'colours 0 … 2 · 1 of 4 points not finite (grey)'
    """
    check_color_scale(color_scale)
    boundaries = None if levels is None else checked_levels(levels, color_scale == "log")
    ends = (vmin, vmax) if boundaries is None else (float(boundaries[0]), float(boundaries[-1]))
    check_range(*ends, color_scale == "log")
    positive = color_scale == "log" and ends[0] is None  # else they take the colour of the low end
    drawable, missing, broken, hidden = _sort_points(np.asarray(values, dtype=np.float64), done, positive)
    body = np.sort(drawable.compressed())
    chosen = choose_range(body, color_scale, ends, settings, center) if len(body) else _empty_range(missing, hidden)
    low, high, log = chosen.low, chosen.high, chosen.log
    if log:
        drawable = np.ma.maximum(drawable, low / 10)  # zero has no logarithm
    custom = boundaries is not None and chosen.message is None
    if boundaries is None or not custom:
        boundaries = (np.geomspace if log else np.linspace)(low, high, settings.levels)
        boundaries[[0, -1]] = low, high  # exact: contourf drops a maximum that lies one rounding above
    norm = LogNorm(low, high) if log else Normalize(low, high)
    extend = find_extend(body, low, high)
    return Scale(
        norm, boundaries, extend, log, drawable, missing, broken, hidden, chosen.message, chosen.remark, custom
    )


def scale_of(landscape: Landscape, metric: str, color_scale: str = "global", **options: Any) -> Scale:
    """The scale of one metric of a landscape; options and errors as `make_scale`."""
    center = landscape.center.get(metric, np.nan)
    return make_scale(landscape.values[metric], color_scale, landscape.done, center=center, **options)


def options_of_part(landscape: Landscape, metric: str, color_scale: str, **ends: Any) -> dict[str, Any]:
    """Options of `make_scale` for a part of a landscape: logarithmic where the picture of all of it is, else not.

    Args:
        landscape: the whole.
        metric: the name of the values.
        color_scale: one of COLOR_SCALES.
        ends: ``vmin``, ``vmax`` and ``levels``, which leave the colours linear.
    """
    check_color_scale(color_scale)
    if color_scale != "global" or any(end is not None for end in ends.values()):
        return {"color_scale": color_scale, **ends}
    log = scale_of(landscape, metric).log
    return {"color_scale": "log"} if log else {"settings": LINEAR}


def _sort_points(
    values: NDArray[np.float64], done: ArrayLike | None, positive: bool
) -> tuple[MaskedValues, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """The values that can be drawn, and the masks of missing, broken and hidden points."""
    missing = np.zeros(values.shape, bool) if done is None else ~np.broadcast_to(done, values.shape)
    broken = ~missing & ~np.isfinite(values)
    hidden = ~missing & ~broken & (values < TINY) & positive
    blank = missing | broken | hidden
    drawable = np.ma.masked_array(np.clip(np.where(blank, 0.0, values), -HUGE, HUGE), blank)
    drawable[abs(drawable) < TINY] = 0.0
    return drawable, missing, broken, hidden


def find_extend(values: NDArray[np.float64], low: float, high: float) -> Extend:
    """The ends of the colours beyond which values lie."""
    below, above = bool((values < low).any()), bool((values > high).any())
    return "both" if below and above else "min" if below else "max" if above else "neither"


def _empty_range(missing: NDArray[np.bool_], hidden: NDArray[np.bool_]) -> Range:
    """The range of no values, with the reason."""
    reason = "no point evaluated yet" if missing.all() else "no finite value"
    if hidden.any():
        reason = "no positive value: nothing to show on a logarithmic scale"
    return Range(0.0, 1.0, reason, message=reason)
