"""Which accelerations a module gets: those that prove equal and faster, tried within a share of the time they save."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from ..evaluators import Evaluator, Measurement, Sequential
from ..evaluators.affine.affine import Affine, find_affine
from ..objectives.base import Batch, Objective
from ..objectives.batches import leaves
from ..weights.parameters import shape_of
from ..weights.plane import Plane
from . import ACCELERATIONS, ON_REQUEST, applied
from .equality import equal, off_axes
from .several_points import POINTS

log = logging.getLogger(__name__)
SHARE = 0.03  # of the estimated total that trying may take
BATCHES = 2  # at least, on which a way is tried
OF_A_POINT = 5e-3  # seconds on them; if it is less, more: what is done once a point weighs as on all batches
ENOUGH = 200  # points on them that must stay affordable then
ROUNDS = 3  # at least, of which the fastest third counts: neighbours only ever slow down
HALVES = 8  # rounds of several processes, from which on the faster half counts; of fewer, all
HOPELESS = 1.5  # of the time before: what takes more is no gain, whatever the neighbours did
ATTEMPTS = 50  # about: each has this part of the time for further rounds
MORE, SPREAD = 20, 0.2  # of which there are so many, or so many seconds, if that is more: some have no neighbours
CHUNKS = 3  # of many points in one call, the first of which does not count
WORTH = 0.95  # of the time before: less is no gain
WORTH_BESIDE = 0.85  # the same of points side by side, which start slowly, and win a short trial beside other programs
WORTH_KEEPING = 1.1  # the same of kept memory, beside others: it gains or does nothing, as the heap happens to lie
BOTH = ("several_points", "processes")  # that may gain together only: the one is short of threads, the other of work
COMPILERS = ("compiled", "cuda_graphs")  # whose first call takes these seconds, about:
FIRST_CALL, OF_SHAPE, OF_MODULE = 8.0, 1.0, 0.08  # once; for each shape of the batches; of each module for each shape
MOST_SHAPES = 4  # of batches: each is compiled by itself, and the compiler gives up at eight of one function
AFFINE_FROM = 1.0  # seconds that all points take by themselves
AFFINE_PASSES = 20  # over one batch, about, that the search for an affine model takes


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Args:
        names: rows of ACCELERATIONS, in their order.
        speedup: of each, against the ways before it.
        tried: seconds that the trial took.
    """

    names: tuple[str, ...] = ()
    speedup: dict[str, float] = field(default_factory=dict)
    tried: float = 0.0


def choose(
    reference: Sequential,
    objective: Objective,
    plane: Plane,
    batches: Sequence[Batch],
    points: int,
    accelerate: bool | str = True,
) -> Choice:
    """Try each acceleration at a point off the axes, on a few batches.

    A way is kept if every metric is equal to 1e-6 of its value and the time is less; `kept_memory` also, beside others,
    if the time is the same within the noise of a trial. What raises, differs or is slower is left out, which the log
    says at debug level. Nothing is tried where all points are measured sooner. A way of ON_REQUEST need not be equal,
    and is tried whatever the others have left of the time.

    Args:
        reference: the plain evaluator; its probe is left as it was.
        objective: what is measured.
        plane: on which it is measured.
        batches: the frozen data of a point.
        points: how many are to be measured.
        accelerate: True, or a row of ON_REQUEST to be tried after all others.
    """
    started = time.perf_counter()
    if SHARE * points * len(batches) < 1 + BATCHES:  # a first look would take too much already
        return Choice()
    few, share = _few(batches)
    shapes = len({tuple(shape_of(leaf) for leaf in leaves(b.data) if isinstance(leaf, Tensor)) for b in batches})
    compiling = FIRST_CALL + shapes * (OF_SHAPE + OF_MODULE * len(list(reference.module.modules())))
    candidates = [*ACCELERATIONS, *(name for name in ON_REQUEST if name == accelerate)]
    names: list[str] = []
    speedup: dict[str, float] = {}

    def attempt(*ways: str) -> tuple[list[dict[str, Measurement]], float, float]:
        """The values, the seconds that a point takes, and all that the attempt took."""
        began = time.perf_counter()
        with applied(ways, reference, few) as (evaluator, converted):
            return *timed(evaluator, objective, plane, converted, rounds), time.perf_counter() - began

    try:
        rough = once(reference, objective, plane, few)
    except Exception as error:  # noqa: BLE001  # a step may refuse this very point
        log.debug("nothing is tried: %s: %s", type(error).__name__, error)
        return Choice()
    affordable = SHARE * share * points  # in points on these few batches
    if affordable < 4 * (ROUNDS + 3):
        return Choice(tried=time.perf_counter() - started)
    if (more := min(OF_A_POINT / rough, affordable / ENOUGH)) > 1:
        before = share
        few, share = _few(batches, int(more * len(few)))
        rough, affordable = rough * before / share, affordable * share / before
    rounds = max(ROUNDS, int(min(affordable / ATTEMPTS, max(MORE, SPREAD / rough))))
    expected, seconds, took = attempt()
    least = seconds  # of all times of what is chosen so far: others' work must not lengthen the trial
    steps: list[tuple[str, ...]] = [(name,) for name in candidates]
    if "processes" in candidates:
        steps.insert(candidates.index("processes") + 1, BOTH)
    gains: dict[str, float] = {}  # of what was equal, when it was tried
    for step in steps:
        if step == BOTH and ("several_points" in names or not all(gains.get(n, 0.0) > 1 / HOPELESS for n in BOTH)):
            continue
        added = [name for name in step if name not in names]
        label, exact = " and ".join(added), not set(added) & ON_REQUEST.keys()
        if set(added) & set(COMPILERS) and shapes > MOST_SHAPES:
            log.debug("%s is not tried: the batches have %d shapes", label, shapes)
            continue
        # No call of several points can be compiled: what does that takes its place.
        rivals = {"several_points"} if set(added) & set(COMPILERS) else set()
        ways = [name for name in candidates if name in {*names, *added} - rivals]
        first = compiling if set(ways) & set(COMPILERS) else 0.0
        # Points side by side in processes work ahead, too.
        most = HOPELESS * (rounds + CHUNKS * POINTS * len(added)) * least
        trial = most if "several_points" in added else took
        left = SHARE * least * share * points - (time.perf_counter() - started)
        if exact and first + trial + took > left:
            log.debug("%s is not tried: it would take too much of %.1f s", label, least * share * points)
            continue
        try:
            got, faster, own = attempt(*ways)
            if exact and not all(equal(row, expected[0]) for row in got):
                log.debug("%s is left out: its values differ", label)
                continue
            worth = WORTH_KEEPING if label == "kept_memory" else WORTH if len(got) == 1 else WORTH_BESIDE
            if exact and faster < HOPELESS * seconds:
                after = attempt(*names)[1]  # neighbours come and go: what was before is timed on both sides
                seconds, before, least = after, (seconds + after) / 2, min(least, after)
            else:
                before = seconds
        except Exception as error:  # noqa: BLE001  # a compiler may raise anything
            log.debug("%s is left out: %s: %s", label, type(error).__name__, error)
            continue
        gain = before / faster
        if len(added) == 1:
            gains[label] = gain
        if faster < worth * before:
            gain *= math.prod(speedup[name] for name in names if name not in ways)  # whose place it takes
            speedup = {name: speedup[name] for name in ways if name in speedup}
            speedup |= {name: round(gains[name], 2) for name in added[:-1]}
            speedup[added[-1]] = round(gain / math.prod(gains[name] for name in added[:-1]), 2)
            names, seconds, least, took = ways, faster, faster, own
        else:
            log.debug("%s is left out: it takes %.3g of the time", label, 1 / gain)
    if names == ["kept_memory"] and speedup["kept_memory"] * WORTH < 1:  # not worth its proof
        names, speedup = [], {}
    return Choice(tuple(names), speedup, time.perf_counter() - started)


def fastest(
    reference: Sequential,
    objective: Objective,
    plane: Plane,
    batches: Sequence[Batch],
    points: np.ndarray,
    expected: int | None = None,
    accelerate: bool | str = True,
) -> tuple[Evaluator, Choice]:
    """What measures the points: `Affine`, where few of them give the rest; else `reference`, with what is chosen.

    Args:
        reference: the plain evaluator.
        objective: what is measured.
        plane: on which it is measured.
        batches: the frozen data of a point.
        points: what is to be measured, shape (n, k).
        expected: how many of them at least, where some may be interpolated; None for all.
        accelerate: as in `choose`.
    """
    if reference.edits_weights:  # other ways keep the parameters elsewhere, where an edit would stay
        return reference, Choice()
    expected = len(points) if expected is None else expected
    if SHARE * len(points) * len(batches) >= AFFINE_PASSES:
        started = time.perf_counter()
        few, share = _few(batches)
        try:
            seconds = once(reference, objective, plane, few) * share * len(points)
        except Exception as error:  # noqa: BLE001  # a step may refuse this very point
            log.debug("nothing is tried: %s: %s", type(error).__name__, error)
            return reference, Choice()
        affine = find_affine(reference, objective, plane, batches, points) if seconds >= AFFINE_FROM else None
        if affine is not None:
            return affine, Choice(tried=time.perf_counter() - started)
    return reference, choose(reference, objective, plane, batches, expected, accelerate)


def _few(batches: Sequence[Batch], count: int = BATCHES) -> tuple[list[Batch], float]:
    """Some of the largest, and how many times their samples there are in all."""
    few = sorted(batches, key=lambda batch: -batch.size)[:count]
    return few, sum(batch.size for batch in batches) / sum(batch.size for batch in few)


def told(way: Evaluator, choice: Choice) -> dict[str, Any]:
    """What a landscape's meta says of how its points were measured: each acceleration, and its gain in the trial."""
    return {f"affine, {way.way}": None} if isinstance(way, Affine) and way.way else dict(choice.speedup)


def once(evaluator: Evaluator, objective: Objective, plane: Plane, batches: Sequence[Batch]) -> float:
    """Seconds that one point takes, the first calls of everything included."""
    started = time.perf_counter()
    next(iter(evaluator(objective, plane, off_axes(plane, 1), batches)))
    return (time.perf_counter() - started) / 2  # it rehearses on one batch first


def timed(
    evaluator: Evaluator, objective: Objective, plane: Plane, batches: Sequence[Batch], points: int = ROUNDS
) -> tuple[list[dict[str, Measurement]], float]:
    """The values at a point off the axes, side by side, and the least seconds that a point takes after those.

    Args:
        evaluator: what is timed.
        objective: what is measured.
        plane: on which it is measured.
        batches: the frozen data.
        points: how many are timed at least; three rounds, or two of 32 points, may be more.
    """
    together = evaluator.at_once
    least = ROUNDS if together < POINTS else CHUNKS - 1  # so many points are a round that nothing disturbs by chance
    rounds = max(least, points // together)
    stream = evaluator(objective, plane, off_axes(plane, (rounds + 1) * together), batches)
    first = [next(stream) for _ in range(together)]
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(together):
            next(stream)
        seconds.append((time.perf_counter() - started) / together)
    if not evaluator.works_ahead:
        return first, float(np.mean(sorted(seconds)[: rounds // ROUNDS or 1]))
    # A round may take what has been worked for in an earlier one: many together tell.
    halves = np.array_split(seconds, 2 if rounds >= HALVES else 1)
    return first, min(float(half.mean()) for half in halves)
