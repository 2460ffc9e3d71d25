"""Python state outside of a module that its code reaches by name: globals and attributes of classes."""

from __future__ import annotations

import functools
import io
import operator
import random
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from ..rng import is_global_stream

LONG = 256  # of longer containers the length is put back: they are data, to which code at most adds
DEEP = 3  # levels of containers and objects in each other
FOREIGN = {"torch", "lightning", "pytorch_lightning", "lightning_fabric", "torchmetrics", __name__.partition(".")[0]}
CONTAINERS = list | dict | set | deque
CODE = FunctionType | MethodType | type
GENERATORS = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
_MISSING: Any = object()


class Reached:
    """The containers, objects, names and generators that a user's functions can reach, and how to put them back.

    Args:
        roots: functions, methods, `nn.Module`s (their code, not what they hold) and other objects. Of what a function
            closes over, code, generators and files count: the rest is its own.

    Attributes:
        files: those among what was reached that are open to be written.
    """

    def __init__(self, roots: Iterable[Any]) -> None:
        self.files: list[Any] = []
        self._containers: list[Any] = []
        self._places: dict[tuple[int, str], Any] = {}  # names in a dictionary or a class, by its id
        self._generators: list[Callable[[], Any]] = []  # put their states back
        self._made: list[Callable[[], Any]] = []  # forget what was made
        self._seen: dict[int, Any] = {}  # kept, so that no id is used again
        self._asked: set[tuple[int, tuple[str, ...]]] = set()
        self._mentioned: set[str] = set()
        for root in roots:
            self._visit(root, 0)
        self._places = {(i, name): owner for (i, name), owner in self._places.items() if name in self._mentioned}

    def read(self) -> tuple[list[Any], list[Any]]:
        """The items of each reached container (the length of a long one), and the value of each name."""
        names = [_get(owner, name) for (_, name), owner in self._places.items()]
        return [_items(container) for container in self._containers], names

    def put_back(self, before: tuple[list[Any], list[Any]]) -> None:
        """Make what was changed what it was when it was read; what was made since waits for `finish`.

        That is new keys of dictionaries, and what is now in place of None, such as a cache or a connection.
        """
        for container, items in zip(self._containers, before[0], strict=True):
            if isinstance(container, dict):
                self._put_back_keys(container, items)
            else:
                _put_back(container, items)
        for ((_, name), owner), value in zip(self._places.items(), before[1], strict=True):
            if _get(owner, name) is not value:
                self._put_back_name(owner, name, value)

    def start(self) -> None:
        """Every generator in the state in which it was reached."""
        for put_back in self._generators:
            put_back()

    def finish(self) -> None:
        """Forget what was made, too."""
        self.start()
        while self._made:
            self._made.pop()()

    def _put_back_keys(self, container: dict[Any, Any], items: Any) -> None:
        if isinstance(items, int):
            added = list(container)[items:]
        else:
            added = [key for key in list(container) if key not in items]
            for key, value in items.items():
                if container.get(key, _MISSING) is not value:
                    self._put_back_name(container, key, value)
        self._made += [partial(container.pop, key, None) for key in added]

    def _put_back_name(self, owner: Any, name: Any, value: Any) -> None:
        if value is None or value is _MISSING:
            self._made.append(partial(_set, owner, name, value))
        else:
            _set(owner, name, value)

    def _visit(self, value: Any, depth: int) -> None:
        if id(value) in self._seen or isinstance(value, int | float | str | bytes | None) or is_global_stream(value):
            return
        self._seen[id(value)] = value
        if isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, MethodType | partial | staticmethod | classmethod | property):
            self._parts(value, depth)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, nn.Module):
            for part in value.modules():
                self._class(type(part))
                for held in list(vars(part).values()):
                    if isinstance(held, FunctionType | MethodType):
                        self._visit(held, depth)
                    elif not isinstance(held, ModuleType):
                        self._class(type(held))
        elif isinstance(value, io.IOBase):
            self.files += [value] if not value.closed and value.writable() else []
        elif isinstance(value, CONTAINERS | tuple):
            self._container(value, depth)
        elif isinstance(value, torch.Generator):
            self._generators.append(partial(value.set_state, value.get_state()))
        elif isinstance(value, np.random.Generator):
            self._generators.append(partial(setattr, value.bit_generator, "state", value.bit_generator.state))
        elif isinstance(value, np.random.RandomState):
            self._generators.append(partial(value.set_state, value.get_state()))
        elif isinstance(value, random.Random):
            self._generators.append(partial(value.setstate, value.getstate()))
        elif hasattr(value, "__dict__") and not is_foreign(type(value).__module__):
            self._class(type(value))
            self._container(vars(value), depth)

    def _parts(self, value: Any, depth: int) -> None:
        names = ("__func__", "__self__", "func", "args", "keywords", "fget")
        for part in [getattr(value, name, None) for name in names]:
            self._visit(part, depth)

    def _container(self, value: Any, depth: int) -> None:
        if not isinstance(value, tuple):
            self._containers.append(value)
        if len(value) <= LONG and depth < DEEP:
            for item in list(value.values() if isinstance(value, dict) else value):
                self._visit(item, depth + 1)

    def _class(self, kind: type) -> None:
        for owner in kind.__mro__:
            if (id(owner) in self._seen and owner is not kind) or is_foreign(owner.__module__):
                continue
            self._seen[id(owner)] = owner
            for name, value in list(vars(owner).items()):
                if isinstance(value, FunctionType | staticmethod | classmethod | property):
                    self._visit(value, 0)
                elif not name.startswith("__"):
                    self._places[id(owner), name] = owner
                    self._visit(value, 0)

    def _function(self, function: FunctionType) -> None:
        if is_foreign(function.__module__ or ""):
            return
        names = tuple(_names(function.__code__))
        self._mentioned.update(names)
        self._named(function.__globals__, names)
        if vars(function):
            self._container(vars(function), 0)
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # an empty cell
                if isinstance(cell.cell_contents, CODE | GENERATORS | io.IOBase):
                    self._visit(cell.cell_contents, 0)

    def _named(self, namespace: dict[str, Any], names: tuple[str, ...]) -> None:
        """Visit the values of `names` in a namespace, and in the user's modules found there."""
        if (id(namespace), names) in self._asked:
            return
        self._asked.add((id(namespace), names))
        for name in namespace.keys() & set(names):
            self._places[id(namespace), name] = namespace
            value = namespace[name]
            if not isinstance(value, ModuleType):
                self._visit(value, 0)
            elif not is_foreign(value.__name__):
                self._named(vars(value), names)


def _names(code: CodeType) -> Iterator[str]:
    """All names in a function and in those inside of it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


@functools.cache
def is_foreign(module: str) -> bool:
    """True if a module belongs to a library or to Python: its state is left alone."""
    top = module.partition(".")[0]
    if top in FOREIGN or top in sys.stdlib_module_names or top == "builtins":
        return True
    home = getattr(sys.modules.get(top), "__file__", None) or ""
    return "site-packages" in home or "dist-packages" in home


def _get(owner: Any, name: str) -> Any:
    return (owner if isinstance(owner, dict) else vars(owner)).get(name, _MISSING)


def _set(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, dict):
        if value is _MISSING:
            owner.pop(name, None)
        else:
            owner[name] = value
    elif value is _MISSING:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


def _items(container: Any) -> Any:
    """A copy of a container; the length of a long one."""
    if len(container) > LONG:
        return len(container)
    return list(container) if isinstance(container, deque) else container.copy()


def _put_back(container: Any, items: Any) -> None:
    """Put back the items of a list, a set or a deque; a long one is only shortened."""
    if isinstance(items, int):
        while len(container) > items:
            container.pop()
    elif isinstance(container, set):
        container ^= container ^ items
    elif not _same(container, items):
        container.clear()
        container.extend(items)


def _same(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(map(operator.is_, list(one), other))  # a copy: other threads may add to it
