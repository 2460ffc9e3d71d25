"""The trial of accelerations: each is timed at a point off the axes, on a few batches, beside the choice so far."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ..evaluators import Evaluator, Measurements, Sequential
from ..objectives.base import Batch, Objective
from ..objectives.batches import leaves
from ..weights.parameters import shape_of
from ..weights.plane import Plane
from . import ACCELERATIONS, ON_REQUEST, Acceleration, applied
from .equality import equal, off_axes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrialSettings:
    """Settings for the time that the search for accelerations takes.

    Args:
        share: of the estimated total time, for the whole search.
        batches: the least number of batches on which a point is timed.
        rounds: the least number of timed points; the fastest third counts, as other programs only slow down.
        rounds_at_work: of evaluators that work ahead, the number of rounds from which only the faster half counts.
        rounds_of_chunks: the number of rounds of many points in one call, the first of which does not count.
        point_seconds: the least time of a timed point: on quicker batches, more of them are timed.
        points: the number of points that stay affordable on those.
        attempts: the number of attempts that share the time for further rounds.
        more_rounds, more_seconds: the maximum of further rounds, in number and in time; the larger one holds.
        hopeless: the ratio to the time before from which an attempt is no gain, whatever other programs did.
        worth: the largest ratio to the time before that is a gain.
        worth_together: the same of points side by side, which start slowly and win short trials by chance.
        affine_passes: the number of passes over one batch, about, in the search for an affine model.
        affine_seconds: the least time of all points for which an affine model is searched.
        remembered: a choice is used again for at most this many times the points for which it was tried.
    """

    share: float = 0.03
    batches: int = 2
    rounds: int = 3
    rounds_at_work: int = 8
    rounds_of_chunks: int = 3
    point_seconds: float = 5e-3
    points: int = 200
    attempts: int = 50
    more_rounds: int = 20
    more_seconds: float = 0.2
    hopeless: float = 1.5
    worth: float = 0.95
    worth_together: float = 0.85
    affine_passes: int = 20
    affine_seconds: float = 1.0
    remembered: float = 4.0


@dataclass(frozen=True)
class Choice:
    """The accelerations that were chosen.

    Args:
        names: rows of ACCELERATIONS, in their order.
        speedup: of each, against those before it.
        always: use the rows that need no trial, too.
        affine: whether the points are computed by `Affine`.
        points: for how many points it was chosen.
    """

    names: tuple[str, ...] = ()
    speedup: dict[str, float] = field(default_factory=dict)
    always: bool = False
    affine: bool = False
    points: int = 0


class Trial:
    """Accelerations on one module, tried one after the other within a share of the time that they save.

    Call `begin`, then `consider` for each step; `choice` has the rows that were kept. The arguments are those of
    `choose`.
    """

    def __init__(
        self,
        reference: Sequential,
        objective: Objective,
        plane: Plane,
        batches: Sequence[Batch],
        points: int,
        settings: TrialSettings,
    ) -> None:
        self.started = time.perf_counter()
        self.reference, self.objective, self.plane, self.settings = reference, objective, plane, settings
        self.batches, self.points = batches, points
        self.sample, self.times = largest_batches(batches, settings.batches)
        self.shapes = len({tuple(shape_of(x) for x in leaves(b.data) if isinstance(x, Tensor)) for b in batches})
        self.rounds = settings.rounds
        self.names: list[str] = []
        self.speedup: dict[str, float] = {}
        self.gains: dict[str, float] = {}  # of each row that was equal, when it was tried by itself
        self.expected: Measurements = {}
        self.seconds = self.least = self.took = 0.0  # of a point, the least of it, and of the last attempt in all

    @property
    def choice(self) -> Choice:
        """The rows that were kept."""
        return Choice(tuple(self.names), self.speedup, always=True)

    def begin(self) -> bool:
        """Time the plain evaluator; False where there is no time for any trial."""
        settings = self.settings
        if settings.share * self.points * len(self.batches) < 1 + settings.batches:  # a first look would take too much
            return False
        try:
            rough = first_seconds(self.reference, self.objective, self.plane, self.sample)
        except Exception as error:  # noqa: BLE001  # a step may refuse this very point
            log.debug("nothing is tried: %s: %s", type(error).__name__, error)
            return False
        affordable = settings.share * self.times * self.points  # in points on the sample
        if affordable < 4 * (settings.rounds + 3):
            return False
        if (growth := min(settings.point_seconds / rough, affordable / settings.points)) > 1:
            before = self.times
            self.sample, self.times = largest_batches(self.batches, int(growth * len(self.sample)))
            rough, affordable = rough * before / self.times, affordable * self.times / before
        further = min(affordable / settings.attempts, max(settings.more_rounds, settings.more_seconds / rough))
        self.rounds = max(settings.rounds, int(further))
        values, self.seconds, self.took = self.attempt(())
        self.expected, self.least = values[0], self.seconds
        return True

    def attempt(self, names: Sequence[str]) -> tuple[list[Measurements], float, float]:
        """The values with these accelerations, the seconds that a point takes, and those of the whole attempt."""
        began = time.perf_counter()
        with applied(names, self.reference, self.sample) as (evaluator, batches):
            values, seconds = time_points(evaluator, self.objective, self.plane, batches, self.rounds, self.settings)
        return values, seconds, time.perf_counter() - began

    def consider(self, step: Sequence[str]) -> None:
        """Keep these rows, if they are equal to 1e-6 and faster; those on request need not be equal."""
        added = [name for name in step if name not in self.names]
        label = " and ".join(added)
        if not self._may_gain(step, added):
            log.debug("%s is not tried: it can't gain here", label)
            return
        rivals = {row.replaces for row in map(_row, added)}
        names = [name for name in (*ACCELERATIONS, *ON_REQUEST) if name in {*self.names, *added} - rivals]
        is_exact = not set(added) & ON_REQUEST.keys()
        if is_exact and not self._is_affordable(names, added):
            log.debug("%s is not tried: it would take too long", label)
            return
        try:
            values, seconds, took = self.attempt(names)
            if is_exact and not all(equal(row, self.expected) for row in values):
                log.debug("%s is left out: its values differ", label)
                return
            before = self._seconds_before(seconds) if is_exact else self.seconds
        except Exception as error:  # noqa: BLE001  # a compiler may raise anything
            log.debug("%s is left out: %s: %s", label, type(error).__name__, error)
            return
        if len(added) == 1:
            self.gains[label] = before / seconds
        if seconds < (self.settings.worth if len(values) == 1 else self.settings.worth_together) * before:
            self._keep(names, added, before / seconds, seconds, took)
        else:
            log.debug("%s is left out: it takes %.3g of the time", label, seconds / before)

    def _may_gain(self, step: Sequence[str], added: Sequence[str]) -> bool:
        """True if a pair is worth more than its parts were, and a compiler has few shapes to compile for."""
        if len(step) > 1:
            is_new = step[0] not in self.names
            return is_new and all(self.gains.get(n, 0.0) > 1 / self.settings.hopeless for n in step)
        return all(self.shapes <= row.compiler.max_shapes for row in map(_row, added) if row.compiler is not None)

    def _is_affordable(self, names: Sequence[str], added: Sequence[str]) -> bool:
        """True if an attempt, and one of the choice so far, fit into the remaining time."""
        settings, modules = self.settings, len(list(self.reference.module.modules()))
        compilers = [row.compiler for row in map(_row, names) if row.compiler is not None]
        compiling = [c.first_call + self.shapes * (c.per_shape + c.per_module * modules) for c in compilers]
        points = sum(row.points for row in map(_row, added)) * len(added)  # processes work ahead on such points
        longest = settings.hopeless * (self.rounds + settings.rounds_of_chunks * points) * self.least
        trial = (longest if points else self.took) + max(compiling, default=0.0)
        elapsed = time.perf_counter() - self.started
        return trial + self.took <= settings.share * self.least * self.times * self.points - elapsed

    def _seconds_before(self, seconds: float) -> float:
        """The seconds of a point before, measured on both sides of an attempt: other programs come and go."""
        if seconds >= self.settings.hopeless * self.seconds:
            return self.seconds
        after = self.attempt(self.names)[1]
        before = (self.seconds + after) / 2
        self.seconds, self.least = after, min(self.least, after)  # other programs must not lengthen the trial
        return before

    def _keep(self, names: list[str], added: Sequence[str], gain: float, seconds: float, took: float) -> None:
        gain *= math.prod(self.speedup[name] for name in self.names if name not in names)  # of the replaced rows
        self.speedup = {name: self.speedup[name] for name in names if name in self.speedup}
        self.speedup |= {name: round(self.gains[name], 2) for name in added[:-1]}
        self.speedup[added[-1]] = round(gain / math.prod(self.gains[name] for name in added[:-1]), 2)
        self.names, self.seconds, self.least, self.took = names, seconds, seconds, took


def _row(name: str) -> Acceleration:
    return ACCELERATIONS[name] if name in ACCELERATIONS else ON_REQUEST[name]


def largest_batches(batches: Sequence[Batch], count: int) -> tuple[list[Batch], float]:
    """The `count` largest batches, and the number of all samples in times of theirs."""
    largest = sorted(batches, key=lambda batch: -batch.size)[:count]
    return largest, sum(batch.size for batch in batches) / sum(batch.size for batch in largest)


def first_seconds(evaluator: Evaluator, objective: Objective, plane: Plane, batches: Sequence[Batch]) -> float:
    """Seconds that one point takes, with the first calls of everything."""
    started = time.perf_counter()
    next(iter(evaluator(objective, plane, off_axes(plane, 1), batches)))
    return (time.perf_counter() - started) / 2  # it rehearses on one batch first


def time_points(
    evaluator: Evaluator,
    objective: Objective,
    plane: Plane,
    batches: Sequence[Batch],
    points: int,
    settings: TrialSettings,
) -> tuple[list[Measurements], float]:
    """The values at a point off the axes, side by side, and the least seconds of a point after those.

    At least `points` points are timed; three rounds, or two of 32 points, may be more.
    """
    together = evaluator.at_once
    largest_chunk = max((row.points for row in ACCELERATIONS.values()), default=0)
    is_chunk = 0 < largest_chunk <= together  # so many points are a round that nothing disturbs by chance
    rounds = max(settings.rounds_of_chunks - 1 if is_chunk else settings.rounds, points // together)
    stream = evaluator(objective, plane, off_axes(plane, (rounds + 1) * together), batches)
    first = [next(stream) for _ in range(together)]
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(together):
            next(stream)
        seconds.append((time.perf_counter() - started) / together)
    if not evaluator.works_ahead:
        return first, float(np.mean(sorted(seconds)[: rounds // settings.rounds or 1]))
    # A round may take points that were measured in an earlier one: many together tell.
    halves = np.array_split(seconds, 2 if rounds >= settings.rounds_at_work else 1)
    return first, min(float(half.mean()) for half in halves)
