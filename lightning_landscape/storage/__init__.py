"""Landscapes in files, for every floor: save() and load(), the format chosen by the suffix.

One file a format, one row in `FORMATS`. Files need numpy and h5py only: a landscape is read and plotted on a
machine that has no torch.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..landscape import Landscape
from . import hdf5, npz
from .atomic import replacing
from .layout import LandscapeFileError, check_storable

__all__ = ["FORMATS", "Format", "LandscapeFileError", "load", "save"]


@dataclass(frozen=True)
class Format:
    """How one kind of file is written and read.

    Args:
        write: ``(landscape, path)`` writes the whole file; `save` has made sure that the landscape can be
            stored, and moves the file to its place when it is complete.
        read: ``(path)`` gives the landscape back, bit by bit; whatever it raises becomes a
            `LandscapeFileError` in `load`.
    """

    write: Callable[[Landscape, Path], None]
    read: Callable[[Path], Landscape]


FORMATS: dict[str, Format] = {
    ".h5": Format(hdf5.write, hdf5.read),
    ".npz": Format(npz.write, npz.read),
}


def save(landscape: Landscape, path: str | os.PathLike[str]) -> Path:
    """The path of the file that now holds the whole landscape.

    The file appears complete or not at all: a crash leaves an older file at `path` as it was. Missing folders
    are made. NumPy scalars in the recipe become plain numbers, tuples become lists.

    Args:
        landscape: what to keep.
        path: its suffix says the format: one of `FORMATS`.

    Raises:
        ValueError: if the suffix is unknown, or the landscape holds what no format can: a recipe that is not
            plain JSON, arrays that are not real numbers.

    >>> import tempfile, numpy as np
    >>> from lightning_landscape.landscape import Grid, Landscape, equal
    >>> grid = Grid.from_ranges((-1, 1, 3), (0, 1, 2))
    >>> values = (grid.points**2).sum(axis=1).reshape(grid.shape)
    >>> bowl = Landscape(grid, {"loss": values}, main="loss", meta={"seed": 0})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     same = load(save(bowl, f"{folder}/bowl.h5"))
    >>> equal(bowl, same), same.loss[0].tolist()
    (True, [1.0, 2.0])
    """
    path = Path(path)
    form = _format(path)
    check_storable(landscape)
    with replacing(path) as temporary:
        form.write(landscape, temporary)
    return path


def load(path: str | os.PathLike[str]) -> Landscape:
    """The landscape in a file that `save` wrote, bit by bit; nothing in the file is ever executed.

    Args:
        path: its suffix says the format: one of `FORMATS`.

    Raises:
        FileNotFoundError: if there is no such file.
        LandscapeFileError: if the file is no landscape, is damaged, or comes from a newer version.
        ValueError: if the suffix is unknown.

    >>> load("surface.csv")
    Traceback (most recent call last):
    ValueError: path='surface.csv' has the suffix '.csv': choose one of .h5, .npz.
    """
    path = Path(path)
    form = _format(path)
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        return form.read(path)
    except (LandscapeFileError, PermissionError):
        raise
    # A damaged file can make the libraries below raise nearly anything: KeyError, OSError, RuntimeError,
    # zlib.error, RecursionError, …
    except Exception as error:
        raise LandscapeFileError(f"{path} is damaged or is no landscape: {error}") from error


def _format(path: Path) -> Format:
    """The row of `FORMATS` for this path."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"path={str(path)!r} has the suffix {path.suffix!r}: choose one of {', '.join(FORMATS)}.")
    return FORMATS[suffix]
