"""Landscapes as HDF5 (.h5): self-describing, open in any language, and in xarray through h5netcdf.

::

    /                    attributes: the header of `codec`, tables as JSON; and, to be read at a glance, the single
                         values of recipe, report and notes, e.g. recipe.seed
    /xcoordinates …      the grid, as HDF5 dimension scales attached to every array
    /train_loss …        one data set a metric, attributes: metric (the exact name), center
    /standard_errors/    the same names
    /done                1 where the point has values
    /interpolated        1 where these were not evaluated, if there is such a point
    /samples/            values (B, *grid.shape) and the columns of `columns`, on the scale `index`
    /trajectory/         the arrays of `paths`, on the scales `steps`, `direction` and, of the history, `record`
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..landscape import Landscape
from . import foreign
from .codec import ERRORS, PATH, SAMPLES, Arrays, Header, from_arrays, to_arrays
from .json_values import loose
from .layout import REAL_NUMBERS, check_header

PIXEL_AXES = ("row", "column", "channel")
TABLES = (
    "metrics",
    "center",
    "recipe",
    "report",
    "meta",
    "trajectory",
    "spectrum",
    "arrays",
)  # of the header, kept as JSON
DESCRIPTIONS = {
    "done": "whether the point has values",
    "interpolated": "whether the values were not evaluated, but interpolated",
    "samples.index": "the sample's place in the data set",
    "trajectory.steps": "the step of the optimiser",
    "trajectory.points": "the nearest point of the plane, in lengths of the directions",
    "trajectory.residuals": "the distance from the plane",
    "trajectory.distances": "the distance from the centre",
    "trajectory.checkpoints": "the steps at which a checkpoint was saved",
    "trajectory.measured": "whether the losses were measured",
}


def encode(landscape: Landscape) -> bytes:
    """The bytes of a file that holds the whole landscape; made in memory: on a full disk HDF5 ends the process."""
    header, arrays = to_arrays(landscape)
    # Of 1.10, since every part of a file of that layout carries a checksum: damage is told, not walked into.
    unique = uuid.uuid4().hex  # the name of no file, but HDF5 never has two of one name open
    with h5py.File(unique, "w", driver="core", backing_store=False, libver=("v110", "v110")) as file:
        _write_header(file, header)
        file.create_group("standard_errors").attrs["description"] = _fixed("of the mean over the samples")
        _write_arrays(file, header, arrays)
        file.flush()
        return bytes(file.id.get_file_image())


def read(path: Path) -> Landscape:
    """The landscape in a file that `encode` made, or in the surface file of another program (see `foreign`)."""
    with h5py.File(path, "r") as file:
        if "format" not in file.attrs and foreign.is_surface(file):
            data = {key: item[()] for key, item in file.items() if _is_numbers(item)}
            return foreign.from_surface(data, foreign.MARK_OF_LI in file)
        attributes = {key: file.attrs[key] for key in ("format", "format_version", "main") if key in file.attrs}
        header = check_header(path, {key: _text(value) for key, value in attributes.items()})
        header |= {key: json.loads(_text(file.attrs[key])) for key in TABLES}
        return from_arrays(header, {name: _read_array(file[_path(name)]) for name in header["arrays"]})


def encode_columns(columns: Mapping[str, NDArray[Any]], attributes: Mapping[str, str]) -> bytes:
    """The bytes of a file of plain arrays with texts about them; a name with a slash is in a group.

    Args:
        columns: arrays by name.
        attributes: of the file.
    """
    unique = uuid.uuid4().hex
    with h5py.File(unique, "w", driver="core", backing_store=False, libver=("v110", "v110")) as file:
        for key, text in attributes.items():
            file.attrs[key] = _fixed(text)
        for name, array in columns.items():
            file.create_dataset(name, data=array, fletcher32=array.size > 0)
        file.flush()
        return bytes(file.id.get_file_image())


def read_columns(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays and texts of a file that `encode_columns` made."""
    with h5py.File(path, "r") as file:
        columns: dict[str, NDArray[Any]] = {}
        file.visititems(lambda name, item: columns.update({name: item[()]}) if _is_numbers(item) else None)
        return columns, {key: _text(value) for key, value in file.attrs.items()}


def _path(name: str) -> str:
    """The place of an array: a group a prefix."""
    return name.replace(".", "/")


def _write_header(file: h5py.File, header: Header) -> None:
    """Writes the header, and its single values each on its own."""
    for key, value in header.items():
        file.attrs[key] = _fixed(json.dumps(value, allow_nan=False) if key in TABLES else value)
    for table in ("recipe", "report", "meta"):
        for key, value in loose(header[table]).items():
            if _readable(key, value):
                file.attrs[f"{table}.{key}"] = _fixed(value)


def _write_arrays(file: h5py.File, header: Header, arrays: Arrays) -> None:
    """Writes every array on its scales: the grid's axes, and the index and pixels of the samples."""
    axes: list[h5py.Dataset] = []
    pixels: list[h5py.Dataset] = []
    for name, array in arrays.items():
        if name.endswith("coordinates"):
            axes.append(_write_scale(file, name, array, f"coordinate along direction {len(axes)}, in its lengths"))
    if SAMPLES + "index" in arrays:
        pixels = [_write_scale(file, "samples.index", arrays["samples.index"], DESCRIPTIONS["samples.index"])]
    if SAMPLES + "thumbnail" in arrays:
        lengths = zip(PIXEL_AXES, arrays["samples.thumbnail"].shape[1:], strict=True)
        pixels += [_write_scale(file, SAMPLES + n, np.arange(k), f"{n} of a thumbnail") for n, k in lengths]
    path = _write_path_scales(file, arrays) if PATH + "steps" in arrays else {}
    for name, array in arrays.items():
        if _path(name) in file:
            continue
        scales = [pixels[0], *axes] if name == "samples.values" else pixels if name.startswith(SAMPLES) else axes
        if name.startswith(PATH):
            scales = path["history"] if name.startswith(f"{PATH}history.") else path["records"]
        data = _write_array(file, name, array, scales[: array.ndim])
        metric = _column(header, name) if name.startswith(PATH) else header["metrics"].get(name.removeprefix(ERRORS))
        attributes = {"metric": metric, "description": DESCRIPTIONS.get(name)}
        for key, text in attributes.items():
            if text is not None:
                data.attrs[key] = _fixed(text)
        if name in header["center"]:
            data.attrs["center"] = np.float64(header["center"][name])


def _write_path_scales(file: h5py.File, arrays: Arrays) -> dict[str, list[h5py.Dataset]]:
    """Writes the scales of the records that were kept, and of the history of all of them."""
    history = next((array for name, array in arrays.items() if name.startswith(f"{PATH}history.")), np.zeros(0))
    steps, checkpoints = PATH + "steps", PATH + "checkpoints"
    directions = np.arange(arrays[PATH + "points"].shape[1])
    _write_scale(file, checkpoints, arrays[checkpoints], DESCRIPTIONS[checkpoints])
    return {
        "records": [
            _write_scale(file, steps, arrays[steps], DESCRIPTIONS[steps]),
            _write_scale(file, PATH + "direction", directions, "number of the direction"),
        ],
        "history": [_write_scale(file, PATH + "record", np.arange(len(history)), "number of the record")],
    }


def _column(header: Header, name: str) -> str | None:
    """The exact name of a column of the path; None for an array that is no column of a table."""
    _, table, *column = name.split(".")
    return loose(header["trajectory"])[table][column[0]] if column else None


def _is_numbers(item: object) -> bool:
    """True if a member of another program's file is an array of numbers."""
    return isinstance(item, h5py.Dataset) and item.dtype.kind in REAL_NUMBERS and item.ndim > 0


def _fixed(value: object) -> Any:
    """Text in as many bytes as it needs: that of variable length lies in a heap without checksum."""
    if not isinstance(value, str | list):
        return value
    encoded = np.char.encode(np.array(value, dtype=np.str_), "utf-8")
    return encoded.astype(h5py.string_dtype("utf-8", max(1, encoded.dtype.itemsize)))


def _text(value: object) -> str:
    """The text of an attribute; of variable length where another program wrote it."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _readable(key: str, value: object) -> bool:
    """True if a value of a table can be an attribute of its own.

    The JSON of the header holds every value anyway.
    """
    for text in (key, value):
        if isinstance(text, str) and ("\0" in text or text != text.encode("utf-8", "replace").decode("utf-8")):
            return False
    in_range = not isinstance(value, int) or -(2**63) <= value < 2**63
    return len(key) <= 200 and isinstance(value, str | bool | int | float) and in_range


def _write_scale(group: h5py.Group, name: str, axis: NDArray[Any], description: str) -> h5py.Dataset:
    """Coordinates that arrays can be attached to."""
    scale = group.create_dataset(_path(name), data=axis, fletcher32=axis.size > 0)
    scale.make_scale(name.rpartition(".")[2])
    scale.attrs["description"] = _fixed(description)
    return scale


def _write_array(group: h5py.Group, name: str, array: NDArray[Any], scales: list[h5py.Dataset]) -> h5py.Dataset:
    """An array on its scales; truth values in xarray's way, since netCDF knows no booleans."""
    truth = array.dtype == np.bool_
    data = group.create_dataset(_path(name), data=array.astype(np.int8) if truth else array, fletcher32=array.size > 0)
    if truth:
        data.attrs["dtype"] = _fixed("bool")
    for dimension, scale in zip(data.dims, scales, strict=True):
        dimension.attach_scale(scale)
    return data


def _read_array(data: h5py.Dataset) -> NDArray[Any]:
    """The array that `_write_array` wrote."""
    array = data[()]
    return array.astype(bool) if _text(data.attrs.get("dtype")) == "bool" else array
