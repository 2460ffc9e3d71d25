"""The samples of a batch, whatever its structure: how many there are, and which of them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader

from .base import CannotMeasureError
from .batches import inside, is_array, leaves

TARGETS = ("y", "label", "labels", "target", "targets")  # the names that mappings and graphs have for them
DEEPEST = 4  # levels of a batch that are looked into for its size: objects may know each other in a ring


class IndivisibleError(CannotMeasureError):
    """The samples of a batch can't be told apart."""


@dataclass(frozen=True, eq=False)
class Counted:
    """A batch as a loader gave it, and the number of its samples.

    Args:
        data: the batch.
        size: B.
    """

    data: Any
    size: int


class _Counting:
    """A collate function whose batches say of how many samples they are.

    Args:
        collate: the user's.
    """

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, samples: Sequence[Any]) -> Counted:
        return Counted(self.collate(samples), len(samples))


def counting(loader: DataLoader[Any]) -> DataLoader[Any]:
    """A loader that collates single samples, as one whose batches are `Counted`; the original stays as it is."""
    twin = copy.copy(loader)
    vars(twin).update(collate_fn=_Counting(loader.collate_fn), _iterator=None)
    return twin


def counted(batches: Iterable[Any]) -> Iterator[Counted]:
    """Each of these batches with its size: what was counted, or else what `size_of` finds."""
    for data in batches:
        yield data if isinstance(data, Counted) else Counted(data, size_of(data))


def way_of(thing: Any) -> Any:
    """The function by which a thing is iterated: a class derived from one of torch's may have its own."""
    return getattr(type(thing), "__iter__", None)


def has_own_way(loader: DataLoader[Any]) -> bool:
    """True if a class of the user's iterates otherwise than a DataLoader: it may change the batches."""
    return way_of(loader) is not DataLoader.__iter__ or type(loader)._get_iterator is not DataLoader._get_iterator


def length_of(loader: Any) -> int | None:
    """The number of batches that a loader names; None where it does not: it may be endless.

    >>> length_of([1, 2]), length_of(iter([1, 2]))
    (2, None)
    """
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def size_of(data: Any) -> int:
    """The number of samples in a batch; 1 where nothing tells.

    What the batch itself says comes first: `num_graphs`, `batch_size`, a packed sequence. Then the number on which
    its parts agree, be they tensors, arrays, or lists of samples; where they do not agree, that of its targets.

    >>> size_of({"scale": torch.tensor(2.0), "x": torch.zeros(5, 3)})
    5
    >>> size_of(([torch.zeros(9), torch.zeros(4)], torch.tensor([0, 1])))
    2
    """
    return next(iter(_sizes(data)), 1)


def said_size(part: Any) -> int | None:
    """The number of samples that an object names; None for one that does not.

    >>> said_size(torch.nn.utils.rnn.pack_sequence([torch.zeros(3), torch.zeros(2)]))
    2
    """
    if isinstance(part, PackedSequence):
        return int(part.batch_sizes[0])
    if isinstance(part, Tensor | dict | list) or type(part) is tuple or is_array(part):
        return None
    for name in ("num_graphs", "batch_size"):
        said = getattr(part, name, None)
        said = said[0] if isinstance(said, torch.Size) and said else said
        if isinstance(said, int) and not isinstance(said, bool) and said > 0:
            return said
    return None


def _sizes(part: Any, depth: int = 0) -> list[int]:
    """The numbers of samples that a part of a batch may be of, the likeliest first; none where it tells nothing."""
    said = said_size(part)
    if said is not None:
        return [said]
    if _is_rows(part):
        return [_length(part)]
    held = inside(part) if depth < DEEPEST else None
    if not held:
        return []
    if isinstance(part, Sequence):
        return _of_sequence(list(part), depth, may_be_samples=depth > 0 or not isinstance(part, tuple))
    return _agreed(held, depth)


def _of_sequence(items: list[Any], depth: int, may_be_samples: bool) -> list[int]:
    """The size that a sequence tells: of the parts of a batch, or of samples, whose number is its length."""
    if not may_be_samples or len({_kind(item) for item in items}) > 1:
        return _agreed(dict(enumerate(items)), depth)
    within = _common([_within(item, depth + 1) for item in items])
    # All of a batch is rather a list of its parts, a part of it rather one of samples.
    return [*within, len(items)] if depth == 0 else [len(items), *within]


def _kind(item: Any) -> tuple[Any, ...]:
    """A fact that samples have in common, and inputs and targets have not."""
    if isinstance(item, Tensor | np.ndarray):
        return type(item), item.dtype, item.ndim
    return type(item), frozenset(map(type, item)) if isinstance(item, list | tuple) else None


def _within(item: Any, depth: int) -> list[int]:
    """The sizes that an item may have as a part of a batch; none where it looks like one sample."""
    if _is_rows(item):
        return [_length(item)]
    held = (inside(item) or {}).values() if depth < DEEPEST else ()
    sizes = [_sizes(value, depth + 1) for value in held]
    return _common(sizes) if all(sizes) else []


def _agreed(held: dict[Any, Any], depth: int) -> list[int]:
    """The sizes on which parts agree; else those of the targets, of a list, or of the first of them."""
    sizes = {key: own for key, value in held.items() if (own := _sizes(value, depth + 1))}
    if not sizes:
        return []
    if common := _common(list(sizes.values())):
        return common
    named = [key for key in TARGETS if key in sizes]
    last = [key for key in sizes if isinstance(key, int)][-1:]  # of (inputs, targets)
    lists = [key for key in sizes if isinstance(held[key], Sequence)]
    return sizes[[*named, *last, *lists, *sizes][0]]


def _common(sizes: list[list[int]]) -> list[int]:
    return [size for size in sizes[0] if all(size in others for others in sizes[1:])] if sizes else []


def _is_rows(part: Any) -> bool:
    """True for a tensor or array of at least one dimension."""
    return (isinstance(part, Tensor) and part.dim() > 0) or (isinstance(part, np.ndarray) and part.ndim > 0)


def _length(array: Any) -> int:
    return array.size(0) if isinstance(array, Tensor) else len(array)


def rows(data: Any, start: int, stop: int, size: int) -> Any:
    """Samples `start` to `stop` of a batch of `size`; as `picked`.

    >>> rows({"x": torch.arange(4), "name": ["a", "b", "c", "d"], "scale": torch.tensor(2.0)}, 1, 3, 4)
    {'x': tensor([1, 2]), 'name': ['b', 'c'], 'scale': tensor(2.)}
    """
    return picked(data, slice(start, stop), size)


def picked(data: Any, which: slice | list[int], size: int) -> Any:
    """Some samples of a batch of `size`: these rows of every tensor, array and list that has `size` of them.

    Raises:
        IndivisibleError: if it holds samples that have no rows: graphs, packed sequences, objects with tensors.
    """
    if _is_rows(data):
        return data if _length(data) != size else _nested(data, which) if _is_nested(data) else data[which]
    held = None if is_array(data) else inside(data)
    if said_size(data) is not None or (held and not _is_structure(data) and any(map(_is_rows, leaves(data)))):
        raise IndivisibleError(f"The samples of a {type(data).__name__} can't be told apart.")
    if not held or not _is_structure(data):
        return data
    if isinstance(data, list | tuple):
        are_samples = len(data) == size and not any(_is_rows(item) and _length(item) == size for item in data)
        items = _chosen(data, which) if are_samples else [picked(item, which, size) for item in data]
        return type(data)(*items) if hasattr(data, "_fields") else type(data)(items)
    twin = copy.copy(data)
    for name, value in held.items():
        if isinstance(data, Mapping):
            twin[name] = picked(value, which, size)
        else:
            object.__setattr__(twin, name, picked(value, which, size))  # it may be a frozen dataclass
    return twin


def _is_structure(data: Any) -> bool:
    """True for an object that is all that it holds: a mapping, a list, a dataclass, or a class by attrs."""
    return isinstance(data, Mapping | list | tuple) or any(
        hasattr(data, name) for name in ("__dataclass_fields__", "__attrs_attrs__")
    )


def _chosen(items: Sequence[Any], which: slice | list[int]) -> list[Any]:
    return list(items[which]) if isinstance(which, slice) else [items[i] for i in which]


def _is_nested(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and tensor.is_nested


def _nested(tensor: Tensor, which: slice | list[int]) -> Tensor:
    return torch.nested.nested_tensor(_chosen(tensor.unbind(), which), layout=tensor.layout)
