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
TAKEN = (errno.EACCES, errno.EAGAIN)


class Lock:
    """The lock of a folder, which the system releases when the process ends. Made by `take`.

    Attributes:
        is_sure: whether the system keeps others out; not every file system knows locks.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path, self.descriptor, self.is_sure = path, descriptor, descriptor is not None

    @classmethod
    def take(cls, folder: Path) -> Lock | None:
        """The lock of a folder, which is made; None where another process has it.

        POSIX record locks: they reach over NFS, and a process that is forked does not inherit them.

        Raises:
            OSError: if nothing can be written to the folder.
        """
        path = folder / NAME
        for _ in range(100):  # tries to lock a file that others take away at the same time
            folder.mkdir(parents=True, exist_ok=True)
            if fcntl is None:
                return cls(path, None)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue  # the folder was empty, and is taken away
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if error.errno in TAKEN:
                    return None
                path.unlink(missing_ok=True)
                return cls(path, None)
            if _is_still(path, descriptor):
                return cls(path, descriptor)
            os.close(descriptor)  # of a file that its owner has just taken away
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))

    def release(self) -> None:
        """Let go of the folder, and take it away if it is empty."""
        if self.descriptor is None:
            return
        with suppress(OSError):  # a file that stays is no harm: the lock goes with the process
            self.path.unlink()
        os.close(self.descriptor)
        with suppress(OSError):  # it is not empty
            self.path.parent.rmdir()


def _is_still(path: Path, descriptor: int) -> bool:
    """True if the file at a path is the one that is open."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
