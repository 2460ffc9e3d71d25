"""The distinction of hooks that compute from hooks that only observe, such as those of loggers and profilers."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import BuiltinFunctionType, FunctionType, MethodType

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from .copying import attributes_of, is_filled

CALLS = ("forward", "forward_pre", "backward", "backward_pre")
TABLES = frozenset(f"_{call}_hooks" for call in CALLS)
_GLOBAL_TABLES = [f"_global_{call}_hooks" for call in CALLS]
# Parts of torch whose hooks compute: parametrisations, norms of weights, pruning, lazy and quantised layers, FSDP.
_COMPUTES = ("torch.nn", "torch.ao", "torch.quantization", "torch.distributed")
_LIBRARIES = frozenset(["torch", "lightning", "pytorch_lightning", "lightning_fabric", "builtins", "typing", "abc"])
# Their functions write to the outside, or count: a hook that returns the result of one need not compute.
LOGGERS = frozenset(
    [
        "aim", "calflops", "clearml", "comet_ml", "dvclive", "fvcore", "mlflow", "neptune", "ptflops", "swanlab",
        "tensorboard", "tensorboardX", "thop", "torchinfo", "torchsummary", "trackio", "wandb",
    ]
)  # fmt: skip


class Observers:
    """The hooks of a module that only observe. A copy omits them, since they write to the outside.

    A hook computes if it belongs to torch, or to the package of a part of the module. Any other hook
    computes if it returns something, sets an attribute, or shares an object with the module.

    Args:
        module: the module with the hooks.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        classes = {c for part in module.modules() for c in type(part).__mro__}
        self._packages = {root_of(c.__module__) for c in classes} - _LIBRARIES

    def __contains__(self, hook: object) -> bool:
        function = _unwrap(hook)
        home = (function if isinstance(function, FunctionType) else type(function)).__module__ or ""
        if home.startswith(_COMPUTES) or root_of(home) in self._packages:
            return False
        if root_of(home) in LOGGERS or root_of(home) == "torch":
            return True
        return not (_may_edit(function) or _ids_in(children_of(hook)) & self._ids_of_module)

    @functools.cached_property
    def _ids_of_module(self) -> set[int]:
        """The ids of the objects of the module, without its hooks, parts and tensors."""
        return _ids_in([vars(part) for part in self._module.modules()], TABLES)


@contextmanager
def without_global_observers(module: nn.Module) -> Iterator[None]:
    """Inside, global hooks that only observe are not called."""
    observers = Observers(module)
    tables = [getattr(torch_module, name) for name in _GLOBAL_TABLES if hasattr(torch_module, name)]
    saved = [(table, dict(table)) for table in tables]
    for table, hooks in saved:
        for key, hook in hooks.items():
            if hook in observers:
                del table[key]
    try:
        yield
    finally:
        for table, hooks in saved:
            table.clear()
            table.update(hooks)


def children_of(value: object) -> Iterator[object]:
    """The objects to which an object refers: items, attributes, the contents of closures."""
    if isinstance(value, dict):
        yield from [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        yield from list(value)
    elif isinstance(value, MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, FunctionType):
        yield from [cell.cell_contents for cell in value.__closure__ or () if is_filled(cell)]
        yield from [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, BuiltinFunctionType):
        yield value.__self__
    if not isinstance(value, type):
        yield from (item for _, item in attributes_of(value))


# They refer to objects, and have no state of their own.
_LINKS = (tuple, FunctionType, MethodType, BuiltinFunctionType, functools.partial)


def _ids_in(values: Iterable[object], ignored_keys: Collection[str] = ()) -> set[int]:
    """The ids of the containers and the user's objects to which values lead."""
    ids: set[int] = set()
    seen: set[int] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        has_state = isinstance(value, dict | list | set) or _is_users(value)
        is_end = not (has_state or isinstance(value, _LINKS)) or isinstance(value, type | nn.Module | Tensor)
        if is_end or id(value) in seen:
            continue
        seen.add(id(value))
        if has_state:
            ids.add(id(value))
        if isinstance(value, dict):
            waiting += [item for key, item in value.items() if key not in ignored_keys]
        else:
            waiting += children_of(value)
    return ids


def _is_users(value: object) -> bool:
    """True if an object may have a state that the user's code uses."""
    root = root_of(type(value).__module__)
    return hasattr(value, "__dict__") and root not in sys.stdlib_module_names | _LIBRARIES | LOGGERS


def root_of(name: str) -> str:
    """The package of a Python module."""
    return name.partition(".")[0]


def _unwrap(hook: object) -> object:
    """The function, or the object with ``__call__``, that a hook wraps."""
    while True:
        if isinstance(hook, functools.partial):
            hook = hook.func
        elif isinstance(hook, MethodType):
            hook = hook.__func__
        elif isinstance(hook, FunctionType) and hasattr(hook, "__wrapped__"):
            hook = hook.__wrapped__
        else:
            return hook


def _may_edit(hook: object, levels: int = 4) -> bool:
    """True if a hook may return something, or may change its arguments, also over `levels` calls of functions."""
    if isinstance(hook, BuiltinFunctionType):
        return not isinstance(hook.__self__, list | dict | set)  # such as ``seen.append``
    function = _unwrap(hook if isinstance(hook, FunctionType | MethodType) else type(hook).__call__)
    if not isinstance(function, FunctionType) or levels < 0:
        return True
    code = function.__code__
    lines = [line for line in dis.get_instructions(function) if line.opname not in ("CACHE", "PRECALL")]
    arguments = set(code.co_varnames[: code.co_argcount]) - {"self"}
    in_place = any(name == "setattr" or (name.endswith("_") and not name.endswith("__")) for name in code.co_names)
    if in_place or any(_target_of_store(lines, i) in arguments for i in range(len(lines))):
        return True
    returns_call = False
    for before, line in pairwise(lines):
        if line.opname == "RETURN_VALUE" and before.opname.startswith("CALL") and code.co_name == "<lambda>":
            returns_call = True
        elif (line.opname == "RETURN_VALUE" and (line.is_jump_target or before.opname != "LOAD_CONST")) or (
            line.opname.startswith("RETURN_") and (line if line.opname == "RETURN_CONST" else before).argval is not None
        ):
            return True
    if not returns_call:
        return False
    called = _first_called(function, lines)
    return called is None or _may_edit(called, levels - 1)


def _target_of_store(lines: list[dis.Instruction], i: int) -> str | None:
    """The variable in whose attributes or items instruction i stores a value."""
    operands = {"STORE_ATTR": 1, "STORE_SUBSCR": 2}.get(lines[i].opname)
    if operands is None:
        return None
    i -= operands
    while lines[i].opname == "LOAD_ATTR":
        i -= 1
    return str(lines[i].argval)


def _first_called(function: FunctionType, lines: list[dis.Instruction]) -> object:
    """The object that a function loads first in order to call it; None if it is unknown."""
    start = next((i for i, line in enumerate(lines) if line.opname.startswith("LOAD_")), len(lines))
    names = inspect.getclosurevars(function)
    called = {**names.builtins, **names.globals, **names.nonlocals}.get(lines[start].argval)
    for line in lines[start + 1 :]:
        if line.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            break
        called = getattr(called, line.argval, None)
    return called
