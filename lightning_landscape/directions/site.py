"""Site: the inputs of a kind of directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ..objectives.base import Batch, Objective
from ..weights.parameters import Snapshot


@dataclass(frozen=True, eq=False)
class Site(Snapshot):
    """The weights at the centre of a landscape, with the module, the objective and the batches.

    Random directions need the weights alone. A gradient or an eigenvector needs the objective and the batches too.

    Args:
        params, filters, normalization: as of a `Snapshot`; do not edit them.
        module: the module that is measured, at these weights.
        objective: the objective of the first data set.
        batches: the frozen data of that objective.

    >>> net = nn.Linear(2, 1)
    >>> site = Site.at(Snapshot.of(net), net, None, [])
    >>> site.module is net, list(site.params)
    (True, ['weight', 'bias'])
    """

    module: nn.Module | None = None
    objective: Objective | None = None
    batches: Sequence[Batch] = ()

    @classmethod
    def at(cls, snapshot: Snapshot, module: nn.Module, objective: Objective | None, batches: Sequence[Batch]) -> Site:
        """The site of a module at the weights of a snapshot."""
        return cls(snapshot.params, snapshot.filters, snapshot.normalization, module, objective, batches)
