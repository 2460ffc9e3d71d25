"""ReachableState: the globals and attributes of classes that a user's code reaches by name."""

from __future__ import annotations

import functools
import io
import operator
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeAlias

from torch import nn

from ..copying import LIMITS
from ..rng import is_global_stream, restorer_of

FOREIGN = {"torch", "lightning", "pytorch_lightning", "lightning_fabric", "torchmetrics", __name__.partition(".")[0]}
Container: TypeAlias = "list[Any] | dict[Any, Any] | set[Any] | deque[Any]"
Namespace: TypeAlias = "dict[str, Any] | type"
Items: TypeAlias = "list[Any] | dict[Any, Any] | set[Any] | int"  # of a container; an int is the length of a long one
Values: TypeAlias = "tuple[list[Items], list[object]]"  # the items of containers, and the values of names
_MISSING = object()


class ReachableState:
    """The containers, names and generators that a user's functions can reach, whose state can be restored.

    Args:
        roots: functions, methods, `nn.Module`s (their code, not their attributes) and other objects. In a closure, only
            functions, classes, generators and files count: other objects belong to the function.

    Attributes:
        files: the reachable files that are open for writing.
    """

    def __init__(self, roots: Iterable[object]) -> None:
        self.files: list[io.IOBase] = []
        self._containers: list[Container] = []
        self._names: dict[tuple[int, str], Namespace] = {}  # by the id of the namespace and the name
        self._generators: list[Callable[[], Any]] = []  # restore their states
        self._removers: list[Callable[[], Any]] = []  # remove new objects
        self._seen: dict[int, object] = {}  # references to the objects: their ids stay unique
        self._searched: set[tuple[int, tuple[str, ...]]] = set()
        self._mentioned: set[str] = set()
        for root in roots:
            self._visit(root)
        self._names = {(i, name): owner for (i, name), owner in self._names.items() if name in self._mentioned}

    def read(self) -> Values:
        """The items of each container (the length of a long one), and the value of each name."""
        names = [_get(owner, name) for (_, name), owner in self._names.items()]
        return [_items(container) for container in self._containers], names

    def restore(self, before: Values) -> None:
        """Restore the values that `read` gave. New objects remain until `finish`.

        New objects are new keys of dictionaries, and values in place of None, such as a cache or a connection.
        """
        for container, items in zip(self._containers, before[0], strict=True):
            if isinstance(container, dict):
                self._restore_keys(container, items)
            else:
                _restore_items(container, items)
        for ((_, name), owner), value in zip(self._names.items(), before[1], strict=True):
            if _get(owner, name) is not value:
                self._restore_name(owner, name, value)

    def start(self) -> None:
        """Restore every generator to the state in which it was found."""
        for restore in self._generators:
            restore()

    def finish(self) -> None:
        """Restore the generators, and remove new objects."""
        self.start()
        while self._removers:
            self._removers.pop()()

    def _restore_keys(self, container: dict[Any, Any], items: Items) -> None:
        if isinstance(items, dict):
            added = [key for key in list(container) if key not in items]
            for key, value in items.items():
                if container.get(key, _MISSING) is not value:
                    self._restore_name(container, key, value)
        else:
            added = list(container)[items:] if isinstance(items, int) else []
        self._removers += [partial(container.pop, key, None) for key in added]

    def _restore_name(self, owner: Namespace, name: str, value: object) -> None:
        if value is None or value is _MISSING:
            self._removers.append(partial(_set, owner, name, value))
        else:
            _set(owner, name, value)

    def _visit(self, value: object, levels: int = 3) -> None:
        """Add an object, and the objects in it over at most so many levels of containers and attributes."""
        if id(value) in self._seen or isinstance(value, int | float | str | bytes | None) or is_global_stream(value):
            return
        self._seen[id(value)] = value
        if isinstance(value, FunctionType):
            self._visit_function(value)
        elif isinstance(value, MethodType | partial | staticmethod | classmethod | property):
            for name in ("__func__", "__self__", "func", "args", "keywords", "fget"):
                self._visit(getattr(value, name, None), levels)
        elif isinstance(value, type):
            self._visit_class(value)
        elif isinstance(value, nn.Module):
            self._visit_module(value, levels)
        elif isinstance(value, io.IOBase):
            self.files += [value] if not value.closed and value.writable() else []
        elif isinstance(value, tuple | list | dict | set | deque):
            self._visit_container(value, levels)
        elif (restore := restorer_of(value)) is not None:
            self._generators.append(restore)
        elif hasattr(value, "__dict__") and not is_foreign(type(value).__module__):
            self._visit_class(type(value))
            self._visit_container(vars(value), levels)

    def _visit_module(self, module: nn.Module, levels: int) -> None:
        for part in module.modules():
            self._visit_class(type(part))
            for value in list(vars(part).values()):
                if isinstance(value, FunctionType | MethodType):
                    self._visit(value, levels)
                elif not isinstance(value, ModuleType):
                    self._visit_class(type(value))

    def _visit_container(self, value: Container | tuple[Any, ...], levels: int = 3) -> None:
        if not isinstance(value, tuple):
            self._containers.append(value)
        if len(value) <= LIMITS.items and levels > 0:
            for item in list(value.values() if isinstance(value, dict) else value):
                self._visit(item, levels - 1)

    def _visit_class(self, kind: type) -> None:
        for owner in kind.__mro__:
            if (id(owner) in self._seen and owner is not kind) or is_foreign(owner.__module__):
                continue
            self._seen[id(owner)] = owner
            for name, value in list(vars(owner).items()):
                if isinstance(value, FunctionType | staticmethod | classmethod | property):
                    self._visit(value)
                elif not name.startswith("__"):
                    self._names[id(owner), name] = owner
                    self._visit(value)

    def _visit_function(self, function: FunctionType) -> None:
        if is_foreign(function.__module__ or ""):
            return
        names = tuple(_names(function.__code__))
        self._mentioned.update(names)
        self._visit_names(function.__globals__, names)
        if vars(function):
            self._visit_container(vars(function))
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # an empty cell
                value = cell.cell_contents
                if isinstance(value, FunctionType | MethodType | type | io.IOBase) or restorer_of(value) is not None:
                    self._visit(value)

    def _visit_names(self, namespace: dict[str, Any], names: tuple[str, ...]) -> None:
        """Visit the values of `names` in a namespace, and in the user's modules in it."""
        if (id(namespace), names) in self._searched:
            return
        self._searched.add((id(namespace), names))
        for name in namespace.keys() & set(names):
            self._names[id(namespace), name] = namespace
            value = namespace[name]
            if not isinstance(value, ModuleType):
                self._visit(value)
            elif not is_foreign(value.__name__):
                self._visit_names(vars(value), names)


def _names(code: CodeType) -> Iterator[str]:
    """All names in a function, and in the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


@functools.cache
def is_foreign(module: str) -> bool:
    """True if a module belongs to a library or to Python, so that its state is not restored."""
    top = module.partition(".")[0]
    if top in FOREIGN or top in sys.stdlib_module_names or top == "builtins":
        return True
    home = getattr(sys.modules.get(top), "__file__", None) or ""
    return "site-packages" in home or "dist-packages" in home


def _get(owner: Namespace, name: str) -> object:
    return (owner if isinstance(owner, dict) else vars(owner)).get(name, _MISSING)


def _set(owner: Namespace, name: str, value: object) -> None:
    if isinstance(owner, dict):
        if value is _MISSING:
            owner.pop(name, None)
        else:
            owner[name] = value
    elif value is _MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


def _items(container: Container) -> Items:
    """A copy of a container, or the length of a long one, to which code at most appends data."""
    if len(container) > LIMITS.items:
        return len(container)
    return list(container) if isinstance(container, deque) else container.copy()


def _restore_items(container: list[Any] | set[Any] | deque[Any], items: Items) -> None:
    """Restore the items of a list, a set or a deque, or the length of a long one."""
    if isinstance(items, int):
        while len(container) > items:
            container.pop()
    elif isinstance(container, set):
        container ^= container ^ set(items)
    else:
        snapshot = list(container)  # other threads may append to the container
        if len(snapshot) != len(items) or not all(map(operator.is_, snapshot, items)):
            container.clear()
            container.extend(items)
