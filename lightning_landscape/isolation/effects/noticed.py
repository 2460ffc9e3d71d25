"""Notices effects of a user's code that no hook holds back, as far as Python's audit events tell."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .files import COMPILERS, TEMPORARY, WRITING, at_work, path_of
from .hooks import here

# Events (or their beginnings) that change nothing outside of the process; all others are told of.
HARMLESS = (
    "import", "compile", "exec", "marshal.", "pickle.", "object.", "sys.", "code.", "cpython.", "gc.", "builtins.",
    "array.", "ctypes.", "function.", "os.listdir", "os.scandir", "os.walk", "os.fwalk", "os.listxattr",
    "os.getxattr", "os.putenv", "os.unsetenv", "glob.", "tempfile.", "shutil.", "mmap.", "signal.", "time.", "_thread.",
    "threading.", "socket.__new__", "socket.get", "resource.", "setopencodehook", "urllib.", "http.client.", "re.",
    "monitoring.", "sqlite3.connect/handle", "sqlite3.enable", "_winapi.", "msvcrt.", "assert", "id",
)  # fmt: skip
WORDS = {
    "open": "writes to {0}",
    "subprocess.Popen": "starts {0}",
    "os.system": "runs {0}",
    "os.fork": "forks",
    "socket.connect": "connects to {1}",
    "sqlite3.connect": "opens the database {0}",
}
_installed = False


@contextmanager
def noticing() -> Iterator[dict[str, int]]:
    """Yield this thread's effects that no hook holds back, in words, with their counts; e.g. ``{"starts ls": 1}``."""
    global _installed
    if not _installed:  # for good: there is no way to take it away
        _installed = True
        sys.addaudithook(_audit)
    before, here.noticed = here.noticed, {}
    try:
        yield here.noticed
    finally:
        here.noticed = before


def unheld(noticed: dict[str, int], who: str, times: str, advice: str) -> str:
    """The warning of what can't be held back; empty where there is nothing.

    >>> unheld({"starts ls": 2}, "training_step", "on every batch at each of 2,601 points", "Leave it out.")
    "training_step starts ls (2×), which can't be held back while the landscape is measured: on every batch at ..."
    """
    what = ", ".join(f"{words} ({count}×)" if count > 1 else words for words, count in noticed.items())
    text = f"{who} {what}, which can't be held back while the landscape is measured: {times}. {advice}"
    return text if what else ""


def note(what: str) -> None:
    """Count something, if somebody wants to know."""
    if here.noticed is not None:
        here.noticed[what] = here.noticed.get(what, 0) + 1


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not here.acting or here.noticed is None or event.startswith(HARMLESS):
        return
    if event == "open":
        path = path_of(arguments[0])
        writes = isinstance(arguments[2], int) and arguments[2] & WRITING
        if path is None or path == os.devnull or not writes:
            return
    here.acting = False
    try:
        if not at_work((*TEMPORARY, *COMPILERS)) and not (here.files and here.files.is_temporary(str(arguments[0]))):
            note(WORDS.get(event, f"does {event}").format(*arguments))
    finally:
        here.acting = True
