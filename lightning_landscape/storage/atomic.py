"""A file that appears complete or not at all, for every writer of `storage`."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, which takes the place of `path` when the block ends well.

    The content reaches the disk (fsync) before the name does, so that a power cut leaves the older file or
    the newer one, never half of one. If the block raises, the temporary file is removed and `path` is
    untouched.

    Args:
        path: the file to make or replace; missing folders are made; a symbolic link stays a link.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = Path(folder) / "note.txt"
    ...     with replacing(target) as temporary:
    ...         _ = temporary.write_text("all of it")
    ...     target.read_text(), len(os.listdir(folder))
    ('all of it', 1)
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`: its files are private (mode 0600), and the landscape would stay so after the move.
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
