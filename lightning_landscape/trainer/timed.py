"""A landscape that must be there in time: as many samples and points as its time is enough for."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

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


@contextmanager
def measuring_in_time(
    trainer: Any, module: nn.Module, settings: Settings, seconds: float, tolerant: bool = False
) -> Iterator[Iterator[Landscape]]:
    """A context that gives the best landscape that there is, again and again, until the time is over.

    First a draft of few points on few samples, which tells what a point takes; then the same again on as many samples
    as the time is enough for, since theirs is the larger error (Li et al. use all), from coarse to fine in the points.
    What is not evaluated in the end is interpolated, which ``report.interpolation`` tells with its error. Where the
    time is enough, all points are evaluated on all samples, as `measuring` does. In one process; not continued later.

    Args:
        trainer, module, settings, tolerant: as in `measuring`.
        seconds: until it must be over. Two batches of every data set are measured at the centre in any case.

    Raises:
        CannotMeasureError: as `measuring`.
        ValueError: if no parameter may move.
    """
    deadline = Deadline(seconds)
    with probing(trainer, module, settings.mode, settings.flags) as (probe, recorder, snapshot):
        accelerate = settings.accelerate if probe is not module else False  # the user's own: plainly
        job = Pass(trainer, probe, recorder, snapshot, replace(settings, accelerate=accelerate), tolerant)
        with closing(_InTime(job, deadline, seconds).landscapes()) as landscapes:
            yield landscapes


class _InTime:
    """The landscapes of a pass, each better than the one before, until a deadline.

    Args:
        job: the pass.
        deadline: when it must be over.
        seconds: until then, from its beginning.
    """

    def __init__(self, job: Pass, deadline: Deadline, seconds: float) -> None:
        self.job, self.deadline, self.grid = job, deadline, job.grid
        self.whole = job.prepare(READING * seconds / len(job.settings.data))
        job.lay_plane(self.whole[0])
        job.budget = round(seconds, 3)
        few = _parts(self.whole, 0.0)
        job.first_centre(few)
        for surface, small in zip(self.whole, few, strict=True):
            surface.center, surface.names, surface.left_out = small.center, small.names, small.left_out
        self.tiles = job.tiles(few[0])
        self.costs = [_seconds(job, surface) for surface in few]
        sizes = [len(w.frozen.batches) / len(f.frozen.batches) for w, f in zip(self.whole, few, strict=True)]
        self.full = float(np.dot(self.costs, sizes))  # seconds that a point on all data takes

    def landscapes(self) -> Generator[Landscape, None, None]:
        """A draft, and then the landscape on as many samples as there is time for."""
        job, points = self.job, self.job.places[self.grid.outwards]
        evaluator, choice, share = self._choose()
        at_work = job.faster(evaluator, choice, self.whole, self.tiles, points, share=0.0)
        with at_work as (fast, measured, choice):
            draft: Landscape | None = None
            if evaluator is job.evaluator:
                point = self.full / float(np.prod(list(choice.speedup.values())))
                share = self._final(point)
                first = DRAFT * self.deadline.left / (least(self.grid.shape, COARSE) * point)
                if self._size(first) < self._size(share):
                    began, until = now(), Deadline(self.deadline.left, steps=least(self.grid.shape, COARSE))
                    for draft in self._filled(first, until, fast, measured, is_computed=False):
                        yield draft
                    point = (now() - began) / max(until.steps, 1) / self._size(first) * self._size(1.0)
                    share = self._final(point)
            if draft is None or not self.deadline():
                is_computed = evaluator is not job.evaluator
                for landscape in self._filled(min(1.0, share), self.deadline, fast, measured, is_computed):
                    enough = draft is None or int(landscape.evaluated.sum()) >= least(self.grid.shape, COARSE)
                    yield landscape if enough or draft is None else draft

    def _choose(self) -> tuple[Evaluator, Choice, float]:
        """The evaluator and its accelerations, where there is time to search for them.

        And the share of the data on which it was looked for: one that computes the points takes no more.
        """
        job, deadline = self.job, self.deadline
        if not job.accelerate or SEARCH * self.costs[0] >= TRYING * deadline.left:
            return job.evaluator, Choice(), 1.0
        share = min(1.0, deadline.left / (AT_ONCE * self.full))
        expected = int(min(self.grid.size, 1 + deadline.left / (share * self.full)))
        batches = self.whole[0].frozen.part(share).batches
        return (*job.choose(self.whole[0], batches, self.grid.outwards, expected), share)

    def _final(self, point: float) -> float:
        """The share of the data on which the last landscape is measured, if a point on all takes so many seconds."""
        return MAIN * self.deadline.left / (least(self.grid.shape) * point)

    def _size(self, share: float) -> int:
        """The number of batches in a share of the data."""
        return len(everything(_parts(self.whole, share)))

    def _filled(
        self,
        share: float,
        until: Deadline,
        fast: Evaluator,
        measured: list[Any],
        is_computed: bool,
    ) -> Generator[Landscape, None, None]:
        """A landscape on that share of the batches, as it fills up."""
        job, surfaces = self.job, _parts(self.whole, share)
        here: list[Any] = [
            (objective, [own[place] for place in surface.frozen.places(share)])
            for (objective, own), surface in zip(measured, self.whole, strict=False)
        ]
        job.centre(surfaces, fast, [batch for _, own in here for batch in own])
        landscape = job.landscape(surfaces, self.tiles)
        here += measured[len(self.whole) :]  # the tiles
        orders: Iterable[NDArray[np.intp]] = [self.grid.outwards]
        if not is_computed:
            orders = refine(landscape, [s.loss for s in surfaces], job.tolerance or 0.0, until, COARSEST)
        until.start()
        for _ in job.fill(landscape, surfaces, fast, here, orders, until):
            yield landscape
        yield landscape


def _parts(surfaces: Sequence[Surface], share: float) -> list[Surface]:
    """The surfaces of that share of their batches."""
    return [Surface(s.data, s.objective, s.frozen.part(share)) for s in surfaces]


def _seconds(job: Pass, surface: Surface) -> float:
    """The seconds that a point takes, measured after a first point."""
    origin = np.zeros((2, job.plane.ndim))
    points = job.evaluator(surface.objective, job.plane, origin, surface.frozen.batches)
    next(points)
    began = now()
    next(points)
    return max(now() - began, 1e-6)
