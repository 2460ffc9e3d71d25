"""Files for ParaView as VTK's own reader sees them."""

import importlib.util
import json
import re

import numpy as np
import pytest

from lightning_landscape.landscape import Grid, Landscape
from lightning_landscape.storage import LandscapeFileError, export_paraview, load, save

pytest.importorskip("vtkmodules")
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkFiltersCore import vtkPolyDataNormals
from vtkmodules.vtkIOXML import vtkXMLPolyDataReader


class Surface:
    """What VTK reads in a file."""

    def __init__(self, path):
        reader = vtkXMLPolyDataReader()
        reader.SetFileName(str(path))
        reader.Update()
        self.data = reader.GetOutput()
        self.points = vtk_to_numpy(self.data.GetPoints().GetData())
        cells = self.data.GetPolys()
        self.sizes = np.diff(vtk_to_numpy(cells.GetOffsetsArray()))
        self.quads = vtk_to_numpy(cells.GetConnectivityArray()).reshape(-1, 4)
        arrays = self.data.GetPointData()
        self.arrays = {
            arrays.GetArrayName(i): vtk_to_numpy(arrays.GetArray(i)) for i in range(arrays.GetNumberOfArrays())
        }


def of(function, nx=7, ny=5) -> Landscape:
    grid = Grid.from_ranges((-3, 3, nx), (-2, 2, ny))
    x, y = grid.points.T
    return Landscape(grid, {"loss": function(x, y).reshape(grid.shape)}, "loss")


@pytest.mark.parametrize("nx, ny", [(7, 5), (5, 7), (2, 9), (4, 4)])
def test_every_point_and_every_cell_is_there(nx, ny, tmp_path):
    surface = Surface(save(of(lambda x, y: 10 * x + y, nx, ny), tmp_path / "a.vtp"))
    assert surface.data.GetNumberOfPoints() == nx * ny
    assert surface.data.GetNumberOfPolys() == (nx - 1) * (ny - 1)
    assert set(surface.sizes) == {4}
    x, y, z = surface.points.T
    np.testing.assert_array_equal(z, 10 * x + y)
    assert len({(a, b) for a, b in zip(x, y, strict=True)}) == nx * ny
    corners = surface.points[surface.quads]  # each cell is a rectangle of the grid
    np.testing.assert_allclose(np.ptp(corners[..., 0], axis=1), 6 / (nx - 1))
    np.testing.assert_allclose(np.ptp(corners[..., 1], axis=1), 4 / (ny - 1))


def test_the_upper_side_is_the_front(tmp_path):
    surface = Surface(save(of(lambda x, y: 0 * x), tmp_path / "a.vtp"))
    normals = vtkPolyDataNormals()
    normals.SetInputData(surface.data)
    normals.ConsistencyOff()
    normals.Update()
    found = vtk_to_numpy(normals.GetOutput().GetPointData().GetNormals())
    np.testing.assert_allclose(found, np.tile([0, 0, 1], (len(found), 1)), atol=1e-6)


def test_every_metric_is_a_point_array(lopsided, tmp_path):
    surface = Surface(save(lopsided, tmp_path / "a.vtp"))
    x, y = surface.points.T[:2]
    assert list(surface.arrays) == [
        "height of train_loss",
        "train_loss",
        "val_acc",
        "train_loss.standard_error",
        "done",
    ]
    np.testing.assert_array_equal(surface.arrays["train_loss"], 10 * x + y)
    np.testing.assert_array_equal(surface.arrays["val_acc"], x - 100 * y)
    np.testing.assert_array_equal(surface.arrays["train_loss.standard_error"], x**2 + 1)
    assert surface.arrays["done"].sum() == 31
    assert surface.data.GetPointData().GetScalars().GetName() == "height of train_loss"
    said = json.loads(surface.data.GetFieldData().GetAbstractArray("header").GetValue(0))
    assert said["metrics"]["val_acc"] == "val/acc"


def test_a_point_without_a_height_is_a_hole(lopsided, tmp_path):
    # Four corners along one edge were not evaluated: the last four cells of the last row are missing.
    surface = Surface(save(lopsided, tmp_path / "a.vtp"))
    assert surface.data.GetNumberOfPoints() == 35
    assert surface.data.GetNumberOfPolys() == 24 - 4
    assert np.isfinite(surface.points).all()
    used = np.unique(surface.quads)
    assert surface.arrays["done"][used].all()
    assert np.isnan(surface.arrays["height of train_loss"]).sum() == 4


def test_the_relief_is_cut_and_logarithmic(tmp_path):
    shown = of(lambda x, y: np.exp(x) + y**2)
    shown.loss[6, 4] = np.inf
    x, y, z = Surface(export_paraview(shown, tmp_path / "a.vtp", log=True, zmax=10.0)).points.T
    expected = np.minimum(np.exp(x) + y**2, 10)
    expected[-1] = 10
    np.testing.assert_allclose(z, np.log(expected + 0.1), rtol=1e-14)
    np.testing.assert_array_equal(load(tmp_path / "a.vtp").loss, shown.loss)


def test_another_metric_gives_the_relief(lopsided, tmp_path):
    surface = Surface(export_paraview(lopsided, tmp_path / "a.vtp", "val/acc"))
    x, y, z = surface.points.T
    np.testing.assert_array_equal(z[:30], (x - 100 * y)[:30])
    assert load(tmp_path / "a.vtp").main == "train_loss"


def test_a_finer_surface_is_smooth_between_the_points(tmp_path):
    shown = of(lambda x, y: x**3 - x * y**2)  # cubic splines are exact on it
    surface = Surface(export_paraview(shown, tmp_path / "a.vtp", interp=30, zmax=20))
    x, y, z = surface.points.T
    assert len(z) == 900
    assert surface.data.GetNumberOfPolys() == 29**2
    np.testing.assert_allclose(z, np.minimum(x**3 - x * y**2, 20), atol=1e-12)
    loaded = load(tmp_path / "a.vtp")
    assert loaded.grid.shape == (30, 30)
    assert loaded.meta["interpolated"] == "cubic splines through 7 × 5 points"


def test_nothing_to_draw_is_a_file_of_points(tmp_path):
    surface = Surface(
        save(Landscape.empty(Grid.from_ranges((0, 1, 3), (0, 1, 2)), ["loss"], "loss"), tmp_path / "a.vtp")
    )
    assert (surface.data.GetNumberOfPoints(), surface.data.GetNumberOfPolys()) == (6, 0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"path": "a.vtk"}, r"path='a.vtk' has the suffix '.vtk': ParaView's is .vtp"),
        ({"metric": "acc"}, r"metric='acc' is not in this landscape; it has: train_loss, val/acc"),
        ({"interp": 9}, r"interp=9 needs a finite value at every point, 4 have none"),
    ],
)
def test_wrong_options_are_told(lopsided, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        export_paraview(lopsided, **{"path": "a.vtp", **options})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("write", [save, export_paraview])
def test_without_vtk_the_extra_is_named(lopsided, write, tmp_path, monkeypatch):
    path = save(lopsided, tmp_path / "a.vtp")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "vtk" else find(name, *rest))
    with pytest.raises(
        ImportError, match=r"\.vtp files are written by vtk: pip install 'lightning-landscape\[paraview\]'"
    ):
        write(lopsided, tmp_path / "b.vtp")
    assert load(path).main == "train_loss"  # reading needs no vtk


@pytest.mark.parametrize(
    "old, new, message",
    [
        (r'format="binary"', 'format="ascii"', "is stored as ascii, save\\(\\) writes 'binary'"),
        (r'Name="ycoordinates"', 'Name="z"', "ycoordinates"),
        (r'Name="val_acc"', 'Name="val_loss"', "val_acc"),
        (r'type="Float64" Name="val_acc"', 'type="Float128" Name="val_acc"', "val_acc is of type 'Float128'"),
        (r'type="Float64" Name="val_acc"', 'type="Float32" Name="val_acc"', "reshape"),
        (r'(Name="val_acc"[^>]*>\s*)\w{8}', r"\1AQAAAAAA", "val_acc has 280 bytes, its file says"),
        (r'(Name="val_acc"[^>]*>\s*)\w{8}', r"\1!!!!!!!!", "base64"),
        (r"<VTKFile", '<!DOCTYPE a [<!ENTITY b "c">]><VTKFile', "DOCTYPE"),
        (r"</Piece>", "", "mismatched tag"),
    ],
)
def test_parts_that_do_not_fit_are_told(lopsided, old, new, message, tmp_path):
    path = save(lopsided, tmp_path / "a.vtp")
    text = path.read_text()
    changed = re.sub(old, new, text, count=1)
    assert changed != text
    path.write_text(changed)
    with pytest.raises(LandscapeFileError, match=f"a.vtp is damaged or is no landscape: .*{message}"):
        load(path)


def test_another_vtp_file_is_no_landscape(tmp_path):
    (tmp_path / "other.vtp").write_text('<?xml version="1.0"?>\n<VTKFile type="PolyData"><PolyData/></VTKFile>\n')
    with pytest.raises(LandscapeFileError, match=r"other.vtp is no landscape: it does not carry the mark"):
        load(tmp_path / "other.vtp")
