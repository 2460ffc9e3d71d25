"""A plan: on how many samples, and how finely, the landscapes of a run are measured within their time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..interpolation.refinement import RefinementSettings, least, levels


@dataclass(frozen=True)
class PlanSettings:
    """The steps of a plan, and the share of the time that it counts on.

    Args:
        samples: the fewest samples that a landscape is measured on; each further step has twice as many.
        enough: from more samples than this on, the points of the next finer level come first.
        share: of the seconds for measuring that the points of a step may take, by what is known before. The rest is
            for the choice of accelerations, for slow points, and for finer ones.
        reading: the largest share of the seconds for reading the data.
        reading_margin: data that would be read in time even this many times as slowly need no limit.
        path: the largest share of the seconds for points that is left for the records of a path. Two evaluations each
            of 64 records are a twentieth of 51 × 51 points.
    """

    samples: int = 64
    enough: int = 256
    share: float = 0.6
    reading: float = 0.25
    reading_margin: float = 10.0
    path: float = 0.15


@dataclass(frozen=True)
class Plan:
    """The data and the fineness of a run's landscapes, the same for all of them.

    Args:
        samples: of each data set at most.
        level: of the last subgrid that is evaluated (`refine`); None until the first landscape has shown it.
        may_read_less: whether the reading may end before all of them are read. Then they come in random order.
    """

    samples: int
    level: int | None = None
    may_read_less: bool = True


DEFAULTS = PlanSettings()


def ladder(max_samples: int | None, settings: PlanSettings = DEFAULTS) -> list[int]:
    """Numbers of samples from the fewest to `max_samples`.

    >>> ladder(1024), ladder(100), ladder(10)
    ([64, 128, 256, 512, 1024], [64, 100], [10])
    """
    top = 2**20 if max_samples is None else max_samples
    steps = [settings.samples * 2**i for i in range(32)]
    return [*(n for n in steps if n < top), top]


def choose_samples(
    sample: float,
    reading: float,
    seconds: float,
    shape: Sequence[int],
    max_samples: int | None,
    settings: PlanSettings = DEFAULTS,
) -> int:
    """The largest number of samples on which a coarse surface and its held-out points are there in time.

    Points come first: the fewest samples are measured in any case. A surface on more than `enough` samples has the
    points of the second level.

    Args:
        sample: seconds that a sample takes at a point.
        reading: seconds that it takes to be read.
        seconds: for measuring.
        shape: of the grid.
        max_samples: the most that there may be; None where nobody knows.
        settings: of the steps.

    >>> [choose_samples(1e-3, 0.0, seconds, (51, 51), 1024) for seconds in (5.0, 60.0, 1000.0)]
    [64, 256, 1024]
    """
    steps = ladder(max_samples, settings)

    def is_affordable(samples: int) -> bool:
        points = least(shape) if samples <= settings.enough else least(shape, RefinementSettings().first + 1)
        is_read = samples * reading <= settings.reading * seconds
        return is_read and points * samples * sample <= settings.share * seconds

    return max(filter(is_affordable, steps), default=steps[0])


def may_be_slow(reading: float, seconds: float, settings: PlanSettings = DEFAULTS) -> bool:
    """True if reading, expected to take so many seconds, may take too many of those for all."""
    return reading * settings.reading_margin >= seconds


def least_seconds(
    sample: float, reading: float, shape: Sequence[int], max_samples: int | None, settings: PlanSettings = DEFAULTS
) -> float:
    """The seconds of the coarsest surface on the fewest samples; arguments as in `choose_samples`."""
    return coarse_seconds(sample, reading, shape, ladder(max_samples, settings)[0])


def coarse_seconds(sample: float, reading: float, shape: Sequence[int], samples: int) -> float:
    """The seconds of the coarsest surface on so many samples; other arguments as in `choose_samples`.

    >>> coarse_seconds(0.001, 0.0, (51, 51), 100)
    8.1
    """
    return samples * (reading + _coarse_points(shape) * sample)


def affordable_points(point: float, seconds: float, shape: Sequence[int]) -> int:
    """The number of points that there is time for; those of the coarsest level in any case.

    Args:
        point: seconds that one takes.
        seconds: for all of them.
        shape: of the grid.
    """
    return int(np.clip(seconds / point, _coarse_points(shape), np.prod(shape)))


def affordable_level(point: float, seconds: float, shape: Sequence[int], settings: PlanSettings = DEFAULTS) -> int:
    """The finest level (`refine`) that there is time for, the first in any case; arguments as before.

    >>> [affordable_level(0.1, seconds, (51, 51)) for seconds in (1.0, 60.0, 100.0, 1000.0)]
    [3, 3, 4, 6]
    """
    first, count = RefinementSettings().first, len(levels(shape))
    numbers = range(first, first + count)
    fitting = [n for n in numbers if point * least(shape, n) <= settings.share * seconds]
    return max(fitting, default=first)


def _coarse_points(shape: Sequence[int]) -> int:
    return int(np.prod([len(axis) for axis in levels(shape)[0]]))
