"""Tells hooks that compute from hooks that only look on, such as those of loggers and profilers."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from .copying import attributes_of, is_filled

CALLS = ("forward", "forward_pre", "backward", "backward_pre")
TABLES = frozenset(f"_{call}_hooks" for call in CALLS)
_GLOBAL_TABLES = [f"_global_{call}_hooks" for call in CALLS]
# Parts of torch whose hooks compute: parametrisations, norms of weights, pruning, lazy and quantised layers, FSDP.
_COMPUTES = ("torch.nn", "torch.ao", "torch.quantization", "torch.distributed")
_LIBRARIES = frozenset(["torch", "lightning", "pytorch_lightning", "lightning_fabric", "builtins", "typing", "abc"])
# They write to the outside, or count; how they call that tells nothing of what they give back.
LOGGERS = frozenset(
    [
        "aim", "calflops", "clearml", "comet_ml", "dvclive", "fvcore", "mlflow", "neptune", "ptflops", "swanlab",
        "tensorboard", "tensorboardX", "thop", "torchinfo", "torchsummary", "trackio", "wandb",
    ]
)  # fmt: skip


MOST_CALLS = 4  # one function inside another, which are looked into
_NOTHING = object()


class Observers:
    """Tells the hooks that only look on, which a copy does without: they write to the outside.

    A hook takes part if it is torch's, or belongs to the code that one of the parts of the module is written in. So
    does any other that gives something back, sets an attribute, or keeps something that the module has as well.

    Args:
        module: that has the hooks.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        classes = {c for part in module.modules() for c in type(part).__mro__}
        self._own = {root_of(c.__module__) for c in classes} - _LIBRARIES

    def __contains__(self, hook: Any) -> bool:
        plain = _unwrapped(hook)
        home = _home(plain)
        if home.startswith(_COMPUTES) or root_of(home) in self._own:
            return False
        if root_of(home) in LOGGERS or root_of(home) == "torch":
            return True
        return not (_may_edit(plain) or _ids(held_by(hook), ()) & self._known)

    @functools.cached_property
    def _known(self) -> set[int]:
        """The ids of what the module has beside its hooks, its parts and its tensors."""
        return _ids([vars(part) for part in self._module.modules()], TABLES)


@contextmanager
def without_global_observers(module: nn.Module) -> Iterator[None]:
    """Inside, hooks for all modules that only look on are not called."""
    observers = Observers(module)
    tables = [getattr(torch_module, name) for name in _GLOBAL_TABLES if hasattr(torch_module, name)]
    held = [(table, dict(table)) for table in tables]
    for table, hooks in held:
        for key, hook in hooks.items():
            if hook in observers:
                del table[key]
    try:
        yield
    finally:
        for table, hooks in held:
            table.clear()
            table.update(hooks)


def held_by(value: Any) -> Iterator[Any]:
    """The objects that an object holds: items, attributes, the contents of closures."""
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


def _ids(values: Iterable[Any], without: Iterable[str]) -> set[int]:
    """The ids of the containers and the user's objects that some values hold, directly or not."""
    found: set[int] = set()
    seen: set[int] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        has_state = isinstance(value, dict | list | set) or _is_users(value)
        holds = has_state or isinstance(
            value, tuple | FunctionType | MethodType | BuiltinFunctionType | functools.partial
        )
        if not holds or id(value) in seen or isinstance(value, type | nn.Module | Tensor):
            continue
        seen.add(id(value))
        if has_state:
            found.add(id(value))
        waiting += [v for k, v in value.items() if k not in without] if isinstance(value, dict) else held_by(value)
    return found


def _is_users(value: Any) -> bool:
    """True if an object may have a state that the user's code knows."""
    root = root_of(type(value).__module__)
    return hasattr(value, "__dict__") and root not in sys.stdlib_module_names | _LIBRARIES | LOGGERS


def root_of(name: str) -> str:
    """The package that a Python module is in."""
    return name.partition(".")[0]


def _home(hook: Any) -> str:
    """The name of the Python module in which a hook is written."""
    written = hook if isinstance(hook, FunctionType) else type(hook)
    return written.__module__ or ""


def _unwrapped(hook: Any) -> Any:
    """The function, or the object with ``__call__``, that a hook is in the end."""
    while True:
        if isinstance(hook, functools.partial):
            hook = hook.func
        elif isinstance(hook, MethodType):
            hook = hook.__func__
        elif isinstance(hook, FunctionType) and hasattr(hook, "__wrapped__"):
            hook = hook.__wrapped__
        else:
            return hook


def _may_edit(hook: Any, depth: int = 0) -> bool:
    """True if a hook may give something back, or may change what it is given."""
    if isinstance(hook, BuiltinFunctionType):
        return not isinstance(hook.__self__, list | dict | set)  # such as ``seen.append``
    function = _unwrapped(hook if isinstance(hook, FunctionType | MethodType) else type(hook).__call__)
    if not isinstance(function, FunctionType) or depth > MOST_CALLS:
        return True
    code = function.__code__
    lines = [line for line in dis.get_instructions(function) if line.opname not in ("CACHE", "PRECALL")]
    given = set(code.co_varnames[: code.co_argcount]) - {"self"}
    in_place = any(name == "setattr" or (name.endswith("_") and not name.endswith("__")) for name in code.co_names)
    if in_place or any(_stores_in(lines, place) in given for place in range(len(lines))):
        return True
    called = _NOTHING
    for before, line in pairwise(lines):
        if line.opname == "RETURN_VALUE" and before.opname.startswith("CALL") and code.co_name == "<lambda>":
            called = _first_called(function, lines)
        elif (line.opname == "RETURN_VALUE" and (line.is_jump_target or before.opname != "LOAD_CONST")) or (
            line.opname.startswith("RETURN_") and (line if line.opname == "RETURN_CONST" else before).argval is not None
        ):
            return True
    return called is None or (called is not _NOTHING and _may_edit(called, depth + 1))


def _stores_in(lines: list[dis.Instruction], place: int) -> str | None:
    """The variable in whose attributes or items a line of code stores something."""
    before = {"STORE_ATTR": 1, "STORE_SUBSCR": 2}.get(lines[place].opname)
    if before is None:
        return None
    place -= before
    while lines[place].opname == "LOAD_ATTR":
        place -= 1
    return str(lines[place].argval)


def _first_called(function: FunctionType, lines: list[dis.Instruction]) -> Any:
    """The object that a function loads first in order to call it; None if it is not known."""
    begin = next((i for i, line in enumerate(lines) if line.opname.startswith("LOAD_")), len(lines))
    names = inspect.getclosurevars(function)
    known = {**names.builtins, **names.globals, **names.nonlocals}
    found = known.get(lines[begin].argval)
    for line in lines[begin + 1 :]:
        if line.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            break
        found = getattr(found, line.argval, None)
    return found
