"""Paths that users give, as folders and files of this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

# "s3://bucket", "s3:/bucket", which `Path` makes of it, "simplecache::s3://bucket"; one letter is a drive of Windows.
_REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*::)*[A-Za-z][A-Za-z0-9+.\-]+:/")


def is_remote(path: str | os.PathLike[str]) -> bool:
    """True if a path names a place on another machine, as fsspec writes it.

    >>> is_remote("s3://bucket/run"), is_remote("C:/run"), is_remote("a/b:c")
    (True, False, False)
    """
    return _REMOTE.match(os.fspath(path)) is not None


def local_path(name: str, path: str | os.PathLike[str]) -> Path:
    """A path that a user gave, with ``~`` as the home folder.

    Args:
        name: of the argument, for the message.
        path: a file or a folder.

    Raises:
        ValueError: if it is remote, or names the home folder of an unknown user.

    >>> local_path("dirpath", "runs/a")
    PosixPath('runs/a')
    >>> local_path("dirpath", "s3://bucket/run")
    Traceback (most recent call last):
    ValueError: dirpath='s3://bucket/run' is remote: landscapes are local files. Give a local path, and copy the
    files from there.
    """
    if is_remote(path):
        raise ValueError(
            f"{name}={os.fspath(path)!r} is remote: landscapes are local files. Give a local path, and copy the "
            "files from there."
        )
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{name}={os.fspath(path)!r} begins with the home folder of an unknown user: give another path."
        ) from error


def short_names(paths: Sequence[Path]) -> list[str]:
    """Different names for files: their paths without the parts that all have in common.

    >>> short_names([Path("logs/step=10/landscape.h5"), Path("logs/step=20/landscape.h5")])
    ['step=10', 'step=20']
    >>> short_names([Path("a/x.h5"), Path("b/y.npz")])
    ['a/x', 'b/y']
    >>> short_names([Path("a/x.h5"), Path("a/x.h5")])
    ['x', 'x']
    """
    parts = [list(path.resolve().with_suffix("").parts) for path in paths]
    while all(len(p) > 1 for p in parts) and len({p[0] for p in parts}) == 1:
        parts = [p[1:] for p in parts]
    while all(len(p) > 1 for p in parts) and len({p[-1] for p in parts}) == 1:
        parts = [p[:-1] for p in parts]
    return ["/".join(p) for p in parts]
