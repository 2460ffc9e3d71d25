"""A function that is called again and again by a thread, and never while the process forks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# A process that forks copies locks as they are: whoever holds one at that moment would hold it for ever in the copy.
_at_work = threading.RLock()
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_at_work.acquire, after_in_parent=_at_work.release, after_in_child=_at_work.release)


@contextmanager
def ticking(act: Callable[[], None], seconds: float = 0.5) -> Iterator[None]:
    """A context in which a thread calls a function every so many seconds, until it raises.

    A fork waits until the function has returned. So the locks of output streams are free in the new process.
    """
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            with _at_work:
                try:
                    act()
                except Exception:  # noqa: BLE001  # a closed terminal must not end a training
                    return

    thread = threading.Thread(target=run, name="landscape progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
