"""The contents of a batch of any structure: its leaves, its digest, copies of it."""

from __future__ import annotations

import copy
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..isolation.copying import slots_of
from ..weights.parameters import checksum, is_refused
from .base import Batch

_LEAVES = (Tensor, torch.nn.Module, type, FunctionType, ModuleType, str, bytes, bytearray, range)


def items_of(part: object) -> dict[Any, Any] | None:
    """The items of a part of a batch, by key, place or attribute; None for a leaf.

    >>> items_of({"x": 1}), items_of((5, 6)), items_of(7)
    ({'x': 1}, {0: 5, 1: 6}, None)
    """
    if isinstance(part, _LEAVES) or is_array(part):
        return None
    if isinstance(part, Mapping):
        return dict(part.items())
    if isinstance(part, Sequence):
        return dict(enumerate(part))
    if isinstance(part, set | frozenset):
        return dict(enumerate(sorted(part, key=repr)))
    names = slots_of(type(part))
    if not names and not hasattr(part, "__dict__"):
        return None
    return {name: getattr(part, name) for name in names if hasattr(part, name)} | getattr(part, "__dict__", {})


def is_array(part: object) -> bool:
    """True if NumPy can read it as an array: an ndarray, a table, a picture."""
    return hasattr(part, "__array__") or hasattr(part, "__array_interface__")


def leaves(data: object) -> list[Any]:
    """The leaves of nested mappings, sequences and objects with attributes, in a fixed order.

    Each container is searched once, so that objects may hold each other in a ring.

    >>> leaves({"x": [1, (2, 3)], "y": None})
    [1, 2, 3, None]
    """
    return [leaf for leaf, is_repeated in _walk(data) if not is_repeated]


def _walk(data: object) -> Iterator[tuple[Any, bool]]:
    """Every leaf with False; for a container that was met before, its number and True."""
    met: dict[int, tuple[int, object]] = {}  # kept alive, so that no id is used again
    stack = [data]
    while stack:
        part = stack.pop()
        if id(part) in met:
            yield met[id(part)][0], True
            continue
        items = items_of(part)
        if items is None:
            yield part, False
        else:
            met[id(part)] = len(met), part
            stack += reversed(items.values())


def leaf_states(data: object) -> list[tuple[Any, ...]]:
    """The state of every leaf, which an edit of the batch in place changes.

    Of a tensor: its identity, number of edits, `requires_grad` and gradient. Of an array: its bits. Else: its identity.

    >>> x = torch.zeros(2)
    >>> before = leaf_states({"x": x})
    >>> _ = x.requires_grad_()
    >>> leaf_states({"x": x}) == before
    False
    """
    return [_leaf_state(leaf) for leaf in leaves(data)]


def _leaf_state(leaf: object) -> tuple[Any, ...]:
    if isinstance(leaf, Tensor):
        return id(leaf), leaf._version, leaf.requires_grad, id(leaf.grad) if leaf.is_leaf else None
    if isinstance(leaf, np.ndarray) and not leaf.dtype.hasobject:
        return id(leaf), checksum([torch.frombuffer(bytearray(leaf.tobytes() or b" "), dtype=torch.uint8)])
    return id(leaf), bytes(leaf) if isinstance(leaf, bytearray) else None


def data_checksum(batches: Iterable[Batch]) -> str:
    """A digest of everything in the batches: tensors and arrays by their bits, other values by their text."""
    return checksum(_text(_digest(batch.data)) for batch in batches)


def _digest(data: object) -> str:
    return checksum(
        piece
        for leaf, is_repeated in _walk(data)
        for piece in ([_text(f"as number {leaf}")] if is_repeated else _bits(leaf))
    )


def _bits(leaf: object) -> list[Tensor]:
    if isinstance(leaf, Tensor):
        return [leaf]
    if is_array(leaf):
        array = np.asarray(leaf)
        if not array.dtype.hasobject:
            return [_text(f"{array.dtype}{array.shape}"), _text(array.tobytes())]
        leaf = array.tolist()
    return [_text(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(leaf)))]  # an address differs between processes


def _text(value: str | bytes) -> Tensor:
    return torch.frombuffer(bytearray(value.encode() if isinstance(value, str) else value) or b" ", dtype=torch.uint8)


def copy_to(data: object, device: torch.device) -> Any:
    """A copy of a batch whose tensors are on a device; they require gradients where the originals do."""
    tensors = [leaf for leaf in leaves(data) if isinstance(leaf, Tensor)]
    copied = [tensor.detach().to(device, copy=True).requires_grad_(tensor.requires_grad) for tensor in tensors]
    return _copied(data, {id(tensor): twin for tensor, twin in zip(tensors, copied, strict=True)})


def as_float64(data: object) -> Any:
    """A copy of a batch whose real tensors are float64; they require gradients where the originals do.

    >>> as_float64({"x": torch.ones(1), "y": torch.tensor([2])})
    {'x': tensor([1.], dtype=torch.float64), 'y': tensor([2])}
    """
    tensors = [leaf for leaf in leaves(data) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    copied = [tensor.detach().to(torch.float64, copy=True).requires_grad_(tensor.requires_grad) for tensor in tensors]
    return _copied(data, {id(tensor): twin for tensor, twin in zip(tensors, copied, strict=True)})


def deep_copy(data: object) -> Any:
    """A copy of a batch that shares nothing with it, except for parts that can't be copied."""
    refused = [leaf for leaf in leaves(data) if isinstance(leaf, Tensor) and is_refused(leaf)]
    return _copied(data, {id(leaf): leaf.detach().clone() for leaf in refused})


def _copied(data: object, memo: dict[int, Any]) -> Any:
    """A deep copy with the parts in `memo`, by the ids of the originals; locks and open files are shared."""
    try:
        return copy.deepcopy(data, dict(memo))
    except RecursionError:
        return _in_large_stack(lambda: copy.deepcopy(data, dict(memo)))
    except Exception:  # noqa: BLE001  # whatever refuses
        shared = [leaf for leaf in leaves(data) if id(leaf) not in memo and not _can_be_copied(leaf)]
        return copy.deepcopy(data, memo | {id(leaf): leaf for leaf in shared})


def _can_be_copied(leaf: object) -> bool:
    try:
        copy.deepcopy(leaf)
    except Exception:  # noqa: BLE001  # whatever it is, it is no state of a batch
        return False
    return True


def _in_large_stack(function: Callable[[], Any], frames: int = 2**18, stack_bytes: int = 2**29) -> Any:
    """The result of a function that recurses along a chain of objects, in a thread with a large stack.

    Unused pages of the stack take no memory.
    """
    stack, recursion = threading.stack_size(stack_bytes), sys.getrecursionlimit()
    sys.setrecursionlimit(frames)
    try:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(function).result()
    finally:
        sys.setrecursionlimit(recursion)
        threading.stack_size(stack)


def generators_of(loader: object) -> list[torch.Generator]:
    """The generators in the attributes of a loader and its samplers."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return [generator for generator in found if isinstance(generator, torch.Generator)]


@contextmanager
def generators_at(loader: object, seed: int) -> Iterator[None]:
    """Seed the generators of a loader and its samplers; on leaving, restore their states.

    >>> data = torch.utils.data.TensorDataset(torch.arange(9))
    >>> loader = torch.utils.data.DataLoader(data, shuffle=True, generator=torch.Generator())
    >>> before = loader.generator.get_state()
    >>> with generators_at(loader, 0):
    ...     _ = list(loader)
    >>> torch.equal(loader.generator.get_state(), before)
    True
    """
    states = [(generator, generator.get_state()) for generator in generators_of(loader)]
    for generator, _ in states:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)
