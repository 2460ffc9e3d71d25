"""A folder that one process has at a time: whoever ends, in whatever way, lets go of it."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
MOST_TRIES = 100  # to lock a file that others take away at the same time
TAKEN = (errno.EACCES, errno.EAGAIN)


class Lock:
    """The lock of a folder, which the system releases when the process ends. Made by `take`.

    Attributes:
        is_sure: whether the system keeps others out; not every file system knows locks.
    """

    def __init__(self, path: Path, descriptor: int, is_sure: bool) -> None:
        self.path, self.descriptor, self.is_sure = path, descriptor, is_sure

    @classmethod
    def take(cls, folder: Path) -> Lock | None:
        """The lock of a folder, which is made; None where another process has it.

        POSIX record locks: they reach over NFS, and a process that is forked does not inherit them.

        Raises:
            OSError: if nothing can be written to the folder.
        """
        path = folder / NAME
        for _ in range(MOST_TRIES):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue  # the folder was empty, and is taken away
            is_sure = fcntl is not None
            try:
                if fcntl is not None:
                    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in TAKEN:
                    os.close(descriptor)
                    return None
                is_sure = False
            if _is_still(path, descriptor):
                return cls(path, descriptor, is_sure)
            os.close(descriptor)  # of a file that its owner has just taken away
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))

    def release(self) -> None:
        """Let go of the folder, and take it away if it is empty."""
        with suppress(OSError):  # whatever is left is no harm: a lock is not the file
            self.path.unlink()
        os.close(self.descriptor)
        with suppress(OSError):  # it is not empty
            self.path.parent.rmdir()


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the file at a path is the one that is open."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
