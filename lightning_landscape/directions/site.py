"""Site: what a kind of directions may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ..objectives.base import Batch, Objective
from ..weights.parameters import Snapshot


@dataclass(frozen=True, eq=False)
class Site(Snapshot):
    """The weights around which a landscape lies, and what is measured there.

    Random directions need the weights alone. A gradient or an eigenvector needs the objective and the batches too.

    Args:
        params, filters, normalization: as of a `Snapshot`; they are not to be edited.
        module: the module that is going to be measured, at these weights.
        objective: what is measured of it: of the first data set, where there are several.
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
