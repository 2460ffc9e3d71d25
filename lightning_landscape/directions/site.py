"""Site: the inputs of a kind of directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim import Optimizer

from ..objectives.base import Batch, Objective
from ..weights.parameters import Params, Snapshot, canonical_name


@dataclass(frozen=True, eq=False)
class Site(Snapshot):
    """The weights at the centre of a landscape, and what else directions may be made of.

    Random directions need the weights alone. A gradient needs the objective and the batches too, the next update the
    optimisers, and principal components the records.

    Args:
        params, filters, normalization: as of a `Snapshot`; do not edit them.
        module: the module that is measured, at these weights.
        objective: the objective of the first data set.
        batches: the frozen data of that objective.
        records: the weights that a training went through, oldest first, on the CPU; the last are the newest. A list,
            or a sequence that reads a file at each index.
        optimizers: those that train the weights. Directions step on copies of them.
        trained: the parameters that the optimisers hold, by name.

    >>> net = nn.Linear(2, 1)
    >>> site = Site.at(Snapshot.of(net), net, None, [])
    >>> site.module is net, list(site.params)
    (True, ['weight', 'bias'])
    """

    module: nn.Module | None = None
    objective: Objective | None = None
    batches: Sequence[Batch] = ()
    records: Sequence[Params] = ()
    optimizers: Sequence[Optimizer] = ()
    trained: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def at(
        cls,
        snapshot: Snapshot,
        module: nn.Module,
        objective: Objective | None,
        batches: Sequence[Batch],
        *,
        records: Sequence[Params] = (),
        optimizers: Sequence[Optimizer] = (),
        original: nn.Module | None = None,
    ) -> Site:
        """The site of a module at the weights of a snapshot.

        Args:
            snapshot: the weights.
            module, objective, batches, records, optimizers: as of the class.
            original: the module whose parameters the optimisers hold; None for `module`.
        """
        named = (module if original is None else original).named_parameters() if optimizers else ()
        trained: dict[str, Tensor] = {canonical_name(name): parameter for name, parameter in named}
        params, filters, normalization = snapshot.params, snapshot.filters, snapshot.normalization
        return cls(params, filters, normalization, module, objective, batches, records, optimizers, trained)
