"""Surfaces from fewer evaluations: from coarse to fine, until interpolation is exact enough at held-out points.

The grid is halved again and again into nested subgrids. A level has the values at the points of its subgrid, the
knots. Cubic splines through the knots are compared with values at held-out points. Some of these are midpoints of
cells, all over the grid and on its boundary. At the others, two interpolations disagree most. The estimated error is
the largest difference times a safety factor. Within the tolerance, all other points are interpolated and marked. Else
the next level is evaluated, which contains the held-out points.

A pass may end at any moment, by its budget. A level is evaluated line by line, and complete lines become knots. The
other points of the level are then held out. The interpolation of such a pass is led through their values (`held_out`).
Its stated error is that of the splines before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..landscape import Array, Grid, Landscape
from ..report import Interpolation
from .held_out import correction
from .splines import along_axes, local_matrix, spline_matrix

Mask = NDArray[np.bool_]
Knots = tuple[NDArray[np.intp], ...]
Order = NDArray[np.intp]  # flat indices of points
Points = Generator[Order, Order | None, None]  # the points that were tried are sent back

CUBIC, LOGS, LINEAR = "cubic", "cubic of logarithms", "linear"


@dataclass(frozen=True)
class RefinementSettings:
    """Settings of the error estimates of `refine`.

    Args:
        first: the first level that is tested has 2^first + 1 points an axis; coarser levels say too little.
        safety: the factor from the largest error at held-out points to that of all points, calibrated in the tests.
        probes: the approximate number of held-out points all over the grid.
        suspects: the number of held-out points where interpolations disagree most.
        unproved: the factor on the error of a pass that ends before the suspects of its knots are evaluated.
        contrast: the ratio of highest to lowest value from which logarithms are interpolated, too.
    """

    first: int = 3
    safety: float = 2.5
    probes: int = 96
    suspects: int = 16
    unproved: float = 2.0
    contrast: float = 100.0


DEFAULTS = RefinementSettings()


def check_tolerance(tolerance: float | None) -> None:
    """Check that a tolerance is None or a share between 0 and 1.

    Raises:
        ValueError: if it is not.

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


def levels(shape: Sequence[int], first: int = DEFAULTS.first) -> list[Knots]:
    """Nested subgrids from coarse to the whole grid: the indices of each along every axis.

    Each axis is cut into 2^first parts, then twice as many, and so on. Their sizes differ by one point at most.

    >>> [[len(axis) for axis in level] for level in levels((51, 33))]
    [[9, 9], [17, 17], [33, 33], [51, 33]]
    >>> [[len(axis) for axis in level] for level in levels((7, 5))]  # too small for a coarser level
    [[7, 5]]
    """
    last = max(first, *(int(np.ceil(np.log2(n - 1))) for n in shape))
    return [tuple(_cut(n, 2**level) for n in shape) for level in range(first, last + 1)]


def lines(axes: Sequence[Array], before: Knots | None, after: Knots) -> list[Knots]:
    """The subgrids between two nested ones: each has one line more, from the centre outwards.

    >>> axis = np.linspace(-1, 1, 5)
    >>> [list(map(len, knots)) for knots in lines([axis, axis], levels((5, 5), 1)[0], levels((5, 5), 1)[1])]
    [[4, 3], [4, 4], [5, 4], [5, 5]]
    """
    if before is None:
        return [after]
    added = [np.setdiff1d(fine, coarse) for coarse, fine in zip(before, after, strict=True)]
    outwards = [new[np.argsort(abs(axis[new]), kind="stable")] for axis, new in zip(axes, added, strict=True)]
    result, knots = [], list(before)
    for row in zip_longest(*outwards):
        for direction, index in enumerate(row):
            if index is not None:
                knots[direction] = np.sort(np.append(knots[direction], index))
                result.append(tuple(knots))
    return result or [after]


def _cut(n: int, parts: int) -> NDArray[np.intp]:
    """The ends of that many parts of 0 … n − 1; all numbers where these are fewer."""
    return np.unique(np.floor(np.arange(parts + 1) * (n - 1) / parts + 0.5).astype(np.intp))


def probes(shape: Sequence[int], knots: Knots, count: int = DEFAULTS.probes) -> Mask:
    """Points of the next level at which a level is tested: midpoints of cells, about `count`, and the corners."""
    lines = []
    for n, indices in zip(shape, knots, strict=True):
        middles = (indices[:-1] + indices[1:] + 1) // 2
        lines.append(np.unique(np.concatenate([[0], middles, [n - 1]])))
    k = len(lines)
    places = np.stack(np.meshgrid(*[np.arange(len(line)) for line in lines], indexing="ij"))
    ends = np.array([len(line) - 1 for line in lines]).reshape(-1, *[1] * k)
    corners = ((places <= 1) | (places >= ends - 1)).all(axis=0)
    spacing = max(k, round(places[0].size / count))
    stride = np.array([max(1, round(0.382 * spacing)) ** i for i in range(k)]).reshape(-1, *[1] * k)
    result = np.zeros(tuple(shape), dtype=bool)
    result[np.ix_(*lines)] = corners | ((places * stride).sum(axis=0) % spacing == 0)
    return result


def least(shape: Sequence[int], first: int = DEFAULTS.first) -> int:
    """The smallest number of points that refinement evaluates, approximately.

    >>> least((51, 51)), least((7, 5))
    (135, 35)
    """
    knots = levels(shape, first)[0]
    mask = probes(shape, knots)
    mask[np.ix_(*knots)] = True
    return int(mask.sum())


def coarsest(landscape: Landscape) -> int:
    """The number of points that are still to be evaluated before anything can be interpolated.

    >>> coarsest(Landscape.empty(Grid.from_ranges((-1, 1, 51), (-1, 1, 51)), ["loss"], "loss"))
    85
    """
    grid = landscape.grid
    return int(((_mask(grid, levels(grid.shape)[0]) | _cross(grid)) & ~landscape.done).sum())


def finest_level(landscape: Landscape) -> int | None:
    """The finest level of which every point was evaluated; None where there is none.

    >>> landscape = Landscape.empty(Grid.from_ranges((-1, 1, 51), (-1, 1, 51)), ["loss"], "loss")
    >>> landscape.done[np.ix_(*levels(landscape.grid.shape)[1])] = True
    >>> finest_level(landscape)
    4
    """
    numbered = enumerate(levels(landscape.grid.shape), start=DEFAULTS.first)
    return max((n for n, knots in numbered if landscape.evaluated[np.ix_(*knots)].all()), default=None)


@dataclass(frozen=True)
class _Ruler:
    """Errors as shares of the range of the values, and of the range of their logarithms."""

    range: float  # highest minus lowest value
    logs: float  # the range of the logarithms; 0 where they do not count
    rounding: float = 0.0  # the rounding error of float64, as a share of the range

    @classmethod
    def of(cls, values: Array, contrast: float) -> _Ruler:
        """The ruler of the finite values."""
        finite = values[np.isfinite(values)]
        if not len(finite):
            return cls(np.nan, 0.0)
        low, high = float(finite.min()), float(finite.max())
        logs = float(np.log(high) - np.log(low)) if low > 0 and high / contrast > low else 0.0
        with np.errstate(over="ignore"):
            width = float(np.float64(high) - low)
        rounding = 16 * float(np.finfo(np.float64).eps) * max(abs(low), abs(high))
        return cls(width, logs, rounding / width if width else 0.0)

    def shares(self, a: Array, b: Array) -> Array:
        """The distances between a and b, as shares of the range; inf where one is unknown."""
        if not np.isfinite(self.range):
            return np.full(np.shape(a), np.inf)
        with np.errstate(all="ignore"):
            return _finite(np.abs(a - b) / self.range, a == b)

    def log_shares(self, a: Array, b: Array) -> Array:
        """The distances between the logarithms, as shares of their range; 0 where logarithms do not count."""
        if not self.logs:
            return np.zeros(np.shape(a))
        with np.errstate(all="ignore"):
            return _finite(np.abs(np.log(a) - np.log(b)) / self.logs, a == b)


def _finite(shares: Array, same: Mask) -> Array:
    return np.where(np.isfinite(shares), shares, np.where(same, 0.0, np.inf))


@dataclass(frozen=True)
class _Fit:
    """An array interpolated from the knots, with the estimated error."""

    method: str  # CUBIC, LOGS or LINEAR
    values: Array  # over the whole grid; NaN where the fit is not certain
    certain: Mask  # the points whose neighbouring knots are all finite
    error: float  # a share of the range
    log_error: float | None  # a share of the range of the logarithms; None where they do not count
    doubts: list[Array]  # distances from another interpolation, as shares of both ranges

    def judged_by(self, coarser: _Fit | None, factor: float) -> _Fit:
        """The same fit, with an error estimated from a fit of fewer knots, which was tested all over the grid.

        Args:
            coarser: None if no level was tested.
            factor: on its error, since nobody has evaluated the points of the largest doubt.
        """
        if coarser is None:
            return replace(self, error=np.inf, log_error=None if self.log_error is None else np.inf)
        error = max(factor * coarser.error, float(self.doubts[0].max()))
        if self.log_error is None:
            return replace(self, error=error)
        return replace(self, error=error, log_error=max(factor * (coarser.log_error or 0.0), self.doubts[1].max()))


@dataclass(frozen=True)
class _Level:
    """The interpolations from the knots of a level."""

    axes: Sequence[Array]
    knots: Knots
    tried: Mask  # the points that were to be evaluated
    settings: RefinementSettings
    lead: bool = False  # lead the interpolation through the held-out points

    def matrices(self, kind: str) -> list[Array]:
        """One matrix an axis: "cubic" for splines, "local" for polynomials through four knots, "linear" for lines."""
        matrix = {
            "cubic": spline_matrix,
            "local": lambda knots, points: local_matrix(knots, points, 4),
            "linear": lambda knots, points: local_matrix(knots, points, 2),
        }[kind]
        return [matrix(axis[indices], axis) for axis, indices in zip(self.axes, self.knots, strict=True)]

    def fit(self, values: Array, known: Mask, methods: Sequence[str], tolerance: float) -> _Fit:
        """The best fit: within the tolerance the most exact in the logarithms, else in the values."""
        finite = known & np.isfinite(values)
        ruler = _Ruler.of(values[finite], self.settings.contrast)
        fits = [self._fit(values, finite, ruler, method) for method in methods if ruler.logs or method != LOGS]
        good = [fit for fit in fits if fit.error <= tolerance]
        if good:
            return min(good, key=lambda fit: (fit.log_error or 0.0, fit.error))
        return min(fits, key=lambda fit: fit.error)

    def _fit(self, values: Array, finite: Mask, ruler: _Ruler, method: str) -> _Fit:
        at_knots = np.ix_(*self.knots)
        whole = bool(finite[at_knots].all())
        # A spline depends on every knot; a knot without a value may affect its neighbours only.
        pair = ("linear", "local") if method == LINEAR else ("cubic", "local") if whole else ("local", "linear")
        matrices = [self.matrices(kind) for kind in pair]
        knots = np.where(finite, values, 1.0)[at_knots]
        with np.errstate(all="ignore"):
            surfaces = [
                np.exp(along_axes(m, np.log(knots))) if method == LOGS else along_axes(m, knots) for m in matrices
            ]
        if ruler.range == 0:
            surfaces = [np.full(values.shape, values[finite][0])] * 2  # exactly
        lowest = values[finite].min(initial=np.inf)
        if 0 <= lowest < np.inf:  # no negative values: a loss may have none
            surfaces = [np.where(surface > 0, surface, lowest) for surface in surfaces]
        certain = np.ones(values.shape, dtype=bool)
        if not whole:
            reach = [(m != 0).astype(float) for m in matrices[0]]
            certain = along_axes(reach, (~finite[at_knots]).astype(float)) == 0
        held_out = self.tried & certain
        held_out[at_knots] = False
        truth, guess = np.where(finite, values, np.nan)[held_out], surfaces[0][held_out]
        error, log_error = (
            self.settings.safety * float(shares(guess, truth).max()) + ruler.rounding if len(truth) else np.inf
            for shares in (ruler.shares, ruler.log_shares)
        )
        asked = certain & ~self.tried
        doubts = [np.where(asked, shares(*surfaces), 0.0) for shares in (ruler.shares, ruler.log_shares)]
        led = self._through(surfaces[0], held_out, truth, method) if self.lead else surfaces[0]
        fitted = np.where(certain, led, np.nan)
        return _Fit(method, fitted, certain, error, log_error if ruler.logs else None, doubts)

    def _through(self, surface: Array, held_out: Mask, truth: Array, method: str) -> Array:
        """The surface, led through the values at the held-out points, too. Positive values stay positive."""
        guess, places = surface[held_out], np.argwhere(held_out)
        with np.errstate(all="ignore"):
            if method == LOGS:
                factor: Array = np.exp(correction(self.axes, self.knots, places, np.log(truth) - np.log(guess)))
                return surface * factor
            led = surface + correction(self.axes, self.knots, places, truth - guess)
        return np.where((surface > 0) & (led <= 0), surface, led)


def refine(
    landscape: Landscape,
    judged: Sequence[str],
    tolerance: float = 0.0,
    over: Callable[[], bool] = lambda: False,
    last: int | None = None,
    settings: RefinementSettings = DEFAULTS,
) -> Points:
    """Yield the points to evaluate next, as flat indices; at the end, interpolate all others.

    The caller records each point before it asks for more; a point that it tries in vain stays empty. It sends back
    the points that it has tried, or None for all that it was given (a plain ``for``).
    ``landscape.interpolated`` marks the interpolated points, and ``landscape.report.interpolation`` describes them.
    Points that are not finite, and their neighbours, are evaluated. So are the points of `Landscape.curvature`.

    Args:
        landscape: may have points already; none of them interpolated.
        judged: the metrics whose error must be within the tolerance.
        tolerance: a share of the range of finite values; 0 for every point.
        over: returns True once the time is over. Then the caller stops at once and sends what it has tried, which
            interpolates from the complete lines. Nothing is interpolated before the coarsest level is complete. The
            error is known once a level of 2^settings.first + 1 points an axis was tested.
        last: the finest level to evaluate has 2^last + 1 points an axis; None for the whole grid.
        settings: of the error estimates.
    """
    refinement = _Refinement(landscape, judged, tolerance, over, last, settings)
    fits = yield from refinement.evaluated()
    refinement.interpolate(fits)


@dataclass
class _Refinement:
    """One call of `refine`, with the same arguments."""

    landscape: Landscape
    judged: Sequence[str]
    tolerance: float
    over: Callable[[], bool]
    last: int | None
    settings: RefinementSettings
    passed: list[Knots] = field(default_factory=list)  # the complete subgrids, from coarse to fine
    probed: Knots | None = None  # the last subgrid that was tested all over the grid

    def __post_init__(self) -> None:
        self.grid, self.before = self.landscape.grid, self.landscape.done.copy()
        # The points that were yielded, or needed and done before: a continued pass takes the same decisions again.
        self.tried = np.zeros(self.grid.shape, dtype=bool)
        self._rank = np.argsort(self.grid.outwards)

    def evaluated(self) -> Generator[Order, Order | None, list[_Fit]]:
        """Yield the points to evaluate; return the fits of the judged metrics within the tolerance, or none."""
        cross = _cross(self.grid)
        first = self.settings.first
        for number, knots in enumerate(levels(self.grid.shape, first), start=first):
            mask = _mask(self.grid, knots) | cross
            steps = lines(self.grid.axes, self.passed[-1] if self.passed else None, knots)
            stage = np.sum([~_mask(self.grid, step) & ~cross for step in steps], axis=0)  # the first step with a point
            yield from self._new(mask, stage)
            self.passed += [step for step in steps if self.tried[_mask(self.grid, step)].all()]
            if mask.all() or self.over():
                break
            yield from self._new(probes(self.grid.shape, knots, self.settings.probes))
            if self.over():
                break
            self.probed, fits = knots, self._fits(knots)
            if max(fit.error for fit in fits) > self.tolerance:
                if number == self.last:
                    break
                continue
            suspects = [_largest(doubt, knots, self.settings.suspects) for fit in fits for doubt in fit.doubts]
            yield from self._new(np.logical_or.reduce(suspects))
            fits = self._fits(knots)
            if max(fit.error for fit in fits) <= self.tolerance:
                yield from self._new(~np.logical_and.reduce([fit.certain for fit in fits]))
                return fits
        return []

    def _new(self, mask: Mask, stage: NDArray[np.intp] | None = None) -> Points:
        """Yield the points of a mask that are neither tried nor done, by their stage, then from the centre outwards."""
        flat = np.flatnonzero(mask & ~self.tried & ~self.before)
        stages = np.zeros(len(flat)) if stage is None else stage.reshape(-1)[flat]
        flat = flat[np.lexsort((self._rank[flat], stages))]
        tried = (yield flat) if len(flat) else None
        self.tried.reshape(-1)[flat if tried is None else tried] = True
        self.tried[mask & self.before] = True

    def _level(self, knots: Knots) -> _Level:
        return _Level(self.grid.axes, knots, self.tried, self.settings)

    def _fits(self, knots: Knots) -> list[_Fit]:
        level, values, done = self._level(knots), self.landscape.values, self.landscape.done & self.tried
        return [level.fit(values[name], done, (CUBIC, LOGS), self.tolerance) for name in self.judged]

    def interpolate(self, fits: list[_Fit]) -> None:
        """Interpolate the points that were not evaluated.

        Args:
            fits: of the judged metrics, within the tolerance; none for a pass that ended before.
        """
        landscape, judged, tolerance, passed = self.landscape, self.judged, self.tolerance, self.passed
        complete = bool((self.tried | self.before).all())
        if tolerance or (passed and not complete):
            landscape.report.interpolation = Interpolation(tolerance or None, list(judged))
        if complete or not passed:
            return
        level = self._level(passed[-1])
        if fits:
            _fill(landscape, dict(zip(judged, fits, strict=True)), level.fit, level, tolerance)
            return
        level = replace(level, lead=True)
        coarser = None if self.probed is None else self._level(self.probed)

        def fit_of(values: Array, known: Mask, methods: Sequence[str], tolerance: float) -> _Fit:
            tested = None if coarser is None else coarser.fit(values, known, methods, tolerance)
            return level.fit(values, known, methods, tolerance).judged_by(tested, self.settings.unproved)

        _fill(landscape, {}, fit_of, level, tolerance)


def _mask(grid: Grid, knots: Knots) -> Mask:
    """A mask of the grid, True at the knots."""
    result = np.zeros(grid.shape, dtype=bool)
    result[np.ix_(*knots)] = True
    return result


def _cross(grid: Grid) -> Mask:
    """A mask of the points of `Landscape.curvature`: an error of the values bounds no second derivative."""
    result = np.zeros(grid.shape, dtype=bool)
    for direction, n in enumerate(grid.shape):
        index: list[Any] = list(grid.center_index)
        middle = min(max(index[direction], 1), max(n - 2, 1))
        index[direction] = slice(middle - 1, middle + 2)
        result[tuple(index)] = True
    return result


def _largest(doubt: Array, knots: Knots, count: int) -> Mask:
    """A mask of the points of the largest doubt, one in a cell of the knots, `count` at most."""
    doubt, result = doubt.copy(), np.zeros(doubt.shape, dtype=bool)
    for _ in range(count):
        place = np.unravel_index(int(doubt.argmax()), doubt.shape)
        if not doubt[place] > 0:
            break
        result[place] = True
        cell = []
        for at, indices in zip(place, knots, strict=True):
            i = int(np.clip(np.searchsorted(indices, at, side="right") - 1, 0, len(indices) - 2))
            cell.append(slice(indices[i], indices[i + 1] + 1))
        doubt[tuple(cell)] = 0.0
    return result


def _fill(
    landscape: Landscape, fits: dict[str, _Fit], fit_of: Callable[..., _Fit], level: _Level, tolerance: float
) -> None:
    """Interpolate all points that were not tried, each metric and each tile by the best method."""
    known, methods = landscape.done & level.tried, (CUBIC, LOGS, LINEAR)
    missing = ~level.tried & ~landscape.done
    report = landscape.report.interpolation
    assert report is not None
    for name, values in landscape.values.items():
        if name in report.judged:
            fit = fits.get(name) or fit_of(values, known, (CUBIC, LOGS), tolerance)
        else:
            fit = _bounded(fit_of(values, known, methods, tolerance), values[known])
        values[missing] = fit.values[missing]
        report.errors[name], report.methods[name] = fit.error, fit.method
        if fit.log_error is not None:
            report.log_errors[name] = fit.log_error
    for errors in landscape.standard_errors.values():
        errors[missing] = along_axes(level.matrices("linear"), errors[np.ix_(*level.knots)])[missing]
    if landscape.samples is not None:
        tiles = [fit_of(values, known, methods, tolerance) for values in landscape.samples.values]
        report.tiles = [fit.error for fit in tiles]
        for values, fit in zip(landscape.samples.values, tiles, strict=True):
            values[missing] = fit.values[missing]
    landscape.interpolated |= missing
    landscape.done |= missing


def _bounded(fit: _Fit, values: Array) -> _Fit:
    """The fit cut off at the extremes of the values: an accuracy never exceeds 100 %, a spline may."""
    finite = values[np.isfinite(values)]
    if len(finite):
        fit.values[...] = np.clip(fit.values, finite.min(), finite.max())
    return fit
