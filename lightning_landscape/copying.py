"""Copies of the user's objects that share no state with them, so that what we run leaves no trace in them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .parameters import is_refused, size_in_bytes

LONG = 256  # the items of longer containers are data, which nobody edits in place
LARGE = 64 * 2**20  # bytes: larger arrays are shared for the same reason


class ReadOnceError(TypeError):
    """What would be copied can only be read once: an iterator, an open file."""


def rebind(module: nn.Module, memo: dict[int, Any]) -> None:
    """Point the functions that a copied module keeps (hooks, attributes) at the copy.

    `copy.deepcopy` does not copy functions: a hook or a lambda that closes over ``self``, or a method compiled
    by itself, would go on using the original: its state would change, and its surface would be flat.

    Args:
        module: the copy.
        memo: of its `copy.deepcopy`: the copies by the ids of the originals.
    """
    for part in module.modules():
        vars(part).pop("_compiled_call_impl", None)  # of Module.compile(): calls the original
        tables = [t for name, t in vars(part).items() if name.endswith("_hooks") and isinstance(t, dict)]
        for table in [*tables, vars(part)]:
            for key, value in list(table.items()):
                if isinstance(value, FunctionType | functools.partial):
                    table[key] = rebound(value, memo)


def rebound(function: Any, memo: dict[int, Any], depth: int = 0) -> Any:
    """`function` with every original that it holds exchanged for its copy; itself where there is none."""
    if depth > 6 or (getattr(function, "__module__", None) or "").startswith("torch.distributed"):
        return function  # FSDP's hooks hold FSDP's notes
    if isinstance(function, MethodType):
        if id(function.__self__) not in memo:
            return function
        return MethodType(function.__func__, memo[id(function.__self__)])
    if isinstance(function, functools.partial):
        arguments = [_own(a, memo, depth) for a in function.args]
        keywords = {name: _own(a, memo, depth) for name, a in function.keywords.items()}
        return functools.partial(rebound(function.func, memo, depth + 1), *arguments, **keywords)
    if hasattr(function, "_torchdynamo_orig_callable"):  # compiled, for the original
        plain = rebound(function._torchdynamo_orig_callable, memo, depth + 1)
        return function if plain is function._torchdynamo_orig_callable else plain
    if not isinstance(function, FunctionType):
        return function
    held = [cell.cell_contents if _is_filled(cell) else None for cell in function.__closure__ or ()]
    defaults = list(function.__defaults__ or ())
    own, own_defaults = ([_own(content, memo, depth) for content in group] for group in (held, defaults))
    if all(a is b for a, b in zip([*held, *defaults], [*own, *own_defaults], strict=True)):
        return function
    cells = tuple(CellType(content) for content in own)
    result = FunctionType(
        function.__code__, function.__globals__, function.__name__, tuple(own_defaults) or None, cells or None
    )
    result.__kwdefaults__ = function.__kwdefaults__
    result.__dict__.update(function.__dict__)
    return result


def generator_copy(generator: torch.Generator) -> torch.Generator:
    """A generator of its own in the same state; torch before 2.3 can't copy them."""
    twin = torch.Generator(generator.device)
    twin.set_state(generator.get_state())
    return twin


def _own(content: Any, memo: dict[int, Any], depth: int) -> Any:
    if id(content) in memo:
        return memo[id(content)]
    if isinstance(content, MethodType | FunctionType | functools.partial):
        return rebound(content, memo, depth + 1)
    # What a hook collects in a dictionary or list of the user's is not for the user's eyes either.
    return copy.copy(content) if isinstance(content, dict | list | set) else content


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


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
    memo: dict[int, Any] = {id(o): o for o in shared if o is not None}
    seen: set[int] = set()
    functions: list[Any] = []
    waiting = [thing]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or id(value) in memo or isinstance(value, type | ModuleType):
            continue
        seen.add(id(value))
        if isinstance(value, Tensor | np.ndarray):
            if (size_in_bytes(value) if isinstance(value, Tensor) else value.nbytes) > LARGE:
                memo[id(value)] = value
            elif isinstance(value, Tensor) and is_refused(value):
                memo[id(value)] = value.detach().clone()
        elif isinstance(value, torch.Generator):
            memo[id(value)] = generator_copy(value)
        elif isinstance(value, dict | list | set) and len(value) > LONG:
            memo[id(value)] = copy.copy(value)
        elif isinstance(value, dict | list | set | tuple):
            if len(value) <= LONG:
                waiting += value.values() if isinstance(value, dict) else value
        elif isinstance(value, FunctionType):
            functions.append(value)
            waiting += [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        elif isinstance(value, MethodType):
            waiting.append(value.__self__)
        elif hasattr(value, "__dict__") and not hasattr(value, "__next__"):
            waiting += vars(value).values()
        else:
            try:
                copy.deepcopy(value)
            except Exception as error:  # a lock, an open file, a cursor, an iterator
                if hasattr(value, "__next__") and not may_read_once:
                    raise ReadOnceError(f"{type(value).__name__} can only be read once") from error
                memo[id(value)] = value
    twin = copy.deepcopy(thing, memo)
    for function in functions:
        for cell in function.__closure__ or ():
            if _is_filled(cell):
                copy.deepcopy(cell.cell_contents, memo)
    if isinstance(thing, FunctionType):
        return rebound(thing, memo)
    if functions and hasattr(twin, "__dict__"):
        for key, value in list(vars(twin).items()):
            if isinstance(value, FunctionType):
                vars(twin)[key] = rebound(value, memo)
    return twin
