"""Stopwatch: what one-off work costs, what a point costs, and what a whole landscape costs, out of one run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

OLD = 0.02  # seconds after which the times of other processes are asked for again


class Enough(Exception):
    """Raised inside a contender whose run has lasted long enough to know the cost of a point."""


class Clock(NamedTuple):
    """Seconds: on the wall, and of all threads of this process and of those that it has started."""

    wall: float
    cpu: float


def now() -> Clock:
    """Both clocks."""
    return Clock(time.perf_counter(), time.process_time() + _started(int(time.perf_counter() / OLD)))


@lru_cache(maxsize=1)
def _started(moment: int) -> float:
    """CPU seconds of the processes that this one has started: of those that have ended, and of the living.

    They are asked for once a moment: this takes longer than many a point.
    """
    seconds = sum(os.times()[2:4])
    for task in Path("/proc/self/task").glob("*/children"):  # Linux; elsewhere no evaluator starts any
        for pid in task.read_text(encoding="ascii").split():
            with suppress(OSError):  # it has just ended
                fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


class Cost(NamedTuple):
    """On one of the clocks, in seconds.

    Args:
        preparation: what is done once a landscape: copies, directions, trials of accelerations, compiling.
        point: what one more point costs.
        total: of the whole landscape; preparation + points × point where the run was stopped before its end.
    """

    preparation: float
    point: float
    total: float


class Timing(NamedTuple):
    """One run.

    Args:
        wall: on the wall.
        cpu: of all threads.
        points: how many were measured.
        complete: whether these were all.
    """

    wall: Cost
    cpu: Cost
    points: int
    complete: bool


class Stopwatch:
    """Called by a contender with the number of points that it has done; may raise `Enough`.

    The cost of a point is the slope between the first call and the last: all that happens once, before the first
    point or with it, is preparation. A contender that does all points at once has a preparation and no slope.

    Args:
        budget: seconds after the first point; None for all points.
        least: this many points, whatever they cost.
        clock: both clocks.
    """

    def __init__(self, budget: float | None = None, least: int = 3, clock: Callable[[], Clock] = now) -> None:
        self.budget, self.least, self._clock = budget, least, clock
        self._calls: list[tuple[int, Clock]] = []
        self._start = clock()

    def __call__(self, done: int) -> None:
        """`done` points are measured; 0 starts the clock anew, after what is no part of the measurement.

        Raises:
            Enough: if the budget is spent.
        """
        if done == 0:
            if not self._calls:
                self._start = self._clock()
            return
        call = (done, self._clock())
        self._calls = [*self._calls[:1], call]
        seconds = call[1].wall - self._calls[0][1].wall
        if self.budget is not None and done >= self.least and seconds > self.budget:
            raise Enough

    def timing(self, size: int) -> Timing:
        """What it comes to for a landscape of `size` points.

        Raises:
            ValueError: if no point was measured.
        """
        if not self._calls:
            raise ValueError("No point was measured, so nothing is known of its cost.")
        points = self._calls[-1][0]
        wall, cpu = (self._cost(axis, size, points == size) for axis in (0, 1))
        return Timing(wall, cpu, points, points == size)

    def _cost(self, axis: int, size: int, complete: bool) -> Cost:
        (first, early), (last, late) = self._calls[0], self._calls[-1]
        start = self._start[axis]
        point = (late[axis] - early[axis]) / (last - first) if last > first else 0.0
        preparation = max(0.0, early[axis] - start - first * point)
        return Cost(preparation, point, late[axis] - start if complete else preparation + size * point)
