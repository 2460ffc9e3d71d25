"""The cost of a landscape, measured on one batch of each data set before the training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..evaluators import Evaluator
from ..landscape import Grid
from ..survey.budget import Budget, now
from ..survey.survey import Surface
from ..weights.plane import Plane
from ..weights.sharding import is_sharded
from . import compat
from .announcements import cost_line, duration, percent

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


@dataclass(frozen=True)
class TimingSettings:
    """Settings of the timing of a point.

    Args:
        points: the most points that are timed; the quickest counts, since other programs only slow down.
        seconds: no further point is timed after so many. A point that takes longer is told well by one.
        training: the time of a training step on a sample, in evaluations: a forward pass, and a backward pass of two.
    """

    points: int = 5
    seconds: float = 0.1
    training: float = 3.0


DEFAULTS = TimingSettings()


@dataclass(frozen=True)
class Cost:
    """The cost of a point of a landscape, without accelerations.

    Args:
        seconds_per_sample: seconds that one point takes for a sample of each data set, once everything is warm.
        samples: the number of samples of each data set that the settings ask for; None where only reading tells.
        reading_per_sample: seconds to read a sample of each data set, with the start of the loaders.
        processes: W, which share the points, so that a point takes the W-th part of the time.

    >>> cost = Cost({"train": 0.25, "val": 0.5}, {"train": 1024, "val": 500})
    >>> cost.point(), cost.point(most_samples=100)
    (506.0, 75.0)
    """

    seconds_per_sample: Mapping[str, float] = field(default_factory=dict)
    samples: Mapping[str, int | None] = field(default_factory=dict)
    reading_per_sample: float = 0.0
    processes: int = 1

    @property
    def sample(self) -> float:
        """Seconds that a point takes for a sample of every data set."""
        return sum(self.seconds_per_sample.values()) / self.processes

    @property
    def available(self) -> int | None:
        """The samples of the largest data set that the settings ask for; None where only reading tells."""
        counts = [n for n in self.samples.values() if n is not None]
        return max(counts) if len(counts) == len(self.samples) and counts else None

    def point(self, most_samples: int | None = None) -> float | None:
        """Seconds that a point takes; None where the number of samples is unknown.

        Args:
            most_samples: of each data set; None for all that the settings ask for.
        """
        seconds = 0.0
        for data, each in self.seconds_per_sample.items():
            known = [n for n in (self.samples[data], most_samples) if n is not None]
            if not known:
                return None
            seconds += each * min(known)
        return seconds / self.processes


def measured_cost(
    evaluator: Evaluator,
    surfaces: Sequence[Surface],
    plane: Plane,
    max_samples: int | None,
    reading: float = 0.0,
    processes: int = 1,
    settings: TimingSettings = DEFAULTS,
) -> Cost:
    """The cost of a point on these surfaces, whose centres were measured already.

    Args:
        evaluator: the plain one.
        surfaces: each with the first batches of its data.
        plane: whose origin is measured.
        max_samples: of a data set, where nothing else tells how many there are.
        reading: seconds that these batches took to be read.
        processes: W, which share the points.
        settings: of the timing.
    """
    per_sample, samples = {}, {}
    for surface in surfaces:
        per_sample[surface.data] = point_seconds(evaluator, surface, plane, settings) / surface.frozen.size
        samples[surface.data] = max_samples if surface.frozen.chosen is None else surface.frozen.chosen
    reading_per_sample = sum(reading / len(surfaces) / surface.frozen.size for surface in surfaces)
    return Cost(per_sample, samples, reading_per_sample, processes)


def point_seconds(evaluator: Evaluator, surface: Surface, plane: Plane, settings: TimingSettings = DEFAULTS) -> float:
    """The least seconds that a warm point takes; sharded processes time one, since all must take equally many."""
    count = 1 if is_sharded(evaluator.module) else settings.points
    origin = np.zeros((1 + count, plane.ndim))
    points = evaluator(surface.objective, plane, origin, surface.frozen.batches)
    next(points)
    seconds: list[float] = []
    while len(seconds) < count and sum(seconds) < settings.seconds:
        began = now()
        next(points)
        seconds.append(max(now() - began, 1e-6))
    points.close()
    return min(seconds)


def announced(
    trainer: Trainer,
    cost: Cost,
    grid: Grid,
    batch: object,
    every_n_epochs: int | None,
    budget: Budget | None = None,
    every_n_train_steps: int | None = None,
    path: Grid | None = None,
    settings: TimingSettings = DEFAULTS,
) -> str:
    """The line that says before the training what the landscapes will cost.

    Args:
        trainer: at its first batch.
        cost: of a point.
        grid: of a landscape.
        batch: the first one of the training.
        every_n_epochs: as the user gave it; None for one landscape, at the end.
        budget: what limits the time.
        every_n_train_steps: as the user gave it.
        path: the grid of the landscape of the path, at the end; None for none.
        settings: tell the time of a training step.
    """
    point = cost.point()
    each = None if point is None else point * grid.size
    per_sample = cost.seconds_per_sample.get("train", next(iter(cost.seconds_per_sample.values())))
    size = compat.batch_size(trainer, batch, fallback=0)
    batches = _batches_between(trainer, every_n_epochs, every_n_train_steps)
    between = settings.training * per_sample * size * batches
    share = each / between if each is not None and 0 < between < math.inf else None
    counts = list(cost.samples.values())
    samples = None if None in counts else sum(n for n in counts if n is not None)
    occasion, of_path = _occasion(every_n_epochs, every_n_train_steps), None if path is None else path.shape
    return cost_line(grid.shape, samples, each, occasion, share, _limit(budget), of_path)


def expected_steps(trainer: Trainer) -> float:
    """The steps of the optimiser in the whole training, as far as they are known; infinite where nobody knows."""
    steps = _batches_between(trainer, None, None) / trainer.accumulate_grad_batches or math.inf
    return min(steps, trainer.max_steps if trainer.max_steps >= 0 else math.inf)


def _batches_between(trainer: Trainer, every_n_epochs: int | None, every_n_train_steps: int | None) -> float:
    """The batches of the training from one landscape to the next; 0 where nobody knows."""
    by_step = (every_n_train_steps or math.inf) * trainer.accumulate_grad_batches
    epochs = every_n_epochs or (None if every_n_train_steps else max(trainer.max_epochs or 0, 0))
    by_epoch = math.inf if epochs is None else trainer.num_training_batches * epochs
    return min(by_step, by_epoch)


def _occasion(every_n_epochs: int | None, every_n_train_steps: int | None = None) -> str:
    """The moments at which there is a landscape, in words."""
    moments = [
        f"every {name}" if count == 1 else f"every {count} {name}s"
        for count, name in ((every_n_epochs, "epoch"), (every_n_train_steps, "step"))
        if count is not None
    ]
    return " and ".join(moments) or "at the end"


def _limit(budget: Budget | None) -> str:
    """The limit that a budget sets, in words."""
    if budget is None:
        return ""
    limit = f"{duration(budget.seconds)} each" if budget.seconds is not None else percent(budget.share or 0.0)
    if budget.least:
        limit += f", or {duration(budget.least)} ({duration(budget.least_at_end)} at the end),"
    return f"limited to {limit} by budget={budget.given!r}"
