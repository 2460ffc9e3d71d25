"""Landscapes in files, for every floor: save() and load(), the format chosen by the suffix.

One file a format, one row in `FORMATS`, or in `EXPORTS` if it is only written. A landscape is read and plotted on a
machine that has no torch.
"""

from __future__ import annotations

import errno
import importlib.util
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..landscape import Landscape
from ..local_paths import local_path
from . import csv_text, hdf5, json_text, npz, vtp
from .atomic import write_whole
from .layout import LandscapeFileError, check_storable
from .spline import refined

__all__ = [
    "EXPORTS", "FORMATS", "Export", "Format", "LandscapeFileError", "check_writable", "encode", "export_paraview",
    "load", "save", "write_whole",
]  # fmt: skip


@dataclass(frozen=True)
class Format:
    """One kind of file that is written and read.

    Args:
        encode: ``(landscape)`` gives the bytes of the whole file; `save` has made sure that the landscape can be
            stored.
        read: ``(path)`` gives the landscape back, bit by bit; whatever it raises becomes a
            `LandscapeFileError` in `load`.
        whole: whether it keeps all; else the landscapes of single samples and the trajectory are left out.
    """

    encode: Callable[[Landscape], bytes]
    read: Callable[[Path], Landscape]
    whole: bool = True


@dataclass(frozen=True)
class Export:
    """One kind of file that is written for another program, and never read.

    Args:
        encode: as that of a `Format`.
        ndim: the number of directions of the landscapes that it holds.
        library: what writing needs.
        extra: the extra of our package that installs the library.
    """

    encode: Callable[[Landscape], bytes]
    ndim: int
    library: str
    extra: str


FORMATS: dict[str, Format] = {
    ".h5": Format(hdf5.encode, hdf5.read),
    ".npz": Format(npz.encode, npz.read),
    ".json": Format(json_text.encode, json_text.read),
    ".csv": Format(csv_text.encode, csv_text.read, whole=False),
}
EXPORTS: dict[str, Export] = {
    ".vtp": Export(vtp.encode, 2, "vtk", "paraview"),
}


def save(landscape: Landscape, path: str | os.PathLike[str]) -> Path:
    """The path of the file that now holds the landscape: all of it, but in .csv its samples and trajectory.

    The file appears complete or not at all: a crash leaves an older file at `path` as it was. Missing folders
    are made. NumPy scalars in the recipe become plain numbers, tuples become lists.

    Args:
        landscape: what to keep.
        path: its suffix says the format: one of `FORMATS`, or of `EXPORTS`, which `load` does not read.

    Raises:
        ValueError: if the suffix is unknown. Or if the landscape holds a recipe that is not plain JSON, or arrays
            that are not real numbers.
        ImportError: if the format needs a library that is not installed.

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
    path = local_path("path", path)
    _check_suffix(path, [*FORMATS, *EXPORTS])
    return write_whole(path, encode(landscape, path.suffix.lower()))


def encode(landscape: Landscape, suffix: str) -> bytes:
    """The bytes of a file with that suffix, one of `FORMATS` or `EXPORTS`; arguments and errors as `save`."""
    check_writable(suffix, landscape.grid.ndim)
    check_storable(landscape)
    return (FORMATS | EXPORTS)[suffix].encode(landscape)


def check_writable(suffix: str, ndim: int) -> None:
    """Nothing, if landscapes of so many directions can be written to files with that suffix.

    Args:
        suffix: one of `FORMATS` or `EXPORTS`.
        ndim: the number of directions.

    Raises:
        ValueError: if the format holds other landscapes only.
        ImportError: if its library is not installed.

    >>> check_writable(".vtp", 1)
    Traceback (most recent call last):
    ValueError: .vtp holds 2-D landscapes, this one is 1-D: choose another of .h5, .npz, .json, .csv.
    """
    export = EXPORTS.get(suffix)
    if export is None:
        return
    if export.ndim != ndim:
        able = [*FORMATS, *(name for name, other in EXPORTS.items() if other.ndim == ndim)]
        raise ValueError(
            f"{suffix} holds {export.ndim}-D landscapes, this one is {ndim}-D: choose another of {', '.join(able)}."
        )
    if importlib.util.find_spec(export.library) is None:
        raise ImportError(
            f"{suffix} files are written by {export.library}: pip install 'lightning-landscape[{export.extra}]'"
        )


def export_paraview(
    landscape: Landscape,
    path: str | os.PathLike[str],
    metric: str | None = None,
    *,
    log: bool = False,
    zmax: float | None = None,
    interp: int | None = None,
) -> Path:
    """The path of a .vtp file with the relief of one metric for ParaView; the options are those of Li et al.'s h52vtp.

    Args:
        landscape: 2-D.
        path: ends in .vtp.
        metric: the name of the values; None for the main loss.
        log: heights log(z + 0.1), the natural logarithm.
        zmax: the highest z that is drawn; what is higher, +inf too, is drawn there. None for no limit.
        interp: points along each axis of a finer grid, by cubic splines before the cut at `zmax`. The file then
            holds the finer grid, and that metric only. None for the grid as it is.

    Raises:
        ValueError: if the landscape is not 2-D, or the metric or the suffix is unknown. Or if a point has no value
            to interpolate.
        ImportError: if vtk is not installed.
    """
    path = local_path("path", path)
    if path.suffix.lower() != ".vtp":
        raise ValueError(f"path={str(path)!r} has the suffix {path.suffix!r}: give a name that ends in .vtp.")
    check_writable(".vtp", landscape.grid.ndim)
    check_storable(landscape)
    name = landscape.metric(metric)
    surface = landscape if interp is None else refined(landscape, name, interp)
    return write_whole(path, vtp.encode(surface, name, log, zmax))


def load(path: str | os.PathLike[str]) -> Landscape:
    """The landscape in a file that `save` wrote, bit by bit; nothing in the file is ever executed.

    Reads the surfaces of other programs too: .h5 of Li et al.'s loss-landscape and of LightZero, .json of
    PascalSun's LossLandscape. ``landscape.meta["source"]`` names the program; `foreign` describes each file.

    Args:
        path: its suffix says the format: one of `FORMATS`.

    Raises:
        FileNotFoundError: if there is no such file.
        LandscapeFileError: if the file is no landscape, is damaged, or comes from a newer version.
        ValueError: if the suffix is unknown.

    >>> load("surface.txt")
    Traceback (most recent call last):
    ValueError: path='surface.txt' has the suffix '.txt': choose one of .h5, .npz, .json, .csv.
    """
    path = local_path("path", path)
    _check_suffix(path, FORMATS)
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if not path.is_file():  # to read a pipe would wait for ever
        raise LandscapeFileError(
            f"{path} is no landscape: it is a {'folder' if path.is_dir() else 'device'}. Give a file."
        )
    try:
        return FORMATS[path.suffix.lower()].read(path)
    except (LandscapeFileError, PermissionError):
        raise
    # A damaged file can make the libraries below raise nearly anything: KeyError, OSError, RuntimeError,
    # zlib.error, RecursionError, …
    except Exception as error:
        raise LandscapeFileError(f"{path} is damaged or is no landscape: {error}") from error


def _check_suffix(path: Path, known: Iterable[str]) -> None:
    """Nothing, if the path has a known suffix.

    Raises:
        ValueError: if it has not.
    """
    suffix = path.suffix.lower()
    if suffix in known:
        return
    written = f"{suffix} is written for other programs, and not read; " if suffix in EXPORTS else ""
    raise ValueError(f"path={str(path)!r} has the suffix {path.suffix!r}: {written}choose one of {', '.join(known)}.")
