"""Landscapes as JSON (.json): everything as text, for browsers and languages that have neither HDF5 nor NumPy.

::

    {the header of `codec`, "data": {array: {"dtype": "<f8", "shape": [nx, ny], "values": [[…]]}}}

Strict JSON (RFC 8259): what it has no number for is the text "NaN", "Infinity" or "-Infinity". Every number
returns bit by bit; unlike .h5 and .npz there is no checksum, so that a file can be edited by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..landscape import Landscape
from . import foreign
from .codec import from_arrays, to_arrays
from .json_values import number
from .layout import check_header, number_type, type_name


def encode(landscape: Landscape) -> bytes:
    """The bytes of a file that holds the whole landscape."""
    header, arrays = to_arrays(landscape)
    content = {**header, "data": {name: _pack(name, array) for name, array in arrays.items()}}
    # No new line at the end: a file that lost its last byte is no JSON.
    return json.dumps(content, allow_nan=False).encode("ascii")


def read(path: Path) -> Landscape:
    """The landscape in a file that `encode` made, or in the export of another program (see `foreign`)."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if foreign.is_exploration(content):
        return foreign.from_exploration(content)
    header = check_header(path, content)
    return from_arrays(header, {name: _unpack(name, packed) for name, packed in header["data"].items()})


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
