"""Copies of the user's objects that share no state with the originals."""

from __future__ import annotations

import copy
import copyreg
import functools
import gc
import queue
import random
import struct
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..weights.parameters import is_refused, size_in_bytes
from .rng import is_global_stream

T = TypeVar("T")
WeakTable: TypeAlias = (
    "weakref.WeakKeyDictionary[Any, Any] | weakref.WeakValueDictionary[Any, Any] | weakref.WeakSet[Any]"
)
_POINTER_BYTES = struct.calcsize("P")
_MISSING = object()


@dataclass(frozen=True)
class DataLimits:
    """Sizes above which an object counts as data, which nobody edits in place, and not as state.

    Args:
        items: the largest number of items of a container whose items are copied or restored.
        array_bytes: the largest size of an array that is copied or restored.
    """

    items: int = 256
    array_bytes: int = 64 * 2**20


LIMITS = DataLimits()


class ReadOnceError(TypeError):
    """The object to be copied can only be read once, such as an iterator or an open file."""


class UncopyablePartError(RuntimeError):
    """A part of a module can't be copied: its weights can only be moved in place."""


class Copier:
    """Copies of objects, each made once, which refer to copies wherever the originals refer to originals.

    `copy.deepcopy` shares functions, weak references, cached functions and methods of built-in objects with the
    original. It loses the attributes of parameters, and those that a pickle leaves out. It fails at the first object
    that can't be pickled. This class copies all of them. It respects ``__deepcopy__`` and the pickle methods of a
    class. If those fail, and all the state of an object is Python's, it copies the attributes one by one. A copy has
    no finaliser.

    Args:
        memo: the existing copies, by the ids of the originals; an object that is its own copy is shared.
        anchored: ids of originals whose copies stay alive. A weak reference to any other object keeps its copy alive.

    >>> def count(seen=[]):
    ...     seen.append(1)
    >>> Copier({})({"count": count})["count"]()
    >>> count.__defaults__
    ([],)
    """

    def __init__(self, memo: dict[int, Any], anchored: Iterable[int] = ()) -> None:
        self.memo, self.anchored = memo, frozenset(anchored)
        self._pairs: list[tuple[object, object]] = []  # references to originals and copies: their ids stay unique
        self.copies: set[int] = set()  # ids
        self._stand_ins: set[int] = set()  # ids

    def __call__(self, value: object, path: str = "it") -> Any:
        """The copy of the object at `path`."""
        if type(value) in _ATOMS:
            return value
        twin = self.memo.get(id(value), _MISSING)
        return self.remember(value, self.make(value, path)) if twin is _MISSING else twin

    def remember(self, value: object, twin: T) -> T:
        """Register `twin` as the copy of `value`, and give the registered copy: an earlier one stays."""
        twin = self.memo.setdefault(id(value), twin)
        self._pairs.append((value, twin))
        self.copies.add(id(twin))
        return twin

    def make(self, value: object, path: str) -> Any:
        """Make the copy of an object that has none yet."""
        kind = type(value)
        if is_global_stream(value):
            return value
        if kind in _EXACT_KINDS:
            return _EXACT_KINDS[kind](self, value, path)
        if isinstance(value, type | ModuleType | property) or connects(value):
            return value
        for base, copy_kind in _KINDS.items():
            if isinstance(value, base):
                return copy_kind(self, value, path)
        return self.copy_by_class(value, path) if hasattr(kind, "__deepcopy__") else self.copy_by_pickle(value, path)

    def replace_uncopyable(self, value: object, path: str, error: Exception) -> Any:
        """The replacement of an object that can't be copied: the object itself, unless a subclass decides otherwise."""
        return value

    def stand_in(self, value: object, path: str, error: Exception) -> Any:
        """The result of `replace_uncopyable`, recorded as a stand-in."""
        result = self.replace_uncopyable(value, path, error)
        self._stand_ins.add(id(result))
        return result

    def copy_by_class(self, value: object, path: str) -> Any:
        """Copy an object by its ``__deepcopy__``."""
        try:
            return copy.deepcopy(value, self.memo)
        except Exception as error:  # noqa: BLE001  # the class may raise anything
            self.memo.pop(id(value), None)
            return self.copy_by_attributes(value, path, error)

    def copy_by_pickle(self, value: object, path: str) -> Any:
        """Copy an object by the content of its pickle, and by the attributes that the pickle leaves out."""
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            parts = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception as error:  # noqa: BLE001  # the class may raise anything
            return self.copy_by_attributes(value, path, error)
        if isinstance(parts, str):  # the name of a global object
            return value
        build, arguments, state, items, pairs = (*parts, None, None, None)[:5]
        arguments = [self(argument, path) for argument in arguments]
        try:
            twin = build(*arguments)
        except Exception as error:  # noqa: BLE001  # the class may raise anything
            return self.copy_by_attributes(value, path, error)
        if twin is value:
            return value
        twin = self.remember(value, without_finalizer(twin))
        state = self.attributes(state, path) if isinstance(state, dict) else self(state, path)
        items = [self(item, f"{path}[{i}]") for i, item in enumerate(items or ())]
        pairs = [(self(key, path), self(item, f"{path}[{key!r}]")) for key, item in pairs or ()]
        try:
            _set_state(twin, state, items, pairs)
        except Exception as error:  # noqa: BLE001  # the class may raise anything
            return self.copy_by_attributes(value, path, error)
        self.copy_missing(value, twin, path)
        return twin

    def copy_by_attributes(self, value: object, path: str, error: Exception) -> Any:
        """Copy an object by its attributes, where its class offers no other way."""
        kind = type(value)
        base: Any = next((c for c in (dict, list, set) if isinstance(value, c)), object)
        if _is_foreign(kind) or hasattr(kind, "__next__") or not _has_state_of_python_only(kind, base):
            self.memo.pop(id(value), None)  # the copy that was begun
            return self.stand_in(value, path, error)
        twin = self.remember(value, without_finalizer(base.__new__(kind)))
        if isinstance(value, dict):
            dict.update(twin, {self(k, path): self(item, f"{path}[{k!r}]") for k, item in dict.items(value)})
        elif base is not object:
            base.__init__(twin, [self(item, path) for item in base.__iter__(value)])
        for name, item in attributes_of(value):
            put_attribute(twin, name, self.attribute(name, item, path))
        return twin

    def copy_missing(self, value: object, twin: object, path: str) -> None:
        """Add the missing attributes to a copy, except those that can't be copied."""
        present = dict(attributes_of(twin))
        for name, item in attributes_of(value):
            if name not in present:
                copied = self.attribute(name, item, path)
                if id(copied) not in self._stand_ins:
                    put_attribute(twin, name, copied)

    def attributes(self, table: dict[str, Any], path: str) -> dict[str, Any]:
        """Copies of the attributes of the object at `path`."""
        return {name: self.attribute(name, item, path) for name, item in table.items()}

    def attribute(self, name: str, value: object, path: str) -> Any:
        """The copy of one attribute of the object at `path`."""
        return self(value, f"{path}.{name}")


def _set_state(twin: Any, state: Any, items: list[Any], pairs: list[tuple[Any, Any]]) -> None:
    """Set the state of a new object from the content of a pickle, as `copy.deepcopy` does."""
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


def _copy_tensor(copier: Copier, value: Tensor, path: str) -> Any:
    """Copy a tensor with its attributes, and without its autograd graph."""
    try:
        if type(value) is nn.Parameter:  # its own copy would not share memory with the copies of other tensors
            twin: Tensor = nn.Parameter(copy.deepcopy(value.data, copier.memo), value.requires_grad)
        else:
            twin = value.detach().clone() if is_refused(value) else copy.deepcopy(value, copier.memo)
    except Exception as error:  # noqa: BLE001  # a class of tensors may raise anything
        return copier.stand_in(value, path, error)
    twin = copier.remember(value, twin)
    copier.copy_missing(value, twin, path)
    return twin


def _copy_script(copier: Copier, value: torch.jit.ScriptModule, path: str) -> Any:
    """Copy a TorchScript module. Its copy shares the copies of tensors that the original shares with others."""
    try:
        twin = copy.deepcopy(value)
    except Exception as error:  # noqa: BLE001  # an attribute of it may raise anything
        return copier.stand_in(value, path, error)
    parts = value.named_modules(prefix=path, remove_duplicate=False)
    for (name, part), (_, part_twin) in zip(parts, twin.named_modules(remove_duplicate=False), strict=True):
        copier.remember(part, part_twin)
        for tensors, twins in ((part._parameters, part_twin._parameters), (part._buffers, part_twin._buffers)):
            for key, tensor in tensors.items():
                twins[key] = copier(tensor, f"{name}.{key}")
    return twin


def _copy_generator(copier: Copier, value: torch.Generator, path: str) -> torch.Generator:
    """Copy a generator with its state; torch before 2.3 can't."""
    twin = torch.Generator(value.device)
    twin.set_state(value.get_state())
    return twin


def _copy_function(copier: Copier, value: FunctionType, path: str) -> Any:
    """Copy a function with its closure and defaults; one without state is its own copy."""
    if (value.__module__ or "").startswith(("torch.distributed", "torch._dynamo")):
        return value  # the hooks of FSDP hold the records of FSDP, and the compiler's callbacks its backend
    if hasattr(value, "_torchdynamo_orig_callable"):  # compiled for the original
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


def _copy_cell(copier: Copier, value: CellType, path: str) -> CellType:
    """Copy a cell of a closure. Functions that share it share its copy."""
    twin = copier.remember(value, CellType())
    if is_filled(value):
        twin.cell_contents = copier(value.cell_contents, path)
    return twin


def _copy_method(copier: Copier, value: MethodType, path: str) -> MethodType:
    return MethodType(copier(value.__func__, path), copier(value.__self__, path))


def _copy_builtin(copier: Copier, value: BuiltinFunctionType, path: str) -> Any:
    """Copy a method of a built-in object, such as ``seen.append``."""
    owner = copier(value.__self__, path)
    return value if owner is value.__self__ else getattr(owner, value.__name__)


def _copy_cached(copier: Copier, value: Any, path: str) -> Any:
    """Copy a function of `functools.lru_cache`, with an empty cache."""
    inner = copier(value.__wrapped__, path)
    return value if inner is value.__wrapped__ else functools.lru_cache(**value.cache_parameters())(inner)


def _copy_reference(copier: Copier, value: weakref.ref[Any], path: str) -> Any:
    target = value()
    if target is None:
        return value
    owner = target.__self__ if isinstance(value, weakref.WeakMethod) else target
    return (type(value) if id(owner) in copier.anchored else _StrongReference)(copier(target, path))


class _StrongReference(weakref.ref):
    """A weak reference that keeps its target alive: the object that does so for the original may not be copied."""

    __slots__ = ("target",)

    def __init__(self, target: object) -> None:
        super().__init__(target)  # type: ignore[call-arg]
        self.target = target


def _copy_proxy(copier: Copier, value: weakref.ProxyType[Any], path: str) -> Any:
    """Copy a weak proxy: the result is a weak proxy of the copy of its target, or that copy."""
    try:
        target = value.__repr__.__self__  # type: ignore[attr-defined]
    except ReferenceError:
        return value
    return weakref.proxy(copier(target, path)) if id(target) in copier.anchored else copier(target, path)


def _copy_weak_table(copier: Copier, value: WeakTable, path: str) -> Any:
    """Copy a weak dictionary or set. The copy keeps its items alive."""
    twin: Any = copier.remember(value, type(value)())
    if isinstance(value, weakref.WeakSet):
        twin.strong_references = [copier(item, path) for item in value]
    else:
        twin.strong_references = {copier(k, path): copier(item, f"{path}[{k!r}]") for k, item in value.items()}
    twin.update(twin.strong_references)
    return twin


def _copy_list(copier: Copier, value: list[Any], path: str) -> list[Any]:
    if all(type(item) in _ATOMS for item in value):
        return value.copy()
    twin: list[Any] = copier.remember(value, [])
    twin.extend([copier(item, f"{path}[{i}]") for i, item in enumerate(value)])
    return twin


def _copy_dict(copier: Copier, value: dict[Any, Any], path: str) -> dict[Any, Any]:
    twin: dict[Any, Any] = copier.remember(value, {})
    for key, item in value.items():
        twin[copier(key, path)] = copier(item, f"{path}[{key!r}]")
    return twin


def _copy_items(copier: Copier, value: Collection[Any], path: str) -> Any:
    """Copy a set or a tuple. An immutable one is its own copy if each of its items is."""
    twins = [copier(item, f"{path}[{i}]") for i, item in enumerate(value)]
    same = type(value) is not set and all(a is b for a, b in zip(value, twins, strict=True))
    kind: Any = type(value)
    return value if same else kind(twins)


def _copy_view(copier: Copier, value: Collection[Any], path: str) -> Any:
    """Copy a view of a dictionary."""
    owner = copier(gc.get_referents(value)[0], path)
    return MappingProxyType(owner) if type(value) is MappingProxyType else getattr(owner, _VIEWS[type(value)])()


def _copy_queue(copier: Copier, value: queue.Queue[Any], path: str) -> Any:
    """Copy a queue of unlimited length. To put into the copy of another one could block, since no thread empties it."""
    limited = TypeError("a queue of limited length")
    return copier.stand_in(value, path, limited) if value.maxsize > 0 else copier.copy_by_pickle(value, path)


def _copy_thread_local(copier: Copier, value: threading.local, path: str) -> threading.local:
    """Copy a thread-local object with the attributes of this thread."""
    twin = copier.remember(value, type(value).__new__(type(value)))
    vars(twin).update(copier.attributes(vars(value), path))
    return twin


# Types of objects without state that anyone could edit.
_ATOMS = frozenset(
    [
        type(None), bool, int, float, complex, str, bytes, range, slice, type, CodeType, ModuleType, type(...),
        type(NotImplemented), ContextVar, torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format,
        torch.jit.ScriptFunction, random.SystemRandom,  # the last has no state
    ]
)  # fmt: skip
_TABLES: tuple[Any, ...] = ({}, OrderedDict())
_VIEWS = {type(getattr(table, name)()): name for table in _TABLES for name in ("keys", "values", "items")}
_EXACT_KINDS: dict[type, Callable[[Copier, Any, str], Any]] = {
    list: _copy_list,
    dict: _copy_dict,
    **dict.fromkeys([tuple, set, frozenset], _copy_items),
    CellType: _copy_cell,
    MethodType: _copy_method,
    BuiltinFunctionType: _copy_builtin,
    type(functools.cache(bool)): _copy_cached,
    **dict.fromkeys([weakref.ProxyType, weakref.CallableProxyType], _copy_proxy),
    **dict.fromkeys([weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet], _copy_weak_table),
    **dict.fromkeys([*_VIEWS, MappingProxyType], _copy_view),
}
_KINDS: dict[type, Callable[[Copier, Any, str], Any]] = {
    Tensor: _copy_tensor,
    torch.jit.ScriptModule: _copy_script,
    torch.Generator: _copy_generator,
    FunctionType: _copy_function,
    weakref.ref: _copy_reference,
    threading.local: _copy_thread_local,
    queue.Queue: _copy_queue,
}


def connects(value: object) -> bool:
    """True if a value only connects threads, processes or streams, such as a lock or a process group."""
    home = type(value).__module__
    if home in ("_thread", "threading", "multiprocessing.synchronize") or isinstance(value, threading.Thread):
        return not isinstance(value, threading.local)
    if home.startswith(("torch.distributed", "torch._C._distributed")):
        return not isinstance(value, nn.Module)
    return home.startswith("torch") and type(value).__name__ in ("Stream", "ExternalStream", "Event")


def attributes_of(value: object) -> Iterator[tuple[str, Any]]:
    """The attributes of an object in its dictionary and its slots."""
    table = getattr(value, "__dict__", None)
    if isinstance(table, dict):
        yield from list(table.items())
    for name in slots_of(type(value)):
        with suppress(AttributeError):  # an empty slot
            yield name, object.__getattribute__(value, name)


def put_attribute(value: object, name: str, item: object) -> None:
    """Set an attribute of an object without the ``__setattr__`` and the properties of its class."""
    if name in slots_of(type(value)):
        object.__setattr__(value, name, item)
    else:
        vars(value)[name] = item


def slots_of(kind: type) -> list[str]:
    """The names of the slots of a class, as the attributes of its objects."""
    slots = []
    for c in kind.__mro__:
        names = vars(c).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            is_hidden = name.startswith("__") and not name.endswith("__")
            slots.append(f"_{c.__name__.lstrip('_')}{name}" if is_hidden else name)
    return [name for name in slots if name not in ("__dict__", "__weakref__")]


def _has_state_of_python_only(kind: type, base: type) -> bool:
    """True if objects of a class add only attributes and weak references to the content of `base`."""
    pointers = len(slots_of(kind)) + (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0)
    pointers -= (base.__dictoffset__ > 0) + (base.__weakrefoffset__ > 0)
    size = base.__basicsize__ + _POINTER_BYTES * pointers
    return kind.__basicsize__ == size and kind.__itemsize__ == base.__itemsize__


def _is_foreign(kind: type) -> bool:
    """True if a class belongs to Python or torch, and is no module: it has reasons to refuse a copy."""
    root = kind.__module__.partition(".")[0]
    return (root in sys.stdlib_module_names or root == "torch") and not issubclass(kind, nn.Module)


def without_finalizer(twin: T) -> T:
    """The same object without its finaliser, which would close files that the original still uses."""
    kind: Any = type(twin)
    if isinstance(getattr(kind, "__del__", None), FunctionType):
        names = {name: getattr(kind, name) for name in ("__module__", "__qualname__")}
        namespace = {**names, "__slots__": (), "__del__": lambda self: None}
        twin.__class__ = type(kind)(kind.__name__, (kind,), namespace)
    return twin


def is_filled(cell: CellType) -> bool:
    """True if a cell of a closure has a content."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


class _DataCopier(Copier):
    """The copier of `private_copy`: it shares large arrays and the items of long containers."""

    def __init__(self, memo: dict[int, Any], may_read_once: bool) -> None:
        super().__init__(memo)
        self._may_read_once = may_read_once

    def make(self, value: object, path: str) -> Any:
        """Make the copy of an object that has none yet."""
        if isinstance(value, Tensor | np.ndarray):
            if (size_in_bytes(value) if isinstance(value, Tensor) else value.nbytes) > LIMITS.array_bytes:
                return value
        elif isinstance(value, tuple | list | dict | set) and len(value) > LIMITS.items:
            return copy.copy(value)
        return super().make(value, path)

    def replace_uncopyable(self, value: T, path: str, error: Exception) -> T:
        """The object itself; an iterator only if it may be shared."""
        if hasattr(value, "__next__") and not self._may_read_once:
            raise ReadOnceError(f"{type(value).__name__} can only be read once") from error
        return value


def private_copy(value: T, shared: Iterable[object] = (), *, may_read_once: bool = True) -> T:
    """A copy of a data set, sampler, collate function or datamodule that shares no state with the original.

    Arrays over 64 MiB, the items of containers with more than 256, and objects that can't be copied are shared.

    Args:
        value: any object or function.
        shared: objects that the copy must share.
        may_read_once: share an iterator or open file inside, too. To read it moves it for the original.

    Raises:
        ReadOnceError: if there is an iterator or open file, and `may_read_once` is false.

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
    return _DataCopier({id(o): o for o in shared if o is not None}, may_read_once)(value)
