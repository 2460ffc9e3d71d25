"""Files that a user's code writes while it is measured: private copies, which only that code can read."""

from __future__ import annotations

import builtins
import errno
import io
import os
import pathlib
import shutil
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import FrameType
from typing import IO, Any, TypeAlias

import numpy as np
import torch

from .hooks import Function, Hook, thread

FilePath: TypeAlias = "str | bytes | int | os.PathLike[Any]"  # an integer is the number of an open file
OPEN = io.open
PACKAGE = __name__.partition(".")[0]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Modules whose files are no effect: new temporary files, and the caches of compilers.
TEMPORARY = ("tempfile",)
COMPILERS = ("torch._inductor", "torch._dynamo", "torch.utils.cpp_extension", "triton", "numba", "importlib.")


class Files:
    """The files that were written since hooks began to act, each at a private place.

    Attributes:
        temporary: paths of temporary files and folders that the code has made.
    """

    def __init__(self) -> None:
        self.temporary: set[str] = set()
        self._folder: str | None = None
        self._places: dict[str, str] = {}
        self._tails: set[str] = set()  # existing files: only the appended part is at a private place

    def __contains__(self, path: str) -> bool:
        return path in self._places

    def to_write(self, path: str, mode: str) -> str:
        """The private place of a file that is opened for writing."""
        place = self._places.get(path)
        if place is None:
            place = self._places[path] = self._new()
            if os.path.exists(path) and "w" not in mode:
                if "+" in mode:
                    shutil.copyfile(path, place)
                else:
                    self._tails.add(path)
        if "w" in mode:
            self._tails.discard(path)
        elif "+" in mode:
            self._complete(path)
        return place

    def to_read(self, path: str) -> str:
        """The path at which to read a file: its private place, or the path itself."""
        self._complete(path)
        return self._places.get(path, path)

    def _complete(self, path: str) -> None:
        """Copy the existing content of a file before the appended part."""
        if path in self._tails:
            self._tails.remove(path)
            tail, self._places[path] = self._places[path], self._new()
            with OPEN(self._places[path], "wb") as whole:
                for part in (path, tail):
                    with OPEN(part, "rb") as file:
                        shutil.copyfileobj(file, whole)

    def move(self, source: str, target: str) -> None:
        """Move a private or temporary file to the private place of `target`."""
        self._complete(source)
        self._tails.discard(target)
        self._places[target] = self._places.pop(source, "") or shutil.move(source, self._new())

    def remove(self, path: str) -> None:
        """Forget that a file was written."""
        self._places.pop(path, None)
        self._tails.discard(path)

    def is_temporary(self, path: str) -> bool:
        """True if a path is one of the temporary files and folders, or lies in such a folder."""
        return any(path == root or path.startswith(root + os.sep) for root in self.temporary)

    def _new(self) -> str:
        self._folder = self._folder or tempfile.mkdtemp()
        return os.path.join(self._folder, str(len(os.listdir(self._folder))))

    def close(self) -> None:
        """Delete all private places."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def written() -> Files:
    """The `Files` of this thread since hooks began to act."""
    thread.files = thread.files or Files()
    return thread.files


def path_of(file: object) -> str | None:
    """The absolute path of a file that is opened; None for the number of an open file, or another object."""
    return os.path.abspath(os.fsdecode(file)) if isinstance(file, str | bytes | os.PathLike) else None


def is_running(modules: tuple[str, ...]) -> bool:
    """True if the measured code has called a function of `modules` that still runs in this thread."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name.startswith(modules):
            return True
        if name.startswith(PACKAGE) and not name.startswith(__package__):
            return False
        frame = frame.f_back
    return False


def is_private(path: str) -> bool:
    """True if nobody else sees a change at a path: a temporary file, the null device, or a cache of a compiler."""
    temporary = thread.files is not None and thread.files.is_temporary(path)
    return temporary or path == os.devnull or is_running((*TEMPORARY, *COMPILERS))


def place_to_read(path: FilePath) -> FilePath:
    """The place at which to read a file, from which it may have been moved."""
    files = thread.files
    absolute = None if files is None else path_of(path)
    return path if files is None or absolute is None else files.to_read(absolute)


def open_(original: Function, file: FilePath, mode: str = "r", *args: object, **kwargs: object) -> IO[Any]:
    """`open`: write to a private place, and read from there."""
    path = path_of(file)
    if path is None or not isinstance(mode, str):
        return original(file, mode, *args, **kwargs)
    if set(mode).isdisjoint("wax+"):
        return original(place_to_read(file), mode, *args, **kwargs)
    missing = not os.path.exists(path) and path not in written()
    if "x" in mode and not missing:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    if is_private(path) or ("r" in mode and missing):
        return original(file, mode, *args, **kwargs)
    mode = mode.replace("x", "w")
    return original(written().to_write(path, mode), mode, *args, **kwargs)


def os_open(original: Function, path: FilePath, flags: int, *args: object, **kwargs: object) -> int:
    """`os.open`: write to a private place, and read from there."""
    absolute = path_of(path)
    if absolute is None or kwargs.get("dir_fd") is not None:
        return original(path, flags, *args, **kwargs)
    if not flags & WRITING:
        return original(place_to_read(path), flags, *args, **kwargs)
    missing = not os.path.exists(absolute) and absolute not in written()
    if flags & os.O_EXCL and not missing:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), absolute)
    if is_private(absolute) or (missing and not flags & os.O_CREAT):
        descriptor = original(path, flags, *args, **kwargs)
        if flags & os.O_EXCL and is_running(TEMPORARY):
            written().temporary.add(absolute)
        return descriptor
    mode = "w" if flags & os.O_TRUNC else "a+" if flags & os.O_RDWR else "a"
    return original(written().to_write(absolute, mode), (flags | os.O_CREAT) & ~os.O_EXCL, *args, **kwargs)


def os_write(original: Function, fd: int, data: bytes) -> int:
    """`os.write`: print nothing."""
    return len(data) if fd in (1, 2) else original(fd, data)


def mkdir(original: Function, path: FilePath, *args: object, **kwargs: object) -> None:
    """`os.mkdir`: make the folder at a private place."""
    absolute = path_of(path)
    if absolute is not None and absolute in written():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), absolute)
    if absolute is None or os.path.exists(absolute) or is_private(absolute):
        original(path, *args, **kwargs)
        if absolute is not None and is_running(TEMPORARY):
            written().temporary.add(absolute)
    else:
        original(written().to_write(absolute, "w"))


def stat(original: Function, path: FilePath, *args: object, **kwargs: object) -> os.stat_result:
    """`os.stat` and `os.lstat`, which `os.path.exists` uses: see private files."""
    return original(place_to_read(path), *args, **kwargs)


def rename(original: Function, src: FilePath, dst: FilePath, **kwargs: object) -> None:
    """`os.rename` and `os.replace`: rename private files only."""
    old, new = path_of(src), path_of(dst)
    if old is None or new is None or kwargs:
        return
    if old in written() or (is_private(old) and not is_private(new)):
        written().move(old, new)
    elif is_private(old) or not os.path.lexists(old):
        original(src, dst)


def remove(original: Function, path: FilePath, **kwargs: object) -> None:
    """`os.remove`, `os.unlink` and `os.rmdir`: remove private files only."""
    absolute = path_of(path)
    if absolute is not None and absolute in written():
        written().remove(absolute)
    else:
        change(original, path, **kwargs)


def change(original: Function, path: FilePath, *args: object, **kwargs: object) -> None:
    """Call the original for private files, and for those that do not exist."""
    absolute = path_of(path)
    if absolute is None or absolute in written():
        return
    if is_private(absolute) or (not os.path.lexists(absolute) and not kwargs.get("dir_fd")):
        original(path, *args, **kwargs)


def do_nothing(original: Function, *args: object, **kwargs: object) -> None:
    """Do nothing in place of the original."""


def torch_save(original: Function, obj: object, f: FilePath | IO[bytes], *args: object, **kwargs: object) -> None:
    """`torch.save`, which opens a path without `open`."""
    with _opened(f) as file:
        original(obj, file, *args, **kwargs)


def savetxt(original: Function, fname: FilePath | IO[bytes], *args: object, **kwargs: object) -> None:
    """`numpy.savetxt`, which opens a path without `open`, too."""
    with _opened(fname) as file:
        original(file, *args, **kwargs)


def _opened(file: FilePath | IO[bytes]) -> AbstractContextManager[Any]:
    """A path opened for writing; an open file as it is."""
    return open_(OPEN, file, "wb") if isinstance(file, str | bytes | os.PathLike) else nullcontext(file)


@cache
def hooks() -> list[Hook]:
    """The functions for files that Python's libraries share, and those of torch and numpy that do not use them."""
    acts: dict[str, Function] = {
        "open": os_open, "write": os_write, "mkdir": mkdir, "rename": rename, "replace": rename, "remove": remove,
        "unlink": remove, "rmdir": remove, **dict.fromkeys(("stat", "lstat"), stat),
        **dict.fromkeys(("chmod", "chown", "utime", "truncate"), change),
        **dict.fromkeys(("link", "symlink", "fsync", "fdatasync"), do_nothing),
    }  # fmt: skip
    found = [Hook(os, name, act) for name, act in acts.items() if hasattr(os, name)]
    found += [Hook(builtins, "open", open_), Hook(io, "open", open_)]
    accessor = getattr(pathlib, "_normal_accessor", None)  # of Python 3.10, which stores these functions
    found += [Hook(accessor, name, {**acts, "open": open_}[name]) for name in acts if hasattr(accessor, name)]
    return [*found, Hook(torch, "save", torch_save), Hook(np, "savetxt", savetxt)]
