"""Callbacks that are callbacks of every Lightning namespace that is imported."""

from __future__ import annotations

from typing import TypeVar

from . import compat

T = TypeVar("T")


def join_namespaces(callback: object) -> None:
    """Make a callback one of every Lightning namespace that is imported, also of those imported after its module.

    Not in `__new__`: the command line's parser would take its signature for the constructor's.
    """
    declared = type(callback)
    missing = tuple(base for base in compat.callback_bases() if not isinstance(callback, base))
    if missing:
        names = {"__module__": declared.__module__, "_declared": declared}
        callback.__class__ = type(declared.__name__, (declared, *missing), names)


def restored(cls: type[T], state: dict[str, object]) -> T:
    """The callback that was pickled, of the class that was written down."""
    callback = cls.__new__(cls)
    callback.__dict__.update(state)
    return callback
