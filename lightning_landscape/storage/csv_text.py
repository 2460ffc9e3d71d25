"""Landscapes as tables (.csv), for spreadsheets and statistics: one row a point, the last axis fastest.

::

    # {"format": "lightning_landscape", …, "shape": [nx, ny], "types": {column: dtype}}
    x,y,train_loss,train_loss.standard_error,val_acc,done
    -1.0,-1.0,0.125,0.5,0.75,1

The first line is the header in strict JSON, a comment to ``pandas.read_csv(path, comment="#")`` and
``numpy.genfromtxt``. Grid, values, standard errors, masks and recipe return bit by bit; the landscapes of
single samples have no place in such a table and are left out. There is no checksum. Where points are interpolated,
a column ``interpolated`` is behind ``done``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..landscape import Grid, Landscape
from .layout import LandscapeFileError, axis_name, check_header, data_set_names, header, mask_of, number_type, type_name
from .recipe import number, recipe

VERSION = 1
ERROR = ".standard_error"  # no metric's column has a dot in its name


def encode(landscape: Landscape) -> bytes:
    """The bytes of a file that holds the landscape without its samples."""
    points = landscape.grid.points
    columns: dict[str, NDArray[Any]] = {axis_name(i): points[:, i] for i in range(landscape.grid.ndim)}
    names = data_set_names(landscape.values)
    for metric, name in names.items():
        columns[name] = landscape.values[metric].reshape(-1)
        if metric in landscape.standard_errors:
            columns[name + ERROR] = landscape.standard_errors[metric].reshape(-1)
    columns["done"] = landscape.done.reshape(-1).astype(np.uint8)
    if landscape.interpolated.any():
        columns["interpolated"] = landscape.interpolated.reshape(-1).astype(np.uint8)
    said = {
        **header(landscape, VERSION),
        "center": {name: number(float(landscape.center.get(metric, np.nan))) for metric, name in names.items()},
        "shape": list(landscape.grid.shape),
        "types": {name: type_name(name, column) for name, column in columns.items()},
    }
    # Nothing needs a quote: the columns' names are letters, digits, underscores and dots.
    rows = [columns, *zip(*(column.tolist() for column in columns.values()), strict=True)]
    lines = [f"# {json.dumps(said, allow_nan=False)}", *(",".join(map(str, row)) for row in rows)]
    return ("\n".join(lines) + "\n").encode("utf-8")


def read(path: Path) -> Landscape:
    """The landscape in a file that `encode` made."""
    text = path.read_text(encoding="utf-8")
    first, _, table = text.partition("\n")
    if not first.startswith("# {"):
        raise LandscapeFileError(f"{path} is no landscape: its first line is not the header that save() writes.")
    said = check_header(path, json.loads(first[2:]), VERSION)
    if not text.endswith("\n"):
        raise ValueError("its last line is cut short.")
    names, *rows = [line.split(",") for line in table.splitlines()]
    shape = tuple(said["shape"])
    columns = {
        name: np.array(column).astype(number_type(said["types"][name])).reshape(shape)
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    grid = _grid([columns[axis_name(i)] for i in range(len(shape))])
    values, errors, center = {}, {}, {}
    for name, metric in said["metrics"].items():
        values[metric] = columns[name]
        center[metric] = float(said["center"][name])
        if name + ERROR in columns:
            errors[metric] = columns[name + ERROR]
    return Landscape(
        grid,
        values,
        said["main"],
        errors,
        done=columns["done"].astype(bool),
        center=center,
        meta=recipe(said["meta"]),
        interpolated=mask_of(columns.get("interpolated"), shape),
    )


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
