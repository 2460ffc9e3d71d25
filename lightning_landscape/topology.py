"""Minima, basins and passes of values on a grid, by union-find over its points, the lowest first.

Points are neighbours along axes and diagonals. Those without a finite value are walls. Of equal values, the one with
the lower index counts as lower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Heights:
    """Values on a grid of k axes.

    Args:
        axes: coordinates, one array an axis.
        values: shape of the grid.
        errors: their standard errors; NaN where unknown.
        done: bool; the points that have values.
    """

    axes: tuple[Array, ...]
    values: Array
    errors: Array
    done: NDArray[np.bool_]

    def point(self, index: Index) -> tuple[float, ...]:
        """The coordinates of a point."""
        return tuple(float(axis[i]) for axis, i in zip(self.axes, index, strict=True))

    def noise(self, first: Index, second: Index) -> float:
        """2 √(SE² + SE²), which the difference of two values must exceed to mean something; NaN where unknown.

        The samples are the same at both points, so the error of a difference is mostly smaller.
        """
        return 2 * math.hypot(self.errors[first], self.errors[second])


@dataclass(frozen=True)
class Pass:
    """The highest point on the lowest way between two points.

    Args:
        point: its k coordinates, in lengths of each direction.
        value: the value there.
        standard_error: of the value; NaN where unknown.
        rise: above the higher one of the two points.
        noise: twice the standard error of that rise; NaN where unknown.
        index: its place on the grid.
    """

    point: tuple[float, ...]
    value: float
    standard_error: float
    rise: float
    noise: float
    index: Index

    @property
    def significant(self) -> bool:
        """True if the rise exceeds the noise; where that is unknown, if there is a rise."""
        return self.rise > (0.0 if math.isnan(self.noise) else self.noise)


@dataclass(frozen=True)
class Minimum:
    """A point that is lower than its neighbours, with the lowest way out of its basin.

    Args:
        point: its k coordinates, in lengths of each direction.
        value: the value there.
        standard_error: of the value; NaN where unknown.
        exit: the pass to a lower minimum. None if no way leads to one.
        at_border: True at the border of the grid, beyond which it may go down.
        index: its place on the grid.
    """

    point: tuple[float, ...]
    value: float
    standard_error: float
    exit: Pass | None
    at_border: bool
    index: Index

    @property
    def persistence(self) -> float:
        """The rise up to its exit (Edelsbrunner, Letscher and Zomorodian 2002); inf without one."""
        return math.inf if self.exit is None else self.exit.rise

    @property
    def significant(self) -> bool:
        """True if the way out rises more than its noise."""
        return self.exit is None or self.exit.significant


class _Flood:
    """Components of the points up to a level; the root of each is its lowest point.

    The grid has a wall around it, so that every point has all its neighbours. Points are counted in that larger grid.
    """

    def __init__(self, heights: Heights) -> None:
        finite = heights.done & np.isfinite(heights.values)
        padded = np.pad(np.where(finite, heights.values, np.nan), 1, constant_values=np.nan)
        flat = padded.reshape(-1)
        known = np.flatnonzero(np.isfinite(flat))
        self.shape = padded.shape
        self.order: list[int] = known[np.argsort(flat[known], kind="stable")].tolist()
        self.rank = np.empty(len(flat), int)
        self.rank[self.order] = np.arange(len(self.order))
        strides = np.cumprod([1, *self.shape[:0:-1]])[::-1]
        steps = product((-1, 0, 1), repeat=padded.ndim)
        self.steps = [int(np.dot(step, strides)) for step in steps if any(step)]
        self.parent = [-1] * len(flat)  # -1: not reached, or a wall

    def index(self, point: int) -> Index:
        """The place of a point on the grid without walls."""
        return tuple(int(i) - 1 for i in np.unravel_index(point, self.shape))

    def number(self, index: Index) -> int:
        """The number of a point, from its place on the grid without walls."""
        return int(np.ravel_multi_index(tuple(i + 1 for i in index), self.shape))

    def root(self, point: int) -> int:
        """The lowest point of a component."""
        parent = self.parent
        while parent[point] != point:
            parent[point] = parent[parent[point]]
            point = parent[point]
        return point

    def take(self, point: int) -> dict[int, int]:
        """Take in the next point: the components that it joins, lowest first, each with the lowest neighbour there."""
        near = [point + step for step in self.steps if self.parent[point + step] >= 0]
        near.sort(key=self.rank.__getitem__)
        joined: dict[int, int] = {}
        for neighbour in near:
            joined.setdefault(self.root(neighbour), neighbour)
        joined = dict(sorted(joined.items(), key=lambda item: self.rank[item[0]]))
        eldest = next(iter(joined), point)
        for root in (point, *joined):
            self.parent[root] = eldest
        return joined


def find_minima(heights: Heights) -> tuple[tuple[Minimum, ...], NDArray[np.intp]]:
    """All minima of positive persistence, and the basins of the significant ones.

    A basin holds the points from which the steepest way down leads to its minimum. The basin of a minimum that is not
    significant is a part of the one beyond its exit.

    Returns:
        The minima, lowest first. For each point the number of its significant minimum, counted among these alone; -1
        without a value.

    >>> line = Heights((np.arange(5.0),), np.array([1.0, 3.0, 0.0, 2.0, 1.5]), np.full(5, np.nan), np.ones(5, bool))
    >>> minima, basins = find_minima(line)
    >>> [(minimum.value, minimum.persistence) for minimum in minima], basins.tolist()
    ([(0.0, inf), (1.0, 2.0), (1.5, 0.5)], [1, 0, 0, 0, 2])
    """
    flood = _Flood(heights)
    down: dict[int, int] = {}  # the minimum below each point
    exits: dict[int, Pass] = {}
    beyond: dict[int, int] = {}  # the minimum beyond the exit of one that is not significant
    for point in flood.order:
        joined = flood.take(point)
        down[point] = down[min(joined.values(), key=flood.rank.__getitem__)] if joined else point
        for root in list(joined)[1:]:
            exits[root] = _pass(heights, flood.index(point), flood.index(root))
            if not exits[root].significant:
                beyond[root] = down[next(iter(joined.values()))]
    found = [point for point in flood.order if down[point] == point]
    minima = {point: _minimum(heights, flood.index(point), exits.get(point)) for point in found}
    numbers = {point: i for i, point in enumerate(p for p, minimum in minima.items() if minimum.significant)}
    basins = np.full(heights.values.shape, -1)
    for point, bottom in down.items():
        while bottom in beyond:
            bottom = beyond[bottom]
        basins[flood.index(point)] = numbers[bottom]
    return tuple(minimum for minimum in minima.values() if minimum.persistence > 0), basins


def find_pass(heights: Heights, p: Index, q: Index) -> Pass | None:
    """The pass between two points that have values; None where walls lie between them.

    >>> line = Heights((np.arange(3.0),), np.array([1.0, 4.0, 0.0]), np.full(3, 0.5), np.ones(3, bool))
    >>> between = find_pass(line, (0,), (2,))
    >>> between.point, between.value, between.rise, between.significant
    ((1.0,), 4.0, 3.0, True)
    """
    flood = _Flood(heights)
    first, second = flood.number(p), flood.number(q)
    higher = max(p, q, key=lambda index: float(heights.values[index]))
    for point in flood.order:
        flood.take(point)
        if min(flood.parent[first], flood.parent[second]) >= 0 and flood.root(first) == flood.root(second):
            return _pass(heights, flood.index(point), higher)
    return None


def _pass(heights: Heights, index: Index, above: Index) -> Pass:
    value = float(heights.values[index])
    rise, noise = value - float(heights.values[above]), heights.noise(index, above)
    return Pass(heights.point(index), value, float(heights.errors[index]), rise, noise, index)


def _minimum(heights: Heights, index: Index, leaving: Pass | None) -> Minimum:
    at_border = any(i in (0, size - 1) for i, size in zip(index, heights.values.shape, strict=True))
    value, error = float(heights.values[index]), float(heights.errors[index])
    return Minimum(heights.point(index), value, error, leaving, at_border, index)
