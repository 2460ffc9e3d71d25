"""Callbacks that are callbacks of every Lightning namespace that is imported."""

from __future__ import annotations

from typing import Any

from . import compat


def join_namespaces(callback: object) -> None:
    """Make a callback one of every Lightning namespace that is imported, also of those imported after its module.

    Not in `__new__`: the command line's parser would take its signature for the constructor's.
    """
    declared = type(callback)
    missing = tuple(base for base in compat.callback_bases() if not isinstance(callback, base))
    if missing:
        names = {"__module__": declared.__module__, "_declared": declared}
        callback.__class__ = type(declared.__name__, (declared, *missing), names)


def reduced(callback: object, state: dict[str, Any]) -> tuple[Any, ...]:
    """The result of `__reduce__`: pickled as the class that was written down, not the one that was made of it."""
    return _restored, (getattr(type(callback), "_declared", type(callback)), state)


def _restored(cls: type[object], state: dict[str, Any]) -> object:
    callback = cls.__new__(cls)
    callback.__dict__.update(state)
    return callback
