"""What a copy of a module gets for the open files and writers that the module holds: others, which write nothing."""

from __future__ import annotations

import copyreg
import csv
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

from .trackers import writer_classes

_lock = threading.RLock()


class NullText(io.TextIOBase):
    """A text file that takes everything and keeps nothing."""

    def __init__(self, name: Any = None, mode: str = "w") -> None:
        self.name, self.mode = name, mode

    def write(self, text: str) -> int:
        """Give the number of characters."""
        return len(text)

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Nothing has been written."""
        return 0


class NullBytes(io.RawIOBase):
    """The same of bytes."""

    def __init__(self, name: Any = None, mode: str = "wb") -> None:
        self.name, self.mode = name, mode

    def write(self, data: Any) -> int:
        """Give the number of bytes."""
        return memoryview(data).nbytes

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Nothing has been written."""
        return 0


def stand_in(file: Any) -> Any:
    """A file of its own for a copy: one that keeps nothing in place of one that is written, or the same to be read.

    >>> import tempfile
    >>> with tempfile.TemporaryFile("w+") as file:
    ...     stand_in(file).write("nowhere"), file.tell()
    (7, 0)
    """
    text = isinstance(file, io.TextIOBase)
    if file.closed or file.writable():
        null = (NullText if text else NullBytes)(getattr(file, "name", None), getattr(file, "mode", "w"))
        if file.closed:
            null.close()
        return null
    try:
        twin = open(file.name, "rb")  # noqa: SIM115  # the copy keeps it
        twin.seek(file.tell())
    except (OSError, ValueError, TypeError, AttributeError):  # a pipe; or text, between two lines
        return file
    return _Text(twin, file.encoding, file.errors) if text else _Bytes(twin.detach())


class _Text(io.TextIOWrapper):
    """Closes itself without a word, since nobody else does."""

    def __del__(self) -> None:
        self.close()


class _Bytes(io.BufferedReader):
    def __del__(self) -> None:
        self.close()


def _csv_writer(writer: Any) -> Any:
    return csv.writer(NullText(), dialect=writer.dialect)


@contextmanager
def writers_apart() -> Iterator[None]:
    """Inside, `copy.deepcopy` gives copies stand-ins for open files, and lets them share what hooks hold back."""
    makers: dict[type, Callable[[Any], Any]] = {
        **dict.fromkeys(
            (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom, io.BufferedReader, io.FileIO), stand_in
        ),
        type(csv.writer(NullText())): _csv_writer,
    }
    shared = (ModuleType, *writer_classes())
    with _lock:
        before = dict(copyreg.dispatch_table)
        for kind, make in makers.items():
            copyreg.pickle(kind, lambda value, make=make: (partial(make, value), ()))  # type: ignore[misc]
        for kind in shared:
            copyreg.pickle(kind, lambda value: "it is shared")
        try:
            yield
        finally:
            copyreg.dispatch_table.clear()
            copyreg.dispatch_table.update(before)
