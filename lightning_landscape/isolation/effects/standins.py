"""Stand-ins for the open files and CSV writers of a copied module, which write nothing."""

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
def _null_descriptor() -> int:
    """The descriptor of the null device."""
    return os.open(os.devnull, os.O_RDWR)


class _Null:
    """The common part of binary and text files that discard their input."""

    def __init__(self, name: object = None, mode: str = "w") -> None:
        self.name, self.mode = name, mode

    def writable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position 0."""
        return 0

    def truncate(self, size: int | None = None) -> int:
        """The size 0."""
        return 0

    def fileno(self) -> int:
        """The descriptor of the null device."""
        return _null_descriptor()


class NullBytes(_Null, io.RawIOBase):
    """A binary file that discards its input."""

    def write(self, data: Any) -> int:
        """The number of bytes in `data`."""
        return memoryview(data).nbytes


class NullText(_Null, io.TextIOBase):
    """A text file that discards its input."""

    @property
    def buffer(self) -> NullBytes:
        """The binary file below."""
        return NullBytes(self.name)

    def write(self, text: str) -> int:
        """The number of characters in `text`."""
        return len(text)


def stand_in(file: Any) -> Any:
    """The file for a copy: one that discards its input for a file that is written, or a second one for reading.

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
        twin = io.BufferedReader(_UnownedFile(file.name))
        twin.seek(file.tell())
    except (OSError, ValueError, TypeError, AttributeError):  # a pipe; or text, between two lines
        return file
    return io.TextIOWrapper(twin, file.encoding, file.errors) if text else twin


class _UnownedFile(io.FileIO):
    """A file that closes itself without a warning, since no other object closes it."""

    def __del__(self) -> None:
        self.close()

    def _dealloc_warn(self, source: object) -> None:
        """Do nothing in place of the warning."""


@contextmanager
def replace_writers() -> Iterator[None]:
    """Inside, copies of `copy.deepcopy` get stand-ins for open files, and share the writers that hooks suppress."""
    kinds = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom, io.BufferedReader, io.FileIO)
    makers: dict[type, Callable[[Any], Any]] = dict.fromkeys(kinds, stand_in)
    makers[type(csv.writer(NullText()))] = lambda writer: csv.writer(NullText(), dialect=writer.dialect)
    shared = (ModuleType, *writer_classes())
    with _lock:
        before = dict(copyreg.dispatch_table)
        for kind, make in makers.items():
            copyreg.pickle(kind, lambda value, make=make: (partial(make, value), ()))  # type: ignore[misc]
        for kind in shared:
            copyreg.pickle(kind, lambda value: "shared")  # a name in place of a state: the copy is the object itself
        try:
            yield
        finally:
            copyreg.dispatch_table.clear()
            copyreg.dispatch_table.update(before)
