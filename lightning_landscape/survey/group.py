"""The processes that measure one landscape together, and the merging of what each has measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..landscape import Landscape

T = TypeVar("T")


class Group:
    """The processes that measure a landscape: this one alone, unless a subclass connects others.

    Every process must call `gather`, `first` and `any` equally often.

    Attributes:
        size: W, the number of processes that divide the points among themselves.
        is_first: True in the process whose decisions all follow.
        in_step: True if every process takes every point. They must then stop at the same one.

    >>> group = Group()
    >>> group.share(np.arange(3)).tolist(), group.gather("alone"), group.any(False)
    ([0, 1, 2], ['alone'], False)
    """

    size = 1
    is_first = True
    in_step = False

    def share(self, order: NDArray[np.intp]) -> NDArray[np.intp]:
        """The points that this process takes, of those that are taken next."""
        return order

    def gather(self, mine: T) -> list[T]:
        """The objects of all processes, in the order of their ranks."""
        return [mine]

    def first(self, mine: T) -> T:
        """The object of the first process."""
        return mine

    def any(self, mine: bool) -> bool:
        """True if any process says True."""
        return mine


def merge(parts: Sequence[Landscape]) -> Landscape:
    """One landscape from parts of it: the first, which takes the points and losses of records that only others have."""
    whole = parts[0]
    for part in parts[1:]:
        checksums = [[data.checksum for data in x.recipe.data.values()] for x in (part, whole)]
        if checksums[0] != checksums[1]:
            raise ValueError(
                "The processes see different data, so their points are not of one function. Give every process the "
                "same data set, and leave the sharding to the Trainer's sampler."
            )
        new = (part.done & ~whole.done) | (part.evaluated & whole.interpolated)
        for merged, table in ((whole.values, part.values), (whole.standard_errors, part.standard_errors)):
            for name, array in table.items():
                merged.setdefault(name, np.full(whole.grid.shape, np.nan))[new] = array[new]
        if whole.samples is not None and part.samples is not None:
            whole.samples.values[:, new] = part.samples.values[:, new]
        take_over_path(whole, part)
        whole.spectrum = whole.spectrum or part.spectrum
        whole.done |= new
        whole.interpolated[new] = part.interpolated[new]
        if not part.done.all():
            whole.report.failure = whole.report.failure or part.report.failure
    return whole


def take_over_path(whole: Landscape, part: Landscape) -> None:
    """Let a landscape take the path of another one; or the losses of records, where it has a path itself."""
    if whole.trajectory is None:
        whole.trajectory = part.trajectory
    elif part.trajectory is not None:
        whole.trajectory.take_over(part.trajectory)
