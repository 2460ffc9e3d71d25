"""A file that appears complete or not at all: all that is written by this package is written here."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_whole(path: Path, *content: bytes | memoryview, synced: bool = True) -> Path:
    """Make or replace the file at `path`, and give the path.

    The content reaches the disk (fsync) before the name does. A power cut leaves the older file or the newer one,
    never half of one. After a failure an older file is as it was, and nothing else is left. Libraries that write
    files themselves write to memory, since some of them end the process on a full disk.

    Args:
        path: missing folders are made; a symbolic link stays a link.
        content: all of it, in pieces that follow each other.
        synced: False to leave the moment of reaching the disk to the system. That is quick, and a kill of the process
            leaves no part of a file. A power cut may leave one.

    Raises:
        OSError: if it can't be written, and nothing else.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "note.txt", b"all of it").read_bytes(), len(os.listdir(folder))
    (b'all of it', 1)
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`: its files are private (mode 0600), and the landscape would stay so after the move.
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            for piece in content:
                file.write(piece)
            if synced:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return path
