"""Functions and methods replaced while a user's code is measured, for the thread that measures it and no other."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any, NamedTuple

_MISSING: Any = object()


class Hook(NamedTuple):
    """One replacement.

    Args:
        owner: a module, a class or an object.
        name: of its function.
        act: ``act(original, *args, **kwargs)`` in place of ``original(*args, **kwargs)``; inside, no hook acts.
    """

    owner: Any
    name: str
    act: Callable[..., Any]


class Here(threading.local):
    """The state of this thread.

    Attributes:
        acting: whether hooks act.
        files: what has been written to files since they do, or None (`files.py`).
        shows: what showed warnings when they began to.
        noticed: what is noticed, and how often; None while nobody wants to know.
        passes: what puts back at the end of the pass, last first; None outside of one.
        puts_back: whether globals are put back after each call.
        known: for which streams and libraries hooks are in place.
    """

    acting = False
    files: Any = None
    shows: Any = None
    noticed: dict[str, int] | None = None
    passes: list[Callable[[], None]] | None = None
    puts_back: bool = False
    known: Any = None


here = Here()
_lock = threading.Lock()
_users = 0  # passes and calls that need hooks
_installed: dict[tuple[int, str], tuple[Any, Any]] = {}  # by owner and name: the owner, and what it had itself
_made: dict[
    tuple[int, str], tuple[Any, Any]
] = {}  # the same of modules and classes: the original, and what replaces it


@contextmanager
def installed() -> Iterator[None]:
    """Hooks that are put in place inside stay until the end; then all is as it was."""
    global _users
    with _lock:
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            while _installed and not _users:
                (_, name), (owner, own) = _installed.popitem()
                if own is _MISSING:
                    delattr(owner, name)
                else:
                    setattr(owner, name, own)


def install(hooks: Iterable[Hook]) -> None:
    """Put hooks in their places, those that are not there yet; call it inside `installed`."""
    with _lock:
        for owner, name, act in hooks:
            if (id(owner), name) not in _installed:
                own, original = vars(owner).get(name, _MISSING), getattr(owner, name)
                with suppress(AttributeError, TypeError):  # of a stream that lets nobody set it
                    setattr(owner, name, _replacement(owner, name, original, act))
                    _installed[id(owner), name] = (owner, own)


def _replacement(owner: Any, name: str, original: Any, act: Callable[..., Any]) -> Any:
    known = _made.get((id(owner), name))
    if known is not None and known[0] is original:
        return known[1]

    def replaced(*args: Any, **kwargs: Any) -> Any:
        if not here.acting:
            return original(*args, **kwargs)
        here.acting = False
        try:
            return act(original, *args, **kwargs)
        finally:
            here.acting = True

    if isinstance(owner, type | ModuleType):  # others come and go
        _made[id(owner), name] = (original, replaced)
    return replaced


def _in_child() -> None:
    """In a forked process: its only thread is new to the lock, and is not in the call that is measured."""
    global _lock
    _lock, here.acting = threading.Lock(), False


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_in_child)
