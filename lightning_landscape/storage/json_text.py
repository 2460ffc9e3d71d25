"""Landscapes as JSON (.json): everything as text, for browsers and languages that have neither HDF5 nor NumPy.

::

    {"format", "format_version", "convention", "main", "meta": …,
     "metrics": {array: exact name}, "center": {array: number},
     "xcoordinates": [x_0, …], …
     "values": {array: {"dtype": "<f8", "shape": [nx, ny], "values": [[…]]}},
     "standard_errors": {…}, "done": …, "interpolated": … (if a point is),
     "samples": {"values": …, and the columns of `columns`}}

Strict JSON (RFC 8259): what it has no number for is the text "NaN", "Infinity" or "-Infinity". Every number
returns bit by bit; unlike .h5 and .npz there is no checksum, so that a file can be edited by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..landscape import Grid, Landscape
from . import foreign
from .columns import from_columns, to_columns
from .layout import axis_name, check_header, data_set_names, header, mask_of, number_type, real_numbers, type_name
from .recipe import number, recipe

VERSION = 1


def encode(landscape: Landscape) -> bytes:
    """The bytes of a file that holds the whole landscape."""
    names = data_set_names(landscape.values)
    errors = landscape.standard_errors
    content = header(landscape, VERSION)
    content["center"] = {name: number(float(landscape.center.get(metric, np.nan))) for metric, name in names.items()}
    for i, axis in enumerate(landscape.grid.axes):
        content[f"{axis_name(i)}coordinates"] = axis.tolist()
    content["values"] = {name: _pack(name, landscape.values[metric]) for metric, name in names.items()}
    content["standard_errors"] = {
        name: _pack(name, errors[metric]) for metric, name in names.items() if metric in errors
    }
    content["done"] = _pack("done", np.asarray(landscape.done, dtype=bool))
    if landscape.interpolated.any():
        content["interpolated"] = _pack("interpolated", landscape.interpolated)
    if landscape.samples is not None:
        columns = {"values": landscape.samples.values, **to_columns(landscape.samples)}
        content["samples"] = {name: _pack(name, column) for name, column in columns.items()}
    # No new line at the end: a file that lost its last byte is no JSON.
    return json.dumps(content, allow_nan=False).encode("ascii")


def read(path: Path) -> Landscape:
    """The landscape in a file that `encode` made, or in the export of another program (see `foreign`)."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if foreign.is_exploration(content):
        return foreign.from_exploration(content)
    said = check_header(path, content, VERSION)
    done = _unpack("done", said["done"])
    axes = [np.array(said[f"{axis_name(i)}coordinates"], dtype=np.float64) for i in range(done.ndim)]
    values, errors, center = {}, {}, {}
    for name, metric in said["metrics"].items():
        values[metric] = real_numbers(name, _unpack(name, said["values"][name]))
        center[metric] = float(said["center"][name])
        if name in said["standard_errors"]:
            errors[metric] = real_numbers(name, _unpack(name, said["standard_errors"][name]))
    columns = {name: _unpack(name, column) for name, column in said.get("samples", {}).items()}
    return Landscape(
        Grid(tuple(axes)),
        values,
        said["main"],
        errors,
        done=done.astype(bool),
        center=center,
        samples=from_columns(columns.pop("values"), columns) if columns else None,
        meta=recipe(said["meta"]),
        interpolated=mask_of(
            _unpack("interpolated", said["interpolated"]) if "interpolated" in said else None, done.shape
        ),
    )


def _pack(name: str, array: NDArray[Any]) -> dict[str, Any]:
    """An array in strict JSON."""
    kind = "bool" if array.dtype == np.bool_ else type_name(name, array)
    numbers = array.astype(object)
    if array.dtype.kind == "f":
        for index in np.argwhere(~np.isfinite(array)):
            numbers[tuple(index)] = number(float(array[tuple(index)]))
    return {"dtype": kind, "shape": list(array.shape), "values": numbers.tolist()}


def _unpack(name: str, packed: dict[str, Any]) -> NDArray[Any]:
    """The array that `_pack` wrote."""
    kind = np.dtype(bool) if packed["dtype"] == "bool" else number_type(packed["dtype"])
    array = np.array(packed["values"], dtype=kind)
    shape = tuple(packed["shape"])
    if array.shape != shape and array.size:  # lists do not tell (0, 2) from (0,)
        raise ValueError(f"{name} has shape {array.shape}, its file says {shape}.")
    return array.reshape(shape)
