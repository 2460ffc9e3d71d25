"""The frame in which a step may be measured in the middle of a training, without a trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ..isolation.effects import one_pass
from ..isolation.precision import preserve_matmul_precision
from ..isolation.rng import preserved
from . import compat
from .stand_ins import StandIns

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


@dataclass(eq=False)
class Substitutes:
    """The objects that a step may reach in place of the user's while it is measured.

    Args:
        stand_ins: for optimisers and schedulers.
        counters: the Trainer's, as they were at the last training step; None for those of now.
        copies: of callbacks and datamodule, each beside its original.
        silent: loggers and experiments that write nothing, each beside its original.
    """

    stand_ins: StandIns
    counters: compat.Counters | None = None
    copies: list[tuple[object, object]] = field(default_factory=list)
    silent: list[tuple[object, object]] = field(default_factory=list)


@contextmanager
def undisturbed(trainer: Trainer, counters: compat.Counters | None = None) -> Iterator[None]:
    """A frame in which a step may be measured: on leaving, also by an exception, all is as it was.

    This holds for the random streams, grad mode, and the settings of cuDNN and of matrix products. The attributes of
    the Trainer, and of Lightning's objects behind it, come back too. So do the globals that the user's code reaches.
    The module that is measured inside must be a probe (`probing`), on batches of its own.

    Args:
        trainer: in the middle of its work.
        counters: that a step reads; None for the Trainer's of now.
    """
    benchmark = torch.backends.cudnn.benchmark
    with (
        one_pass(restores=True),
        preserved(),
        preserve_matmul_precision(),
        _attributes_restored(compat.owned_objects(trainer)),
        _substituted(trainer, Substitutes(StandIns(compat.optimizer_classes()), counters)),
        # Trainer.validate runs in inference mode, whose tensors could never be moved outside of it.
        torch.inference_mode(False),
        torch.no_grad(),
    ):
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _attributes_restored(owners: Iterable[object]) -> Iterator[None]:
    """On leaving, every owner has the attributes that it had, and its containers their items."""
    originals = [(vars(owner), dict(vars(owner))) for owner in owners]
    values = [value for _, attributes in originals for value in attributes.values()]
    containers = [(value, value.copy()) for value in values if type(value) in (list, dict, set)]
    try:
        yield
    finally:
        for attributes, before in originals:
            for name in [n for n in attributes if n not in before]:
                del attributes[name]
            attributes.update({n: v for n, v in before.items() if attributes.get(n, attributes) is not v})
        for container, items in containers:
            container.clear()
            container.extend(items) if isinstance(container, list) else container.update(items)


@contextmanager
def _substituted(trainer: Trainer, substitutes: Substitutes) -> Iterator[None]:
    """Put what stands for the user's objects into the Trainer; `_attributes_restored` takes it out again."""
    substitutes.copies = compat.replace_by_copies(trainer)
    substitutes.silent = compat.silence(trainer)
    if substitutes.counters is not None:
        substitutes.counters.begin()
    vars(trainer)["_substitutes"] = substitutes
    try:
        yield
    finally:
        substitutes.stand_ins.close()


def substitutes_of(trainer: Trainer) -> Substitutes:
    """The objects that stand for the user's inside `undisturbed`; outside, nothing does."""
    return vars(trainer).get("_substitutes") or Substitutes(StandIns())
