"""The parts that all formats share: the mark, the version check, the names of the data sets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..landscape import AXIS_NAMES, Landscape

FORMAT_NAME = "lightning_landscape"
VERSION = 1  # of the header and the names of the arrays (`codec`)
REAL_NUMBERS = "fiu"  # numpy's dtype kinds: float, int, unsigned int
# Of the codec, and of numpy.savez, whose own arguments share the names.
_RESERVED = re.compile(
    r"done|interpolated|samples|standard_errors|[xyz]|axis\d+|.*coordinates|header|file|allow_pickle"
)


class LandscapeFileError(ValueError):
    """A file that cannot be read as a landscape; the message names the file and says why."""


def check_header(path: Path, header: object) -> dict[str, Any]:
    """The header itself, if it carries our mark and a version that we can read.

    Args:
        path: the file, for the message.
        header: what the file has in the place of a header; None for nothing.

    Raises:
        LandscapeFileError: if the mark is missing or the version is newer.

    >>> check_header(Path("a.h5"), {"format": "lightning_landscape", "format_version": 3})
    Traceback (most recent call last):
    lightning_landscape.storage.layout.LandscapeFileError: a.h5 was written by a newer version: format 3, this
    version reads up to 1: upgrade lightning-landscape.
    """
    if not isinstance(header, dict) or header.get("format") != FORMAT_NAME:
        raise LandscapeFileError(f"{path} is no landscape: it does not carry the mark {FORMAT_NAME!r}.")
    if int(header["format_version"]) > VERSION:
        raise LandscapeFileError(
            f"{path} was written by a newer version: format {header['format_version']}, this version reads up to "
            f"{VERSION}: upgrade lightning-landscape."
        )
    return header


def number_type(text: str) -> np.dtype[Any]:
    """The type of numbers that a file of text names.

    >>> number_type("<f4")
    dtype('float32')
    >>> number_type("O")
    Traceback (most recent call last):
    ValueError: 'O' is no type of real numbers.
    """
    if not re.fullmatch(r"[<>|][fiu][1248]", text):
        raise ValueError(f"{text!r} is no type of real numbers.")
    return np.dtype(text)


def type_name(name: str, array: NDArray[Any]) -> str:
    """The name of an array's type of numbers, as `number_type` reads it.

    Raises:
        ValueError: if Python's own numbers cannot hold the array's.
    """
    if array.dtype.itemsize > 8:
        raise ValueError(f"{name} has dtype {array.dtype}, which text cannot hold: save as .h5 or .npz.")
    return array.dtype.str


def check_storable(landscape: Landscape) -> None:
    """Nothing, if every format can hold the landscape's names and arrays.

    Raises:
        ValueError: if a name cannot be written as text, or an array does not hold real numbers. Or if a standard
            error or centre belongs to no metric.
    """
    path = landscape.trajectory
    tables = () if path is None else (path.losses, path.plane_losses, path.metrics, path.history)
    for name in (*landscape.values, *(name for table in tables for name in table)):
        if "\0" in name or name != name.encode("utf-8", "replace").decode("utf-8"):
            raise ValueError(f"metric {name!r} cannot be stored: its name is not plain text.")
    for what, names in (("standard_errors", landscape.standard_errors), ("center", landscape.center)):
        unknown = [name for name in names if name not in landscape.values]
        if unknown:
            raise ValueError(f"{what} has {unknown[0]!r}, the metrics are: {', '.join(landscape.values)}.")
    arrays = [*landscape.values.items(), *landscape.standard_errors.items()]
    if landscape.samples is not None:
        arrays.append(("samples", landscape.samples.values))
    if path is not None:
        arrays += [("points", path.points), *(column for table in tables for column in table.items())]
        arrays += [("steps", path.steps), ("residuals", path.residuals), ("distances", path.distances)]
        arrays.append(("checkpoints", path.checkpoints))
    for name, array in arrays:
        real_numbers(name, array)


def real_numbers(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """The array itself.

    Raises:
        ValueError: if it does not hold real numbers.
    """
    if array.dtype.kind not in REAL_NUMBERS:
        raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}.")
    return array


def axis_name(direction: int) -> str:
    """The name of a direction in files: x, y, z, then axis3, axis4 and so on."""
    return AXIS_NAMES[direction] if direction < len(AXIS_NAMES) else f"axis{direction}"


def convention(ndim: int) -> str:
    """In words, which index of an array belongs to which direction.

    >>> convention(2)
    'values[i, j] is the value at (x_i, y_j)'
    """
    letters = [chr(ord("i") + direction) for direction in range(ndim)]
    point = ", ".join(f"{axis_name(direction)}_{letter}" for direction, letter in enumerate(letters))
    return f"values[{', '.join(letters)}] is the value at ({point})"


def data_set_names(metrics: Iterable[str], longest: int = 100) -> dict[str, str]:
    """A data set's name for each metric, unique and safe in any format, in the metrics' order.

    Users name metrics as they like ("val/acc", "done"); a data set's name is letters, digits and underscores,
    and none that the files use themselves. It is for reading only: the exact name is stored beside the data.

    Args:
        metrics: the exact names.
        longest: letters of a name; equal beginnings are told apart by a number behind that.

    >>> data_set_names(["train_loss", "val/acc", "val_acc", "done"])
    {'train_loss': 'train_loss', 'val/acc': 'val_acc_2', 'val_acc': 'val_acc', 'done': 'done_2'}
    """
    metrics = list(metrics)
    bases = {metric: re.sub(r"\W+", "_", metric)[:longest] or "_" for metric in metrics}
    names: dict[str, str] = {}
    # A metric that needs no change keeps its name whatever the order.
    for metric in sorted(metrics, key=lambda metric: bases[metric] != metric):
        name, count = bases[metric], 1
        while _RESERVED.fullmatch(name) or name in names.values():
            count += 1
            name = f"{bases[metric]}_{count}"
        names[metric] = name
    return {metric: names[metric] for metric in metrics}
