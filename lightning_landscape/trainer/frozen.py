"""The frozen evaluation set of a pass: a seeded random subset of a loader's data, taken without disturbing it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from lightning_utilities.core.apply_func import apply_to_collection
from torch import nn

from ..distributed.ranks import from_first
from ..isolation.effects import EffectGuard, restore_later
from ..isolation.rng import keyed_seed, seed_streams
from ..objectives.base import Batch, CannotMeasureError, most_cautious
from ..objectives.batch_samples import Counted
from ..objectives.batches import data_checksum
from ..phases import SILENT, Phases
from ..survey.budget import Deadline, now
from ..survey.data import FrozenData
from . import compat
from .loaders import Source

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.utilities.combined_loader import CombinedLoader


def freeze(
    trainer: Trainer,
    probe: nn.Module,
    data: str,
    *,
    max_samples: int | None = None,
    max_batches: int | None = None,
    samples: int = 0,
    seed: int = 42,
    deadline: Deadline | None = None,
    least: int = 0,
    first: int | None = None,
    as_trained: bool = False,
    phases: Phases = SILENT,
) -> FrozenData:
    """Load the evaluation set of "train", "val" or "test" onto the module's device.

    The batches are like the Trainer's: a random subset in random order, without replacement, or all samples in the
    loader's order where that is fixed. A short last batch is there unless the loader drops it. A batch sampler, or a
    sampler of the user's own, gives whole batches. Data that can only be iterated give their first batches. So do
    loaders of a class that iterates in its own way.

    A loader in a fixed order may have its batches limited (``limit_val_batches``, ``overfit_batches``). It gives the
    samples that the Trainer itself sees, on all processes together. Where ranks draw or iterate differently, rank 0's
    data are taken. Call it inside `undisturbed`.

    Args:
        trainer: the Trainer, in the middle of its work.
        probe: the copy of the module; its and the datamodule's transfer hooks run on copies.
        data: which loaders.
        max_samples: how many samples at most, but one batch at least (None: all).
        max_batches: how many batches at most (None: all).
        samples: how many single samples to draw for tiles; none where a deadline leaves no time for them.
        seed: of the choice, and of random augmentation.
        deadline: ends the reading after a batch. With it, the batches come in random order, so that the first of them
            are a random subset, too.
        least: how many samples are read in any case.
        first: how many batches to read of those that were chosen (None: all).
        as_trained: for train mode, in which a batch may be more than its samples. No batch is cut, and those of a
            loader that shuffles are mixed.
        phases: is told of each batch before it is read.

    Raises:
        CannotMeasureError: if there is no such loader, it is empty, or nothing says when to stop reading it.
    """
    combined, is_from_hook = find_loaders(trainer, probe, data)
    seed_streams(keyed_seed(seed, "data", data))
    sources = _sources(trainer, list(combined.flattened), data, seed, as_trained)
    if deadline is None:
        _refuse_endless(sources, data, max_samples, max_batches)
    in_turn = compat.is_sequential(combined)
    limits = _shares(sources, max_samples) if in_turn else [max_samples] * len(sources)
    combined.flattened = [s.batches(n, max_batches, deadline is not None) for s, n in zip(sources, limits, strict=True)]
    items: Iterable[Any] = combined if deadline is None or not in_turn else _alternate(sources, combined.flattened)
    items = islice(items, min((n for n in (max_batches, first) if n is not None), default=None))
    count = sum(len(source.sizes) for source in (sources if in_turn else sources[:1]))
    phases.tell("reading data", 1, count)
    if trainer.world_size > 1 and any(source.pool is None for source in sources):
        items = from_first(trainer, list(items))  # each rank would read a share of its own
    transfer, clock = _Transfer(trainer, probe), _Clock(trainer, deadline, samples if sources[0].reads_tiles else 0)
    batches: list[Batch] = []
    for item, index, loader in items:
        origins = [sources[loader]] if in_turn else sources
        batches.append(_batch(trainer, item, index, loader, origins, transfer))
        phases.tell("reading data", min(len(batches) + 1, count), count)
        is_enough = sum(batch.size for batch in batches) >= least and len(batches) >= (len(sources) if in_turn else 1)
        if is_enough and clock.is_over(batches):
            break
    _refuse_empty(batches, data)
    batches.sort(key=lambda batch: (batch.loader, batch.index))
    result = _frozen(batches, sources, in_turn)
    if is_from_hook:  # a random split in the hook differs from the Trainer's
        note = f"{data}_dataloader() called for the landscape, the Trainer has not called it yet"
        result = replace(result, note=f"{result.note}; {note}")
    if samples and (len(sources) == 1 or in_turn) and clock.has_time_for_tiles(batches):
        read = sum(batch.size for batch in batches if batch.loader == 0)
        together, singles = sources[0].tiles(samples, transfer, read)
        result = replace(result, together=together, singles=singles)
    return result


def _sources(trainer: Trainer, loaders: list[Any], data: str, seed: int, as_trained: bool) -> list[Source]:
    """One source for each loader; samplers that draw have rank 0's draws."""
    restore_later(*(part for loader in loaders for part in vars(loader).values() if hasattr(loader, "__dict__")))
    limit = getattr(trainer, f"limit_{data}_batches")
    seeds = [keyed_seed(seed, "samples", data, i) for i in range(len(loaders))]
    sources = [Source(loader, limit, s, as_trained) for loader, s in zip(loaders, seeds, strict=True)]
    if trainer.world_size > 1:
        firsts = from_first(trainer, [source.pool if source.is_drawn else None for source in sources])
        for source, pool in zip(sources, firsts, strict=True):
            source.pool = source.pool if pool is None else pool  # a sampler may know its rank
    return sources


def _refuse_endless(sources: Sequence[Source], data: str, max_samples: int | None, max_batches: int | None) -> None:
    """Raises CannotMeasureError where nothing says when to stop reading."""
    may_be_endless = any(source.pool is None and source.limit is None for source in sources)
    if max_samples is max_batches is None and may_be_endless:
        raise CannotMeasureError(
            f"data={data!r}: the {data} loader has no length and may never end. Give max_samples, max_batches or a "
            f"budget, or give the Trainer a whole number as limit_{data}_batches."
        )


def _refuse_empty(batches: Sequence[Batch], data: str) -> None:
    """Raises CannotMeasureError where a loader has given nothing."""
    if not batches:
        raise CannotMeasureError(
            f"data={data!r}: the {data} loader is empty, so there is no loss to measure. Give it data, or choose "
            f"another data from {', '.join(compat.DATA)}."
        )


def _frozen(batches: list[Batch], sources: Sequence[Source], in_turn: bool) -> FrozenData:
    """The data of a surface without tiles."""
    size = sum(batch.size for batch in batches)
    populations = [source.population for source in sources]
    is_known = (len(sources) == 1 or in_turn) and None not in populations
    counts = [sum(source.sizes) or None for source in (sources if in_turn else sources[:1])]
    return FrozenData(
        batches,
        size,
        data_checksum(batches),
        "; ".join(dict.fromkeys(source.note for source in sources)),
        several_loaders=in_turn and len(sources) > 1,
        available=max(size, sum(sum(source.sizes) for source in sources)),
        population=sum(n for n in populations if n is not None) if is_known else None,
        chosen=None if None in counts else sum(n for n in counts if n is not None),
    )


def _batch(
    trainer: Trainer, item: object, index: int, loader: int, sources: Sequence[Source], transfer: _Transfer
) -> Batch:
    """The batch that the loaders gave, on the device.

    A batch of several loaders has the size of the first one's part.
    """
    sizes: list[int] = []

    def data_of(part: Counted) -> Any:
        sizes.append(part.size)
        return part.data

    data = apply_to_collection(item, Counted, data_of)
    log_weight = compat.batch_size(trainer, data, fallback=sizes[0])
    drawn = most_cautious(source.drawn for source in sources)
    return Batch(transfer(data, loader), sizes[0], index, loader, log_weight, drawn=drawn)


def _alternate(sources: Sequence[Source], batches: Sequence[Iterable[Counted]]) -> Iterator[tuple[Counted, int, int]]:
    """The batches of several loaders in turn, so that the same share of each is read at any time."""
    iterators, read = list(map(iter, batches)), [0] * len(sources)
    totals = [len(source.sizes) for source in sources]
    if 0 in totals:
        totals = [1] * len(sources)
    remaining = set(range(len(sources)))
    while remaining:
        loader = min(remaining, key=lambda i: (read[i] / totals[i], i))
        try:
            item = next(iterators[loader])
        except StopIteration:
            remaining.discard(loader)
            continue
        yield item, read[loader], loader
        read[loader] += 1


class _Clock:
    """A clock that compares the time of reading with a deadline, if there is one; each tile is read twice after it.

    All ranks read the same: the clock of rank 0 holds.
    """

    def __init__(self, trainer: Trainer, deadline: Deadline | None, tiles: int) -> None:
        self.trainer, self.deadline, self.tiles, self.began = trainer, deadline, tiles, now()

    def is_over(self, batches: Sequence[Batch]) -> bool:
        """True if another batch, and the tiles after it, would come too late."""
        seconds = now() - self.began
        needed = seconds / len(batches) + self._tiles(batches, seconds)
        return self._is_later(needed)

    def has_time_for_tiles(self, batches: Sequence[Batch]) -> bool:
        """True if the tiles would come in time."""
        return not self._is_later(self._tiles(batches, now() - self.began))

    def _is_later(self, needed: float) -> bool:
        """True if work of so many seconds would end too late."""
        return self.deadline is not None and from_first(self.trainer, self.deadline.left < needed)

    def _tiles(self, batches: Sequence[Batch], seconds: float) -> float:
        """The seconds that the tiles need, where these batches took so many."""
        return 2 * self.tiles * seconds / sum(batch.size for batch in batches)


def find_loaders(trainer: Trainer, probe: nn.Module, data: str) -> tuple[CombinedLoader, bool]:
    """The user's loaders for `data`, combined as the Trainer does it; and whether a hook was called for them.

    Hooks that the Trainer has not called itself are called on copies.

    Raises:
        CannotMeasureError: if there are none.
    """
    loaders: Any = compat.combined_loader(trainer, data)
    is_from_hook = False
    if loaders is None:
        loaders = compat.passed_loaders(trainer, data)
        hook = f"{data}_dataloader"
        datamodule = compat.datamodule_copy(trainer)
        if loaders is None and datamodule is not None and compat.is_overridden(hook, datamodule):
            if data == "test" and trainer.state.fn != "test":
                datamodule.setup("test")
            loaders, is_from_hook = getattr(datamodule, hook)(), True
        elif loaders is None and compat.is_overridden(hook, probe):
            loaders, is_from_hook = getattr(probe, hook)(), True
        if loaders is None:
            raise CannotMeasureError(
                f"data={data!r}: there is no {data} loader. Pass one to the Trainer, implement {hook}(), or choose "
                f"another data from {', '.join(compat.DATA)}."
            )
    return compat.combine(trainer, loaders, "max_size_cycle" if data == "train" else "sequential"), is_from_hook


def _shares(sources: list[Source], max_samples: int | None) -> list[int | None]:
    """The maximum number of samples of each loader, in proportion to their sizes; None for all."""
    total = sum(map(len, sources))
    if max_samples is None or total <= max_samples:
        return [None] * len(sources)
    return [max(1, round(max_samples * len(source) / total)) for source in sources]


class _Transfer:
    """The transfer of a batch to the device as the Trainer does it; the hooks run on copies."""

    def __init__(self, trainer: Trainer, probe: nn.Module) -> None:
        self.precision, self.device = trainer.precision_plugin, trainer.strategy.root_device
        datamodule = compat.datamodule_copy(trainer)
        self.owners: dict[str, Any] = {
            hook: datamodule if datamodule is not None and compat.is_overridden(hook, datamodule) else probe
            for hook in ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
        }
        self.held_back = EffectGuard(probe, *map(type, self.owners.values()))

    def __call__(self, data: object, loader: int) -> Any:
        batch = self.precision.convert_input(data)
        with self.held_back:
            batch = self.owners["on_before_batch_transfer"].on_before_batch_transfer(batch, loader)
            batch = self.owners["transfer_batch_to_device"].transfer_batch_to_device(batch, self.device, loader)
            return self.owners["on_after_batch_transfer"].on_after_batch_transfer(batch, loader)
