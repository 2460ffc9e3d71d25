"""The python state of a module: lists it appends to, counters, generators; put back before every point."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .effects import writer_classes
from .parameters import size_in_bytes
from .sharding import author_class

# What nn.Module itself keeps; the evaluator handles parameters and buffers.
# Accelerations put another forward on an instance.
_KEPT_BY_TORCH = frozenset(vars(nn.Module())) | {"_trainer", "_fabric", "trainer", "log", "log_dict", "forward"}
LARGE = 64 * 2**20  # bytes: larger arrays of other objects than modules are data
MOST_ITEMS = 256  # longer containers are data, whose items nobody edits in place
# Objects of these are no state of the step: the Trainer, loaders, arrays (which are remembered below).
_FOREIGN = ("torch", "lightning", "pytorch_lightning", "numpy", "random", "builtins", "threading", "_", "io")
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
        self._tensors: list[tuple[Tensor, Tensor]] = []
        self._undo: list[Callable[[], Any]] = []
        self._seen: set[int] = set()
        for part in module.modules():
            own = {key: value for key, value in vars(part).items() if key not in _KEPT_BY_TORCH}
            if not author_class(part).__module__.startswith(_LIBRARIES):
                self._objects.append((vars(part), own))
            for value in own.values():
                self._remember(value)
        self._largest = LARGE
        self._seen |= {id(other) for other in others}
        for other in others:
            self._objects.append((vars(other), dict(vars(other))))
            for key, value in vars(other).items():
                if key not in _KEPT_BY_TORCH:
                    self._remember(value)

    def _remember(self, value: Any, depth: int = 0) -> None:
        if id(value) in self._seen or depth > 3 or isinstance(value, self._writers):
            return
        self._seen.add(id(value))
        if isinstance(value, tuple) and len(value) <= MOST_ITEMS:
            for item in value:
                self._remember(item, depth + 1)
        elif isinstance(value, list | set | deque | dict):
            self._containers.append((value, value.copy()))
            if len(value) <= MOST_ITEMS:
                for item in value.values() if isinstance(value, dict) else value:
                    self._remember(item, depth + 1)
        elif hasattr(value, "__dict__") and not type(value).__module__.startswith(_FOREIGN) and not callable(value):
            self._objects.append((vars(value), dict(vars(value))))
            for item in list(vars(value).values()):
                self._remember(item, depth + 1)
        elif isinstance(value, torch.Generator):
            self._undo.append(partial(value.set_state, value.get_state()))
        elif isinstance(value, np.random.Generator):
            self._undo.append(partial(setattr, value.bit_generator, "state", value.bit_generator.state))
        elif isinstance(value, np.random.RandomState):
            self._undo.append(partial(value.set_state, value.get_state()))
        elif isinstance(value, random.Random):
            self._undo.append(partial(value.setstate, value.getstate()))
        elif isinstance(value, np.ndarray) and value.flags.writeable and value.nbytes <= self._largest:
            self._undo.append(partial(np.copyto, value, value.copy()))
        elif isinstance(value, nn.Parameter):
            return  # the evaluator moves it
        elif isinstance(value, Tensor) and size_in_bytes(value) <= self._largest:
            self._tensors.append((value, value.detach().clone()))

    def restore(self) -> None:
        """Put everything back, in place."""
        for attributes, kept in self._objects:
            for key in [k for k in attributes if k not in kept and k not in _KEPT_BY_TORCH]:
                del attributes[key]
            attributes.update(kept)
        for container, items in self._containers:
            container.clear()
            container.extend(items) if isinstance(container, list | deque) else container.update(items)
        for tensor, values in self._tensors:
            tensor.detach().copy_(values)
        for put_back in self._undo:
            put_back()
