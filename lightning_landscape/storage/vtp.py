"""Surfaces for ParaView (.vtp): VTK PolyData as XML, the landscape as a relief over the plane of its directions.

::

    points       (x_i, y_j, height), the last axis fastest, Float64; the height in "height of <array>"
    quads        (nx - 1)(ny - 1) of them, less those with a corner that has no height
    point data   the arrays of `codec` as they were measured, without samples and trajectory
    field data   header (that of `codec` as JSON), xcoordinates, ycoordinates

Written by the vtk library (``pip install "lightning-landscape[paraview]"``).
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..landscape import Array, Landscape
from .codec import to_arrays
from .layout import data_set_names


def encode(landscape: Landscape, metric: str | None = None, log: bool = False, zmax: float | None = None) -> bytes:
    """The bytes of a file with the relief of one metric; all metrics are in it as they were measured.

    Args:
        landscape: 2-D.
        metric: whose relief; None for the main loss.
        log: draw log(z + 0.1), the natural logarithm, after the cut at `zmax`.
        zmax: cut off what is higher, +inf too; None for nothing.
    """
    metric = landscape.metric(metric)
    name = data_set_names(landscape.values)[metric]
    relief = heights(landscape, metric, log, zmax)
    header, arrays = to_arrays(landscape, whole=False)
    header["height"] = {"array": name, "log": log, "zmax": zmax}
    axes = {axis: arrays.pop(axis) for axis in ("xcoordinates", "ycoordinates")}
    drawn = np.isfinite(relief)
    floor = relief[drawn].min() if drawn.any() else 0.0
    return _poly_data(
        np.column_stack([landscape.grid.points, np.where(drawn, relief, floor).reshape(-1)]),
        quads(drawn),
        {f"height of {name}": relief, **arrays},
        axes,
        json.dumps(header, allow_nan=False),
    )


def heights(landscape: Landscape, metric: str, log: bool, zmax: float | None) -> Array:
    """The relief of a metric, shape grid.shape; NaN where a point has no height.

    >>> from ..landscape import Grid
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
            values = np.log(values + 0.1)  # as Li et al.'s h52vtp
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
    header = vtkStringArray()
    header.SetName("header")
    header.InsertNextValue(text)
    surface.GetFieldData().AddArray(header)
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
    known = {np.dtype(bool): np.uint8, np.dtype(np.float16): np.float64}
    return np.ascontiguousarray(array, dtype=known.get(kind, kind))
