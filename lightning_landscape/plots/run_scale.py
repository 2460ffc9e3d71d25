"""One scale for the landscapes of a run: the ranges that the first one needs, widened for those that leave them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..landscape import Landscape
from .levels import short
from .ranges import LINEAR, SETTINGS, ScaleSettings, choose_range, is_logarithmic
from .scales import HUGE, TINY

Ends = tuple[float, float]
Key = tuple[str, str]
# Pictures that show other values than the whole grid have ranges of their own.
VIEWS = {"slices": "slices", "tiles": "tiles", "path": "path"}
DECADES = replace(SETTINGS, log_ratio=1.0)  # logarithmic, whatever the values


@dataclass(frozen=True)
class Span:
    """The ranges that some values need.

    Args:
        values: the lowest and the highest value.
        linear: the ends of linear colours.
        decades: the ends of logarithmic colours; None without a positive value.
        center: the lowest value at θ*; None where it is unknown.
    """

    values: Ends
    linear: Ends
    decades: Ends | None = None
    center: float | None = None

    @classmethod
    def of(
        cls, values: ArrayLike, done: ArrayLike, color_scale: str = "global", center: float = math.nan
    ) -> Span | None:
        """The ranges of the finite values among those `done`; None if there is none.

        >>> Span.of([0.1, 1.0, 2.0, np.inf], True)
        Span(values=(0.1, 2.0), linear=(0.1, 2.0), decades=(0.1, 2.0), center=None)
        """
        array = np.asarray(values, dtype=np.float64)
        body = np.sort(np.clip(array[np.broadcast_to(done, array.shape) & np.isfinite(array)], -HUGE, HUGE))
        if not len(body):
            return None
        positive = body[body >= TINY]
        usual = "global" if color_scale == "log" else color_scale
        return cls(
            (float(body[0]), float(body[-1])),
            _chosen(body, usual, LINEAR),
            _chosen(positive, "log" if color_scale == "log" else "global", DECADES) if len(positive) else None,
            None if math.isnan(center) else center,
        )

    @property
    def is_log(self) -> bool:
        """True if the values tell more in logarithmic colours."""
        return is_logarithmic(np.array(self.values), math.nan if self.center is None else self.center)

    def joined(self, other: Span) -> Span:
        """The ranges that two sets of values need together."""
        decades = [ends for ends in (self.decades, other.decades) if ends is not None]
        return Span(
            _union([self.values, other.values]),
            _union([self.linear, other.linear]),
            _union(decades) if decades else None,
            min((center for center in (self.center, other.center) if center is not None), default=None),
        )


@dataclass(frozen=True)
class RunScale:
    """The scale on which all landscapes of a run are drawn.

    Args:
        color_scale: one of COLOR_SCALES, by which ranges are chosen.
        vmin, vmax: the ends that the user asks for, of the main loss; None for those that the landscapes need.
        levels: the levels that the user asks for, of the main loss, and with them its ends.
        spans: the ranges that the landscapes needed so far, by view and metric.

    Raises:
        ValueError: if an end is no finite number, the range is empty, or the levels do not increase.

    >>> RunScale(vmin=2, vmax=1)
    Traceback (most recent call last):
    ValueError: vmin=2 and vmax=1 leave no range: give a vmin below vmax, or None for an end that the values need.
    """

    color_scale: str = "global"
    vmin: float | None = None
    vmax: float | None = None
    levels: Sequence[float] | None = None
    spans: dict[Key, Span] = field(default_factory=dict)

    def __post_init__(self) -> None:
        log = self.color_scale == "log"
        for name, end in (("vmin", self.vmin), ("vmax", self.vmax)):
            _check_end(name, end, log)
        if self.vmin is not None and self.vmax is not None and not self.vmin < self.vmax:
            raise ValueError(
                f"vmin={self.vmin!r} and vmax={self.vmax!r} leave no range: give a vmin below vmax, or None for an end "
                "that the values need."
            )
        if self.levels is not None:
            levels = _check_levels(self.levels, log)
            for name, end in (("vmin", self.vmin), ("vmax", self.vmax)):
                if end is not None:
                    raise ValueError(
                        f"{name}={end!r}: levels={self.levels!r} set both ends already. Leave out {name}, or levels."
                    )
            object.__setattr__(self, "levels", levels)

    def widened(self, landscape: Landscape) -> RunScale:
        """The scale that shows this landscape too."""
        spans = dict(self.spans)
        for key, span in _spans(landscape, self.color_scale).items():
            spans[key] = span if key not in spans else spans[key].joined(span)
        return replace(self, spans=spans)

    def options(self, landscape: Landscape, kind: str, metric: str | None = None) -> dict[str, object]:
        """The arguments with which one kind of picture of a landscape is drawn.

        A range that nothing is known of is left to the picture.

        Args:
            landscape: of this run.
            kind: a name in PLOTS.
            metric: None for the main loss.
        """
        name = landscape.metric(metric)
        asked = name == landscape.main and kind != "tiles"
        if asked and self.levels is not None:
            return {"color_scale": self.color_scale, "levels": self.levels}
        given = (self.vmin, self.vmax) if asked else (None, None)
        log, ends = self._range(VIEWS.get(kind, "grid"), name, given == (None, None))
        low, high = (end if wish is None else wish for wish, end in zip(given, ends, strict=True))
        if high - low > 1e-12 * max(abs(low), abs(high)):
            return {"color_scale": "log" if log else "global", "vmin": low, "vmax": high}
        wishes = zip(("vmin", "vmax"), given, strict=True)
        return {"color_scale": self.color_scale, **{name: end for name, end in wishes if end is not None}}

    def _range(self, view: str, metric: str, is_free: bool) -> tuple[bool, Ends]:
        """True for logarithmic colours, and the ends; NaN where they are unknown.

        Slices and tiles are logarithmic where the whole grid is. Ends that are asked for leave colours linear.
        """
        span, grid = self.spans.get((view, metric)), self.spans.get(("grid", metric))
        unknown = (math.nan, math.nan)
        if span is None or grid is None:
            return self.color_scale == "log", unknown
        if self.color_scale == "log":
            return True, span.decades or unknown
        if self.color_scale == "quantile":
            return False, span.linear
        if view == "tiles":
            low = grid.decades[0] if grid.decades is not None else 0.0
            log = (
                span.values[0] >= 0 and low > 0 and span.values[1] > low * (1.0 if grid.is_log else SETTINGS.log_ratio)
            )
            return log, (low, span.values[1]) if log else span.linear
        log = is_free and grid.is_log and span.decades is not None
        return log, span.decades if log and span.decades is not None else span.linear

    def changes(self, earlier: RunScale, landscape: Landscape) -> list[str]:
        """The ranges of colours that have changed since an earlier scale, in words; none of those that are new.

        >>> from lightning_landscape.landscape import Grid
        >>> first, second = (Landscape(Grid.from_ranges((-1, 1, 3)), {"loss": np.array(v)}, "loss")
        ...                  for v in ([2.0, 1.0, 2.5], [3.0, 0.5, 2.0]))
        >>> before = RunScale().widened(first)
        >>> before.widened(second).changes(before, second)
        ['loss from 0.5 to 3 (before: from 1 to 2.5)']
        """
        result = []
        for name in landscape.values:
            before, now = (_describe(scale.options(landscape, "contour", name)) for scale in (earlier, self))
            if ("grid", name) in earlier.spans and before and before != now:
                result.append(f"{name} {now} (before: {before})")
        return result


def _spans(landscape: Landscape, color_scale: str) -> dict[Key, Span]:
    """The ranges that one landscape needs."""
    done, directions = landscape.done, range(landscape.grid.ndim)
    masks = np.concatenate([_slice(landscape, done, direction) for direction in directions])
    spans = {}
    for name, values in landscape.values.items():
        curves = np.concatenate([_slice(landscape, values, direction) for direction in directions])
        spans["grid", name] = Span.of(values, done, color_scale, landscape.center.get(name, math.nan))
        spans["slices", name] = Span.of(curves, masks, color_scale)
    if landscape.samples is not None:
        spans["tiles", landscape.main] = Span.of(landscape.samples.values, done, color_scale)
    return {key: span for key, span in spans.items() if span is not None}


def _slice(landscape: Landscape, array: NDArray[Any], direction: int) -> NDArray[Any]:
    """The entries along one direction through the centre, shape (points,)."""
    index: list[Any] = list(landscape.grid.center_index)
    index[direction] = slice(None)
    return array[tuple(index)]


def _union(ranges: Sequence[Ends]) -> Ends:
    """The smallest range that holds all of these."""
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _chosen(body: NDArray[np.float64], color_scale: str, settings: ScaleSettings) -> Ends:
    """The ends that make sorted values readable; where all are equal, these."""
    chosen = choose_range(body, color_scale, (None, None), settings)
    return (float(body[0]), float(body[-1])) if chosen.message is not None else (chosen.low, chosen.high)


def _describe(options: dict[str, object]) -> str:
    """The range in a picture's arguments, in words; empty where the picture chooses it."""
    low, high = options.get("vmin"), options.get("vmax")
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return ""
    return f"from {short(low)} to {short(high)}{', logarithmic' * (options['color_scale'] == 'log')}"


def _check_end(name: str, end: object, log: bool) -> None:
    """Raises ValueError unless an end is None or a finite number, positive on a logarithmic scale."""
    if end is None:
        return
    if isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end):
        raise ValueError(f"{name}={end!r}: give a finite number, or None for the end that the values need.")
    if log and end <= 0:
        raise ValueError(
            f"{name}={end!r} has no logarithm, and color_scale='log' needs ends above 0: give a positive number or "
            "None, or color_scale='global'."
        )


def _check_levels(levels: Iterable[float], log: bool) -> tuple[float, ...]:
    """The levels as numbers; raises ValueError unless they are at least two, finite and increasing."""
    try:
        numbers = tuple(float(level) for level in levels)
    except (TypeError, ValueError):
        numbers = ()
    increasing = all(a < b for a, b in pairwise(numbers))
    if len(numbers) < 2 or isinstance(levels, str) or not increasing or not all(map(math.isfinite, numbers)):
        raise ValueError(
            f"levels={levels!r}: give at least two finite, increasing numbers, e.g. [0, 1, 2, 5], or None for levels "
            "that the values need."
        )
    if log and numbers[0] <= 0:
        raise ValueError(
            f"levels={levels!r} begin at or below 0, and color_scale='log' needs levels above 0: give positive ones, "
            "or color_scale='global'."
        )
    return numbers
