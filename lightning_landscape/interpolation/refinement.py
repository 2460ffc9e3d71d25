"""A surface from fewer evaluations: coarse to fine, until held-out points say that the rest can be interpolated.

The grid is halved again and again into nested subgrids. At each level the cubic splines through the subgrid's values
(the knots) are compared with values at other points that are evaluated for it: the midpoints of cells all over the
grid and on its boundary, and where two ways of interpolating disagree most. The estimate of the error is
SAFETY times the largest difference found. If it is at most the tolerance, what is left is interpolated and marked;
else the next level is evaluated, of which the held-out points are a part: none is wasted.

A pass may be over at any moment (`budget`): a level is evaluated line by line, so that the lines that are complete are
knots already, and what was evaluated besides is held out.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..landscape import Array, Grid, Landscape
from ..report import Interpolation
from .splines import along_axes, local_matrix, spline_matrix

Mask = NDArray[np.bool_]
Knots = tuple[NDArray[np.intp], ...]

FIRST = 3  # the coarsest level has 2³ + 1 points an axis: fewer say nothing of what lies between
SAFETY = 2.5  # the largest error of the rest by the largest at the held-out points, calibrated in the tests
PROBES = 96  # held-out points all over the grid, about
SUSPECTS = 16  # held-out points where interpolations disagree most
UNTRIED = 2.0  # the factor on the error of a pass that is over before it has tried where interpolations disagree
DECADES = 100.0  # highest by lowest value from which logarithms count
CUBIC, LOGS, LINEAR = "cubic", "cubic of logarithms", "linear"


def check_tolerance(tolerance: float | None) -> None:
    """Raises ValueError unless it is None or a share between 0 and 1.

    >>> check_tolerance(1.5)
    Traceback (most recent call last):
    ValueError: tolerance=1.5: give the largest error as a share of the range, e.g. 1e-3, or None to evaluate every
    point.
    """
    number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if tolerance is not None and not (number and 0 < tolerance < 1):
        raise ValueError(
            f"tolerance={tolerance!r}: give the largest error as a share of the range, e.g. 1e-3, or None to evaluate "
            "every point."
        )


def levels(shape: Sequence[int], first: int = FIRST) -> list[Knots]:
    """Nested subgrids from coarse to the whole grid: the indices of each along every axis.

    Each axis is cut into 2, 4, 8, … parts that differ by one point at most, ends included; into 2^first at first.

    >>> [[len(axis) for axis in level] for level in levels((51, 33))]
    [[9, 9], [17, 17], [33, 33], [51, 33]]
    >>> [[len(axis) for axis in level] for level in levels((7, 5))]  # too small to leave anything out
    [[7, 5]]
    """
    last = max(first, *(int(np.ceil(np.log2(n - 1))) for n in shape))
    return [tuple(_cut(n, 2**level) for n in shape) for level in range(first, last + 1)]


def lines(axes: Sequence[Array], before: Knots | None, after: Knots) -> list[Knots]:
    """The subgrids on the way from one to another that holds it: one line more each, from the centre outwards.

    >>> axis = np.linspace(-1, 1, 5)
    >>> [list(map(len, knots)) for knots in lines([axis, axis], levels((5, 5), 1)[0], levels((5, 5), 1)[1])]
    [[4, 3], [4, 4], [5, 4], [5, 5]]
    """
    if before is None:
        return [after]
    new = [
        sorted(set(own.tolist()) - set(earlier.tolist()), key=lambda i, axis=axis: abs(axis[i]))  # type: ignore[misc]
        for axis, earlier, own in zip(axes, before, after, strict=True)
    ]
    result, knots = [], list(before)
    for row in zip_longest(*new):
        for place, index in enumerate(row):
            if index is not None:
                knots[place] = np.sort(np.append(knots[place], index))
                result.append(tuple(knots))
    return result or [after]


def _cut(n: int, parts: int) -> NDArray[np.intp]:
    """The ends of that many parts of 0 … n − 1; all of it where it has fewer."""
    return np.unique(np.floor(np.arange(parts + 1) * (n - 1) / parts + 0.5).astype(np.intp))


def probes(shape: Sequence[int], knots: Knots) -> Mask:
    """Points of the next level on which a level is tried: one cell in k has its midpoint, the boundary alike."""
    lines = []
    for n, own in zip(shape, knots, strict=True):
        between = (own[:-1] + own[1:] + 1) // 2
        lines.append(np.unique(np.concatenate([[0], between, [n - 1]])))
    places = np.stack(np.meshgrid(*[np.arange(len(line)) for line in lines], indexing="ij"))
    ends = np.array([len(line) - 1 for line in lines]).reshape(-1, *[1] * len(lines))
    corner = ((places <= 1) | (places >= ends - 1)).all(axis=0)
    result = np.zeros(tuple(shape), dtype=bool)
    few = max(len(lines), round(places[0].size / PROBES))
    stride = np.array([max(1, round(0.382 * few)) ** i for i in range(len(lines))]).reshape(-1, *[1] * len(lines))
    result[np.ix_(*lines)] = corner | ((places * stride).sum(axis=0) % few == 0)
    return result


def least(shape: Sequence[int], first: int = FIRST) -> int:
    """The smallest number of points that refinement evaluates, approximately.

    >>> least((51, 51)), least((7, 5))
    (135, 35)
    """
    knots = levels(shape, first)[0]
    mask = probes(shape, knots)
    mask[np.ix_(*knots)] = True
    return int(mask.sum())


@dataclass(frozen=True)
class _Ruler:
    """Errors as shares of the range, and of the range of the logarithms where values span more than two decades."""

    range: float
    logs: float  # range of the logarithms; 0 where they do not count
    rounding: float = 0.0  # what float64 may lose, as a share

    @classmethod
    def of(cls, values: Array) -> _Ruler:
        """For the finite of these values."""
        finite = values[np.isfinite(values)]
        if not len(finite):
            return cls(np.nan, 0.0)
        low, high = float(finite.min()), float(finite.max())
        logs = float(np.log(high) - np.log(low)) if low > 0 and high / DECADES > low else 0.0
        with np.errstate(over="ignore"):
            width = float(np.float64(high) - low)
        rounding = 16 * float(np.finfo(np.float64).eps) * max(abs(low), abs(high))
        return cls(width, logs, rounding / width if width else 0.0)

    def shares(self, a: Array, b: Array) -> Array:
        """The distances between a and b, as shares of the range; inf where none is known."""
        if not np.isfinite(self.range):
            return np.full(np.shape(a), np.inf)
        with np.errstate(all="ignore"):
            return _known(np.abs(a - b) / self.range, a == b)

    def log_shares(self, a: Array, b: Array) -> Array:
        """The distances between the logarithms, as shares of their range; 0 where logarithms do not count."""
        if not self.logs:
            return np.zeros(np.shape(a))
        with np.errstate(all="ignore"):
            return _known(np.abs(np.log(a) - np.log(b)) / self.logs, a == b)


def _error(fit: _Fit) -> float:
    return fit.error


def _known(shares: Array, same: Mask) -> Array:
    return np.where(np.isfinite(shares), shares, np.where(same, 0.0, np.inf))


@dataclass(frozen=True)
class _Fit:
    """One array interpolated from the knots.

    Args:
        way: "cubic", "cubic of logarithms" or "linear".
        values: over the whole grid; NaN where it can't be told.
        certain: where no knot without a finite value was needed.
        error: the estimate, a share of the range.
        log_error: the estimate for the logarithms, a share of their range; None where they do not count.
        doubts: how far another interpolation is, as shares, and as shares of the logarithms.
    """

    way: str
    values: Array
    certain: Mask
    error: float
    log_error: float | None
    doubts: list[Array]

    def judged_by(self, coarser: _Fit | None) -> _Fit:
        """The same, its error estimated from the fit of fewer knots that was tried all over the grid; None for none.

        Nobody has tried the points of the largest doubt (as `refine` does within a tolerance): UNTRIED makes up for it.
        """
        if coarser is None:
            return replace(self, error=np.inf, log_error=None if self.log_error is None else np.inf)
        error = max(UNTRIED * coarser.error, float(self.doubts[0].max()))
        if self.log_error is None:
            return replace(self, error=error)
        return replace(self, error=error, log_error=max(UNTRIED * (coarser.log_error or 0.0), self.doubts[1].max()))


@dataclass(frozen=True)
class _Level:
    """The knots of a level, and what interpolates from them.

    Args:
        axes: of the grid.
        knots: their indices along each.
        tried: the points that were asked for.
    """

    axes: Sequence[Array]
    knots: Knots
    tried: Mask

    def matrices(self, way: str) -> list[Array]:
        """ "cubic": splines; "local": polynomials through four knots; "linear": lines."""
        make = {
            "cubic": spline_matrix,
            "local": lambda knots, points: local_matrix(knots, points, 4),
            "linear": lambda knots, points: local_matrix(knots, points, 2),
        }[way]
        return [make(axis[own], axis) for axis, own in zip(self.axes, self.knots, strict=True)]

    def fit(self, values: Array, known: Mask, ways: Sequence[str], tolerance: float) -> _Fit:
        """The best of these ways: within the tolerance the most exact in the logarithms, else in the values."""
        finite = known & np.isfinite(values)
        ruler = _Ruler.of(values[finite])
        fits = [self._fit(values, finite, ruler, way) for way in ways if ruler.logs or way != LOGS]
        good = [fit for fit in fits if fit.error <= tolerance]
        return min(good, key=lambda fit: (fit.log_error or 0.0, fit.error)) if good else min(fits, key=_error)

    def _fit(self, values: Array, finite: Mask, ruler: _Ruler, way: str) -> _Fit:
        here = np.ix_(*self.knots)
        whole = bool(finite[here].all())
        # A spline feels every knot; a hole must be felt by its neighbours alone.
        pair = ("linear", "local") if way == LINEAR else ("cubic", "local") if whole else ("local", "linear")
        smooth, other = map(self.matrices, pair)
        given = np.where(finite, values, 1.0)[here]
        with np.errstate(all="ignore"):
            guess, second = (
                np.exp(along_axes(m, np.log(given))) if way == LOGS else along_axes(m, given) for m in (smooth, other)
            )
        if ruler.range == 0:
            guess = second = np.full(values.shape, values[finite][0])  # to the bit
        lowest = values[finite].min(initial=np.inf)
        if 0 <= lowest < np.inf:  # a loss may know no other sign
            guess, second = (np.where(surface > 0, surface, lowest) for surface in (guess, second))
        certain = np.ones(values.shape, dtype=bool)
        if not whole:
            reach = [(m != 0).astype(float) for m in smooth]
            certain = along_axes(reach, (~finite[here]).astype(float)) == 0
        held = self.tried & certain
        held[here] = False
        truth = np.where(finite, values, np.nan)[held]
        error, log_error = np.inf, np.inf
        if held.any():
            error = SAFETY * float(ruler.shares(guess[held], truth).max()) + ruler.rounding
            log_error = SAFETY * float(ruler.log_shares(guess[held], truth).max()) + ruler.rounding
        asked = certain & ~self.tried
        doubts = [np.where(asked, far(guess, second), 0.0) for far in (ruler.shares, ruler.log_shares)]
        guess = np.where(certain, guess, np.nan)
        return _Fit(way, guess, certain, error, log_error if ruler.logs else None, doubts)


def refine(
    landscape: Landscape,
    judged: Sequence[str],
    tolerance: float = 0.0,
    over: Callable[[], bool] = lambda: False,
    first: int = FIRST,
) -> Generator[NDArray[np.intp], None, None]:
    """Yield the points to evaluate next, as flat indices; when it is exhausted, the rest is interpolated.

    The caller records each point before it asks for more; a point that it leaves out stays out. What is neither
    yielded nor done is interpolated in the end, which ``landscape.interpolated`` marks and
    ``landscape.report.interpolation`` describes. Points that are not finite are evaluated, as are those around them,
    and those of `Landscape.curvature`.

    Args:
        landscape: may have points already; none of them interpolated.
        judged: the metrics whose error must be within the tolerance.
        tolerance: a share of the range of finite values; 0 for every point.
        over: whether the time is; once it is, the caller stops at once and asks for more, which interpolates from the
            lines that are complete. Nothing is interpolated before the coarsest level is; how well is known when a
            level of 2^FIRST + 1 points an axis has been tried.
        first: the coarsest level has 2^first + 1 points an axis.
    """
    grid, before = landscape.grid, landscape.done.copy()
    tried = np.zeros(grid.shape, dtype=bool)  # a pass that is continued takes the same decisions again
    rank = np.argsort(grid.outwards)

    def new(mask: Mask, stage: NDArray[np.intp] | None = None) -> Generator[NDArray[np.intp], None, None]:
        flat = np.flatnonzero(mask & ~tried & ~before)
        flat = flat[np.lexsort((rank[flat], np.zeros(len(flat)) if stage is None else stage.reshape(-1)[flat]))]
        if len(flat):
            yield flat
        if over():
            flat = flat[: 1 + max(np.flatnonzero(landscape.done.reshape(-1)[flat]), default=-1)]
        tried.reshape(-1)[flat] = True
        tried[mask & before] = True

    def fitted(knots: Knots) -> list[_Fit]:
        level = _Level(grid.axes, knots, tried)
        return [level.fit(landscape.values[m], landscape.done & tried, (CUBIC, LOGS), tolerance) for m in judged]

    fits: list[_Fit] = []
    passed: list[Knots] = []
    probed: Knots | None = None  # the last level that was tried all over the grid
    stopped = True
    for number, knots in enumerate(levels(grid.shape, first), start=first):
        steps = lines(grid.axes, passed[-1] if passed else None, knots)
        cross, mask = _cross(grid), _mask(grid, knots)
        stage = np.sum([~_mask(grid, step) & ~cross for step in steps], axis=0)  # the first of the steps with a point
        yield from new(mask | cross, stage)
        passed += [step for step in steps if tried[_mask(grid, step)].all()]
        if (mask | cross).all() or over():
            break
        yield from new(probes(grid.shape, knots))
        if over():
            break
        if number < FIRST:
            continue
        probed, fits = knots, fitted(knots)
        if max(fit.error for fit in fits) > tolerance:
            continue
        suspects = [_most(doubt, knots, SUSPECTS) for fit in fits for doubt in fit.doubts]
        yield from new(np.logical_or.reduce(suspects))
        fits = fitted(knots)
        if max(fit.error for fit in fits) <= tolerance:
            yield from new(~np.logical_and.reduce([fit.certain for fit in fits]))
            stopped = False
            break
    complete = bool((tried | before).all())
    if tolerance or (passed and not complete):
        landscape.report.interpolation = Interpolation(tolerance or None, list(judged))
    if complete or not passed:
        return
    level = _Level(grid.axes, passed[-1], tried)
    if not stopped:
        _fill(landscape, dict(zip(judged, fits, strict=True)), level.fit, level, tolerance)
        return
    coarser = None if probed is None else _Level(grid.axes, probed, tried)

    def fit_of(*given: Any) -> _Fit:
        return level.fit(*given).judged_by(None if coarser is None else coarser.fit(*given))

    _fill(landscape, {}, fit_of, level, tolerance)


def _mask(grid: Grid, knots: Knots) -> Mask:
    """A mask of the grid, True at the knots."""
    result = np.zeros(grid.shape, dtype=bool)
    result[np.ix_(*knots)] = True
    return result


def _cross(grid: Grid) -> Mask:
    """The points that `Landscape.curvature` takes: a share of the range bounds no second derivative."""
    result = np.zeros(grid.shape, dtype=bool)
    for direction, n in enumerate(grid.shape):
        index: list[Any] = list(grid.center_index)
        middle = min(max(index[direction], 1), max(n - 2, 1))
        index[direction] = slice(middle - 1, middle + 2)
        result[tuple(index)] = True
    return result


def _most(doubt: Array, knots: Knots, count: int) -> Mask:
    """The points of the largest doubt, one a cell of the knots."""
    doubt, result = doubt.copy(), np.zeros(doubt.shape, dtype=bool)
    for _ in range(count):
        place = np.unravel_index(int(doubt.argmax()), doubt.shape)
        if not doubt[place] > 0:
            break
        result[place] = True
        cell = []
        for at, own in zip(place, knots, strict=True):
            i = int(np.clip(np.searchsorted(own, at, side="right") - 1, 0, len(own) - 2))
            cell.append(slice(own[i], own[i + 1] + 1))
        doubt[tuple(cell)] = 0.0
    return result


def _fill(
    landscape: Landscape, fits: dict[str, _Fit], fit_of: Callable[..., _Fit], level: _Level, tolerance: float
) -> None:
    """Interpolate what was not tried, every metric and every sample in its own way."""
    known, ways = landscape.done & level.tried, (CUBIC, LOGS, LINEAR)
    rest = ~level.tried & ~landscape.done
    report = landscape.report.interpolation
    assert report is not None
    for name, values in landscape.values.items():
        if name in report.judged:
            fit = fits.get(name) or fit_of(values, known, (CUBIC, LOGS), tolerance)
        else:
            fit = _bounded(fit_of(values, known, ways, tolerance), values[known])
        values[rest] = fit.values[rest]
        report.errors[name], report.methods[name] = fit.error, fit.way
        if fit.log_error is not None:
            report.log_errors[name] = fit.log_error
    for errors in landscape.standard_errors.values():
        errors[rest] = along_axes(level.matrices("linear"), errors[np.ix_(*level.knots)])[rest]
    if landscape.samples is not None:
        tiles = [fit_of(values, known, ways, tolerance) for values in landscape.samples.values]
        report.tiles = [fit.error for fit in tiles]
        for values, fit in zip(landscape.samples.values, tiles, strict=True):
            values[rest] = fit.values[rest]
    landscape.interpolated |= rest
    landscape.done |= rest


def _bounded(fit: _Fit, values: Array) -> _Fit:
    """Without what lies beyond all values: an accuracy has ends that no spline knows."""
    finite = values[np.isfinite(values)]
    if len(finite):
        fit.values[...] = np.clip(fit.values, finite.min(), finite.max())
    return fit
