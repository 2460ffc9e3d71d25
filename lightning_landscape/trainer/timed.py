"""A landscape that must be there in time: as many samples and points as its time is enough for."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..accelerations.trial import Choice
from ..evaluators import Evaluator
from ..interpolation.refinement import least, refine
from ..landscape import Landscape
from ..survey.budget import Deadline, now
from ..survey.survey import Pair, Surface, all_batches
from .measure import Pass, Settings
from .probe import probing

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


@dataclass(frozen=True)
class TimedSettings:
    """The division of a landscape's time, and the sizes of its first grids.

    Args:
        reading: the largest share of the time that the data are read for.
        draft: the share of the time, about, for a first picture, which there is in any case.
        coarsest: the first grid has 2^coarsest + 1 points an axis: all that there may be time for.
        coarse: a draft has 2^coarse + 1 points an axis.
        main: the share of the time after the draft for the knots and probes of a level whose error is known.
        search: the largest share of the time for the search for accelerations.
        search_passes: the passes over one batch, about, that the search takes before it has found anything.
        affine_passes: the passes over the data, about, that an affine evaluator takes before its first point.
    """

    reading: float = 0.25
    draft: float = 0.05
    coarsest: int = 1
    coarse: int = 2
    main: float = 0.6
    search: float = 0.1
    search_passes: int = 20
    affine_passes: int = 12


DEFAULTS = TimedSettings()


@contextmanager
def measuring_in_time(
    trainer: Trainer,
    module: nn.Module,
    settings: Settings,
    seconds: float,
    tolerant: bool = False,
    division: TimedSettings = DEFAULTS,
) -> Iterator[Iterator[Landscape]]:
    """A context that gives better and better landscapes until the time is over.

    First comes a draft of few points on few samples, which tells the time of a point. Then come as many samples as
    there is time for, since theirs is the larger error (Li et al. use all). Their points go from coarse to fine. The
    points that are left are interpolated; ``report.interpolation`` has the error. With enough time, all points are
    evaluated on all samples, as `measuring` does. In one process; not continued later.

    Args:
        trainer, module, settings, tolerant: as in `measuring`.
        seconds: until the end. Two batches of every data set are measured at the centre in any case.
        division: of the time.

    Raises:
        CannotMeasureError: as `measuring`.
        ValueError: if no parameter may move.
    """
    deadline = Deadline(seconds)
    with probing(trainer, module, settings.mode, settings.flags) as (probe, recorder, snapshot):
        accelerate = settings.accelerate if probe is not module else False  # the user's own: plainly
        job = Pass(trainer, probe, recorder, snapshot, replace(settings, accelerate=accelerate), tolerant)
        with closing(_InTime(job, deadline, seconds, division).landscapes()) as landscapes:
            yield landscapes


class _InTime:
    """The landscapes of a pass, each better than the one before, until a deadline.

    Args:
        job: the pass.
        deadline: when it must be over.
        seconds: until then, from its beginning.
        division: of these seconds.
    """

    def __init__(self, job: Pass, deadline: Deadline, seconds: float, division: TimedSettings) -> None:
        self.job, self.deadline, self.division = job, deadline, division
        self.whole = job.prepare(division.reading * seconds / len(job.settings.data))
        job.lay_plane(self.whole[0])
        job.budget = round(seconds, 3)
        smallest = _parts(self.whole, 0.0)
        job.first_centre(smallest)
        for surface, small in zip(self.whole, smallest, strict=True):
            surface.center, surface.names, surface.left_out = small.center, small.names, small.left_out
        job.search(self.whole[0])
        self.grid = job.grid
        self.draft_points = least(self.grid.shape, division.coarse)
        self.tiles = job.tiles(smallest[0])
        self.costs = [_seconds(job, surface) for surface in smallest]
        sizes = [len(w.frozen.batches) / len(f.frozen.batches) for w, f in zip(self.whole, smallest, strict=True)]
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
                first = self.division.draft * self.deadline.left / (self.draft_points * point)
                if self._size(first) < self._size(share):
                    began, until = now(), Deadline(self.deadline.left, steps=self.draft_points)
                    for draft in self._filled(first, until, fast, measured, is_computed=False):
                        yield draft
                    point = (now() - began) / max(until.steps, 1) / self._size(first) * self._size(1.0)
                    share = self._final(point)
            if draft is None or not self.deadline():
                is_computed = evaluator is not job.evaluator
                for landscape in self._filled(min(1.0, share), self.deadline, fast, measured, is_computed):
                    enough = draft is None or int(landscape.evaluated.sum()) >= self.draft_points
                    yield landscape if enough or draft is None else draft

    def _choose(self) -> tuple[Evaluator, Choice, float]:
        """The evaluator and its accelerations, if there is time to search for them, and a share of the data.

        The search used this share. An evaluator that computes the points takes no more.
        """
        job, deadline, division = self.job, self.deadline, self.division
        if not job.accelerate or division.search_passes * self.costs[0] >= division.search * deadline.left:
            return job.evaluator, Choice(), 1.0
        share = min(1.0, deadline.left / (division.affine_passes * self.full))
        expected = int(min(self.grid.size, 1 + deadline.left / (share * self.full)))
        batches = self.whole[0].frozen.part(share).batches
        return (*job.choose(self.whole[0], batches, self.grid.outwards, expected), share)

    def _final(self, point: float) -> float:
        """The share of the data for the last landscape, if a point on all data takes so many seconds."""
        return self.division.main * self.deadline.left / (least(self.grid.shape) * point)

    def _size(self, share: float) -> int:
        """The number of batches in a share of the data."""
        return len(all_batches(_parts(self.whole, share)))

    def _filled(
        self,
        share: float,
        until: Deadline,
        fast: Evaluator,
        measured: Sequence[Pair],
        is_computed: bool,
    ) -> Generator[Landscape, None, None]:
        """A landscape on that share of the batches, as it fills up."""
        job, surfaces = self.job, _parts(self.whole, share)
        pairs: list[Pair] = [
            (objective, [batches[place] for place in surface.frozen.places(share)])
            for (objective, batches), surface in zip(measured, self.whole, strict=False)
        ]
        job.centre(surfaces, fast, [batch for _, batches in pairs for batch in batches])
        landscape = job.landscape(surfaces, self.tiles)
        pairs += measured[len(self.whole) :]  # the tiles
        orders: Iterable[NDArray[np.intp]] = [self.grid.outwards]
        if not is_computed:
            orders = refine(landscape, [s.loss for s in surfaces], job.tolerance or 0.0, until, self.division.coarsest)
        until.start()
        for _ in job.fill(landscape, surfaces, fast, pairs, orders, until):
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
