"""Ctrl-C during a pass: the first one asks for its end, a second one soon after stops the program as usual."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import active_children
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]


class PassEndedError(RuntimeError):
    """The end of a pass before its first point, which the user asked for."""


class Interrupts:
    """A context in which the first Ctrl-C raises nothing: it sets `pressed`.

    A second one within `patience` seconds does what Ctrl-C did before the context: it stops the program. Others that
    follow it are ignored as long, so that the training can be put back in peace.

    A terminal sends Ctrl-C to all processes of the program. Workers of data loaders would end by it, and the training
    could not go on. They leave the terminal's group while the context lasts, where the system has groups.

    The context does nothing outside of the main thread, or where the program ignores Ctrl-C.

    Args:
        patience: seconds in which a second Ctrl-C counts as one.

    Attributes:
        pressed: True from the first Ctrl-C on; whoever has taken notice may set it back.
    """

    def __init__(self, patience: float = 3.0) -> None:
        self.patience, self.pressed = patience, False
        self._before: Handler | None = None
        self._last = self._stopped = -float("inf")  # when it was pressed, and when it stopped the program
        self._apart: list[int] = []  # ids of workers

    def __enter__(self) -> Interrupts:
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(before):
            self._before = before
            signal.signal(signal.SIGINT, self._take)
            workers = [child.pid for child in active_children() if child.daemon and child.pid is not None]
            self._apart = [pid for pid in workers if _leave_group(pid)]
        return self

    def __exit__(self, *raised: object) -> None:
        for pid in self._apart:
            with suppress(OSError):  # it may have ended
                os.setpgid(pid, os.getpgrp())
        if self._before is not None and signal.getsignal(signal.SIGINT) == self._take:
            signal.signal(signal.SIGINT, self._before)

    def _take(self, number: int, frame: FrameType | None) -> None:
        """Take one Ctrl-C: it may come between any two instructions, so it only sets attributes."""
        now = time.monotonic()
        is_second, self._last = now - self._last <= self.patience, now
        if not is_second:
            self.pressed = True
        elif now - self._stopped > self.patience:
            self._stopped = now
            assert self._before is not None
            self._before(number, frame)


def _leave_group(pid: int) -> bool:
    """Move a worker from this process's group to one of its own; False where that can't be done."""
    try:
        if os.getpgid(pid) == os.getpgrp():
            os.setpgid(pid, pid)
            return True
    except (OSError, AttributeError):  # it runs another program, or has ended; Windows has no groups
        pass
    return False
