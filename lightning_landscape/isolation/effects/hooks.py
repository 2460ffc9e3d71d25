"""Replacements of functions and methods while a user's code is measured, in the thread that measures it only."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .files import Files

Function = Callable[..., Any]
_MISSING: Any = object()


class Hook(NamedTuple):
    """The replacement of one function.

    Args:
        owner: the module, class or object that has the function.
        name: the name of the function.
        act: called as ``act(original, *args, **kwargs)`` in place of ``original(*args, **kwargs)``, without hooks.
    """

    owner: Any
    name: str
    act: Function


class ThreadState(threading.local):
    """The state of a thread.

    Attributes:
        acting: True while hooks act.
        files: the files that were written since hooks began to act, or None.
        warning_function: the function that showed warnings when hooks began to act.
        noticed: the counts of noticed effects; None while nobody asks for them.
        finishers: calls for the end of the pass, in reverse order; None outside of a pass.
        restores: True if globals are restored after each call.
        covered: the streams, and the number of modules, for which hooks are installed.
        is_accelerated: True where code runs in a way that its author did not choose, such as in a compiler.
    """

    acting = False
    files: Files | None = None
    warning_function: Function | None = None
    noticed: dict[str, int] | None = None
    finishers: list[Callable[[], None]] | None = None
    restores: bool = False
    covered: Any = None
    is_accelerated: bool = False


thread = ThreadState()
_lock = threading.Lock()
_users = 0  # passes and calls that need hooks
_installed: dict[tuple[int, str], tuple[Any, Any]] = {}  # by id of owner and name: the owner, and its attribute
_replacements: dict[tuple[int, str], tuple[Function, Function]] = {}  # of modules and classes: original, replacement


@contextmanager
def installed() -> Iterator[None]:
    """Remove at the end the hooks that are installed inside."""
    global _users
    with _lock:
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            while _installed and not _users:
                (_, name), (owner, attribute) = _installed.popitem()
                if attribute is _MISSING:
                    delattr(owner, name)
                else:
                    setattr(owner, name, attribute)


def install(hooks: Iterable[Hook]) -> None:
    """Install those hooks that are not installed yet; to be called inside `installed`."""
    with _lock:
        for owner, name, act in hooks:
            if (id(owner), name) not in _installed:
                attribute, original = vars(owner).get(name, _MISSING), getattr(owner, name)
                with suppress(AttributeError, TypeError):  # some streams have read-only attributes
                    setattr(owner, name, _replacement(owner, name, original, act))
                    _installed[id(owner), name] = (owner, attribute)


def _replacement(owner: object, name: str, original: Function, act: Function) -> Function:
    known, replacement = _replacements.get((id(owner), name), (None, None))
    if replacement is not None and known is original:
        return replacement

    def call(*args: object, **kwargs: object) -> Any:
        if not thread.acting:
            return original(*args, **kwargs)
        thread.acting = False
        try:
            return act(original, *args, **kwargs)
        finally:
            thread.acting = True

    if isinstance(owner, type | ModuleType):  # ids of other objects are used again
        _replacements[id(owner), name] = (original, call)
    return call


def _reset_child() -> None:
    """Reset a forked process: its only thread does not hold the lock, and is not in the measured call."""
    global _lock
    _lock, thread.acting = threading.Lock(), False


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_reset_child)
