"""Copies of the user's objects that share no state with them, so that what we run leaves no trace in them."""

from __future__ import annotations

import copy
import copyreg
import functools
import gc
import queue
import struct
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..weights.parameters import is_refused, size_in_bytes
from .rng import is_global_stream

LONG = 256  # the items of longer containers are data, which nobody edits in place
LARGE = 64 * 2**20  # bytes: larger arrays are shared for the same reason
POINTER = struct.calcsize("P")  # bytes
_NOTHING = object()


class ReadOnceError(TypeError):
    """Error: the object to be copied can only be read once, such as an iterator or an open file."""


class UncopyablePartError(RuntimeError):
    """A part of a module that can be moved in its place only."""


class Copier:
    """Copies of objects, each once, which hold copies wherever the originals hold originals.

    `copy.deepcopy` leaves functions, weak references, cached functions and methods of built-in objects as they are:
    the copy would go on using the original. It loses what hangs on a parameter or is left out of a pickle, and gives
    up at the first object that can't be pickled. What a class says about its copies holds here, too. If that fails,
    and all the state of an object is Python's, its attributes are copied one by one. Copies have no finaliser.

    Args:
        memo: the copies there are already, by the ids of the originals; what stands for itself is shared.
        anchored: the ids of originals whose copies live anyway: a weak reference to any other keeps its copy alive.

    >>> def count(seen=[]):
    ...     seen.append(1)
    >>> Copier({})({"count": count})["count"]()
    >>> count.__defaults__
    ([],)
    """

    def __init__(self, memo: dict[int, Any], anchored: Iterable[int] = ()) -> None:
        self.memo, self.anchored = memo, frozenset(anchored)
        self._pairs: list[tuple[Any, Any]] = []  # kept, so that no id is used again
        self._made: set[int] = set()
        self._stand_ins: set[int] = set()

    def __call__(self, value: Any, path: str = "it") -> Any:
        """The copy of an object that is found at `path`."""
        if type(value) in _ATOMS:
            return value
        known = self.memo.get(id(value), _NOTHING)
        return self.remember(value, self.make(value, path)) if known is _NOTHING else known

    def remember(self, value: Any, twin: Any) -> Any:
        """Let `twin` be the copy of `value`, unless there is one already."""
        twin = self.memo.setdefault(id(value), twin)
        self._pairs.append((value, twin))
        self._made.add(id(twin))
        return twin

    def is_made(self, value: Any) -> bool:
        """True if an object is one of the copies."""
        return id(value) in self._made

    def make(self, value: Any, path: str) -> Any:
        """A copy of an object that has none yet."""
        kind = type(value)
        if is_global_stream(value):
            return value
        if kind in _EXACT_KINDS:
            return _EXACT_KINDS[kind](self, value, path)
        if isinstance(value, type | ModuleType | property) or connects(value):
            return value
        for kinds, copied in _KINDS.items():
            if isinstance(value, kinds):
                return copied(self, value, path)
        return self.by_class(value, path) if hasattr(kind, "__deepcopy__") else self.by_pickle(value, path)

    def refused(self, value: Any, path: str, error: Exception) -> Any:
        """The object itself, in place of a copy that can't be made."""
        return value

    def stand_in(self, value: Any, path: str, error: Exception) -> Any:
        """The result of `refused` for an object that can't be copied, noted as a stand-in."""
        result = self.refused(value, path, error)
        self._stand_ins.add(id(result))
        return result

    def by_class(self, value: Any, path: str) -> Any:
        """A copy by the object's own ``__deepcopy__``."""
        try:
            return copy.deepcopy(value, self.memo)
        except Exception as error:  # noqa: BLE001  # it may raise anything
            self.memo.pop(id(value), None)
            return self.by_attributes(value, path, error)

    def by_pickle(self, value: Any, path: str) -> Any:
        """A copy by what a pickle of the object would hold, and by the attributes that it leaves out."""
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            parts = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception as error:  # noqa: BLE001  # it may raise anything
            return self.by_attributes(value, path, error)
        if isinstance(parts, str):  # a name under which all find the same
            return value
        build, arguments, state, items, pairs = (*parts, None, None, None)[:5]
        arguments = [self(argument, path) for argument in arguments]
        try:
            twin = build(*arguments)
        except Exception as error:  # noqa: BLE001  # the class may raise anything
            return self.by_attributes(value, path, error)
        if twin is value:
            return value
        twin = self.remember(value, without_finalizer(twin))
        state = self.attributes(state, path) if isinstance(state, dict) else self(state, path)
        items = [self(item, f"{path}[{i}]") for i, item in enumerate(items or ())]
        pairs = [(self(key, path), self(item, f"{path}[{key!r}]")) for key, item in pairs or ()]
        try:
            _fill_in(twin, state, items, pairs)
        except Exception as error:  # noqa: BLE001  # the class may raise anything
            return self.by_attributes(value, path, error)
        self.fill(value, twin, path)
        return twin

    def by_attributes(self, value: Any, path: str, error: Exception) -> Any:
        """A copy of an object whose class gives none."""
        kind = type(value)
        base = next((c for c in (dict, list, set) if isinstance(value, c)), object)
        if _is_foreign(kind) or hasattr(kind, "__next__") or not _has_state_of_python_only(kind, base):
            self.memo.pop(id(value), None)  # what was begun
            return self.stand_in(value, path, error)
        twin = self.remember(value, without_finalizer(base.__new__(kind)))
        if base is dict:
            dict.update(twin, {self(k, path): self(item, f"{path}[{k!r}]") for k, item in dict.items(value)})
        elif base is not object:
            sequence: Any = base
            sequence.__init__(twin, [self(item, path) for item in sequence.__iter__(value)])
        for name, item in attributes_of(value):
            put_attribute(twin, name, self.attribute(name, item, path))
        return twin

    def fill(self, value: Any, twin: Any, path: str) -> None:
        """Give a copy the attributes that it lacks, unless they can't be copied either."""
        there = dict(attributes_of(twin))
        for name, item in attributes_of(value):
            if name not in there:
                copied = self.attribute(name, item, path)
                if id(copied) not in self._stand_ins:
                    put_attribute(twin, name, copied)

    def attributes(self, table: dict[str, Any], path: str) -> dict[str, Any]:
        """Copies of the attributes of the object at `path`."""
        return {name: self.attribute(name, item, path) for name, item in table.items()}

    def attribute(self, name: str, value: Any, path: str) -> Any:
        """The copy of one attribute of the object at `path`."""
        return self(value, f"{path}.{name}")


def _fill_in(twin: Any, state: Any, items: list[Any], pairs: list[tuple[Any, Any]]) -> None:
    """Give a new object what a pickle of its original holds, as `copy.deepcopy` does."""
    if state is not None and hasattr(type(twin), "__setstate__"):
        twin.__setstate__(state)
    elif state is not None:
        for table in state if isinstance(state, tuple) else (state,):
            for name, item in (table or {}).items():
                put_attribute(twin, name, item)
    for item in items:
        twin.append(item)
    for key, item in pairs:
        twin[key] = item


# How each kind of object is copied.


def _tensor(copier: Copier, value: Tensor, path: str) -> Any:
    """With all that hangs on it; without its history, if it has any."""
    try:
        if type(value) is nn.Parameter:  # by itself it would leave the memory that it shares with other tensors
            twin: Tensor = nn.Parameter(copy.deepcopy(value.data, copier.memo), value.requires_grad)
        else:
            twin = value.detach().clone() if is_refused(value) else copy.deepcopy(value, copier.memo)
    except Exception as error:  # noqa: BLE001  # a class of tensors may raise anything
        return copier.stand_in(value, path, error)
    twin = copier.remember(value, twin)
    copier.fill(value, twin, path)
    return twin


def _script(copier: Copier, value: Any, path: str) -> Any:
    """TorchScript: the tensors that a module shares with others are shared by the copies, too."""
    try:
        twin = copy.deepcopy(value)
    except Exception as error:  # noqa: BLE001  # an attribute of it may raise anything
        return copier.stand_in(value, path, error)
    parts = value.named_modules(prefix=path, remove_duplicate=False)
    for (place, part), (_, other) in zip(parts, twin.named_modules(remove_duplicate=False), strict=True):
        copier.remember(part, other)
        for table, own in ((part._parameters, other._parameters), (part._buffers, other._buffers)):
            for name, tensor in table.items():
                own[name] = copier(tensor, f"{place}.{name}")
    return twin


def _generator(copier: Copier, value: torch.Generator, path: str) -> torch.Generator:
    return generator_copy(value)


def _function(copier: Copier, value: FunctionType, path: str) -> Any:
    """With copies in its closure and defaults; itself where it can have no state."""
    if (value.__module__ or "").startswith("torch.distributed"):
        return value  # FSDP's hooks hold FSDP's notes
    if hasattr(value, "_torchdynamo_orig_callable"):  # compiled, for the original
        plain = copier(value._torchdynamo_orig_callable, path)
        return value if plain is value._torchdynamo_orig_callable else plain
    defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if not value.__closure__ and all(type(item) in _ATOMS for item in defaults):
        return value
    cells = tuple(copier(cell, path) for cell in value.__closure__ or ())
    twin = FunctionType(value.__code__, value.__globals__, value.__name__, None, cells or None)
    twin = copier.remember(value, twin)
    twin.__defaults__ = copier(value.__defaults__, path)
    twin.__kwdefaults__ = copier(value.__kwdefaults__, path)
    for name in functools.WRAPPER_ASSIGNMENTS:
        setattr(twin, name, getattr(value, name))
    vars(twin).update(copier.attributes(vars(value), path))
    return twin


def _cell(copier: Copier, value: CellType, path: str) -> CellType:
    """Functions that share a cell of a closure share its copy."""
    twin = copier.remember(value, CellType())
    if is_filled(value):
        twin.cell_contents = copier(value.cell_contents, path)
    return twin


def _method(copier: Copier, value: MethodType, path: str) -> MethodType:
    return MethodType(copier(value.__func__, path), copier(value.__self__, path))


def _builtin(copier: Copier, value: Any, path: str) -> Any:
    """A method of a built-in object, such as ``seen.append``."""
    owner = copier(value.__self__, path)
    return value if owner is value.__self__ else getattr(owner, value.__name__)


def _cached(copier: Copier, value: Any, path: str) -> Any:
    """A function of `functools.lru_cache`, with nothing in its cache: that is the original's."""
    inner = copier(value.__wrapped__, path)
    return value if inner is value.__wrapped__ else functools.lru_cache(**value.cache_parameters())(inner)


def _weak(copier: Copier, value: Any, path: str) -> Any:
    target = value()
    if target is None:
        return value
    owner = target.__self__ if isinstance(value, weakref.WeakMethod) else target
    return (type(value) if id(owner) in copier.anchored else _Holding)(copier(target, path))


class _Holding(weakref.ref):
    """A weak reference that keeps its target: who keeps the original's is not copied."""

    __slots__ = ("held",)

    def __init__(self, target: Any) -> None:
        super().__init__(target)  # type: ignore[call-arg]
        self.held = target


def _proxy(copier: Copier, value: Any, path: str) -> Any:
    """A weak proxy of the copy, or the copy."""
    try:
        target = value.__repr__.__self__
    except ReferenceError:
        return value
    return weakref.proxy(copier(target, path)) if id(target) in copier.anchored else copier(target, path)


def _weak_table(copier: Copier, value: Any, path: str) -> Any:
    twin = copier.remember(value, type(value)())
    if isinstance(value, weakref.WeakSet):
        twin.held = [copier(item, path) for item in value]
    else:
        twin.held = [(copier(key, path), copier(item, f"{path}[{key!r}]")) for key, item in value.items()]
    twin.update(twin.held)
    return twin


def _list(copier: Copier, value: list[Any], path: str) -> list[Any]:
    if all(type(item) in _ATOMS for item in value):
        return value.copy()
    twin: list[Any] = copier.remember(value, [])
    twin.extend([copier(item, f"{path}[{i}]") for i, item in enumerate(value)])
    return twin


def _dict(copier: Copier, value: dict[Any, Any], path: str) -> dict[Any, Any]:
    twin: dict[Any, Any] = copier.remember(value, {})
    for key, item in value.items():
        twin[copier(key, path)] = copier(item, f"{path}[{key!r}]")
    return twin


def _items(copier: Copier, value: Any, path: str) -> Any:
    """A set, or a tuple, which is itself where all in it are."""
    twins = [copier(item, f"{path}[{i}]") for i, item in enumerate(value)]
    same = type(value) is not set and all(a is b for a, b in zip(value, twins, strict=True))
    return value if same else type(value)(twins)


def _view(copier: Copier, value: Any, path: str) -> Any:
    """A view of a dictionary."""
    owner = copier(gc.get_referents(value)[0], path)
    return MappingProxyType(owner) if type(value) is MappingProxyType else getattr(owner, _VIEWS[type(value)])()


def _queue(copier: Copier, value: queue.Queue[Any], path: str) -> Any:
    """One of limited length is emptied by a thread, which the copy would wait for without end."""
    limited = TypeError("a queue of limited length")
    return copier.stand_in(value, path, limited) if value.maxsize > 0 else copier.by_pickle(value, path)


def _thread_local(copier: Copier, value: threading.local, path: str) -> threading.local:
    """A copy of a thread-local object, with the attributes that this thread has."""
    twin = copier.remember(value, type(value).__new__(type(value)))
    vars(twin).update(copier.attributes(vars(value), path))
    return twin


# They have no state that anyone could edit.
_ATOMS = frozenset(
    [
        type(None), bool, int, float, complex, str, bytes, range, slice, type, CodeType, ModuleType, type(...),
        type(NotImplemented), ContextVar, torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format,
        torch.jit.ScriptFunction,
    ]
)  # fmt: skip
_TABLES: tuple[Any, ...] = ({}, OrderedDict())
_VIEWS = {type(getattr(table, name)()): name for table in _TABLES for name in ("keys", "values", "items")}
_EXACT_KINDS: dict[type, Callable[[Copier, Any, str], Any]] = {
    list: _list,
    dict: _dict,
    **dict.fromkeys([tuple, set, frozenset], _items),
    CellType: _cell,
    MethodType: _method,
    BuiltinFunctionType: _builtin,
    type(functools.cache(bool)): _cached,
    **dict.fromkeys([weakref.ProxyType, weakref.CallableProxyType], _proxy),
    **dict.fromkeys([weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet], _weak_table),
    **dict.fromkeys([*_VIEWS, MappingProxyType], _view),
}
_KINDS: dict[type, Callable[[Copier, Any, str], Any]] = {
    Tensor: _tensor,
    torch.jit.ScriptModule: _script,
    torch.Generator: _generator,
    FunctionType: _function,
    weakref.ref: _weak,
    threading.local: _thread_local,
    queue.Queue: _queue,
}


def connects(value: Any) -> bool:
    """True if a value only connects threads, processes or streams: a lock, a thread, a process group, an event."""
    home = type(value).__module__
    if home in ("_thread", "threading", "multiprocessing.synchronize") or isinstance(value, threading.Thread):
        return not isinstance(value, threading.local)
    if home.startswith(("torch.distributed", "torch._C._distributed")):
        return not isinstance(value, nn.Module)
    return home.startswith("torch") and type(value).__name__ in ("Stream", "ExternalStream", "Event")


def attributes_of(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes of an object itself, in its dictionary and its slots."""
    table = getattr(value, "__dict__", None)
    if isinstance(table, dict):
        yield from list(table.items())
    for name in slots_of(type(value)):
        with suppress(AttributeError):  # nothing in it yet
            yield name, object.__getattribute__(value, name)


def put_attribute(value: Any, name: str, item: Any) -> None:
    """Set an attribute past all that its class does about it."""
    if name in slots_of(type(value)):
        object.__setattr__(value, name, item)
    else:
        vars(value)[name] = item


def slots_of(kind: type) -> list[str]:
    """The names of the slots of a class, as they are found on its objects."""
    found = []
    for c in kind.__mro__:
        names = vars(c).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            is_hidden = name.startswith("__") and not name.endswith("__")
            found.append(f"_{c.__name__.lstrip('_')}{name}" if is_hidden else name)
    return [name for name in found if name not in ("__dict__", "__weakref__")]


def _has_state_of_python_only(kind: type, base: type) -> bool:
    """True if objects of a class add only attributes and weak references to what `base` holds."""
    more = len(slots_of(kind)) + (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0)
    more -= (base.__dictoffset__ > 0) + (base.__weakrefoffset__ > 0)
    return kind.__basicsize__ == base.__basicsize__ + POINTER * more and kind.__itemsize__ == base.__itemsize__


def _is_foreign(kind: type) -> bool:
    """True if a class is Python's or torch's own and no module: it has reasons to refuse a copy."""
    root = kind.__module__.partition(".")[0]
    return (root in sys.stdlib_module_names or root == "torch") and not issubclass(kind, nn.Module)


def without_finalizer(twin: Any) -> Any:
    """An object whose end does not close what its original has opened."""
    kind: Any = type(twin)
    if isinstance(getattr(kind, "__del__", None), FunctionType):
        names = {name: getattr(kind, name) for name in ("__module__", "__qualname__")}
        twin.__class__ = type(kind)(kind.__name__, (kind,), {**names, "__slots__": (), "__del__": _close_nothing})
    return twin


def _close_nothing(self: Any) -> None:
    """The original is still open."""


def generator_copy(generator: torch.Generator) -> torch.Generator:
    """A generator of its own in the same state; torch before 2.3 can't copy them."""
    twin = torch.Generator(generator.device)
    twin.set_state(generator.get_state())
    return twin


def is_filled(cell: CellType) -> bool:
    """True if a cell of a closure holds anything yet."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


class _DataCopier(Copier):
    """The copier of `private_copy`: large arrays and the items of long containers are shared."""

    def __init__(self, memo: dict[int, Any], may_read_once: bool) -> None:
        super().__init__(memo)
        self._may_read_once = may_read_once

    def make(self, value: Any, path: str) -> Any:
        """A copy of an object that has none yet."""
        if isinstance(value, Tensor | np.ndarray):
            if (size_in_bytes(value) if isinstance(value, Tensor) else value.nbytes) > LARGE:
                return value
        elif isinstance(value, tuple | list | dict | set) and len(value) > LONG:
            return copy.copy(value)
        return super().make(value, path)

    def refused(self, value: Any, path: str, error: Exception) -> Any:
        """The object itself."""
        if hasattr(value, "__next__") and not self._may_read_once:
            raise ReadOnceError(f"{type(value).__name__} can only be read once") from error
        return value


def private_copy(thing: Any, shared: Iterable[Any] = (), *, may_read_once: bool = True) -> Any:
    """A copy of a data set, sampler, collate function or datamodule whose state is its own.

    Only arrays over 64 MiB, the items of containers over 256, and what can't be copied are shared.

    Args:
        thing: any object or function.
        shared: objects that the copy must share.
        may_read_once: whether an iterator or open file inside may be shared, too; reading it moves it.

    Raises:
        ReadOnceError: if it may not, and there is one.

    >>> class Counts:
    ...     reads = [0]
    ...     def __init__(self):
    ...         self.seen = []
    >>> original = Counts()
    >>> twin = private_copy(original)
    >>> twin.seen.append(1)
    >>> original.seen
    []
    """
    return _DataCopier({id(o): o for o in shared if o is not None}, may_read_once)(thing)
