"""Landscapes as tables (.csv), for spreadsheets and statistics: one row a point, the last axis fastest.

::

    # {the header of `codec`, "shape": [nx, ny], "types": {column: dtype}}
    x,y,train_loss,standard_errors.train_loss,val_acc,done
    -1.0,-1.0,0.125,0.5,0.75,1

The first line is the header in strict JSON, a comment to ``pandas.read_csv(path, comment="#")`` and
``numpy.genfromtxt``. Everything returns bit by bit but the landscapes of single samples and the trajectory. They have
no place in such a table. There is no checksum.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..landscape import Grid, Landscape
from .codec import from_arrays, to_arrays
from .layout import LandscapeFileError, axis_name, check_header, number_type, type_name


def encode(landscape: Landscape) -> bytes:
    """The bytes of a file that holds the landscape without its samples and trajectory."""
    header, arrays = to_arrays(landscape, whole=False)
    columns: dict[str, NDArray[Any]] = {axis_name(i): column for i, column in enumerate(landscape.grid.points.T)}
    for name, array in arrays.items():
        if name not in _axes(landscape.grid.ndim):
            columns[name] = array.reshape(-1).astype(np.uint8 if array.dtype == np.bool_ else array.dtype)
    header["shape"] = list(landscape.grid.shape)
    header["types"] = {name: type_name(name, column) for name, column in columns.items()}
    # Nothing needs a quote: the columns' names are letters, digits, underscores and dots.
    rows = [columns, *zip(*(column.tolist() for column in columns.values()), strict=True)]
    lines = [f"# {json.dumps(header, allow_nan=False)}", *(",".join(map(str, row)) for row in rows)]
    return ("\n".join(lines) + "\n").encode("utf-8")


def read(path: Path) -> Landscape:
    """The landscape in a file that `encode` made."""
    text = path.read_text(encoding="utf-8")
    first, _, table = text.partition("\n")
    if not first.startswith("# {"):
        raise LandscapeFileError(f"{path} is no landscape: its first line is not the header that save() writes.")
    header = check_header(path, json.loads(first[2:]))
    if not text.endswith("\n"):
        raise ValueError("its last line is cut short.")
    names, *rows = [line.split(",") for line in table.splitlines()]
    shape = tuple(header["shape"])
    columns = {
        name: np.array(column).astype(number_type(header["types"][name])).reshape(shape)
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    grid = _grid([columns.pop(axis_name(i)) for i in range(len(shape))])
    return from_arrays(header, {**dict(zip(_axes(grid.ndim), grid.axes, strict=True)), **columns})


def _axes(ndim: int) -> list[str]:
    """The names of the arrays that hold the grid."""
    return [f"{axis_name(i)}coordinates" for i in range(ndim)]


def _grid(columns: list[NDArray[Any]]) -> Grid:
    """The grid whose points the columns hold, one a direction, shape grid.shape.

    Raises:
        ValueError: if they are the points of no grid.
    """
    first = [tuple(slice(None) if j == i else 0 for j in range(len(columns))) for i in range(len(columns))]
    grid = Grid(tuple(column[place] for column, place in zip(columns, first, strict=True)))
    if not np.array_equal(np.stack([column.reshape(-1) for column in columns], axis=-1), grid.points):
        raise ValueError("its rows are not the points of a grid, the last axis fastest.")
    return grid
