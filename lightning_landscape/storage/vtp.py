"""Surfaces for ParaView (.vtp): VTK PolyData as XML, the landscape as a relief over the plane of its directions.

::

    points       (x_i, y_j, height), the last axis fastest, Float64; the height in "height of <array>"
    quads        (nx - 1)(ny - 1) of them, less those with a corner that has no height
    point data   one array a metric as it was measured, <array>.standard_error, done; interpolated, if a point is
    field data   header (strict JSON, as in the other formats, with center and types), xcoordinates, ycoordinates

Written by the vtk library (``pip install "lightning-landscape[paraview]"``). Read without it, and only what
`encode` made: a damaged file cannot reach the parser of a large library. Of 2-D landscapes all returns bit by
bit but the landscapes of single samples, which are left out.
"""

from __future__ import annotations

import base64
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..landscape import Array, Grid, Landscape
from .layout import LandscapeFileError, axis_name, check_header, data_set_names, header, mask_of, number_type, type_name
from .recipe import number, recipe

VERSION = 1
ERROR = ".standard_error"
LOG_OFFSET = 0.1  # of Li et al.'s h52vtp: heights log(z + 0.1)
END = b"</VTKFile>\n"
COUNT_BYTES = 8  # before each array
VTK_NAMES = {"f": "Float", "i": "Int", "u": "UInt"}


def encode(landscape: Landscape, metric: str | None = None, log: bool = False, zmax: float | None = None) -> bytes:
    """The bytes of a file with the relief of one metric; all metrics are in it as they were measured.

    Args:
        landscape: 2-D.
        metric: whose relief; None for the main loss.
        log: draw log(z + 0.1), the natural logarithm, after the cut at `zmax`.
        zmax: cut off what is higher, +inf too; None for nothing.
    """
    names = data_set_names(landscape.values)
    shown = landscape.metric(metric)
    relief = heights(landscape, shown, log, zmax)
    arrays = {names[name]: values for name, values in landscape.values.items()}
    arrays |= {names[name] + ERROR: errors for name, errors in landscape.standard_errors.items()}
    said = {
        **header(landscape, VERSION),
        "center": {name: number(float(landscape.center.get(metric, np.nan))) for metric, name in names.items()},
        "types": {name: type_name(name, array) for name, array in arrays.items()},
        "height": {"array": names[shown], "log": log, "zmax": zmax},
    }
    masks = {"done": landscape.done.astype(np.uint8)}
    if landscape.interpolated.any():
        masks["interpolated"] = landscape.interpolated.astype(np.uint8)
    drawn = np.isfinite(relief)
    floor = relief[drawn].min() if drawn.any() else 0.0
    return _poly_data(
        np.column_stack([landscape.grid.points, np.where(drawn, relief, floor).reshape(-1)]),
        quads(drawn),
        {f"height of {names[shown]}": relief, **arrays, **masks},
        {f"{axis_name(i)}coordinates": axis for i, axis in enumerate(landscape.grid.axes)},
        json.dumps(said, allow_nan=False),
    )


def heights(landscape: Landscape, metric: str, log: bool, zmax: float | None) -> Array:
    """The relief of a metric, shape grid.shape; NaN where a point has no height.

    >>> grid = Grid.from_ranges((0, 1, 2), (0, 1, 2))
    >>> steep = Landscape(grid, {"loss": np.array([[0.9, 5.0], [np.inf, np.nan]])}, "loss")
    >>> heights(steep, "loss", log=True, zmax=9.9).round(6).tolist()
    [[0.0, 1.629241], [2.302585, nan]]
    """
    values = np.where(landscape.done, landscape.values[metric], np.nan).astype(np.float64)
    if zmax is not None:
        values = np.minimum(values, zmax)
    if log:
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.log(values + LOG_OFFSET)
    return np.where(np.isfinite(values), values, np.nan)


def quads(drawn: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The corners of the cells whose corners are all drawn, as numbers of points, shape (cells, 4).

    Counter-clockwise seen from above, so that the upper side is the front.

    >>> quads(np.ones((2, 3), dtype=bool)).tolist()
    [[0, 3, 4, 1], [1, 4, 5, 2]]
    """
    place = np.arange(drawn.size).reshape(drawn.shape)
    corners = [np.s_[:-1, :-1], np.s_[1:, :-1], np.s_[1:, 1:], np.s_[:-1, 1:]]
    whole = np.logical_and.reduce([drawn[corner] for corner in corners])
    return np.stack([place[corner][whole] for corner in corners], axis=-1).astype(np.int64)


def read(path: Path) -> Landscape:
    """The landscape in a file that `encode` made."""
    content = path.read_bytes()
    if not content.lstrip().startswith(b"<?xml"):
        raise LandscapeFileError(f"{path} is no landscape: it is no XML.")
    if b"<!DOCTYPE" in content:  # entities can grow without end
        raise ValueError("it has a DOCTYPE, which save() never writes.")
    root = ElementTree.fromstring(content)
    field, arrays = (
        {item.get("Name"): item for part in root.iter(tag) for item in part} for tag in ("FieldData", "PointData")
    )
    text = json.loads(_bytes(field["header"]).rstrip(b"\0")) if "header" in field else None
    said = check_header(path, text, VERSION)
    if not content.endswith(END):
        raise ValueError("it is cut short.")
    grid = Grid(tuple(_array(field[f"{axis_name(i)}coordinates"]) for i in range(2)))

    def get(name: str) -> NDArray[Any]:
        return _array(arrays[name]).astype(number_type(said["types"][name])).reshape(grid.shape)

    values, errors, center = {}, {}, {}
    for name, metric in said["metrics"].items():
        values[metric] = get(name)
        center[metric] = float(said["center"][name])
        if name + ERROR in arrays:
            errors[metric] = get(name + ERROR)
    masks = [_array(arrays[name]) if name in arrays else None for name in ("done", "interpolated")]
    done, interpolated = (mask_of(mask, grid.shape) for mask in masks)
    meta = recipe(said["meta"])
    return Landscape(grid, values, said["main"], errors, done=done, center=center, meta=meta, interpolated=interpolated)


def _poly_data(
    points: Array,
    cells: NDArray[np.int64],
    point_data: dict[str, NDArray[Any]],
    field_data: dict[str, NDArray[Any]],
    text: str,
) -> bytes:
    """The bytes of a file of PolyData with one array of text in its field data."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonCore import vtkPoints, vtkStringArray
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

    def named(name: str, array: NDArray[Any]) -> Any:
        result = numpy_to_vtk(_native(array).reshape(-1), deep=True)
        result.SetName(name)
        return result

    surface = vtkPolyData()
    corners = vtkPoints()
    corners.SetDataTypeToDouble()
    corners.SetData(numpy_to_vtk(points, deep=True))
    surface.SetPoints(corners)
    polygons = vtkCellArray()
    polygons.SetData(4, numpy_to_vtkIdTypeArray(cells.reshape(-1), deep=True))
    surface.SetPolys(polygons)
    for name, array in point_data.items():
        surface.GetPointData().AddArray(named(name, array))
    surface.GetPointData().SetActiveScalars(next(iter(point_data)))
    said = vtkStringArray()
    said.SetName("header")
    said.InsertNextValue(text)
    surface.GetFieldData().AddArray(said)
    for name, array in field_data.items():
        surface.GetFieldData().AddArray(named(name, array))
    writer = vtkXMLPolyDataWriter()
    writer.WriteToOutputStringOn()
    writer.SetInputData(surface)
    writer.SetDataModeToBinary()
    writer.SetCompressorTypeToNone()
    writer.SetHeaderTypeToUInt64()
    writer.SetByteOrderToLittleEndian()
    writer.Write()
    return bytes(writer.GetOutputString().encode("utf-8"))


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """The array in a type that VTK has, in this machine's byte order."""
    kind = array.dtype.newbyteorder("=")
    return np.ascontiguousarray(array, dtype=np.float64 if kind == np.float16 else kind)


def _bytes(item: ElementTree.Element) -> bytes:
    """The content of an array."""
    if item.get("format") != "binary":
        raise ValueError(f"{item.get('Name')} is stored as {item.get('format')}, save() writes 'binary'.")
    content = base64.b64decode((item.text or "").strip(), validate=True)
    count = int.from_bytes(content[:COUNT_BYTES], "little")
    if len(content) != COUNT_BYTES + count:
        raise ValueError(f"{item.get('Name')} has {len(content) - COUNT_BYTES} bytes, its file says {count}.")
    return content[COUNT_BYTES:]


def _array(item: ElementTree.Element) -> NDArray[Any]:
    """The numbers of an array, shape (n,)."""
    kinds = {
        f"{VTK_NAMES[k]}{8 * size}": number_type(f"<{k}{size}") for k in "fiu" for size in (1, 2, 4, 8)[k == "f" :]
    }
    kind = item.get("type", "")
    if kind not in kinds:
        raise ValueError(f"{item.get('Name')} is of type {kind!r}: one of {', '.join(kinds)} is known.")
    return np.frombuffer(_bytes(item), dtype=kinds[kind]).copy()
