"""Stand-ins for the open files and CSV writers of a copied module; they write nothing."""

from __future__ import annotations

import copyreg
import csv
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import ModuleType
from typing import Any

from .trackers import writer_classes

_lock = threading.RLock()


@cache
def _nowhere() -> int:
    """A file descriptor that takes everything, for those who ask for one."""
    return os.open(os.devnull, os.O_RDWR)


class _Null:
    """The base class of the two kinds of null files, binary and text."""

    def __init__(self, name: Any = None, mode: str = "w") -> None:
        self.name, self.mode = name, mode

    def writable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Nothing has been written."""
        return 0

    def truncate(self, size: int | None = None) -> int:
        """Nothing is left."""
        return 0

    def fileno(self) -> int:
        """One that takes everything, too."""
        return _nowhere()


class NullBytes(_Null, io.RawIOBase):
    """A binary file that takes everything and keeps nothing."""

    def write(self, data: Any) -> int:
        """Give the number of bytes."""
        return memoryview(data).nbytes


class NullText(_Null, io.TextIOBase):
    """A text file that takes everything and keeps nothing."""

    @property
    def buffer(self) -> NullBytes:
        """The binary file below it."""
        return NullBytes(self.name)

    def write(self, text: str) -> int:
        """Give the number of characters."""
        return len(text)


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
        twin = io.BufferedReader(_Unowned(file.name))
        twin.seek(file.tell())
    except (OSError, ValueError, TypeError, AttributeError):  # a pipe; or text, between two lines
        return file
    return io.TextIOWrapper(twin, file.encoding, file.errors) if text else twin


class _Unowned(io.FileIO):
    """Closes itself without a word, since nobody else does."""

    def __del__(self) -> None:
        self.close()

    def _dealloc_warn(self, source: Any) -> None:
        """Say nothing."""


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
