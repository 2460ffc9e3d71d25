"""The frozen evaluation set of a pass: a seeded random subset of a loader's data, taken without disturbing it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from lightning_utilities.core.apply_func import apply_to_collection
from torch import nn

from ..distributed.ranks import from_first
from ..isolation.effects import EffectGuard, restore_later
from ..isolation.rng import keyed_seed, seed_streams
from ..objectives.base import Batch, CannotMeasureError, most_cautious
from ..objectives.batch_samples import Counted
from ..objectives.batches import data_checksum
from ..survey.budget import Deadline, now
from ..survey.data import FrozenData
from . import compat
from .loaders import Source


def freeze(
    trainer: Any,
    probe: nn.Module,
    data: str,
    *,
    max_samples: int | None = None,
    max_batches: int | None = None,
    samples: int = 0,
    seed: int = 42,
    deadline: Deadline | None = None,
    first: int | None = None,
    as_trained: bool = False,
) -> FrozenData:
    """Load the evaluation set of "train", "val" or "test" onto the module's device.

    The batches are such as the Trainer's: of a random subset in random order, without replacement; of all samples in
    the loader's order where that is fixed; a short last one only where the loader does not drop it. Of a batch
    sampler, or of a sampler of the user's own, they are whole batches. Data that can only be iterated, and loaders of a
    class that iterates in its own way, give their first batches. A loader whose order is fixed and whose batches are
    limited (``limit_val_batches``, ``overfit_batches``) gives what the Trainer itself sees, on all processes together.
    What ranks draw or iterate differently is rank 0's. Call it inside `undisturbed`.

    Args:
        trainer: the Trainer, in the middle of its work.
        probe: the copy of the module; its and the datamodule's transfer hooks run on copies.
        data: which loaders.
        max_samples: how many samples at most, but one batch at least (None: all).
        max_batches: how many batches at most (None: all).
        samples: how many single samples to draw for tiles; none where a deadline leaves no time for them.
        seed: of the choice, and of random augmentation.
        deadline: asked after each batch: whether to be content with those there are. The batches then come in random
            order, so that any first part of them is a random subset, too.
        first: how many batches to read of those that were chosen (None: all).
        as_trained: for train mode, in which a batch may be more than its samples: no batch is cut, and those of a
            loader that shuffles are mixed.

    Raises:
        CannotMeasureError: if there is no such loader, it is empty, or nothing says when to stop reading it.
    """
    loaders, mode, own_hook = find_loaders(trainer, probe, data)
    seed_streams(keyed_seed(seed, "data", data))
    combined = compat.combine(trainer, loaders, mode)
    sources = _sources(trainer, list(combined.flattened), data, seed, as_trained)
    if deadline is None:
        _refuse_endless(sources, data, max_samples, max_batches)
    in_turn = mode == "sequential"
    wanted = _shares(sources, max_samples) if in_turn else [max_samples] * len(sources)
    combined.flattened = [s.batches(n, max_batches, deadline is not None) for s, n in zip(sources, wanted, strict=True)]
    items: Iterable[Any] = combined if deadline is None or not in_turn else _evenly(sources, combined.flattened)
    items = islice(items, min((n for n in (max_batches, first) if n is not None), default=None))
    if trainer.world_size > 1 and any(source.pool is None for source in sources):
        items = from_first(trainer, list(items))  # each rank would read a part of its own
    transfer, clock = _Transfer(trainer, probe), _Clock(deadline, samples if sources[0].reads_tiles else 0)
    batches: list[Batch] = []
    for item, index, loader in items:
        own = [sources[loader]] if in_turn else sources
        batches.append(_batch(trainer, item, index, loader, own, transfer))
        if clock.is_over(batches) and len(batches) >= (len(sources) if in_turn else 1):
            break
    if not batches:
        raise CannotMeasureError(f"data={data!r}: the {data} loader is empty, so there is no loss to measure.")
    batches.sort(key=lambda batch: (batch.loader, batch.index))
    result = _frozen(batches, sources, in_turn)
    if own_hook:  # a split that is drawn in there is another than the Trainer's
        called = f"{data}_dataloader() called for the landscape, the Trainer has not called it yet"
        result = replace(result, note=f"{result.note}; {called}")
    if samples and (len(sources) == 1 or in_turn) and clock.has_time_for_tiles(batches):
        read = sum(batch.size for batch in batches if batch.loader == 0)
        together, singles = sources[0].tiles(samples, transfer, read)
        result = replace(result, together=together, singles=singles)
    return result


def _sources(trainer: Any, loaders: list[Any], data: str, seed: int, as_trained: bool) -> list[Source]:
    """One source for each loader; of samplers that draw, with rank 0's draws."""
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
    if any(source.may_be_endless(max_samples, max_batches) for source in sources):
        raise CannotMeasureError(
            f"data={data!r}: the {data} loader has no length, it may never end: give max_samples, max_batches, or a "
            f"budget, or the Trainer limit_{data}_batches as a whole number."
        )


def _frozen(batches: list[Batch], sources: Sequence[Source], in_turn: bool) -> FrozenData:
    """The data of a surface without tiles."""
    size = sum(batch.size for batch in batches)
    populations = [source.population for source in sources]
    known = (len(sources) == 1 or in_turn) and None not in populations
    return FrozenData(
        batches,
        size,
        data_checksum(batches),
        "; ".join(dict.fromkeys(source.note for source in sources)),
        several_loaders=in_turn and len(sources) > 1,
        available=max(size, sum(sum(source.sizes) for source in sources)),
        population=sum(n for n in populations if n is not None) if known else None,
    )


def _batch(trainer: Any, item: Any, index: int, loader: int, sources: Sequence[Source], transfer: _Transfer) -> Batch:
    """The batch that the loaders gave, on the device.

    A batch of several loaders has the size of the first one's part.
    """
    parts: list[Counted] = []

    def data_of(part: Counted) -> Any:
        parts.append(part)
        return part.data

    item = apply_to_collection(item, Counted, data_of)
    size = parts[0].size
    logged = compat.batch_size(trainer, item, fallback=size)
    drawn = most_cautious(source.drawn for source in sources)
    return Batch(transfer(item, loader), size, index, loader, logged, drawn=drawn)


def _evenly(sources: Sequence[Source], batches: Sequence[Iterable[Counted]]) -> Iterator[tuple[Counted, int, int]]:
    """The batches of several loaders in turn, of which the same share of each is read at any time."""
    iterators, read = [iter(own) for own in batches], [0] * len(sources)
    totals = (
        [len(source.sizes) for source in sources] if all(source.sizes for source in sources) else [1] * len(sources)
    )
    left = set(range(len(sources)))
    while left:
        loader = min(left, key=lambda i: (read[i] / totals[i], i))
        try:
            item = next(iterators[loader])
        except StopIteration:
            left.discard(loader)
            continue
        yield item, read[loader], loader
        read[loader] += 1


class _Clock:
    """A clock that compares the time of reading with a deadline, if there is one.

    Args:
        deadline: when it must be over.
        tiles: how many single samples are to be read then, each twice.
    """

    def __init__(self, deadline: Deadline | None, tiles: int) -> None:
        self.deadline, self.tiles, self.began = deadline, tiles, now()

    def is_over(self, batches: Sequence[Batch]) -> bool:
        """True if another batch, and the tiles after it, would come too late."""
        took = now() - self.began
        return self.deadline is not None and self.deadline.left < took / len(batches) + self._tiles(batches, took)

    def has_time_for_tiles(self, batches: Sequence[Batch]) -> bool:
        """True if the tiles would come in time."""
        return self.deadline is None or self.deadline.left >= self._tiles(batches, now() - self.began)

    def _tiles(self, batches: Sequence[Batch], took: float) -> float:
        return 2 * self.tiles * took / sum(batch.size for batch in batches)


def find_loaders(trainer: Any, probe: nn.Module, data: str) -> tuple[Any, str, bool]:
    """The user's loaders for `data`, in their structure; the mode that combines them; whether a hook was called.

    Hooks that the Trainer has not called itself are called on copies.

    Raises:
        CannotMeasureError: if there are none.
    """
    default = "max_size_cycle" if data == "train" else "sequential"
    combined, called = compat.combined_loader(trainer, data), False
    if combined is None:
        loaders = compat.passed_loaders(trainer, data)
        hook = f"{data}_dataloader"
        datamodule = compat.datamodule_copy(trainer)
        if loaders is None and datamodule is not None and compat.is_overridden(hook, datamodule):
            if data == "test" and trainer.state.fn != "test":
                datamodule.setup("test")
            loaders, called = getattr(datamodule, hook)(), True
        elif loaders is None and compat.is_overridden(hook, probe):
            loaders, called = getattr(probe, hook)(), True
        if loaders is None:
            raise CannotMeasureError(
                f"data={data!r}: there is no {data} loader. Pass one to the Trainer, implement {hook}(), or choose "
                f"another data from {', '.join(compat.DATA)}."
            )
        if not hasattr(loaders, "flattened"):
            return loaders, default, called
        combined = loaders
    return combined.iterables, compat.loader_mode(combined), called


def _shares(sources: list[Source], max_samples: int | None) -> list[int | None]:
    """The most samples that each of several loaders in turn may give, in proportion to their sizes; None for all."""
    total = sum(map(len, sources))
    if max_samples is None or total <= max_samples:
        return [None] * len(sources)
    return [max(1, round(max_samples * len(source) / total)) for source in sources]


class _Transfer:
    """The Trainer's treatment of a batch before a step; the hooks run on copies."""

    def __init__(self, trainer: Any, probe: nn.Module) -> None:
        self.precision, self.device = trainer.precision_plugin, trainer.strategy.root_device
        datamodule = compat.datamodule_copy(trainer)
        self.owners: dict[str, Any] = {
            hook: datamodule if datamodule is not None and compat.is_overridden(hook, datamodule) else probe
            for hook in ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
        }
        self.held_back = EffectGuard(probe, *map(type, self.owners.values()))

    def __call__(self, batch: Any, loader: int) -> Any:
        batch = self.precision.convert_input(batch)
        with self.held_back:
            batch = self.owners["on_before_batch_transfer"].on_before_batch_transfer(batch, loader)
            batch = self.owners["transfer_batch_to_device"].transfer_batch_to_device(batch, self.device, loader)
            return self.owners["on_after_batch_transfer"].on_after_batch_transfer(batch, loader)
