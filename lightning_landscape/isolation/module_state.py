"""The python state of a module: lists it appends to, counters, generators; put back before every point."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache, partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..weights.parameters import size_in_bytes
from ..weights.sharding import author_class
from .copying import attributes_of, connects, is_filled, put_attribute, slots_of
from .effects import writer_classes
from .observers import LOGGERS, TABLES, held_by, root_of
from .tensor_state import Remembered, ScriptState

# What nn.Module itself keeps; the evaluator handles parameters and buffers.
# Accelerations put another forward on an instance.
_KEPT_BY_TORCH = frozenset(vars(nn.Module())) | {"_trainer", "_fabric", "trainer", "log", "log_dict", "forward"}
LARGE = 64 * 2**20  # bytes: larger arrays of other objects than modules are data
MOST_ITEMS = 256  # longer containers are data, whose items nobody edits in place
DEEPEST = 6  # objects inside one another, beginning with an attribute of a module
# Objects of these packages are no state of the step: the Trainer, loaders, arrays (which are remembered below).
_FOREIGN = LOGGERS | frozenset(
    [
        "torch", "lightning", "pytorch_lightning", "lightning_fabric", "lightning_landscape", "numpy", "random",
        "builtins", "collections", "functools", "io", "_io",
    ]
)  # fmt: skip
_LIBRARIES = ("torch.", "torchmetrics.", "torchvision.")


class PythonState:
    """Remembers the attributes of the user's own classes in a module tree, and of `others`, and puts them back.

    A step that appends its outputs to a list, counts its calls or keeps a running mean would otherwise grow
    the memory with every point, and make a point depend on the points before it.

    >>> class Counter(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.seen, self.calls = [], 0
    >>> module = Counter()
    >>> state = PythonState(module)
    >>> module.seen.append(1); module.calls += 1; module.new = True
    >>> state.restore(); (module.seen, module.calls, hasattr(module, "new"))
    ([], 0, False)
    """

    def __init__(self, module: nn.Module, others: Iterable[Any] = ()) -> None:
        self._largest = math.inf
        self._writers = tuple(writer_classes())  # shared with the original, and still (`effects`)
        self._objects: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._containers: list[tuple[Any, Any]] = []
        self._hooks: list[tuple[dict[int, Any], dict[int, Any]]] = []
        self._undo: list[Callable[[], Any]] = []
        self._seen: set[int] = {id(module)}
        tensors: list[Tensor] = []
        for part in module.modules():
            self._seen |= {id(part), *map(id, part.parameters(recurse=False))}  # the evaluator moves these
        for part in module.modules():
            self._remember_part(part, tensors)
        self._largest = LARGE
        self._seen |= {id(other) for other in others}
        for other in others:
            self._objects.append((vars(other), dict(vars(other))))
            for key, value in vars(other).items():
                if key not in _KEPT_BY_TORCH:
                    self._remember(value, tensors)
        self._tensors = Remembered(tensors)

    def _remember_part(self, part: nn.Module, tensors: list[Tensor]) -> None:
        self._hooks += [(table, dict(table)) for name, table in vars(part).items() if name in TABLES]
        own = {key: value for key, value in vars(part).items() if key not in _KEPT_BY_TORCH}
        if not author_class(part).__module__.startswith(_LIBRARIES):
            self._objects.append((vars(part), own))
        for value in own.values():
            self._remember(value, tensors)

    def _remember(self, value: Any, tensors: list[Tensor], depth: int = 0) -> None:
        if id(value) in self._seen or depth > DEEPEST or isinstance(value, (type, *self._writers)) or connects(value):
            return
        self._seen.add(id(value))
        if isinstance(value, Tensor):
            if size_in_bytes(value) <= self._largest:
                tensors.append(value)
            return
        if isinstance(value, nn.Module):  # outside of the tree
            return self._remember_stranger(value, tensors)
        is_container = isinstance(value, list | set | deque | dict)
        if is_container:
            self._containers.append((value, value.copy()))
        if _is_object(value):
            self._remember_attributes(value)
        self._undo += self._undoing(value)
        if isinstance(value, tuple) or is_container:
            items = held_by(value) if len(value) <= MOST_ITEMS else ()
        else:
            items = held_by(value) if _is_object(value) or isinstance(value, _HOLDERS) else ()
        for item in items:
            self._remember(item, tensors, depth + 1)

    def _remember_attributes(self, value: Any) -> None:
        if isinstance(getattr(value, "__dict__", None), dict):
            self._objects.append((vars(value), dict(vars(value))))
        there = dict(attributes_of(value))
        self._undo += [partial(put_attribute, value, n, there[n]) for n in slots_of(type(value)) if n in there]

    def _remember_stranger(self, module: nn.Module, tensors: list[Tensor]) -> None:
        """A module that is no part of the tree, with its buffers and flags, which nobody else puts back."""
        self._undo.append(ScriptState(module).restore)
        for part in module.modules():
            self._seen.add(id(part))
            if isinstance(part, torch.jit.ScriptModule):
                continue
            self._objects.append((vars(part), dict(vars(part))))
            self._containers.append((part._buffers, part._buffers.copy()))
            for value in [*part._buffers.values(), *(v for k, v in vars(part).items() if k not in _KEPT_BY_TORCH)]:
                self._remember(value, tensors)

    def _undoing(self, value: Any) -> list[Callable[[], Any]]:
        """The calls that put back a value which changes in another way than by its items and attributes."""
        if isinstance(value, torch.Generator):
            return [partial(value.set_state, value.get_state())]
        if isinstance(value, np.random.Generator):
            return [partial(setattr, value.bit_generator, "state", value.bit_generator.state)]
        if isinstance(value, np.random.RandomState):
            return [partial(value.set_state, value.get_state())]
        if isinstance(value, random.Random):
            return [partial(value.setstate, value.getstate())]
        if isinstance(value, np.ndarray):
            may_change = value.flags.writeable and value.nbytes <= self._largest
            return [partial(np.copyto, value, value.copy())] if may_change else []
        if isinstance(value, FunctionType) and value.__closure__:
            cells = [cell for cell in value.__closure__ if is_filled(cell)]
            return [partial(setattr, cell, "cell_contents", cell.cell_contents) for cell in cells]
        return [value.cache_clear] if isinstance(value, type(cache(bool))) else []

    def restore(self) -> None:
        """Put everything back, in place."""
        for attributes, kept in self._objects:
            for key in [k for k in attributes if k not in kept and k not in _KEPT_BY_TORCH]:
                del attributes[key]
            attributes.update(kept)
        for container, items in self._containers:
            container.clear()
            container.extend(items) if isinstance(container, list | deque) else container.update(items)
        for table, hooks in self._hooks:
            if table.keys() != hooks.keys():
                table.clear()
                table.update(hooks)
        self._tensors.restore()
        for put_back in self._undo:
            put_back()


_HOLDERS = (FunctionType, MethodType, BuiltinFunctionType, partial, type(cache(bool)))


def _is_object(value: Any) -> bool:
    """True if a value is of a class whose objects may hold a state of the step's in their attributes."""
    has_attributes = isinstance(getattr(value, "__dict__", None), dict) or bool(slots_of(type(value)))
    return has_attributes and root_of(type(value).__module__) not in _FOREIGN
