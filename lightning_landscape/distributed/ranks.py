"""Several processes on one surface: each measures its share of the points, then all hold the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
import torch.distributed as dist

from ..landscape import Landscape
from ..objectives.base import CannotMeasureError
from ..weights.lockstep import OtherRankError, together

T = TypeVar("T")


def exchange(trainer: Any, mine: T) -> list[T]:
    """The objects that all ranks hold, in the order of the ranks.

    Every rank must call this function equally often.

    >>> from types import SimpleNamespace
    >>> exchange(SimpleNamespace(world_size=1), "alone")
    ['alone']
    """
    if trainer.world_size == 1:
        return [mine]
    everyone: list[Any] = [None] * trainer.world_size
    dist.all_gather_object(everyone, mine)
    return everyone


def from_first(trainer: Any, mine: T) -> T:
    """The object that rank 0 holds.

    Every rank must call this function equally often.
    """
    if trainer.world_size == 1:
        return mine
    together()
    return trainer.strategy.broadcast(mine, src=0)


AGREEMENT = 1e-3  # relative: devices of several kinds round differently, in bfloat16 so much


def check_agreement(trainer: Any, name: str, value: float) -> None:
    """See that every rank measures the same at the centre; every rank must call it equally often.

    Raises:
        CannotMeasureError: on a rank that measures something else than rank 0.
    """
    first = from_first(trainer, value)
    if not np.isclose(value, first, rtol=AGREEMENT, equal_nan=True):
        raise CannotMeasureError(
            f"{name} is {first:.6g} on rank 0 and {value:.6g} on rank {trainer.global_rank}, on the same data: a "
            "surface is of one function. Either the weights of the ranks have drifted apart, or the step uses a "
            "rank that it keeps: ask for trainer.global_rank in the step itself."
        )


def differing(trainer: Any, values: Mapping[str, float]) -> list[str]:
    """The metrics that are not the same on every rank; every rank must call it equally often.

    >>> from types import SimpleNamespace
    >>> differing(SimpleNamespace(world_size=1), {"seconds": 0.1})
    []
    """
    if trainer.world_size > 1:
        together()  # a rank that has failed is not going to answer
    first, *others = exchange(trainer, dict(values))
    names = dict.fromkeys(name for own in (first, *others) for name in own)
    missing = object()

    def is_the_same(a: Any, b: Any) -> bool:
        return missing not in (a, b) and bool(np.isclose(a, b, rtol=AGREEMENT, equal_nan=True))

    return [n for n in names if not all(is_the_same(first.get(n, missing), own.get(n, missing)) for own in others)]


def raise_together(trainer: Any, error: Exception | None) -> None:
    """Raise on every rank if one of them failed: each its own error, the others that of the first.

    Every rank must call it after what can fail, be it with an error from the middle: it answers the others, which
    may still be there.

    Raises:
        Exception: this rank's own error.
        OtherRankError: if only other ranks failed.
    """
    if isinstance(error, OtherRankError):
        error = None  # told below
    else:
        with suppress(OtherRankError):
            together(failed=error is not None)
    told = exchange(trainer, None if error is None else f"{type(error).__name__}: {error}")
    if error is not None:
        raise error
    for rank, text in enumerate(told):
        if text is not None:
            raise OtherRankError(f"rank {rank} failed with {text}")


def merge(parts: Sequence[Landscape]) -> Landscape:
    """One landscape out of those of all ranks, each with other points done."""
    whole = parts[0]
    for part in parts[1:]:
        checksums = [[data.checksum for data in x.recipe.data.values()] for x in (part, whole)]
        if checksums[0] != checksums[1]:
            raise ValueError(
                "The processes see different data, so their points are not of one function. Give every process the "
                "same data set, and leave the sharding to the Trainer's sampler."
            )
        new = (part.done & ~whole.done) | (part.evaluated & whole.interpolated)
        for tables in ((whole.values, part.values), (whole.standard_errors, part.standard_errors)):
            for name, array in tables[1].items():
                target = tables[0].setdefault(name, np.full(whole.grid.shape, np.nan))
                target[new] = array[new]
        if whole.samples is not None and part.samples is not None:
            whole.samples.values[:, new] = part.samples.values[:, new]
        whole.done |= new
        whole.interpolated[new] = part.interpolated[new]
        if not part.done.all():
            whole.report.failure = whole.report.failure or part.report.failure
    return whole
