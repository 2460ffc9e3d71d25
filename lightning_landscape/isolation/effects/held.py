"""HeldBack: the context in which a user's code is called while it is measured."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any

from . import files, trackers
from .hooks import Hook, here, install, installed
from .noticed import note
from .reached import Reached

log = logging.getLogger(__name__)


class HeldBack:
    """Inside, what the code of one thread writes goes nowhere, and afterwards all python state is as it was.

    It prints and logs nothing, a warning is shown once, files are written to private places (and read from there),
    and the writers of known libraries do nothing. Where `one_pass` puts back, what it changes in globals and classes
    is as before, too; what it makes there, such as a cache, at the end of the pass.

    Args:
        roots: the user's functions and modules.

    >>> def shout():
    ...     print("loud")
    >>> with HeldBack(shout):
    ...     shout()
    """

    def __init__(self, *roots: Any) -> None:
        self._roots = roots
        self._reached: Reached | None = None
        self._pass: Any = None
        self._alone = ExitStack()
        self._inner = 0
        self._before: Any = None

    def start(self) -> None:
        """The code's generators are where they were when the pass began."""
        if self._reached is not None and self._pass is here.passes and here.puts_back:
            self._reached.start()

    def __enter__(self) -> None:
        if here.acting:  # inside of another
            self._inner += 1
            return
        if here.passes is None:
            self._alone.enter_context(one_pass())
        if self._pass is not here.passes or self._reached is None:
            self._begin()
        assert self._reached is not None
        known = sys.stdout, sys.stderr, len(sys.modules)
        if known != here.known:
            here.known = known
            streams = [sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__]
            install([*_hooks(), *trackers.hooks(), *_of_streams(streams)])
        self._before = self._reached.read() if here.puts_back else None
        here.shows = trackers.shown_by()
        here.acting = True

    def _begin(self) -> None:
        """See what the code can reach, in this pass."""
        self._pass = here.passes
        self._reached = _reach(self._roots)
        if here.puts_back:
            self._pass.append(self._reached.finish)
        install(_of_streams(self._reached.files))

    def __exit__(self, *raised: object) -> None:
        if self._inner:
            self._inner -= 1
            return
        here.acting = False
        sys.stdout, sys.stderr, _ = here.known
        assert self._reached is not None
        if self._before is not None:
            self._reached.put_back(self._before)
        if here.files is not None:
            if any(os.path.lexists(path) for path in here.files.temporary):
                note("leaves temporary files")
            here.files.close()
            here.files = None
        self._alone.close()


@contextmanager
def one_pass(puts_back: bool = False) -> Iterator[None]:
    """Calls inside are of one pass, for which hooks stay in place.

    Args:
        puts_back: whether globals and attributes of classes are put back, since a training goes on with them.
    """
    before = here.passes, here.puts_back
    here.passes, here.puts_back, here.known = [], puts_back or here.puts_back, None
    try:
        with installed():
            yield
    finally:
        for finish in reversed(here.passes):
            try:
                finish()
            except Exception as error:  # noqa: BLE001  # an object of the user's that refuses; the training goes on
                log.warning("What was reached could not be put back: %s: %s", type(error).__name__, error)
        (here.passes, here.puts_back), here.known = before, None


def put_back_later(*roots: Any) -> None:
    """At the end of this pass, put back what code that is not held back has changed in globals and the like."""
    if here.puts_back and here.passes is not None:
        reached = _reach(roots)
        here.passes += [reached.finish, partial(reached.put_back, reached.read())]


def _reach(roots: Iterable[Any]) -> Reached:
    try:
        return Reached(roots)
    except Exception as error:  # noqa: BLE001  # what code reaches may do anything when it is looked at
        log.debug("what %s reaches is not put back: %s: %s", roots, type(error).__name__, error)
        return Reached(())


@cache
def _hooks() -> list[Hook]:
    return files.hooks()


def _of_streams(streams: list[Any]) -> list[Hook]:
    """Hooks on open files themselves, wherever code keeps them."""
    streams = [part for stream in streams for part in (stream, getattr(stream, "buffer", None))]
    acts = (("write", _write), ("writelines", files.nothing), ("truncate", files.nothing))
    open_ones = [stream for stream in streams if hasattr(stream, "__dict__")]
    return [Hook(stream, name, act) for stream in open_ones for name, act in acts if hasattr(stream, name)]


def _write(original: Any, data: Any) -> int:
    return len(data)
