"""Ranks that share the points of one surface: exchange of values, agreement and failures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray

from ..objectives.base import CannotMeasureError
from ..survey.group import Group
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


@contextmanager
def failing_together(trainer: Trainer) -> Iterator[None]:
    """A context for code that can fail, which every rank must enter: if it fails on one rank, it does on all.

    Its end answers the other ranks, which may still wait.

    Raises:
        Exception: the error of this rank.
        OtherRankError: if only other ranks failed, with the error of the first of them.

    >>> from types import SimpleNamespace
    >>> with failing_together(SimpleNamespace(world_size=1)):
    ...     raise ValueError("alone")
    Traceback (most recent call last):
    ValueError: alone
    """
    error: Exception | None = None
    try:
        yield
    except Exception as raised:  # noqa: BLE001  # raised below, on every rank
        error = raised
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


class Ranks(Group):
    """The ranks of a Trainer, which measure a landscape together.

    A rank that fails leaves no other one waiting: each call learns of it, and raises `OtherRankError`.

    Args:
        trainer: connects them.
        is_sharded: they share the parameters (FSDP2), and take every point together.

    >>> from types import SimpleNamespace
    >>> second = Ranks(SimpleNamespace(global_rank=1, world_size=2, is_global_zero=False))
    >>> second.share(np.arange(5)).tolist()
    [1, 3]
    """

    def __init__(self, trainer: Trainer, is_sharded: bool = False) -> None:
        self.trainer, self.in_step = trainer, is_sharded
        self.is_first = trainer.is_global_zero
        self.size = 1 if is_sharded else trainer.world_size

    def share(self, order: NDArray[np.intp]) -> NDArray[np.intp]:
        """The points of this rank: of W ranks, the r-th takes every W-th from the r-th on."""
        return order if self.in_step else order[self.trainer.global_rank :: self.size]

    def gather(self, mine: T) -> list[T]:
        """The objects of all ranks."""
        if self.trainer.world_size > 1:
            synchronize_ranks()  # a rank that has failed would not answer
        return exchange(self.trainer, mine)

    def first(self, mine: T) -> T:
        """The object of rank 0."""
        return from_first(self.trainer, mine)

    def any(self, mine: bool) -> bool:
        """True if any rank says True."""
        return mine if self.trainer.world_size == 1 else synchronize_ranks(stop=mine)
