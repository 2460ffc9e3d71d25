"""Effects of a user's code that no hook suppresses, as far as Python's audit events report them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .files import COMPILERS, TEMPORARY, WRITING, is_running, path_of
from .hooks import thread

# Events (or their beginnings) that change nothing outside of the process; all others are reported.
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
def record_effects() -> Iterator[dict[str, int]]:
    """Yield the effects of this thread that no hook suppresses, with their counts, e.g. ``{"starts ls": 1}``."""
    global _installed
    if not _installed:  # an audit hook can't be removed
        _installed = True
        sys.addaudithook(_audit)
    before, thread.noticed = thread.noticed, {}
    try:
        yield thread.noticed
    finally:
        thread.noticed = before


def effects_warning(noticed: dict[str, int], who: str, times: str, advice: str) -> str:
    """The warning of effects that can't be held back; empty if there are none.

    >>> effects_warning({"starts ls": 2}, "training_step", "on every batch at each of 2,601 points", "Leave it out.")
    "training_step starts ls (2×), which can't be held back while the landscape is measured: on every batch at ..."
    """
    effects = ", ".join(f"{effect} ({count}×)" if count > 1 else effect for effect, count in noticed.items())
    text = f"{who} {effects}, which can't be held back while the landscape is measured: {times}. {advice}"
    return text if effects else ""


def note(effect: str) -> None:
    """Count an effect inside `record_effects`."""
    if thread.noticed is not None:
        thread.noticed[effect] = thread.noticed.get(effect, 0) + 1


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if not thread.acting or thread.noticed is None or event.startswith(HARMLESS):
        return
    if event == "open":
        path = path_of(arguments[0])
        writes = isinstance(arguments[2], int) and arguments[2] & WRITING
        if path is None or path == os.devnull or not writes:
            return
    thread.acting = False
    try:
        temporary = thread.files is not None and thread.files.is_temporary(str(arguments[0]))
        if not temporary and not is_running((*TEMPORARY, *COMPILERS)):
            note(WORDS.get(event, f"does {event}").format(*map(_text, arguments)))
    finally:
        thread.acting = True


def _text(argument: object) -> object:
    """An argument of an event in a message; Python 3.10 gives some paths as bytes."""
    return os.fsdecode(argument) if isinstance(argument, bytes) else argument
