"""FrozenData: the batches that every point of a surface is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..evaluators import correction
from ..objectives.base import Batch
from ..objectives.batches import data_checksum


@dataclass(frozen=True, eq=False)
class FrozenData:
    """The data of one surface.

    Args:
        batches: what every point is measured on.
        size: the number of samples in them.
        checksum: of all tensors and values in the batches.
        note: how the samples were chosen.
        together: the tile samples as one batch, if they can be collated.
        singles: the tile samples one by one, ``batch.sample`` being their place in the data set.
        several_loaders: whether the batches come from several loaders in turn.
        available: how many samples there would be without a time limit, as far as that is known.
        population: of how many samples they are a part, none of them twice; None where nobody knows.
        chosen: how many samples were chosen, read or not; None where only reading tells.
    """

    batches: list[Batch]
    size: int
    checksum: str
    note: str
    together: Batch | None = None
    singles: list[Batch] = field(default_factory=list)
    several_loaders: bool = False
    available: int = 0
    population: int | None = None
    chosen: int | None = None

    @property
    def correction(self) -> float:
        """The factor of the standard errors; see `evaluators.correction`."""
        return correction(self.size, self.population)

    def first(self, count: int) -> list[Batch]:
        """The first batches of every loader, so many of each."""
        of_loader: dict[int, list[Batch]] = {}
        for batch in self.batches:
            of_loader.setdefault(batch.loader, []).append(batch)
        return [batch for batches in of_loader.values() for batch in batches[:count]]


def frozen(batches: Sequence[Batch], population: int | None) -> FrozenData:
    """The data of one surface that were read already.

    Args:
        batches: what every point is measured on.
        population: of how many samples they are a part, none of them twice; None where nobody knows.
    """
    size = sum(batch.size for batch in batches)
    return FrozenData(list(batches), size, data_checksum(batches), "as given", population=population)
