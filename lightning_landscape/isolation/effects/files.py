"""Files that a user's code writes while it is measured: it finds what it has written, and nobody else does."""

from __future__ import annotations

import builtins
import errno
import io
import os
import pathlib
import shutil
import sys
import tempfile
from typing import Any

import numpy as np
import torch

from .hooks import Hook, here

OPEN = io.open
PACKAGE = __name__.partition(".")[0]
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Modules whose files are no effect: new temporary ones, and what compilers keep for the next time.
TEMPORARY = ("tempfile",)
COMPILERS = ("torch._inductor", "torch._dynamo", "torch.utils.cpp_extension", "triton", "numba", "importlib.")


class Files:
    """The files written since hooks began to act, each in a private place.

    Attributes:
        temporary: paths of temporary files and folders that were made, which are nobody else's.
    """

    def __init__(self) -> None:
        self.temporary: set[str] = set()
        self._folder: str | None = None
        self._places: dict[str, str] = {}
        self._tails: set[str] = set()  # of files that are there: only what is appended to them is in a private place

    def __contains__(self, path: str) -> bool:
        return path in self._places

    def to_write(self, path: str, mode: str) -> str:
        """The private place of a file that is opened to be written."""
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
        """The path at which to read a file: its private place, or else its own path."""
        self._complete(path)
        return self._places.get(path, path)

    def _complete(self, path: str) -> None:
        """Put what was there before what has been appended."""
        if path in self._tails:
            self._tails.remove(path)
            tail, self._places[path] = self._places[path], self._new()
            with OPEN(self._places[path], "wb") as whole:
                for part in (path, tail):
                    with OPEN(part, "rb") as file:
                        shutil.copyfileobj(file, whole)

    def move(self, source: str, target: str) -> None:
        """Give the private place of `source` to `target`."""
        self._places[target] = self._places.pop(source)

    def take(self, source: str, target: str) -> None:
        """A temporary file becomes another one, which is private."""
        self._places[target] = self._new()
        shutil.move(source, self._places[target])

    def remove(self, path: str) -> None:
        """Nothing has been written to this file."""
        self._places.pop(path, None)
        self._tails.discard(path)

    def is_temporary(self, path: str) -> bool:
        """True if a path is a temporary file or folder that was made, or lies in such a folder."""
        return any(path == made or path.startswith(made + os.sep) for made in self.temporary)

    def _new(self) -> str:
        self._folder = self._folder or tempfile.mkdtemp()
        return os.path.join(self._folder, str(len(os.listdir(self._folder))))

    def close(self) -> None:
        """Remove all private places."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def written() -> Files:
    """The `Files` of this thread since hooks began to act."""
    here.files = here.files or Files()
    return here.files


def path_of(file: Any) -> str | None:
    """The absolute path by which a file is opened; None where that is a number, or nothing of the kind."""
    try:
        return None if isinstance(file, int) else os.path.abspath(os.fsdecode(file))
    except TypeError:
        return None


def at_work(modules: tuple[str, ...]) -> bool:
    """True if a function of `modules` is at work in this thread, called by the code that is measured."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name.startswith(modules):
            return True
        if name.startswith(PACKAGE) and not name.startswith(__package__):
            return False
        frame = frame.f_back
    return False


def is_nobodys(path: str) -> bool:
    """True if nobody sees a change at a path: a temporary file, the null device, or a compiler's own file."""
    temporary = here.files is not None and here.files.is_temporary(path)
    return temporary or path == os.devnull or at_work((*TEMPORARY, *COMPILERS))


def open_(original: Any, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
    """`open`: what is written goes to a private place, and is read from there."""
    path = path_of(file)
    if path is None or not isinstance(mode, str):
        return original(file, mode, *args, **kwargs)
    if set(mode).isdisjoint("wax+"):
        return original(file if here.files is None else here.files.to_read(path), mode, *args, **kwargs)
    missing = not os.path.exists(path) and path not in written()
    if "x" in mode and not missing:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    if is_nobodys(path) or ("r" in mode and missing):
        return original(file, mode, *args, **kwargs)
    mode = mode.replace("x", "w")
    return original(written().to_write(path, mode), mode, *args, **kwargs)


def os_open(original: Any, path: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
    """`os.open`, in the same way."""
    where = path_of(path)
    if where is None or kwargs.get("dir_fd") is not None:
        return original(path, flags, *args, **kwargs)
    if not flags & WRITING:
        return original(path if here.files is None else here.files.to_read(where), flags, *args, **kwargs)
    missing = not os.path.exists(where) and where not in written()
    if flags & os.O_EXCL and not missing:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), where)
    if is_nobodys(where) or (missing and not flags & os.O_CREAT):
        opened = original(path, flags, *args, **kwargs)
        if flags & os.O_EXCL and at_work(TEMPORARY):
            written().temporary.add(where)
        return opened
    mode = "w" if flags & os.O_TRUNC else "a+" if flags & os.O_RDWR else "a"
    return original(written().to_write(where, mode), (flags | os.O_CREAT) & ~os.O_EXCL, *args, **kwargs)


def os_write(original: Any, fd: int, data: Any) -> int:
    """`os.write`: nothing is printed."""
    return len(data) if fd in (1, 2) else original(fd, data)


def mkdir(original: Any, path: Any, *args: Any, **kwargs: Any) -> None:
    """`os.mkdir`, in a private place."""
    where = path_of(path)
    if where is not None and where in written():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), where)
    if where is None or os.path.exists(where) or is_nobodys(where):
        original(path, *args, **kwargs)
        if where is not None and at_work(TEMPORARY):
            written().temporary.add(where)
    else:
        original(written().to_write(where, "w"))


def stat(original: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
    """`os.stat` and `os.lstat`, by which `os.path.exists` goes: of what is private, too."""
    where = path_of(path) if here.files is not None else None
    return original(path if where is None else here.files.to_read(where), *args, **kwargs)


def rename(original: Any, source: Any, target: Any, **kwargs: Any) -> None:
    """`os.rename` and `os.replace`: of what is private."""
    here_, there = path_of(source), path_of(target)
    if here_ is None or there is None or kwargs:
        return
    if here_ in written():
        written().move(here_, there)
    elif is_nobodys(here_) and not is_nobodys(there):
        written().take(here_, there)
    elif is_nobodys(here_) or not os.path.lexists(here_):
        original(source, target)


def remove(original: Any, path: Any, **kwargs: Any) -> None:
    """`os.remove`, `os.unlink` and `os.rmdir`: of what is private."""
    where = path_of(path)
    if where is not None and where in written():
        written().remove(where)
    else:
        change(original, path, **kwargs)


def change(original: Any, path: Any, *args: Any, **kwargs: Any) -> None:
    """Call the original only for a path that is nobody's or does not exist."""
    where = path_of(path)
    if where is None or where in written():
        return
    if is_nobodys(where) or (not os.path.lexists(where) and not kwargs.get("dir_fd")):
        original(path, *args, **kwargs)


def nothing(original: Any, *args: Any, **kwargs: Any) -> None:
    """Do nothing in place of the original."""


def torch_save(original: Any, obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
    """`torch.save`, which opens a path in a way of its own."""
    if path_of(f) is None:
        return original(obj, f, *args, **kwargs)
    with open_(OPEN, f, "wb") as file:
        return original(obj, file, *args, **kwargs)


def savetxt(original: Any, fname: Any, *args: Any, **kwargs: Any) -> None:
    """`numpy.savetxt`, which does so, too."""
    if path_of(fname) is None:
        return original(fname, *args, **kwargs)
    with open_(OPEN, fname, "wb") as file:
        return original(file, *args, **kwargs)


def hooks() -> list[Hook]:
    """All ways to write files that Python's own libraries share, and those of torch and numpy that do not use them."""
    acts: dict[str, Any] = {
        "open": os_open, "write": os_write, "mkdir": mkdir, "rename": rename, "replace": rename, "remove": remove,
        "unlink": remove, "rmdir": remove, **dict.fromkeys(("stat", "lstat"), stat),
        **dict.fromkeys(("chmod", "chown", "utime", "truncate"), change),
        **dict.fromkeys(("link", "symlink", "fsync", "fdatasync"), nothing),
    }  # fmt: skip
    found = [Hook(os, name, act) for name, act in acts.items() if hasattr(os, name)]
    found += [Hook(builtins, "open", open_), Hook(io, "open", open_)]
    accessor = getattr(pathlib, "_normal_accessor", None)  # of Python 3.10, which keeps these functions
    found += [Hook(accessor, name, {**acts, "open": open_}[name]) for name in acts if hasattr(accessor, name)]
    return [*found, Hook(torch, "save", torch_save), Hook(np, "savetxt", savetxt)]
