"""One of the user's data loaders as a source of batches of our own, read without disturbing it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
)
from torch.utils.data.dataloader import _BaseDataLoaderIter

from . import compat
from .batches import generators_of, rows, size_of
from .copying import ReadOnceError, private_copy
from .objectives import Batch, CannotMeasureError

log = logging.getLogger(__name__)
Transfer = Callable[[Any, int], Any]


class Source:
    """What one loader may give, and batches of our own from it.

    Args:
        loader: the user's; never iterated itself where its data can be indexed or copied.
        limit: the Trainer's ``limit_<data>_batches``; it bounds only what comes in a fixed order.
        seed: of the choice of samples.
        as_trained: batches are as full and as mixed as the user's, since a batch may be more than its samples.
    """

    def __init__(self, loader: Any, limit: float, seed: int, as_trained: bool = False) -> None:
        self.loader, self.seed, self.as_trained = loader, seed, as_trained
        self.generator = torch.Generator().manual_seed(seed)
        self.batch_size = getattr(loader, "batch_size", None)
        self.pool: list[Any] | None = None  # indices, or batches of indices
        self.drawn = False  # whether the pool is what the user's own sampler gave this process
        self.chosen: list[Any] = []
        self.sizes: list[int] = []  # of the batches, where they are known without loading any
        self.kept: list[Any] = []  # the batches of a source that can only be iterated
        own_way = isinstance(loader, DataLoader) and _has_own_way(loader)
        if own_way or not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
            how = "as the loader itself iterates" if own_way else "of data that can only be iterated"
            self.note = f"the first batches {how}"
            length = _length(loader)
            self.limit = _limited(length, limit) if length else limit if isinstance(limit, int) else None
            return
        self.batched = self.batch_size is None and loader.batch_sampler is not None
        if self.batched:
            batch_sampler = loader.batch_sampler
            self.pool, self.drawn = _drawn(batch_sampler, loader, seed), True
            if _is_in_order(getattr(batch_sampler, "sampler", None)):
                self.pool = self.pool[: _limited(len(self.pool), limit)]
            self.note = "random batches of the loader's own batch sampler"
            return
        self.note = "random samples without replacement"
        sampler = compat.users_sampler(loader.sampler)
        if _way(sampler) is SubsetRandomSampler.__iter__:
            self.pool = list(sampler.indices)
        elif _way(sampler) in _OF_THE_WHOLE:
            self.pool = list(range(len(loader.dataset)))  # type: ignore[arg-type]
        else:
            self.pool, self.drawn = _drawn(sampler, loader, seed), True
            self.note = "random ones of an epoch's draws of the loader's own sampler"
        if _is_in_order(sampler):  # what comes later or is dropped is never seen
            seen = _limited(len(loader), limit) * (self.batch_size or 1)
            if isinstance(sampler, DistributedSampler):  # by all processes in turn
                seen = min(seen * sampler.num_replicas, sampler.total_size)
            self.pool = self.pool[:seen]
            if as_trained and self.batch_size is not None:
                starts = range(0, len(self.pool), self.batch_size)
                self.pool, self.batched = [self.pool[i : i + self.batch_size] for i in starts], True
                self.as_trained = False  # they are
                self.note = "random batches in the loader's order"

    def __len__(self) -> int:
        """Samples, as far as they are known without loading any."""
        if self.pool is None:
            return _length(self.loader) * (self.batch_size or 1)
        return sum(map(len, self.pool)) if self.batched else len(self.pool)

    def batches(self, max_samples: int | None, max_batches: int | None, shuffled: bool = False) -> Iterable[Any]:
        """The batches for a surface, not yet on the device.

        Args:
            max_samples: how many samples at most; None for all.
            max_batches: how many batches at most; None for all.
            shuffled: in random order, so that the first of them are as random; else in that of the data set.
        """
        sort: Callable[[Iterable[int]], list[int]] = list if shuffled or self.as_trained else sorted
        if self.pool is None:
            most = min([n for n in (self.limit, max_batches) if n is not None], default=None)
            self.kept = list(islice(_some(_again(self.loader, self.seed), max_samples), most))
            return self.kept
        order = torch.randperm(len(self.pool), generator=self.generator).tolist()
        if self.batched:
            taken: list[int] = []
            count = 0
            for i in order:
                if max_samples is not None and count + len(self.pool[i]) > max_samples and taken:
                    continue
                taken.append(i)
                count += len(self.pool[i])
            return self._batches([list(self.pool[i]) for i in sort(taken)][:max_batches])
        if self.as_trained and self.batch_size and max_samples is not None and max_samples < len(order):
            max_samples = max(max_samples // self.batch_size, 1) * self.batch_size
        self.chosen = [self.pool[i] for i in sort(order[:max_samples])]
        if self.batch_size is None:  # the data set gives whole batches
            return self._loader(self.chosen[:max_batches])
        lists = [self.chosen[i : i + self.batch_size] for i in range(0, len(self.chosen), self.batch_size)]
        return self._batches(lists[:max_batches])

    def _batches(self, lists: list[list[Any]]) -> Iterable[Any]:
        self.chosen = [index for batch in lists for index in batch]
        self.sizes = [len(batch) for batch in lists]
        return self._loader(lists)

    def tiles(self, count: int, transfer: Transfer) -> tuple[Batch | None, list[Batch]]:
        """`count` random ones of the chosen samples: as one batch where they can be collated, and singly."""
        if self.pool is None or (self.batch_size is None and not self.batched):
            return None, self._sliced(count, transfer)
        order = torch.randperm(len(self.chosen), generator=self.generator)[:count].tolist()
        picked = [self.chosen[i] for i in sorted(order)]
        one_by_one = iter(self._loader([[index] for index in picked]))
        names = [i if isinstance(i, int) else place for place, i in enumerate(picked)]
        singles = [Batch(transfer(d, 0), 1, sample=i) for i, d in zip(names, one_by_one, strict=True)]
        try:
            together = Batch(transfer(next(iter(self._loader([picked]))), 0), len(picked))
        except (RuntimeError, TypeError, ValueError) as error:
            log.debug("The tile samples can't be collated into one batch: %s", error)
            return None, singles
        return together, singles

    def _sliced(self, count: int, transfer: Transfer) -> list[Batch]:
        places = [(batch, row) for batch in self.kept for row in range(size_of(batch))]
        order = torch.randperm(len(places), generator=self.generator)[:count].tolist()
        return [Batch(transfer(_row(*places[i]), 0), 1, sample=i) for i in sorted(order)]

    def _loader(self, order: Sequence[Any]) -> DataLoader[Any]:
        """A loader of our own over the same data: own order, own generator, no persistent workers."""
        own = self.loader
        generator = torch.Generator().manual_seed(self.seed)
        if (self.batch_size is not None or self.batched) and _is_of_rows(own, order):
            return DataLoader(_Rows(private_copy(own.dataset)), sampler=order, batch_size=None, generator=generator)
        # A worker is a process of its own; without one, a data set that counts or caches would see our reads.
        dataset = own.dataset if own.num_workers else private_copy(own.dataset)
        options: dict[str, Any] = {"multiprocessing_context": own.multiprocessing_context} if own.num_workers else {}
        how = (
            {"sampler": order, "batch_size": None}
            if self.batch_size is None and not self.batched
            else {"batch_sampler": order}
        )
        return DataLoader(
            dataset,
            num_workers=min(own.num_workers, 2),
            collate_fn=own.collate_fn if own.num_workers else private_copy(own.collate_fn),
            worker_init_fn=own.worker_init_fn,
            generator=generator,
            **how,
            **options,
        )


class _Rows(Dataset[list[torch.Tensor]]):
    """A `TensorDataset`, or a subset of one, by whole batches: the bits that `default_collate` stacks, at once.

    Args:
        dataset: the data set.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset: Any = dataset

    def __getitem__(self, indices: list[int]) -> list[torch.Tensor]:
        dataset = self.dataset
        while isinstance(dataset, Subset):
            indices, dataset = [int(dataset.indices[i]) for i in indices], dataset.dataset
        return [tensor[indices] for tensor in dataset.tensors]


def _is_of_rows(loader: DataLoader[Any], order: Sequence[Any]) -> bool:
    """Whether these batches of a loader, lists of indices, can be had from `_Rows`."""
    dataset: Any = loader.dataset
    while type(dataset) is Subset and _are_places(dataset.indices):
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset or loader.collate_fn is not default_collate or loader.num_workers:
        return False
    plain = all(type(tensor) is torch.Tensor for tensor in dataset.tensors)
    return plain and all(type(index) is int for batch in order for index in batch)


def _are_places(indices: Any) -> bool:
    """Whether each of a subset's indices is the place of one row: not several rows, nor a mask."""
    if isinstance(indices, torch.Tensor):
        return indices.ndim == 1 and indices.dtype in (torch.int64, torch.int32)
    if isinstance(indices, np.ndarray):
        return indices.ndim == 1 and indices.dtype.kind == "i"
    return isinstance(indices, range) or (isinstance(indices, list | tuple) and all(type(i) is int for i in indices))


_OF_THE_WHOLE = {RandomSampler.__iter__, SequentialSampler.__iter__, DistributedSampler.__iter__}


def _is_in_order(sampler: Any) -> bool:
    """Whether a sampler goes through the data set in its order, be it with other processes in turn."""
    shared = _way(sampler) is DistributedSampler.__iter__ and not sampler.shuffle
    return shared or _way(sampler) is SequentialSampler.__iter__


def _way(thing: Any) -> Any:
    """How a thing is iterated: a class derived from one of torch's may do it in its own way."""
    return getattr(type(thing), "__iter__", None)


def _limited(batches: int, limit: float) -> int:
    """How many of `batches` the Trainer takes under ``limit_<data>_batches``."""
    return int(batches * limit) if isinstance(limit, float) else min(limit, batches)


def _length(loader: Any) -> int:
    """How many batches a loader says that it has; 0 where it does not."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return 0


def _drawn(sampler: Any, loader: DataLoader[Any], seed: int) -> list[Any]:
    """One epoch of a sampler in its own distribution, from a copy that starts at `seed`."""
    twin = private_copy(sampler, [loader.dataset])
    if isinstance(getattr(twin, "generator", None), torch.Generator):
        twin.generator = torch.Generator().manual_seed(seed)
    length = len(sampler) if hasattr(sampler, "__len__") else 0
    return list(islice(twin, max(length, len(loader.dataset))))  # type: ignore[arg-type]


def _again(loader: Any, seed: int) -> Iterable[Any]:
    """An iterable like `loader` whose iteration does not move the original; its generators start at `seed`.

    Raises:
        CannotMeasureError: if that is impossible.
    """
    try:
        if not isinstance(loader, DataLoader):
            return private_copy(loader, may_read_once=False)
        if _has_own_way(loader):
            return _twin(loader, seed)
        alone = not loader.num_workers
        return DataLoader(
            private_copy(loader.dataset, may_read_once=False) if alone else loader.dataset,
            batch_size=loader.batch_size,
            collate_fn=private_copy(loader.collate_fn) if alone else loader.collate_fn,
            num_workers=min(loader.num_workers, 1),
            worker_init_fn=loader.worker_init_fn,
            generator=torch.Generator().manual_seed(seed),
        )
    except ReadOnceError as error:
        raise CannotMeasureError(
            f"The data ({type(loader).__name__}) can only be read once ({error}): what a landscape took of it, the "
            "training would miss. Give a data set that can be indexed, or that starts anew at each iter()."
        ) from error


def _has_own_way(loader: DataLoader[Any]) -> bool:
    """Whether a class of the user's iterates otherwise than a DataLoader: it may change the batches."""
    return _way(loader) is not DataLoader.__iter__ or type(loader)._get_iterator is not DataLoader._get_iterator


def _twin(loader: DataLoader[Any], seed: int) -> DataLoader[Any]:
    """A copy of a loader, at its beginning; iterators that the user's holds, with workers or without, are made anew."""
    held = [name for name, value in vars(loader).items() if isinstance(value, _BaseDataLoaderIter)]
    twin = copy.copy(loader)
    vars(twin).update(dict.fromkeys(held), num_workers=min(loader.num_workers, 1))
    vars(twin).update(persistent_workers=False, pin_memory=False)
    shared = [loader.dataset, loader.multiprocessing_context] if loader.num_workers else []
    twin = private_copy(twin, shared, may_read_once=False)
    for generator in generators_of(twin):
        generator.manual_seed(seed)
    for name in held:
        if name != "_iterator":  # DataLoader's own, for workers that stay
            vars(twin)[name] = DataLoader.__iter__(twin)
    return twin


def _some(batches: Iterable[Any], max_samples: int | None) -> Iterator[Any]:
    """Batches until they hold `max_samples`."""
    count = 0
    for batch in batches:
        if max_samples is not None and count >= max_samples:
            return
        yield batch
        count += size_of(batch)


def _row(batch: Any, row: int) -> Any:
    """One sample of a batch."""
    return rows(batch, row, row + 1, size_of(batch))
