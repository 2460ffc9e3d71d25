"""The frozen evaluation set of a pass: a seeded random subset of a loader's data, taken without disturbing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from . import compat
from .batches import data_checksum
from .effects import HeldBack, put_back_later
from .objectives import Batch, CannotMeasureError
from .ranks import from_first
from .rng import keyed_seed, seed_streams
from .sources import Source


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
    """

    batches: list[Batch]
    size: int
    checksum: str
    note: str
    together: Batch | None = None
    singles: list[Batch] = field(default_factory=list)
    several_loaders: bool = False
    available: int = 0

    def places(self, share: float) -> list[int]:
        """Which batches make up that share of every loader's: its first ones; two at least, for a standard error."""
        of_loader: dict[int, list[int]] = {}
        for place, batch in enumerate(self.batches):
            of_loader.setdefault(batch.loader, []).append(place)
        return sorted(i for own in of_loader.values() for i in own[: max(2, int(share * len(own)))])

    def part(self, share: float) -> FrozenData:
        """That share of the batches, as data of its own."""
        batches = [self.batches[i] for i in self.places(share)]
        if len(batches) == len(self.batches):
            return self
        size = sum(batch.size for batch in batches)
        return replace(self, batches=batches, size=size, checksum=data_checksum(batches))


def freeze(
    trainer: Any,
    probe: nn.Module,
    data: str,
    *,
    max_samples: int | None = None,
    max_batches: int | None = None,
    samples: int = 0,
    seed: int = 42,
    until: Callable[[], bool] | None = None,
) -> FrozenData:
    """Load the evaluation set of "train", "val" or "test" onto the module's device.

    Map-style data: a random subset without replacement, in the data set's order, nothing dropped. Data that can
    only be iterated, and loaders of a class that iterates in its own way: their first batches. A loader whose order is
    fixed and whose batches are limited (``limit_val_batches``, ``overfit_batches``) gives what the Trainer itself
    sees, on all processes together. What ranks draw or iterate differently is rank 0's. Call it inside `undisturbed`.

    Args:
        trainer: the Trainer, in the middle of its work.
        probe: the copy of the module; its and the datamodule's transfer hooks run on copies.
        data: which loaders.
        max_samples: how many samples at most (None: all).
        max_batches: how many batches at most (None: all).
        samples: how many single samples to draw for tiles.
        seed: of the choice, and of random augmentation.
        until: asked before each batch but the first of a single loader: whether to be content with those there are.
            The batches then come in random order, so that any first part of them is a random subset, too.

    Raises:
        CannotMeasureError: if there is no such loader, or it is empty.
    """
    loaders, mode, own = find_loaders(trainer, probe, data)
    limit = getattr(trainer, f"limit_{data}_batches")
    seed_streams(keyed_seed(seed, "data", data))
    combined = compat.combine(trainer, loaders, mode)
    flat = list(combined.flattened)
    put_back_later(*(part for loader in flat for part in vars(loader).values() if hasattr(loader, "__dict__")))
    sources = [Source(loader, limit, keyed_seed(seed, "samples", data, i)) for i, loader in enumerate(flat)]
    if trainer.world_size > 1:
        firsts = from_first(trainer, [source.pool if source.drawn else None for source in sources])
        for source, pool in zip(sources, firsts, strict=True):
            source.pool = source.pool if pool is None else pool  # a sampler may know its rank
    wanted = _shares(sources, max_samples) if mode == "sequential" else [max_samples] * len(sources)
    combined.flattened = [s.batches(n, max_batches, until is not None) for s, n in zip(sources, wanted, strict=True)]
    transfer = _Transfer(trainer, probe)

    batches: list[Batch] = []
    items = iter(combined)
    if trainer.world_size > 1 and any(source.pool is None for source in sources):
        items = iter(from_first(trainer, list(items)))  # each rank would read a part of its own
    for item, index, loader in items:
        if max_batches is not None and len(batches) == max_batches:
            break
        if until is not None and len(flat) == 1 and batches and until():
            break
        sizes = sources[loader].sizes if len(flat) == 1 or mode == "sequential" else []
        logged = compat.batch_size(trainer, item, fallback=sources[loader].batch_size or 1)
        size = sizes[index] if index < len(sizes) else logged
        batches.append(Batch(transfer(item, loader), size, index, loader, logged))
    if not batches:
        raise CannotMeasureError(f"data={data!r}: the {data} loader is empty, so there is no loss to measure.")
    together: Batch | None = None
    singles: list[Batch] = []
    if samples and (len(flat) == 1 or mode == "sequential"):
        together, singles = sources[0].tiles(samples, transfer)
    notes = list(dict.fromkeys(source.note for source in sources))
    if own:  # a split that is drawn in there is another than the Trainer's
        notes.append(f"{data}_dataloader() called for the landscape, the Trainer has not called it yet")
    return FrozenData(
        batches,
        sum(batch.size for batch in batches),
        data_checksum(batches),
        "; ".join(notes),
        together,
        singles,
        mode == "sequential" and len(flat) > 1,
        max(sum(batch.size for batch in batches), sum(sum(source.sizes) for source in sources)),
    )


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
    """How many samples each of several loaders in turn may give: in proportion to their sizes."""
    total = sum(map(len, sources))
    if max_samples is None or total <= max_samples:
        return [None] * len(sources)
    return [max(1, round(max_samples * len(source) / total)) for source in sources]


class _Transfer:
    """What the Trainer does to a batch before a step; the hooks run on copies."""

    def __init__(self, trainer: Any, probe: nn.Module) -> None:
        self.precision, self.device = trainer.precision_plugin, trainer.strategy.root_device
        datamodule = compat.datamodule_copy(trainer)
        self.owners: dict[str, Any] = {
            hook: datamodule if datamodule is not None and compat.is_overridden(hook, datamodule) else probe
            for hook in ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
        }
        self.held_back = HeldBack(probe, *map(type, self.owners.values()))

    def __call__(self, batch: Any, loader: int) -> Any:
        batch = self.precision.convert_input(batch)
        with self.held_back:
            batch = self.owners["on_before_batch_transfer"].on_before_batch_transfer(batch, loader)
            batch = self.owners["transfer_batch_to_device"].transfer_batch_to_device(batch, self.device, loader)
            return self.owners["on_after_batch_transfer"].on_after_batch_transfer(batch, loader)
