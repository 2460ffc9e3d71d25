"""The Python state of a module (lists, counters, generators), which is restored before every point."""

from __future__ import annotations

import math
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
from .copying import LIMITS, attributes_of, connects, is_filled, put_attribute, slots_of
from .effects import writer_classes
from .observers import LOGGERS, TABLES, children_of, root_of
from .rng import restorer_of
from .tensor_state import SavedTensors, ScriptState

# Attributes of nn.Module itself, of Lightning, and the `forward` that accelerations replace on an instance. The
# evaluator restores parameters and buffers.
_ATTRIBUTES_OF_TORCH = {*vars(nn.Module()), "_trainer", "_fabric", "trainer", "log", "log_dict", "forward"}
# Objects of these packages hold no state of the step: the Trainer, loaders, arrays (which are restored separately).
_FOREIGN = {
    *LOGGERS, "torch", "lightning", "pytorch_lightning", "lightning_fabric", "lightning_landscape", "numpy", "random",
    "builtins", "collections", "functools", "io", "_io",
}  # fmt: skip
_LIBRARIES = ("torch.", "torchmetrics.", "torchvision.")


class PythonState:
    """The saved attributes of the user's classes in a module and in `objects`, which can be restored.

    A step may append its outputs to a list, count its calls or keep a running mean. Without the restoration the memory
    would grow with every point, and a point would depend on those before it.

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

    def __init__(self, module: nn.Module, objects: Iterable[object] = ()) -> None:
        self._largest = math.inf  # bytes of an array or tensor that is saved
        self._writers = tuple(writer_classes())  # shared with the original, where they do nothing (`effects`)
        self._objects: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._containers: list[tuple[Any, Any]] = []
        self._hooks: list[tuple[dict[int, Any], dict[int, Any]]] = []
        self._restorers: list[Callable[[], Any]] = []
        self._tensors: list[Tensor] = []
        self._seen = {id(module)}
        for part in module.modules():
            self._seen |= {id(part), *map(id, part.parameters(recurse=False))}  # the evaluator restores parameters
        for part in module.modules():
            self._save_part(part)
        self._largest, objects = LIMITS.array_bytes, list(objects)
        self._seen |= set(map(id, objects))
        for thing in objects:
            self._objects.append((vars(thing), dict(vars(thing))))
            self._save_values(vars(thing))
        self._restorers.insert(0, SavedTensors(self._tensors).restore)

    def _save_part(self, part: nn.Module) -> None:
        self._hooks += [(table, dict(table)) for name, table in vars(part).items() if name in TABLES]
        if not author_class(part).__module__.startswith(_LIBRARIES):
            attributes = {key: value for key, value in vars(part).items() if key not in _ATTRIBUTES_OF_TORCH}
            self._objects.append((vars(part), attributes))
        self._save_values(vars(part))

    def _save_values(self, attributes: dict[str, Any]) -> None:
        for value in [value for key, value in attributes.items() if key not in _ATTRIBUTES_OF_TORCH]:
            self._save(value)

    def _save(self, value: object, levels: int = 6) -> None:
        """Save a value, and the objects to which it leads over at most `levels` others."""
        if id(value) in self._seen or levels < 0 or isinstance(value, (type, *self._writers)) or connects(value):
            return
        self._seen.add(id(value))
        if isinstance(value, Tensor):
            self._tensors += [value] if size_in_bytes(value) <= self._largest else []
        elif isinstance(value, nn.Module):
            self._save_other_module(value)
        else:
            if isinstance(value, list | set | deque | dict):
                self._containers.append((value, value.copy()))
            if _is_object(value):
                self._save_attributes(value)
            self._restorers += self._restorers_of(value)
            if isinstance(value, tuple | list | set | deque | dict):
                leads_on = len(value) <= LIMITS.items
            else:
                leads_on = _is_object(value) or isinstance(value, _LINKS)
            for item in children_of(value) if leads_on else ():
                self._save(item, levels - 1)

    def _save_attributes(self, value: object) -> None:
        if isinstance(getattr(value, "__dict__", None), dict):
            self._objects.append((vars(value), dict(vars(value))))
        slots = {name: item for name, item in attributes_of(value) if name in slots_of(type(value))}
        self._restorers += [partial(put_attribute, value, name, item) for name, item in slots.items()]

    def _save_other_module(self, module: nn.Module) -> None:
        """Save a module outside of the measured one, with the buffers and flags that only this class restores."""
        self._restorers.append(ScriptState(module).restore)
        for part in module.modules():
            self._seen.add(id(part))
            if not isinstance(part, torch.jit.ScriptModule):
                self._objects.append((vars(part), dict(vars(part))))
                self._containers.append((part._buffers, part._buffers.copy()))
                for buffer in part._buffers.values():
                    self._save(buffer)
                self._save_values(vars(part))

    def _restorers_of(self, value: object) -> list[Callable[[], Any]]:
        """The calls that restore a value whose state is more than its items and attributes."""
        if isinstance(value, np.ndarray):
            may_change = value.flags.writeable and value.nbytes <= self._largest
            return [partial(np.copyto, value, value.copy())] if may_change else []
        if isinstance(value, FunctionType):
            cells = [cell for cell in value.__closure__ or () if is_filled(cell)]
            return [partial(setattr, cell, "cell_contents", cell.cell_contents) for cell in cells]
        restore = value.cache_clear if isinstance(value, type(cache(bool))) else restorer_of(value)
        return [] if restore is None else [restore]

    def restore(self) -> None:
        """Restore all of it in place."""
        for attributes, saved in self._objects:
            for key in [k for k in attributes if k not in saved and k not in _ATTRIBUTES_OF_TORCH]:
                del attributes[key]
            attributes.update(saved)
        for container, items in self._containers:
            container.clear()
            container.extend(items) if isinstance(container, list | deque) else container.update(items)
        for table, hooks in self._hooks:
            if table.keys() != hooks.keys():
                table.clear()
                table.update(hooks)
        for restore in self._restorers:
            restore()


_LINKS = (FunctionType, MethodType, BuiltinFunctionType, partial, type(cache(bool)))


def _is_object(value: object) -> bool:
    """True if the attributes of a value may hold a state of the step."""
    has_attributes = isinstance(getattr(value, "__dict__", None), dict) or bool(slots_of(type(value)))
    return has_attributes and root_of(type(value).__module__) not in _FOREIGN
