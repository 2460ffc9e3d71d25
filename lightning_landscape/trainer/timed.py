"""A landscape that must be there in time: as many samples and points as its time is enough for."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from ..accelerations.choose import told
from ..accelerations.trial import Choice
from ..evaluators import Evaluator
from ..interpolation.refinement import least, refine
from ..landscape import Landscape
from ..survey.budget import Deadline, now
from ..survey.survey import Surface, everything
from .measure import Pass, Settings
from .probe import probing

READING = 0.25  # of the time at most, for the data
DRAFT = 0.05  # of the time, about, for a first picture that there is in any case
COARSEST = 1  # 2 + 1 points an axis: where there is no time for more
COARSE = 2  # 2² + 1 points an axis: a draft
MAIN = 0.6  # of the time that is left then, for the knots and probes of a level whose error is known
TRYING = 0.1  # of the time at most, for the search for something faster
SEARCH = 20  # passes over one batch that it takes, about, before it has found anything
AT_ONCE = 12  # passes over the data that an affine evaluator may take, about, before its first point


def measure_in_time(
    trainer: Any, module: nn.Module, settings: Settings, seconds: float, tolerant: bool = False
) -> Generator[Landscape, None, None]:
    """Yield the best landscape that there is, again and again, until the time is over.

    First a draft of few points on few samples, which tells what a point takes; then the same again on as many samples
    as the time is enough for, since theirs is the larger error (Li et al. use all), from coarse to fine in the points.
    What is not evaluated in the end is interpolated, which ``meta["interpolation"]`` tells with its error. Where the
    time is enough, all points are evaluated on all samples, as `measure` does. In one process; not continued later.

    Args:
        trainer, module, settings, tolerant: as in `measure`.
        seconds: until it must be over. Two batches of every data set are measured at the centre in any case.

    Raises:
        CannotMeasureError: as `measure`.
        ValueError: if no parameter may move.
    """
    deadline = Deadline(seconds)
    with probing(trainer, module, settings.mode, settings.flags) as (probe, recorder, snapshot):
        settings = replace(
            settings, accelerate=settings.accelerate if probe is not module else False
        )  # the user's own: plainly
        job = Pass(trainer, probe, recorder, snapshot, settings, tolerant)
        whole = job.prepare(READING * seconds / len(settings.data))
        job.lay_plane(whole[0])
        job.found["budget"] = {"seconds": round(seconds, 3), "samples": {s.data: s.frozen.available for s in whole}}
        few = _parts(whole, 0.0)
        job.first_centre(few)
        for surface, small in zip(whole, few, strict=True):
            surface.center, surface.names = small.center, small.names
        tiles = job.tiles(few[0])
        least_costs = [_seconds(job, surface) for surface in few]
        sizes = [len(w.frozen.batches) / len(f.frozen.batches) for w, f in zip(whole, few, strict=True)]
        full = float(np.dot(least_costs, sizes))  # seconds that a point on all data takes

        way: Evaluator = job.evaluator
        choice, share, grid = Choice(), 1.0, settings.grid
        if settings.accelerate and SEARCH * least_costs[0] < TRYING * deadline.left:
            share = min(1.0, deadline.left / (AT_ONCE * full))
            some = whole[0].frozen.part(share).batches
            expected = int(min(grid.size, 1 + deadline.left / (share * full)))
            way, choice = job.choose(whole[0], some, grid.outwards, expected)

        at_work = job.faster(way, choice, whole, tiles, grid.points[grid.outwards], share=0.0)
        with at_work as (fast, everything_measured, choice):

            def landscapes(share: float, until: Deadline) -> Generator[Landscape, None, None]:
                """A landscape of that share of the batches, as it fills up."""
                surfaces = _parts(whole, share)
                measured: list[Any] = [
                    (objective, [own[place] for place in surface.frozen.places(share)])
                    for (objective, own), surface in zip(everything_measured, whole, strict=False)
                ]
                job.centre(surfaces, fast, [batch for _, own in measured for batch in own])
                landscape = job.landscape(surfaces, tiles)
                landscape.meta["accelerations"] = told(way, choice)
                measured += everything_measured[len(whole) :]  # the tiles
                orders = (
                    refine(landscape, [s.loss for s in surfaces], settings.tolerance or 0.0, until, COARSEST)
                    if way is job.evaluator
                    else [grid.outwards]
                )
                until.start()
                for _ in job.fill(landscape, surfaces, fast, measured, orders, until):
                    yield landscape
                yield landscape

            draft: Landscape | None = None
            coarse = least(grid.shape, COARSE)
            if way is job.evaluator:
                point = full / float(np.prod(list(choice.speedup.values())))
                share = DRAFT * deadline.left / (coarse * point)
                final = MAIN * deadline.left / (least(grid.shape) * point)
                if _size(_parts(whole, share)) < _size(_parts(whole, final)):
                    began, first = now(), Deadline(deadline.left, steps=coarse)
                    for draft in landscapes(share, first):
                        yield draft
                    point = (now() - began) / max(first.steps, 1) / _size(_parts(whole, share)) * _size(whole)
                    final = MAIN * deadline.left / (least(grid.shape) * point)
                share = final
            if draft is None or not deadline():
                for landscape in landscapes(min(1.0, share), deadline):
                    enough = draft is None or int(landscape.evaluated.sum()) >= coarse
                    yield landscape if enough or draft is None else draft


def _parts(surfaces: Sequence[Surface], share: float) -> list[Surface]:
    """The surfaces of that share of their batches."""
    return [Surface(s.data, s.objective, s.frozen.part(share)) for s in surfaces]


def _size(surfaces: Sequence[Surface]) -> int:
    return len(everything(surfaces))


def _seconds(job: Pass, surface: Surface) -> float:
    """The seconds that a point takes, measured after a first point."""
    origin = np.zeros((2, job.plane.ndim))
    points = job.evaluator(surface.objective, job.plane, origin, surface.frozen.batches)
    next(points)
    began = now()
    next(points)
    return max(now() - began, 1e-6)
