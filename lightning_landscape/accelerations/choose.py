"""Which accelerations a module gets: those that prove equal and faster, tried within a share of the time they save."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from ..batches import leaves
from ..evaluators import Evaluator, Measurement, Sequential
from ..evaluators.affine import Affine, find_affine
from ..objectives import Batch, Objective
from ..plane import Plane
from . import ACCELERATIONS, ON_REQUEST, applied
from .equality import equal, off_axes
from .several_points import POINTS

log = logging.getLogger(__name__)
SHARE = 0.03  # of the estimated total that trying may take
BATCHES = 2  # on which a way is tried
ROUNDS = 3  # of which the fastest counts: neighbours only ever slow down
CHUNKS = 2  # of several points in one call, the second of which counts
WORTH = 0.95  # of the time before: less is no gain
WORTH_BESIDE = 0.85  # the same of points side by side, which start slowly, and win a short trial beside other programs
WORTH_KEEPING = 1.1  # the same of kept memory, beside others: it gains or does nothing, as the heap happens to lie
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
    shapes = len({tuple(leaf.shape for leaf in leaves(b.data) if isinstance(leaf, Tensor)) for b in batches})
    compiling = FIRST_CALL + shapes * (OF_SHAPE + OF_MODULE * len(list(reference.module.modules())))
    candidates = [*ACCELERATIONS, *(name for name in ON_REQUEST if name == accelerate)]
    names: list[str] = []
    speedup: dict[str, float] = {}

    def attempt(*ways: str) -> tuple[list[dict[str, Measurement]], float, float]:
        """The values, the seconds that a point takes, and all that the attempt took."""
        began = time.perf_counter()
        with applied(ways, reference, few) as (evaluator, converted):
            return *timed(evaluator, objective, plane, converted), time.perf_counter() - began

    try:
        rough = once(reference, objective, plane, few)
    except Exception as error:  # noqa: BLE001  # a step may refuse this very point
        log.debug("nothing is tried: %s: %s", type(error).__name__, error)
        return Choice()
    if rough * share * points * SHARE < 4 * (ROUNDS + 3) * rough:
        return Choice(tried=time.perf_counter() - started)
    expected, seconds, took = attempt()
    for name in candidates:
        left = SHARE * seconds * share * points - (time.perf_counter() - started)
        if name in COMPILERS and shapes > MOST_SHAPES:
            log.debug("%s is not tried: the batches have %d shapes", name, shapes)
            continue
        first = compiling if {*names, name} & set(COMPILERS) else 0.0
        trial = CHUNKS * POINTS * seconds if name == "several_points" else took
        if name in ACCELERATIONS and first + trial + took > left:
            log.debug("%s is not tried: it would take too much of %.1f s", name, seconds * share * points)
            continue
        try:
            got, faster, own = attempt(*names, name)
            if name in ACCELERATIONS and not all(equal(row, expected[0]) for row in got):
                log.debug("%s is left out: its values differ", name)
                continue
            worth = WORTH_KEEPING if name == "kept_memory" else WORTH if len(got) == 1 else WORTH_BESIDE
            if name in ACCELERATIONS and faster < worth * seconds:
                seconds = min(seconds, attempt(*names)[1])  # a neighbour may have left since it was measured
        except Exception as error:  # noqa: BLE001  # a compiler may raise anything
            log.debug("%s is left out: %s: %s", name, type(error).__name__, error)
            continue
        if faster < worth * seconds:
            speedup[name] = round(seconds / faster, 2)
            names.append(name)
            seconds, took = faster, own
        else:
            log.debug("%s is left out: it takes %.3g of the time", name, faster / seconds)
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


def _few(batches: Sequence[Batch]) -> tuple[list[Batch], float]:
    """Some of the largest, and how many times their samples there are in all."""
    few = sorted(batches, key=lambda batch: -batch.size)[:BATCHES]
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
    evaluator: Evaluator, objective: Objective, plane: Plane, batches: Sequence[Batch]
) -> tuple[list[dict[str, Measurement]], float]:
    """The values at a point off the axes, side by side, and the least seconds that a point takes after those."""
    together = evaluator.at_once
    rounds = ROUNDS if together < POINTS else CHUNKS - 1  # so many points are a round that nothing disturbs by chance
    stream = evaluator(objective, plane, off_axes(plane, (rounds + 1) * together), batches)
    first = [next(stream) for _ in range(together)]
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(together):
            next(stream)
        seconds.append((time.perf_counter() - started) / together)
    # Side by side, a round may take what an earlier one has worked for.
    return first, min(seconds) if together == 1 else sum(seconds) / rounds
