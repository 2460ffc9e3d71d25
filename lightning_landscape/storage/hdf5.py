"""Landscapes as HDF5 (.h5): self-describing, open in any language, and in xarray through h5netcdf.

::

    /                    attributes: format, format_version, convention, main, metrics (data sets in order),
                         meta (the recipe as JSON) and its plain top-level values as meta.<key>
    /xcoordinates …      the grid, as HDF5 dimension scales attached to every array
    /train_loss …        one data set a metric, attributes: metric (the exact name), center
    /standard_errors/    the same names
    /done                1 where the point has values
    /interpolated        1 where these were not evaluated, if there is such a point
    /samples/            values (B, *grid.shape) and the columns of `columns`, on the scale `index`
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..landscape import Grid, Landscape, Samples
from . import foreign
from .columns import from_columns, to_columns
from .layout import (
    FORMAT_NAME,
    REAL_NUMBERS,
    axis_name,
    check_format,
    convention,
    data_set_names,
    mask_of,
    real_numbers,
)
from .recipe import from_json, plain, to_json

VERSION = 1
PIXEL_AXES = ("row", "column", "channel")


def encode(landscape: Landscape) -> bytes:
    """The bytes of a file that holds the whole landscape; made in memory: on a full disk HDF5 ends the process."""
    names = data_set_names(landscape.values)
    # Of 1.10, since every part of a file of that layout carries a checksum: damage is told, not walked into.
    unique = uuid.uuid4().hex  # the name of no file, but HDF5 never has two of one name open
    with h5py.File(unique, "w", driver="core", backing_store=False, libver=("v110", "v110")) as file:
        _write_attributes(file, landscape, list(names.values()))
        axes = [
            _write_scale(file, f"{axis_name(i)}coordinates", axis, f"coordinate along direction {i}, in its lengths")
            for i, axis in enumerate(landscape.grid.axes)
        ]
        errors = file.create_group("standard_errors")
        errors.attrs["description"] = _fixed("of the mean over the samples; NaN where unknown")
        for metric, name in names.items():
            data = _write_array(file, name, landscape.values[metric], axes)
            data.attrs["metric"] = _fixed(metric)
            data.attrs["center"] = np.float64(landscape.center.get(metric, np.nan))
            if metric in landscape.standard_errors:
                _write_array(errors, name, landscape.standard_errors[metric], axes).attrs["metric"] = _fixed(metric)
        done = _write_array(file, "done", np.asarray(landscape.done, dtype=bool), axes)
        done.attrs["description"] = _fixed("whether the point has values")
        if landscape.interpolated.any():
            interpolated = _write_array(file, "interpolated", landscape.interpolated, axes)
            interpolated.attrs["description"] = _fixed("whether the values were not evaluated, but interpolated")
        if landscape.samples is not None:
            _write_samples(file.create_group("samples"), landscape.samples, axes)
        file.flush()
        return bytes(file.id.get_file_image())


def read(path: Path) -> Landscape:
    """The landscape in a file that `encode` made, or in the surface file of another program (see `foreign`)."""
    with h5py.File(path, "r") as file:
        mark = file.attrs.get("format")
        if mark is None and foreign.is_surface(file):
            data = {key: item[()] for key, item in file.items() if _is_numbers(item)}
            return foreign.from_surface(data, foreign.MARK_OF_LI in file)
        check_format(path, None if mark is None else _text(mark), file.attrs.get("format_version"), VERSION)
        done = _read_array(file["done"])
        axes = [real_numbers("axis", file[f"{axis_name(i)}coordinates"][()]) for i in range(done.ndim)]
        values, errors, center = {}, {}, {}
        for name in map(_text, file.attrs["metrics"]):
            metric = _text(file[name].attrs["metric"])
            values[metric] = real_numbers(name, file[name][()])
            center[metric] = float(file[name].attrs["center"])
            if name in file["standard_errors"]:
                errors[metric] = real_numbers(name, file["standard_errors"][name][()])
        return Landscape(
            Grid(tuple(axes)),
            values,
            _text(file.attrs["main"]),
            errors,
            done=done.astype(bool),
            center=center,
            samples=_read_samples(file["samples"]) if "samples" in file else None,
            meta=from_json(_text(file.attrs["meta"])),
            interpolated=mask_of(file["interpolated"][()] if "interpolated" in file else None, done.shape),
        )


def _is_numbers(item: Any) -> bool:
    """True if a member of another program's file is an array of numbers."""
    return isinstance(item, h5py.Dataset) and item.dtype.kind in REAL_NUMBERS and item.ndim > 0


def _write_attributes(file: h5py.File, landscape: Landscape, names: list[str]) -> None:
    """Writes the attributes of a file: its mark, its convention, its metrics and the recipe."""
    attributes: dict[str, Any] = {
        "format": FORMAT_NAME,
        "format_version": VERSION,
        "convention": convention(landscape.grid.ndim),
        "main": landscape.main,
        "metrics": names,
        "meta": to_json(landscape.meta),
    }
    for key, value in plain(landscape.meta).items():
        if _readable(key, value):
            attributes[f"meta.{key}"] = value
    for key, value in attributes.items():
        file.attrs[key] = _fixed(value)


def _fixed(value: Any) -> Any:
    """Text in as many bytes as it needs: that of variable length lies in a heap without checksum."""
    if not isinstance(value, str | list):
        return value
    encoded = np.char.encode(np.array(value, dtype=np.str_), "utf-8")
    return encoded.astype(h5py.string_dtype("utf-8", max(1, encoded.dtype.itemsize)))


def _text(value: Any) -> str:
    """The text of an attribute; of variable length where another program wrote it."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _readable(key: str, value: Any) -> bool:
    """True if a value of the recipe can be an attribute of its own.

    The JSON in the attribute `meta` holds every value of the recipe anyway.
    """
    for text in (key, value):
        if isinstance(text, str) and ("\0" in text or text != text.encode("utf-8", "replace").decode("utf-8")):
            return False
    in_range = not isinstance(value, int) or -(2**63) <= value < 2**63
    return len(key) <= 200 and isinstance(value, str | bool | int | float) and in_range


def _write_scale(group: h5py.Group, name: str, axis: NDArray[Any], description: str) -> h5py.Dataset:
    """Coordinates that arrays can be attached to."""
    scale = group.create_dataset(name, data=axis, fletcher32=axis.size > 0)
    scale.make_scale(name)
    scale.attrs["description"] = _fixed(description)
    return scale


def _write_array(group: h5py.Group, name: str, array: NDArray[Any], scales: list[h5py.Dataset]) -> h5py.Dataset:
    """An array on its scales; truth values in xarray's way, since netCDF knows no booleans."""
    truth = array.dtype == np.bool_
    data = group.create_dataset(name, data=array.astype(np.int8) if truth else array, fletcher32=array.size > 0)
    if truth:
        data.attrs["dtype"] = _fixed("bool")
    for dimension, scale in zip(data.dims, scales, strict=True):
        dimension.attach_scale(scale)
    return data


def _read_array(data: h5py.Dataset) -> NDArray[Any]:
    """The array that `_write_array` wrote."""
    array = data[()]
    return array.astype(bool) if _text(data.attrs.get("dtype")) == "bool" else array


def _write_samples(group: h5py.Group, samples: Samples, axes: list[h5py.Dataset]) -> None:
    """The landscapes of single samples and what is known of each."""
    columns = to_columns(samples)
    each = _write_scale(group, "index", columns.pop("index"), "the sample's place in the data set")
    scales = [each]
    if "thumbnail" in columns:
        for name, length in zip(PIXEL_AXES, columns["thumbnail"].shape[1:], strict=True):
            scales.append(_write_scale(group, name, np.arange(length), f"{name} of a thumbnail"))
    _write_array(group, "values", samples.values, [each, *axes])
    for name, column in columns.items():
        _write_array(group, name, column, scales[: column.ndim])


def _read_samples(group: h5py.Group) -> Samples:
    """The samples that `_write_samples` wrote."""
    columns = {name: _read_array(group[name]) for name in group if name not in ("values", *PIXEL_AXES)}
    return from_columns(group["values"][()], columns)
