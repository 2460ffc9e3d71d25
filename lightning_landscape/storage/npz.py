"""Landscapes as NumPy archives (.npz): plain arrays and one JSON header, for scripts that have only numpy.

::

    header                   JSON: format, format_version, convention, main, metrics {array: exact name}, meta, and
                             arrays: the names of all arrays, so that a lost one is missed
    xcoordinates …           the grid
    values.train_loss …      one array a metric, shape grid.shape
    standard_errors.…        the same names
    center                   each metric at the origin, in the order of the header
    done                     true where the point has values
    interpolated             true where these were not evaluated, if there is such a point
    samples.…                values (B, *grid.shape) and the columns of `columns`
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from ..landscape import Grid, Landscape, Samples
from .columns import from_columns, to_columns
from .layout import (
    LandscapeFileError,
    axis_name,
    check_format,
    check_header,
    data_set_names,
    header,
    mask_of,
    real_numbers,
)
from .recipe import recipe

VERSION = 1


def encode(landscape: Landscape) -> bytes:
    """The bytes of a file that holds the whole landscape."""
    names = data_set_names(landscape.values)
    arrays: dict[str, NDArray[Any]] = {
        "center": np.array([landscape.center.get(metric, np.nan) for metric in names], dtype=np.float64),
        "done": np.asarray(landscape.done, dtype=bool),
    }
    if landscape.interpolated.any():
        arrays["interpolated"] = landscape.interpolated
    for i, axis in enumerate(landscape.grid.axes):
        arrays[f"{axis_name(i)}coordinates"] = axis
    for metric, name in names.items():
        arrays[f"values.{name}"] = landscape.values[metric]
        if metric in landscape.standard_errors:
            arrays[f"standard_errors.{name}"] = landscape.standard_errors[metric]
    if landscape.samples is not None:
        arrays["samples.values"] = landscape.samples.values
        arrays.update({f"samples.{name}": column for name, column in to_columns(landscape.samples).items()})
    # Bytes, since numpy's text costs four bytes a letter; json writes ASCII.
    text = json.dumps({**header(landscape, VERSION), "arrays": [*arrays]}, allow_nan=False).encode("ascii")
    file = io.BytesIO()
    np.savez(file, header=np.array(text), **arrays)  # type: ignore[arg-type]  # numpy's own option shares the keywords
    return file.getvalue()


def read(path: Path) -> Landscape:
    """The landscape in a file that `encode` made."""
    # numpy takes what is no archive for a pickle, and its message invites to execute it.
    if not zipfile.is_zipfile(path):
        raise LandscapeFileError(f"{path} is no landscape: it is not an .npz archive, or was cut short.")
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        if "header" not in archive:
            check_format(path, None, None, VERSION)
        said = check_header(path, json.loads(archive["header"].item()), VERSION)
        lost = {*said["arrays"]} ^ {*archive.files} - {"header"}
        if lost:
            raise ValueError(f"its header and its contents disagree on: {', '.join(sorted(lost))}.")
        done = archive["done"]
        values, errors = {}, {}
        for name, metric in said["metrics"].items():
            values[metric] = real_numbers(name, archive[f"values.{name}"])
            if f"standard_errors.{name}" in archive:
                errors[metric] = real_numbers(name, archive[f"standard_errors.{name}"])
        axes = [real_numbers("axis", archive[f"{axis_name(i)}coordinates"]) for i in range(done.ndim)]
        return Landscape(
            Grid(tuple(axes)),
            values,
            said["main"],
            errors,
            done=done.astype(bool),
            center={metric: float(c) for metric, c in zip(values, archive["center"], strict=True)},
            samples=_read_samples(archive) if "samples.values" in archive else None,
            meta=recipe(said["meta"]),
            interpolated=mask_of(archive.get("interpolated"), done.shape),
        )


def _read_samples(archive: NpzFile) -> Samples:
    """The landscapes of single samples and what is known of each."""
    columns = {
        name.removeprefix("samples."): archive[name]
        for name in archive.files
        if name.startswith("samples.") and name != "samples.values"
    }
    return from_columns(archive["samples.values"], columns)
