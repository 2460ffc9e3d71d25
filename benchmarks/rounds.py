"""One workload, all contenders: their values checked against the naive loop, then timed in interleaved rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from lightning_landscape import Plane

from .contenders import Contender, Ours, Tolerant, naive, square
from .stopwatch import Enough, Stopwatch, Timing
from .workloads import Workload

BETWEEN = 16  # interpolated points that are checked
TIMED = 4  # points of the landscape that is timed that are checked


@dataclass
class Row:
    """What is known of one contender on one workload.

    Args:
        name: of the contender.
        tolerance: of the contender.
        points: how many it evaluates; None for all.
        error: the largest |value − naive| of the checks, a share of |naive|, or with a tolerance of the surface's
            range; None if none was made.
        rounds: one timing a round; the first with all that is slow the first time in a process.
        failure: what was raised, or "".
    """

    name: str
    tolerance: float | None = None
    points: int | None = None
    error: float | None = None
    rounds: list[Timing] = field(default_factory=list)
    failure: str = ""


@dataclass
class Result:
    """One workload.

    Args:
        name: e.g. "W1".
        title: what it is.
        samples: N.
        points: of the landscape that is timed.
        flops: operations of one pass over the data.
        rows: one a contender.
    """

    name: str
    title: str
    samples: int
    points: int
    flops: int
    rows: list[Row]


def compete(
    workload: Workload,
    contenders: Sequence[Contender],
    *,
    rounds: int,
    budget: float | None,
    n: int = 51,
    check: int = 3,
    say: Callable[[str], None] = lambda text: None,
) -> Result:
    """Check and time all contenders; one that raises is told of and left out from there on.

    Args:
        workload: on what.
        contenders: each in every round; every round begins with another one.
        rounds: how many.
        budget: seconds after the first point of a run; None for all points.
        n: the landscape that is timed has n × n points.
        check: the one that is checked has check × check, unless some points are interpolated: then it is the whole.
        say: told what is going on.
    """
    table = [(contender, Row(contender.name, contender.tolerance)) for contender in contenders]

    @cache
    def right(plane: Plane) -> np.ndarray:
        return naive(workload, plane, square(check).points).reshape(check, check)

    for contender, row in table:
        say(f"{workload.name}: checking {row.name}")
        with _telling(row):
            contender.prepare(workload)
            if isinstance(contender, Tolerant):
                _check_between(contender, row, workload, n)
            else:
                _check(contender, row, workload, check, right)
    for i in range(rounds):
        for contender, row in table[i % len(table) :] + table[: i % len(table)]:
            if not row.failure:
                say(f"{workload.name}: round {i + 1} of {rounds}, {row.name}")
                with _telling(row):
                    row.rounds.append(_time(contender, workload, n, row.points or n * n, budget))
                    if i == 0 and isinstance(contender, Ours):
                        _check_timed(contender, row, workload)
    return Result(workload.name, workload.title, workload.samples, n * n, workload.flops, [row for _, row in table])


@contextmanager
def _telling(row: Row) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  # a foreign tool may raise anything
        row.failure = f"{type(error).__name__}: {error}"


def _check(contender: Contender, row: Row, workload: Workload, n: int, right: Callable[[Plane], np.ndarray]) -> None:
    values = contender(workload, n, lambda done: None)
    row.error = relative_error(values, right(contender.plane(workload)))


def _check_between(contender: Tolerant, row: Row, workload: Workload, n: int) -> None:
    """The whole landscape, since nothing else tells how many points it takes; checked where it is interpolated."""
    values = contender(workload, n, lambda done: None)
    assert contender.landscape is not None
    row.points = int(contender.landscape.evaluated.sum())
    between = np.flatnonzero(contender.landscape.interpolated)
    if not len(between):
        return
    some = between[np.linspace(0, len(between) - 1, min(BETWEEN, len(between))).round().astype(int)]
    off = np.abs(values.flat[some] - naive(workload, contender.plane(workload), square(n).points[some]))
    row.error = float(off.max() / np.ptp(values))


def _check_timed(contender: Ours, row: Row, workload: Workload) -> None:
    """Points of what was timed: a landscape as small as that of the check is not worth an acceleration.

    They are spread from the centre, where every run begins, to where it was stopped.
    """
    assert contender.landscape is not None
    done = contender.landscape.evaluated.reshape(-1)
    places = [place for place in contender.landscape.grid.outwards if done[place]]
    some = np.array(places)[np.linspace(0, len(places) - 1, TIMED + 1).round().astype(int)[1:]]
    right = naive(workload, contender.plane(workload), contender.landscape.grid.points[some])
    off = relative_error(contender.landscape.loss.flat[some], right)
    if row.tolerance is not None:
        off *= float(np.abs(right).max() / np.ptp(contender.landscape.loss[contender.landscape.done]))
    row.error = max(row.error or 0.0, off)


def relative_error(values: np.ndarray, right: np.ndarray) -> float:
    """The largest |value − right| / |right|; inf where a value is not finite and should be.

    >>> relative_error(np.array([1.0, 2.2]), np.array([1.0, 2.0])) < 0.11
    True
    """
    error = np.abs(np.asarray(values, dtype=np.float64) - right) / np.abs(right)
    return float(np.where(np.isnan(error), np.inf, error).max())


def _time(contender: Contender, workload: Workload, n: int, points: int, budget: float | None) -> Timing:
    watch = Stopwatch(budget)
    with suppress(Enough):
        contender(workload, n, watch)
    return watch.timing(points)
