"""What a batch holds, whatever its structure: its leaves, its samples, its digest."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from .objectives import Batch
from .parameters import checksum, is_refused


def leaves(data: Any, path: frozenset[int] = frozenset()) -> list[Any]:
    """The leaves of nested mappings, sequences and objects with plain attributes, in a fixed order.

    >>> leaves({"x": [1, (2, 3)], "y": None})
    [1, 2, 3, None]
    """
    if id(data) in path:  # an object that holds itself
        return []
    inside = path | {id(data)}
    if isinstance(data, Mapping):
        return [leaf for value in data.values() for leaf in leaves(value, inside)]
    if isinstance(data, list | tuple):
        return [leaf for value in data for leaf in leaves(value, inside)]
    if hasattr(data, "__dict__") and not isinstance(data, Tensor | torch.nn.Module | type):
        return [leaf for value in vars(data).values() for leaf in leaves(value, inside)]
    return [data]


def rows(data: Any, start: int, stop: int, size: int) -> Any:
    """Samples `start` to `stop` of a batch of `size`: these rows of every tensor and list that has `size` of them.

    >>> rows({"x": torch.arange(4), "name": ["a", "b", "c", "d"], "scale": torch.tensor(2.0)}, 1, 3, 4)
    {'x': tensor([1, 2]), 'name': ['b', 'c'], 'scale': tensor(2.)}
    """

    def cut(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part[start:stop] if part.ndim and len(part) == size else part
        of_samples = len(part) == size and not any(isinstance(p, Tensor) and p.shape[:1] == (size,) for p in part)
        return part[start:stop] if of_samples else [rows(item, start, stop, size) for item in part]

    return apply_to_collection(data, (Tensor, list), cut)


def size_of(data: Any) -> int:
    """How many samples a batch holds: the length of its first tensor with a dimension; 1 without any.

    >>> size_of({"scale": torch.tensor(2.0), "x": torch.zeros(5, 3)})
    5
    """
    return next((len(leaf) for leaf in leaves(data) if isinstance(leaf, Tensor) and leaf.ndim), 1)


def data_checksum(batches: Iterable[Batch]) -> str:
    """A digest of everything in the batches: tensors by their bits, other values by their text."""
    return checksum(_text(_digest(leaves(batch.data))) for batch in batches)


def _digest(own: list[Any]) -> str:
    return checksum(leaf if isinstance(leaf, Tensor) else _text(repr(leaf)) for leaf in own)


def _text(value: str) -> Tensor:
    return torch.frombuffer(bytearray(value.encode() or b" "), dtype=torch.uint8)


def own_copy(data: Any, device: torch.device) -> Any:
    """The batch on a device, in tensors of our own, which want gradients where the loader's do."""

    def copied(tensor: Tensor) -> Tensor:
        return tensor.detach().to(device, copy=True).requires_grad_(tensor.requires_grad)

    return apply_to_collection(data, Tensor, copied)


def generators_of(loader: Any) -> list[torch.Generator]:
    """The generators that a loader and its samplers have of their own."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return [generator for generator in found if isinstance(generator, torch.Generator)]


def deep_copy(data: Any) -> Any:
    """A copy of a batch that shares nothing with it."""
    refused = [leaf for leaf in leaves(data) if isinstance(leaf, Tensor) and is_refused(leaf)]
    return copy.deepcopy(data, {id(leaf): leaf.detach().clone() for leaf in refused})


@contextmanager
def generators_at(loader: Any, seed: int) -> Iterator[None]:
    """Start the generators that a loader and its samplers have of their own at `seed`; on leaving, put them back.

    >>> data = torch.utils.data.TensorDataset(torch.arange(9))
    >>> loader = torch.utils.data.DataLoader(data, shuffle=True, generator=torch.Generator())
    >>> before = loader.generator.get_state()
    >>> with generators_at(loader, 0):
    ...     _ = list(loader)
    >>> torch.equal(loader.generator.get_state(), before)
    True
    """
    kept = [(generator, generator.get_state()) for generator in generators_of(loader)]
    for generator, _ in kept:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in kept:
            generator.set_state(state)
