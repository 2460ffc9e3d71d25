"""The number of samples in a batch of any structure, and selections of its samples."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader

from .base import CannotMeasureError
from .batches import is_array, items_of, leaves

TARGETS = ("y", "label", "labels", "target", "targets")  # their names in mappings and graphs
MAX_DEPTH = 4  # levels of a batch that are searched for its size: objects may hold each other in a ring


class IndivisibleError(CannotMeasureError):
    """An error for a batch whose samples can't be separated."""


@dataclass(frozen=True, eq=False)
class Counted:
    """A batch from a loader, with the number of its samples.

    Args:
        data: the batch.
        size: B.
    """

    data: Any
    size: int


class _CountingCollate:
    """A user's collate function, which also counts the samples of each batch."""

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: Sequence[Any]) -> Counted:
        return Counted(self.collate(samples), len(samples))


def counting(loader: DataLoader[Any]) -> DataLoader[Any]:
    """A copy of a loader that collates single samples; the copy gives `Counted` batches."""
    twin = copy.copy(loader)
    vars(twin).update(collate_fn=_CountingCollate(loader.collate_fn), _iterator=None)
    return twin


def counted(batches: Iterable[Any]) -> Iterator[Counted]:
    """Each batch with its size: the number that was counted, else that of `size_of`."""
    for data in batches:
        yield data if isinstance(data, Counted) else Counted(data, size_of(data))


def iter_method(thing: object) -> Any:
    """The `__iter__` of an object's class; None if it has none. A subclass may have replaced torch's."""
    return getattr(type(thing), "__iter__", None)


def replaces_iteration(loader: DataLoader[Any]) -> bool:
    """True if a user's subclass replaces the iteration of DataLoader: it may change the batches."""
    return iter_method(loader) is not DataLoader.__iter__ or type(loader)._get_iterator is not DataLoader._get_iterator


def length_of(loader: Iterable[Any]) -> int | None:
    """The number of batches of a loader; None without a length, where it may be endless.

    >>> length_of([1, 2]), length_of(iter([1, 2]))
    (2, None)
    """
    try:
        return len(loader)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


def size_of(data: object) -> int:
    """The number of samples in a batch; 1 where nothing in it has a size.

    A size that the batch declares comes first: `num_graphs`, `batch_size`, a packed sequence. Next comes the size on
    which its tensors, arrays and lists of samples agree. Where they disagree, the targets decide.

    >>> size_of({"scale": torch.tensor(2.0), "x": torch.zeros(5, 3)})
    5
    >>> size_of(([torch.zeros(9), torch.zeros(4)], torch.tensor([0, 1])))
    2
    """
    return next(iter(_sizes(data)), 1)


def declared_size(part: object) -> int | None:
    """The number of samples that an object declares; None for an object that declares none.

    >>> declared_size(torch.nn.utils.rnn.pack_sequence([torch.zeros(3), torch.zeros(2)]))
    2
    """
    if isinstance(part, PackedSequence):
        return int(part.batch_sizes[0])
    if isinstance(part, Tensor | dict | list) or type(part) is tuple or is_array(part):
        return None
    for name in ("num_graphs", "batch_size"):
        size = getattr(part, name, None)
        size = size[0] if isinstance(size, torch.Size) and size else size
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            return size
    return None


def _sizes(part: object, depth: int = 0) -> list[int]:
    """The possible numbers of samples of a part of a batch, the likeliest first."""
    size = declared_size(part)
    if size is not None:
        return [size]
    if _has_rows(part):
        return [_row_count(part)]
    items = items_of(part) if depth < MAX_DEPTH else None
    if not items:
        return []
    if isinstance(part, Sequence):
        return _sizes_of_sequence(list(part), depth, may_be_samples=depth > 0 or not isinstance(part, tuple))
    return _agreed_sizes(items, depth)


def _sizes_of_sequence(items: list[Any], depth: int, may_be_samples: bool) -> list[int]:
    """The possible sizes of a sequence: those of its items as parts, or its length as a list of samples."""
    if not may_be_samples or len({_kind(item) for item in items}) > 1:
        return _agreed_sizes(dict(enumerate(items)), depth)
    sizes = _common([_sizes_of_item(item, depth + 1) for item in items])
    # A whole batch is more likely a list of parts; a part of it is more likely a list of samples.
    return [*sizes, len(items)] if depth == 0 else [len(items), *sizes]


def _kind(item: object) -> tuple[Any, ...]:
    """A key that is equal for samples of one list, and different for inputs and targets."""
    if isinstance(item, Tensor | np.ndarray):
        return type(item), item.dtype, item.ndim
    return type(item), frozenset(map(type, item)) if isinstance(item, list | tuple) else None


def _sizes_of_item(item: object, depth: int) -> list[int]:
    """The possible sizes of an item as a part of a batch; none where it looks like one sample."""
    if _has_rows(item):
        return [_row_count(item)]
    items = (items_of(item) or {}).values() if depth < MAX_DEPTH else ()
    sizes = [_sizes(value, depth + 1) for value in items]
    return _common(sizes) if all(sizes) else []


def _agreed_sizes(items: dict[Any, Any], depth: int) -> list[int]:
    """The sizes on which parts agree; else those of the targets, of a list, or of the first part."""
    sizes = {key: found for key, value in items.items() if (found := _sizes(value, depth + 1))}
    if not sizes:
        return []
    if common := _common(list(sizes.values())):
        return common
    named = [key for key in TARGETS if key in sizes]
    last = [key for key in sizes if isinstance(key, int)][-1:]  # of (inputs, targets)
    lists = [key for key in sizes if isinstance(items[key], Sequence)]
    return sizes[[*named, *last, *lists, *sizes][0]]


def _common(sizes: list[list[int]]) -> list[int]:
    return [size for size in sizes[0] if all(size in candidates for candidates in sizes[1:])] if sizes else []


def _has_rows(part: object) -> TypeGuard[Tensor | NDArray[Any]]:
    """True for a tensor or array of at least one dimension."""
    return isinstance(part, Tensor | np.ndarray) and part.ndim > 0


def _row_count(array: Tensor | NDArray[Any]) -> int:
    return array.size(0) if isinstance(array, Tensor) else len(array)  # a nested tensor has no len()


def rows(data: object, start: int, stop: int, size: int) -> Any:
    """Samples `start` to `stop` of a batch of `size`; as `select_samples`.

    >>> rows({"x": torch.arange(4), "name": ["a", "b", "c", "d"], "scale": torch.tensor(2.0)}, 1, 3, 4)
    {'x': tensor([1, 2]), 'name': ['b', 'c'], 'scale': tensor(2.)}
    """
    return select_samples(data, slice(start, stop), size)


def select_samples(data: object, which: slice | list[int], size: int) -> Any:
    """A selection of the samples of a batch: the rows of every tensor, array and list of length `size`.

    Raises:
        IndivisibleError: if it holds samples without rows: graphs, packed sequences, objects with tensors.
    """
    if _has_rows(data):
        return _picked_rows(data, which) if _row_count(data) == size else data
    items = None if is_array(data) else items_of(data)
    if declared_size(data) is not None or (items and not _is_structure(data) and any(map(_has_rows, leaves(data)))):
        raise IndivisibleError(
            f"A batch of type {type(data).__name__} can't be divided into samples: make it of tensors, arrays, lists, "
            "mappings or dataclasses of these."
        )
    if not items or not _is_structure(data):
        return data
    if isinstance(data, list | tuple):
        are_samples = len(data) == size and not any(_has_rows(item) and _row_count(item) == size for item in data)
        chosen = _chosen(data, which) if are_samples else [select_samples(item, which, size) for item in data]
        return type(data)(*chosen) if hasattr(data, "_fields") else type(data)(chosen)
    twin: Any = copy.copy(data)
    for name, value in items.items():
        if isinstance(data, Mapping):
            twin[name] = select_samples(value, which, size)
        else:
            object.__setattr__(twin, name, select_samples(value, which, size))  # it may be a frozen dataclass
    return twin


def _is_structure(data: object) -> bool:
    """True for an object that is no more than its items: a mapping, a list, a dataclass, a class by attrs."""
    return isinstance(data, Mapping | list | tuple) or any(
        hasattr(data, name) for name in ("__dataclass_fields__", "__attrs_attrs__")
    )


def _chosen(items: Sequence[Any], which: slice | list[int]) -> list[Any]:
    return list(items[which]) if isinstance(which, slice) else [items[i] for i in which]


def _picked_rows(array: Tensor | NDArray[Any], which: slice | list[int]) -> Tensor | NDArray[Any]:
    if isinstance(array, Tensor) and array.is_nested:
        return torch.nested.nested_tensor(_chosen(array.unbind(), which), layout=array.layout)
    return array[which]
