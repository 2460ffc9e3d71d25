"""EffectGuard: the context in which a user's code is called while it is measured."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from . import files, trackers
from .audit import note
from .hooks import Hook, install, installed, thread
from .reachable import ReachableState, Values

log = logging.getLogger(__name__)


class EffectGuard:
    """The context in which the writes of one thread have no effect, and after which all Python state is restored.

    Inside, the code prints and logs nothing, and a warning is shown once. Files are written to private places, and
    read from there. The writers of known libraries do nothing. With ``one_pass(restores=True)``, changes of globals and
    classes are undone, too. New objects there, such as a cache, remain until the end of the pass.

    Args:
        roots: the user's functions and modules.

    >>> def shout():
    ...     print("loud")
    >>> with EffectGuard(shout):
    ...     shout()
    """

    def __init__(self, *roots: object) -> None:
        self._roots = roots
        self._reachable: ReachableState | None = None
        self._finishers: list[Callable[[], None]] | None = None  # of the pass in which the state was read
        self._stack = ExitStack()
        self._inner = 0  # nested entries
        self._before: Values | None = None

    def start(self) -> None:
        """Restore the code's generators to their states at the beginning of the pass."""
        if self._reachable is not None and self._finishers is thread.finishers and thread.restores:
            self._reachable.start()

    def __enter__(self) -> None:
        if thread.acting:  # inside of another guard
            self._inner += 1
            return
        if thread.finishers is None:
            self._stack.enter_context(one_pass())
        if self._finishers is not thread.finishers or self._reachable is None:
            self._reachable = self._begin()
        covered = sys.stdout, sys.stderr, len(sys.modules)
        if covered != thread.covered:
            thread.covered = covered
            streams = [sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__]
            install([*files.hooks(), *trackers.hooks(), *_stream_hooks(streams)])
        self._before = self._reachable.read() if thread.restores else None
        thread.warning_function = trackers.warning_function()
        thread.acting = True

    def _begin(self) -> ReachableState:
        """Find the state that the code can reach in this pass."""
        self._finishers = thread.finishers
        reachable = _find_state(self._roots)
        if thread.restores and self._finishers is not None:
            self._finishers.append(reachable.finish)
        install(_stream_hooks(reachable.files))
        return reachable

    def __exit__(self, *raised: object) -> None:
        if self._inner:
            self._inner -= 1
            return
        thread.acting = False
        sys.stdout, sys.stderr, _ = thread.covered
        if self._before is not None and self._reachable is not None:
            self._reachable.restore(self._before)
        if thread.files is not None:
            if any(os.path.lexists(path) for path in thread.files.temporary):
                note("leaves temporary files")
            thread.files.close()
            thread.files = None
        self._stack.close()


@contextmanager
def one_pass(restores: bool = False) -> Iterator[None]:
    """Inside, all guards belong to one pass, for which the hooks stay installed.

    Args:
        restores: restore globals and attributes of classes, since a training continues with them.
    """
    before = thread.finishers, thread.restores
    thread.finishers, thread.restores, thread.covered = [], restores or thread.restores, None
    try:
        with installed():
            yield
    finally:
        for finish in reversed(thread.finishers):
            try:
                finish()
            except Exception as error:  # noqa: BLE001  # an object of the user's may refuse; the training continues
                log.warning("A global value could not be restored: %s: %s", type(error).__name__, error)
        (thread.finishers, thread.restores), thread.covered = before, None


def restore_later(*roots: object) -> None:
    """Restore the globals that code outside of a guard has changed, at the end of this pass."""
    if thread.restores and thread.finishers is not None:
        reachable = _find_state(roots)
        thread.finishers += [reachable.finish, partial(reachable.restore, reachable.read())]


def _find_state(roots: Iterable[object]) -> ReachableState:
    try:
        return ReachableState(roots)
    except Exception as error:  # noqa: BLE001  # the user's objects may raise anything when they are inspected
        log.debug("the globals of %s are not restored: %s: %s", roots, type(error).__name__, error)
        return ReachableState(())


def _stream_hooks(streams: list[Any]) -> list[Hook]:
    """Hooks on open files themselves, wherever code stores them."""
    streams = [part for stream in streams for part in (stream, getattr(stream, "buffer", None))]
    write = lambda original, data: len(data)  # noqa: E731
    acts = (("write", write), ("writelines", files.do_nothing), ("truncate", files.do_nothing))
    mutable = [stream for stream in streams if hasattr(stream, "__dict__")]
    return [Hook(stream, name, act) for stream in mutable for name, act in acts if hasattr(stream, name)]
