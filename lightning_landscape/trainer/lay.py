"""The plane of a landscape in a Trainer: its site, and directions that are the same on all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn
from torch.optim import Optimizer

from ..directions import Directions, Facts, Site, checked_directions, facts_of, needs
from ..distributed.ranks import from_first
from ..weights.parameters import Params
from ..weights.plane import Plane
from ..weights.sharding import cut, is_sharded

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


@dataclass(frozen=True)
class Training:
    """The parts of a training that directions may be made of, beside its weights.

    Args:
        original: the module that is trained.
        optimizers: the Trainer's; none where other weights are measured than those that they move.
        records: the weights that the training went through, oldest first.
    """

    original: nn.Module | None = None
    optimizers: Sequence[Optimizer] = field(default=())
    records: Sequence[Params] = field(default=())


def laid_plane(trainer: Trainer, directions: Directions, site: Site, k: int) -> tuple[Plane, Facts]:
    """The plane of k directions at a site, and the facts on them. All processes call it.

    Directions that are computed from data or records are those of rank 0. A sum of gradients may differ in its last
    bits from one device to another, and rank 0 has the records. Sharded processes compute them together.

    Raises:
        ValueError: if the directions are none of this module.
    """
    is_first_only = trainer.world_size > 1 and bool(needs(directions)) and not is_sharded(site.module or nn.Module())
    laid: Sequence[Params] = ()
    if not is_first_only or trainer.is_global_zero:
        laid = checked_directions(directions, site, k)
    facts = facts_of(directions)
    if is_first_only:
        copies = [{name: tensor.cpu() for name, tensor in direction.items()} for direction in laid]
        received, facts = from_first(trainer, (copies, facts))
        laid = [{name: tensor.to(site.params[name].device) for name, tensor in d.items()} for d in received]
    return Plane(site.params, tuple(_cut_all(direction, site.params) for direction in laid)), facts


def _cut_all(direction: Params, origin: Params) -> Params:
    """This process's part of a direction, which may have whole tensors for sharded ones."""
    return {name: cut(tensor, like=origin[name]) if name in origin else tensor for name, tensor in direction.items()}
