"""A landscape as a header of strict JSON and named arrays, which every format packs in its own way.

A new field of `Landscape` is learnt here, and by no format. The arrays are named so:

::

    xcoordinates …           the grid, one array a direction
    train_loss …             one array a metric, shape grid.shape; the header's "metrics" has the exact names
    standard_errors.…        the same names
    done                     true where the point has values
    interpolated             true where these were not evaluated, if there is such a point
    samples.…                values (B, *grid.shape) and the columns of `columns`
    trajectory.…             the arrays of `paths`; the header's "trajectory" has the exact names

The header's "spectrum" has the eigenvalues of the Hessian, if they are known (`spectra`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..landscape import Grid, Landscape
from ..recipe import Recipe
from ..report import Report
from .columns import from_columns, to_columns
from .json_values import loose, number, plain, strict
from .layout import FORMAT_NAME, VERSION, axis_name, convention, data_set_names, real_numbers
from .paths import Names, path_from_arrays, path_to_arrays
from .spectra import spectrum_from_json, spectrum_to_json

ERRORS, SAMPLES, PATH = "standard_errors.", "samples.", "trajectory."  # no data set's name has a dot

Header = dict[str, Any]
Arrays = dict[str, NDArray[Any]]


def to_arrays(landscape: Landscape, whole: bool = True) -> tuple[Header, Arrays]:
    """The header and the arrays of a landscape; no array is copied.

    Args:
        landscape: what to keep.
        whole: keep all; else the landscapes of single samples and the trajectory are left out.

    Raises:
        ValueError: if the recipe, the report or the notes are not plain JSON.

    >>> header, arrays = to_arrays(Landscape(Grid.from_ranges((0, 1, 2)), {"val/acc": np.zeros(2)}, "val/acc"))
    >>> header["metrics"], list(arrays)
    ({'val_acc': 'val/acc'}, ['xcoordinates', 'val_acc', 'done'])
    """
    names = data_set_names(landscape.values)
    arrays: Arrays = {f"{axis_name(i)}coordinates": axis for i, axis in enumerate(landscape.grid.axes)}
    arrays |= {name: landscape.values[metric] for metric, name in names.items()}
    arrays |= {ERRORS + names[metric]: errors for metric, errors in landscape.standard_errors.items()}
    arrays["done"] = np.asarray(landscape.done, dtype=bool)
    if landscape.interpolated.any():
        arrays["interpolated"] = landscape.interpolated
    if whole and landscape.samples is not None:
        columns = {"values": landscape.samples.values, **to_columns(landscape.samples)}
        arrays |= {SAMPLES + name: column for name, column in columns.items()}
    path_names: Names = {}
    if whole and landscape.trajectory is not None:
        path_names, path = path_to_arrays(landscape.trajectory)
        arrays |= {PATH + name: array for name, array in path.items()}
    header = {
        "format": FORMAT_NAME,
        "format_version": VERSION,
        "convention": convention(landscape.grid.ndim),
        "main": landscape.main,
        "metrics": {name: metric for metric, name in names.items()},
        "center": {name: number(float(landscape.center.get(metric, np.nan))) for metric, name in names.items()},
        "recipe": _stored("recipe", asdict(landscape.recipe)),
        "report": _stored("report", asdict(landscape.report)),
        "meta": strict(plain(landscape.meta, "meta")),
        "trajectory": strict(path_names),
        "spectrum": {} if landscape.spectrum is None else spectrum_to_json(landscape.spectrum),
        "arrays": [*arrays],
    }
    return header, arrays


def from_arrays(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Landscape:
    """The landscape of which `to_arrays` gave the header and the arrays.

    Raises:
        ValueError: if they do not fit together.
        KeyError: if an entry is missing.
    """
    lost = {*header["arrays"]} ^ {*arrays}
    if lost:
        raise ValueError(f"its header and its contents disagree on: {', '.join(sorted(lost))}.")
    metrics, done = header["metrics"], arrays["done"]
    axes = [real_numbers("axis", arrays[f"{axis_name(i)}coordinates"]) for i in range(done.ndim)]
    errors = {metric: ERRORS + name for name, metric in metrics.items() if ERRORS + name in arrays}
    columns, path = (
        {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        for prefix in (SAMPLES, PATH)
    )
    return Landscape(
        Grid(tuple(axes)),
        {metric: real_numbers(name, arrays[name]) for name, metric in metrics.items()},
        header["main"],
        {metric: real_numbers(name, arrays[name]) for metric, name in errors.items()},
        done=done.astype(bool),
        center={metric: float(header["center"][name]) for name, metric in metrics.items()},
        samples=from_columns(columns.pop("values"), columns) if columns else None,
        meta=msgspec.convert(loose(header["meta"]), dict[str, Any]),
        interpolated=arrays["interpolated"].astype(bool) if "interpolated" in arrays else None,  # type: ignore[arg-type]
        recipe=msgspec.convert(loose(header["recipe"]), Recipe),
        report=msgspec.convert(loose(header["report"]), Report),
        trajectory=path_from_arrays(loose(header["trajectory"]), path) if path else None,
        spectrum=spectrum_from_json(header["spectrum"]) if header["spectrum"] else None,
    )


def _stored(where: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Fields as strict JSON, without those that say nothing."""
    known = {name: value for name, value in fields.items() if value is not None and value not in ({}, [])}
    stored: dict[str, Any] = strict(plain(known, where))
    return stored
