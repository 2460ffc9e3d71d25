"""Ranks that share the points of one surface: exchange of values, agreement, failures, and the merged landscape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray

from ..landscape import Landscape
from ..objectives.base import CannotMeasureError
from ..weights.lockstep import OtherRankError, synchronize_ranks

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

T = TypeVar("T")


def exchange(trainer: Trainer, mine: T) -> list[T]:
    """The objects of all ranks, in the order of the ranks.

    Every rank must call this function equally often.

    >>> from types import SimpleNamespace
    >>> exchange(SimpleNamespace(world_size=1), "alone")
    ['alone']
    """
    if trainer.world_size == 1:
        return [mine]
    gathered = [mine] * trainer.world_size
    dist.all_gather_object(gathered, mine)
    return gathered


def from_first(trainer: Trainer, mine: T) -> T:
    """The object of rank 0.

    Every rank must call this function equally often.
    """
    if trainer.world_size == 1:
        return mine
    synchronize_ranks()
    return trainer.strategy.broadcast(mine, src=0)


def _agree(a: float | None, b: float | None, rtol: float = 1e-3) -> bool:
    """True if two ranks measure the same, up to the rounding of bfloat16 on devices of different kinds."""
    return a is not None and b is not None and bool(np.isclose(a, b, rtol=rtol, equal_nan=True))


def check_agreement(trainer: Trainer, name: str, value: float) -> None:
    """Check that every rank measures the same at the centre. Every rank must call this function equally often.

    Raises:
        CannotMeasureError: on a rank that measures something else than rank 0.
    """
    first = from_first(trainer, value)
    if not _agree(value, first):
        raise CannotMeasureError(
            f"{name} is {first:.6g} on rank 0 and {value:.6g} on rank {trainer.global_rank}, on the same data: a "
            "surface is of one function. Either the weights of the ranks have drifted apart, or the step uses a "
            "stored rank. Read trainer.global_rank in the step itself."
        )


def differing_metrics(trainer: Trainer, values: Mapping[str, float]) -> list[str]:
    """The metrics that are not the same on every rank. Every rank must call this function equally often.

    >>> from types import SimpleNamespace
    >>> differing_metrics(SimpleNamespace(world_size=1), {"seconds": 0.1})
    []
    """
    if trainer.world_size > 1:
        synchronize_ranks()  # a rank that has failed would not answer
    tables = exchange(trainer, dict(values))
    names = dict.fromkeys(name for table in tables for name in table)
    return [name for name in names if not all(_agree(tables[0].get(name), table.get(name)) for table in tables)]


def raise_together(trainer: Trainer, error: Exception | None) -> None:
    """Raise an error on every rank if at least one rank failed.

    Every rank must call this function after code that can fail, also where that code has failed halfway. The call
    answers the other ranks, which may still wait.

    Raises:
        Exception: the error of this rank.
        OtherRankError: if only other ranks failed, with the error of the first of them.
    """
    if isinstance(error, OtherRankError):
        error = None  # the rank that failed reports it below
    else:
        with suppress(OtherRankError):
            synchronize_ranks(failed=error is not None)
    messages = exchange(trainer, None if error is None else f"{type(error).__name__}: {error}")
    if error is not None:
        raise error
    for rank, message in enumerate(messages):
        if message is not None:
            raise OtherRankError(f"rank {rank} failed with {message}")


def share_of(order: NDArray[np.intp], trainer: Trainer) -> NDArray[np.intp]:
    """The points that this process measures: of W processes, the r-th takes every W-th from the r-th on.

    >>> from types import SimpleNamespace
    >>> share_of(np.arange(5), SimpleNamespace(global_rank=1, world_size=2)).tolist()
    [1, 3]
    """
    return order[trainer.global_rank :: trainer.world_size]


def merge(parts: Sequence[Landscape]) -> Landscape:
    """One landscape from the landscapes of all ranks, each with other points measured."""
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
        whole.done |= new
        whole.interpolated[new] = part.interpolated[new]
        if not part.done.all():
            whole.report.failure = whole.report.failure or part.report.failure
    return whole
