"""A source of batches for landscapes: one of the user's data loaders, read without disturbing it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)
from torch.utils.data.dataloader import _BaseDataLoaderIter

from ..isolation.copying import ReadOnceError, private_copy
from ..objectives.base import Batch, CannotMeasureError
from ..objectives.batch_samples import (
    Counted,
    IndivisibleError,
    counted,
    counting,
    iter_method,
    length_of,
    replaces_iteration,
    rows,
)
from ..objectives.batches import generators_of
from . import compat

log = logging.getLogger(__name__)
Transfer = Callable[[object, int], Any]  # from the data of a batch and the index of its loader


class Source:
    """The data that one loader may give, and the batches of a landscape from it.

    Args:
        loader: the user's; never iterated itself where its data can be indexed or copied.
        limit: the Trainer's ``limit_<data>_batches``; it bounds only data in a fixed order.
        seed: of the choice of samples.
        as_trained: batches are as full and as mixed as the user's, since a batch may be more than its samples.

    Attributes:
        pool: the indices, or batches of indices, to choose from; None for data that can only be iterated.
        is_drawn: whether the user's own sampler has drawn the pool in this process.
        note: how the samples are chosen.
        drawn: as of a `Batch`.
        population: the number of samples that they are chosen from, none of them twice; None where nobody knows.
        sizes: of the batches that were chosen, where they are known without loading any.
    """

    def __init__(self, loader: Iterable[Any], limit: float, seed: int, as_trained: bool = False) -> None:
        self.loader, self.seed, self.as_trained = loader, seed, as_trained
        self.generator = torch.Generator().manual_seed(seed)
        self.pool: list[Any] | None = None
        self.is_drawn = self.holds_batches = self.is_read = False
        self.drawn = "samples"
        self.population: int | None = None
        self.sizes: list[int] = []
        self.chosen: list[Any] = []
        self.read: list[Any] = []  # the batches of a source that can only be iterated
        iterates_itself = isinstance(loader, DataLoader) and replaces_iteration(loader)
        if iterates_itself or not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            origin = "as the loader itself iterates" if iterates_itself else "of data that can only be iterated"
            self.note = f"the first batches {origin}"
            length = length_of(loader)
            self.limit = _limited(length, limit) if length is not None else limit if isinstance(limit, int) else None
            return
        self._fill_pool(loader, limit)

    def _fill_pool(self, loader: DataLoader[Any], limit: float) -> None:
        """Set the pool of a loader whose data can be indexed."""
        batch_sampler, sampler = loader.batch_sampler, loader.sampler
        self.batch_size, self.drops_last, self.collates = None, False, batch_sampler is not None
        if iter_method(batch_sampler) is BatchSampler.__iter__:
            sampler = batch_sampler.sampler  # type: ignore[union-attr]
            self.batch_size, self.drops_last = batch_sampler.batch_size, batch_sampler.drop_last  # type: ignore[union-attr]
        elif batch_sampler is not None:
            self.pool, self.is_drawn, self.holds_batches = _draw(batch_sampler, loader, self.seed), True, True
            self.note = "random batches of the loader's own batch sampler"
            if _is_in_order(getattr(batch_sampler, "sampler", None)):
                self.pool = self.pool[: _limited(len(self.pool), limit)]
            return
        self.note = "random samples without replacement"
        sampler = compat.users_sampler(sampler)
        if iter_method(sampler) is SubsetRandomSampler.__iter__:
            self.pool = list(sampler.indices)
        elif iter_method(sampler) in _OF_THE_WHOLE:
            self.pool = list(range(len(loader.dataset)))  # type: ignore[arg-type]
        else:
            self.pool, self.is_drawn = _draw(sampler, loader, self.seed), True
            self.note = "random ones of an epoch's draws of the loader's own sampler"
            if iter_method(sampler) is not WeightedRandomSampler.__iter__ and self.batch_size is not None:
                self.pool, self.holds_batches = self._batched(self.pool), True  # its order may make its batches
                self.note = "random batches of the loader's own sampler"
        if _is_in_order(sampler):  # the Trainer never sees later or dropped samples
            count = _limited(len(loader), limit) * (self.batch_size or 1)
            if isinstance(sampler, DistributedSampler):  # of all processes in turn
                count = min(count * sampler.num_replicas, sampler.total_size)
            self.pool = self.pool[:count]
            if self.as_trained and self.batch_size is not None:
                self.pool, self.holds_batches = self._batched(self.pool), True
                self.note = "random batches in the loader's order"

    def _batched(self, indices: list[Any]) -> list[list[Any]]:
        """Batches of indices; the last one, where it is short, unless the loader drops it."""
        assert self.batch_size is not None
        batches = [indices[i : i + self.batch_size] for i in range(0, len(indices), self.batch_size)]
        return batches[:-1] if self.drops_last and batches and len(batches[-1]) < self.batch_size else batches

    def __len__(self) -> int:
        """The number of samples, as far as it is known without loading any."""
        if self.pool is None:
            return (length_of(self.loader) or 0) * (getattr(self.loader, "batch_size", None) or 1)
        return sum(map(len, self.pool)) if self.holds_batches else len(self.pool)

    @property
    def reads_tiles(self) -> bool:
        """True if single samples are read for tiles, rather than cut out of batches."""
        return self.pool is not None and self.collates

    def batches(self, max_samples: int | None, max_batches: int | None, shuffled: bool = False) -> Iterable[Counted]:
        """The batches for a surface, not yet on the device; each is read when it is asked for.

        All of them come in the order of the data set, or of the loader's own sampler. A part of them comes in random
        order: each batch, and the first batches together, are random sets of the samples, or of the loader's batches.

        Args:
            max_samples: how many samples at most, but one batch at least; None for all.
            max_batches: how many batches at most; None for all.
            shuffled: in random order in any case.
        """
        if self.pool is None:
            maximum = min((n for n in (self.limit, max_batches) if n is not None), default=None)
            return _Batches(lambda: self._iterate(max_samples, maximum))
        if not self.collates:  # the data set gives whole batches
            is_whole = max_samples is max_batches is None and not shuffled
            self.drawn = "ordered" if is_whole else "batches"
            self.chosen = [self.pool[i] for i in self._order(is_whole)[:max_batches]]
            return _Batches(lambda: _until(counted(self._loader(self.chosen)), max_samples))
        lists = self._lists(max_samples, max_batches, shuffled)
        self.chosen = [index for batch in lists for index in batch]
        self.sizes = [len(batch) for batch in lists]
        return _Batches(lambda: map(Counted, self._loader(lists), self.sizes))

    def _lists(self, max_samples: int | None, max_batches: int | None, shuffled: bool) -> list[list[Any]]:
        """The chosen indices in batches."""
        assert self.pool is not None
        if self.holds_batches:
            order = self._order(is_fixed=False)
            totals = np.cumsum([len(self.pool[i]) for i in order])
            fitting = len(order) if max_samples is None else max(1, int((totals <= max_samples).sum()))
            count = min(n for n in (len(order), fitting, max_batches) if n is not None)
            is_whole = count == len(order) and not shuffled
            self.drawn, self.population = "ordered" if is_whole else "batches", len(self)
            return [list(self.pool[i]) for i in (self._order(is_fixed=True) if is_whole else order[:count])]
        assert self.batch_size is not None
        maximum = len(self.pool) // self.batch_size * self.batch_size if self.drops_last else len(self.pool)
        count = maximum if max_samples is None else min(max_samples, maximum)
        if self.drops_last or (self.as_trained and count < maximum):
            count = min(max(count // self.batch_size, 1) * self.batch_size, maximum)
        if max_batches is not None:
            count = min(count, max_batches * self.batch_size)
        is_whole = count == len(self.pool) and not (shuffled or self.as_trained)
        # A sampler that draws with weights gives random order, and samples twice.
        self.drawn = "ordered" if is_whole and not self.is_drawn else "samples"
        self.population = None if self.is_drawn else len(self.pool)
        return self._batched([self.pool[i] for i in self._order(is_whole)[:count]])

    def _order(self, is_fixed: bool) -> list[int]:
        """The places in the pool, as they are or shuffled."""
        assert self.pool is not None
        if is_fixed:
            return list(range(len(self.pool)))
        return torch.randperm(len(self.pool), generator=self.generator).tolist()

    def _iterate(self, max_samples: int | None, max_batches: int | None) -> Iterator[Counted]:
        if self.is_read:  # another loader has more: they come again
            yield from self.read
            return
        for batch in islice(_until(counted(_copied(self.loader, self.seed)), max_samples), max_batches):
            self.read.append(batch)
            yield batch
        self.is_read = True

    def tiles(self, count: int, transfer: Transfer, read: int) -> tuple[Batch | None, list[Batch]]:
        """The tiles, in one batch and singly.

        There is no one batch where the samples can't be collated. There are no tiles where the samples of a batch that
        was only iterated can't be told apart.

        Args:
            count: how many to choose at random.
            transfer: puts a batch onto the device.
            read: how many samples, the first ones, to choose from.
        """
        if not self.reads_tiles:
            try:
                return None, self._sliced(count, transfer)
            except IndivisibleError as error:
                log.debug("there are no tiles: %s", error)
                return None, []
        chosen = self.chosen[:read]
        order = torch.randperm(len(chosen), generator=self.generator)[:count].tolist()
        indices = [chosen[i] for i in sorted(order)]
        names = [index if isinstance(index, int) else place for place, index in enumerate(indices)]
        one_by_one = zip(names, self._loader([[index] for index in indices]), strict=True)
        singles = [Batch(transfer(data, 0), 1, sample=name) for name, data in one_by_one]
        try:
            together = Batch(transfer(next(iter(self._loader([indices]))), 0), len(indices))
        except (RuntimeError, TypeError, ValueError) as error:
            log.debug("The tiles can't be collated into one batch: %s", error)
            return None, singles
        return together, singles

    def _sliced(self, count: int, transfer: Transfer) -> list[Batch]:
        """Tiles cut out of the batches that were read."""
        places = [(batch, row) for batch in self.read for row in range(batch.size)]
        order = sorted(torch.randperm(len(places), generator=self.generator)[:count].tolist())
        chosen = [(i, *places[i]) for i in order]
        return [Batch(transfer(rows(b.data, row, row + 1, b.size), 0), 1, sample=i) for i, b, row in chosen]

    def _loader(self, order: Sequence[Any]) -> DataLoader[Any]:
        """A loader over the same data, in this order."""
        original: Any = self.loader
        if self.collates and _is_of_rows(original, order):
            generator = torch.Generator().manual_seed(self.seed)
            dataset = _Rows(private_copy(original.dataset))
            return DataLoader(dataset, sampler=order, batch_size=None, generator=generator)
        options: dict[str, Any] = {"batch_sampler": order} if self.collates else {"sampler": order, "batch_size": None}
        return _new_loader(original, self.seed, max_workers=2, may_read_once=True, **options)


class _Batches:
    """Batches that can be iterated again, because a loader may be shorter than another one."""

    def __init__(self, read: Callable[[], Iterator[Counted]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[Counted]:
        return self._read()


class _Rows(Dataset[list[torch.Tensor]]):
    """A `TensorDataset`, or a subset of one, by whole batches: the bits that `default_collate` stacks."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, indices: list[int]) -> list[torch.Tensor]:
        dataset: Any = self.dataset
        while isinstance(dataset, Subset):
            indices, dataset = [int(dataset.indices[i]) for i in indices], dataset.dataset
        return [tensor[indices] for tensor in dataset.tensors]


def _is_of_rows(loader: DataLoader[Any], order: Sequence[Any]) -> bool:
    """True if `_Rows` gives these batches of a loader, which are lists of indices."""
    dataset: Any = loader.dataset
    while type(dataset) is Subset and _are_places(dataset.indices):
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset or loader.collate_fn is not default_collate or loader.num_workers:
        return False
    plain = all(type(tensor) is torch.Tensor for tensor in dataset.tensors)
    return plain and all(type(index) is int for batch in order for index in batch)


def _are_places(indices: object) -> bool:
    """True if each of a subset's indices is the place of one row: not several rows, nor a mask."""
    if isinstance(indices, torch.Tensor):
        return indices.ndim == 1 and indices.dtype in (torch.int64, torch.int32)
    if isinstance(indices, np.ndarray):
        return indices.ndim == 1 and indices.dtype.kind == "i"
    return isinstance(indices, range) or (isinstance(indices, list | tuple) and all(type(i) is int for i in indices))


_OF_THE_WHOLE = {RandomSampler.__iter__, SequentialSampler.__iter__, DistributedSampler.__iter__}


def _is_in_order(sampler: object) -> bool:
    """True if a sampler goes through the data set in its order, alone or in turn with other processes."""
    if isinstance(sampler, DistributedSampler) and iter_method(sampler) is DistributedSampler.__iter__:
        return not sampler.shuffle
    return iter_method(sampler) is SequentialSampler.__iter__


def _limited(batches: int, limit: float) -> int:
    """The number of `batches` that the Trainer takes under ``limit_<data>_batches``."""
    return int(batches * limit) if isinstance(limit, float) else min(limit, batches)


def _draw(sampler: Iterable[Any], loader: DataLoader[Any], seed: int) -> list[Any]:
    """One epoch of a sampler in its own distribution, from a copy that starts at `seed`."""
    twin = private_copy(sampler, [loader.dataset])
    if isinstance(getattr(twin, "generator", None), torch.Generator):
        twin.generator = torch.Generator().manual_seed(seed)  # type: ignore[attr-defined]
    length = len(sampler) if isinstance(sampler, Sized) else 0
    return list(islice(twin, max(length, len(loader.dataset))))  # type: ignore[arg-type]


def _copied(loader: Iterable[Any], seed: int) -> Iterable[Any]:
    """An iterable like `loader` whose iteration does not move the original; its generators start at `seed`.

    Raises:
        CannotMeasureError: if the data can only be read once.
    """
    try:
        if not isinstance(loader, DataLoader):
            return private_copy(loader, may_read_once=False)
        if replaces_iteration(loader):
            return _loader_copy(loader, seed)
        options = {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
        plain = _new_loader(loader, seed, max_workers=1, may_read_once=False, **options)
        return plain if loader.batch_size is None else counting(plain)
    except ReadOnceError as error:
        raise CannotMeasureError(
            f"The data ({type(loader).__name__}) can only be read once ({error}). The training would miss the samples "
            "that a landscape takes. Give a data set that can be indexed, or that starts anew at each iter()."
        ) from error


def _new_loader(
    original: DataLoader[Any], seed: int, max_workers: int, may_read_once: bool, **options: Any
) -> DataLoader[Any]:
    """A loader over the same data, with a generator of its own, and workers that end with it.

    A worker is a process of its own. Without one, a data set that counts or caches would see our reads.
    """
    dataset, collate = original.dataset, original.collate_fn
    if not original.num_workers:
        dataset, collate = private_copy(dataset, may_read_once=may_read_once), private_copy(collate)
    return DataLoader(
        dataset,
        num_workers=min(original.num_workers, max_workers),
        multiprocessing_context=original.multiprocessing_context if original.num_workers else None,
        collate_fn=collate,
        worker_init_fn=original.worker_init_fn,
        generator=torch.Generator().manual_seed(seed),
        **options,
    )


def _loader_copy(loader: DataLoader[Any], seed: int) -> DataLoader[Any]:
    """A copy of a loader, at its beginning, with new iterators for those in the loader's attributes."""
    iterators = [name for name, value in vars(loader).items() if isinstance(value, _BaseDataLoaderIter)]
    twin = copy.copy(loader)
    vars(twin).update(dict.fromkeys(iterators), num_workers=min(loader.num_workers, 1))
    vars(twin).update(persistent_workers=False, pin_memory=False)
    shared = [loader.dataset, loader.multiprocessing_context] if loader.num_workers else []
    twin = private_copy(twin, shared, may_read_once=False)
    for generator in generators_of(twin):
        generator.manual_seed(seed)
    for name in iterators:
        if name != "_iterator":  # DataLoader's own, for workers that stay
            vars(twin)[name] = DataLoader.__iter__(twin)
    return twin


def _until(batches: Iterable[Counted], max_samples: int | None) -> Iterator[Counted]:
    """Batches until they hold `max_samples`."""
    count = 0
    for batch in batches:
        yield batch
        count += batch.size
        if max_samples is not None and count >= max_samples:  # another one need not be read
            return
