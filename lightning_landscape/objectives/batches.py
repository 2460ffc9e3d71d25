"""Contents of a batch, whatever its structure: its leaves, its digest, copies of it."""

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

from ..weights.parameters import checksum, is_refused
from .base import Batch

DEEP = 2**18  # frames of Python at most, that a copy of long chains of objects takes
STACK = 2**29  # bytes for these frames; what is not used takes no memory
_LEAVES = (Tensor, torch.nn.Module, type, FunctionType, ModuleType, str, bytes, bytearray, range)


def inside(part: Any) -> dict[Any, Any] | None:
    """The items of a part of a batch, by key, place or attribute; None for a leaf.

    >>> inside({"x": 1}), inside((5, 6)), inside(7)
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
    names = [_mangled(owner, name) for owner in type(part).__mro__ for name in _slots(owner)]
    if not names and not hasattr(part, "__dict__"):
        return None
    return {name: getattr(part, name) for name in names if hasattr(part, name)} | getattr(part, "__dict__", {})


def is_array(part: Any) -> bool:
    """True if NumPy takes it for an array: one of NumPy's, a table, a picture."""
    return hasattr(part, "__array__") or hasattr(part, "__array_interface__")


def _slots(owner: type) -> list[str]:
    slots = vars(owner).get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _mangled(owner: type, name: str) -> str:
    """The name by which a slot is found from outside of its class."""
    private = name.startswith("__") and not name.endswith("__")
    return f"_{owner.__name__.lstrip('_')}{name}" if private else name


def leaves(data: Any) -> list[Any]:
    """The leaves of nested mappings, sequences and objects with attributes, in a fixed order.

    What is held several times is looked into once, so that objects may know each other.

    >>> leaves({"x": [1, (2, 3)], "y": None})
    [1, 2, 3, None]
    """
    return [leaf for leaf, is_repeated in _walk(data) if not is_repeated]


def _walk(data: Any) -> Iterator[tuple[Any, bool]]:
    """Every leaf, and False; for what holds others and was met before, its number among those, and True."""
    met: dict[int, tuple[int, Any]] = {}  # kept alive, so that no id is used again
    waiting = [data]
    while waiting:
        part = waiting.pop()
        if id(part) in met:
            yield met[id(part)][0], True
            continue
        held = inside(part)
        if held is None:
            yield part, False
        else:
            met[id(part)] = len(met), part
            waiting += reversed(held.values())


def data_checksum(batches: Iterable[Batch]) -> str:
    """A digest of everything in the batches: tensors and arrays by their bits, other values by their text."""
    return checksum(_text(_digest(batch.data)) for batch in batches)


def _digest(data: Any) -> str:
    return checksum(
        piece
        for leaf, is_repeated in _walk(data)
        for piece in ([_text(f"as number {leaf}")] if is_repeated else _bits(leaf))
    )


def _bits(leaf: Any) -> list[Tensor]:
    if isinstance(leaf, Tensor):
        return [leaf]
    if is_array(leaf):
        array = np.asarray(leaf)
        if not array.dtype.hasobject:
            return [_text(f"{array.dtype}{array.shape}"), _text(array.tobytes())]
        leaf = array.tolist()
    return [_text(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(leaf)))]  # where it lies is another place in every process


def _text(value: str | bytes) -> Tensor:
    return torch.frombuffer(bytearray(value.encode() if isinstance(value, str) else value) or b" ", dtype=torch.uint8)


def own_copy(data: Any, device: torch.device) -> Any:
    """The batch on a device, in tensors of our own, which want gradients where the loader's do."""

    def moved(tensor: Tensor) -> Tensor:
        return tensor.detach().to(device, copy=True).requires_grad_(tensor.requires_grad)

    held = leaves(data)
    return _copied(data, {id(leaf): moved(leaf) for leaf in held if isinstance(leaf, Tensor)})


def deep_copy(data: Any) -> Any:
    """A copy of a batch that shares nothing with it but what can't be copied."""
    held = leaves(data)
    refused = [leaf for leaf in held if isinstance(leaf, Tensor) and is_refused(leaf)]
    return _copied(data, {id(leaf): leaf.detach().clone() for leaf in refused})


def _copied(data: Any, memo: dict[int, Any]) -> Any:
    """A deep copy with these in place of the parts of these ids; locks, open files and the like are shared."""
    try:
        return copy.deepcopy(data, dict(memo))
    except RecursionError:
        return _with_room(lambda: copy.deepcopy(data, dict(memo)))
    except Exception:  # noqa: BLE001  # whatever refuses
        others = [leaf for leaf in leaves(data) if id(leaf) not in memo and not _may_be_copied(leaf)]
        return copy.deepcopy(data, memo | {id(leaf): leaf for leaf in others})


def _may_be_copied(leaf: Any) -> bool:
    try:
        copy.deepcopy(leaf)
    except Exception:  # noqa: BLE001  # whatever it is, it is no state of a batch
        return False
    return True


def _with_room(function: Callable[[], Any]) -> Any:
    """The result of a function that calls itself as often as a chain of objects is long: a thread has the room."""
    stack, frames = threading.stack_size(STACK), sys.getrecursionlimit()
    sys.setrecursionlimit(DEEP)
    try:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(function).result()
    finally:
        sys.setrecursionlimit(frames)
        threading.stack_size(stack)


def generators_of(loader: Any) -> list[torch.Generator]:
    """The generators that a loader and its samplers have of their own."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return [generator for generator in found if isinstance(generator, torch.Generator)]


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
