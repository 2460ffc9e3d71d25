"""Files for ParaView as VTK's own reader sees them."""

import importlib.util
import json

import numpy as np
import pytest

from lightning_landscape.landscape import Grid, Landscape
from lightning_landscape.storage import export_paraview, load, save

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
        self.header = json.loads(self.data.GetFieldData().GetAbstractArray("header").GetValue(0))
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
        "standard_errors.train_loss",
        "done",
    ]
    np.testing.assert_array_equal(surface.arrays["train_loss"], 10 * x + y)
    np.testing.assert_array_equal(surface.arrays["val_acc"], x - 100 * y)
    np.testing.assert_array_equal(surface.arrays["standard_errors.train_loss"], x**2 + 1)
    assert surface.arrays["done"].sum() == 31
    assert surface.data.GetPointData().GetScalars().GetName() == "height of train_loss"
    assert surface.header["metrics"]["val_acc"] == "val/acc"


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
    np.testing.assert_array_equal(Surface(tmp_path / "a.vtp").arrays["loss"], shown.loss.reshape(-1))


def test_another_metric_gives_the_relief(lopsided, tmp_path):
    surface = Surface(export_paraview(lopsided, tmp_path / "a.vtp", "val/acc"))
    x, y, z = surface.points.T
    np.testing.assert_array_equal(z[:30], (x - 100 * y)[:30])
    assert surface.header["main"] == "train_loss"


def test_a_finer_surface_is_smooth_between_the_points(tmp_path):
    shown = of(lambda x, y: x**3 - x * y**2)  # cubic splines are exact on it
    surface = Surface(export_paraview(shown, tmp_path / "a.vtp", interp=30, zmax=20))
    x, y, z = surface.points.T
    assert len(z) == 900
    assert surface.data.GetNumberOfPolys() == 29**2
    np.testing.assert_allclose(z, np.minimum(x**3 - x * y**2, 20), atol=1e-12)
    assert surface.header["meta"]["interpolated"] == "cubic splines through 7 × 5 points"


def test_nothing_to_draw_is_a_file_of_points(tmp_path):
    surface = Surface(
        save(Landscape.empty(Grid.from_ranges((0, 1, 3), (0, 1, 2)), ["loss"], "loss"), tmp_path / "a.vtp")
    )
    assert (surface.data.GetNumberOfPoints(), surface.data.GetNumberOfPolys()) == (6, 0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"path": "a.vtk"}, r"path='a.vtk' has the suffix '.vtk': give a name that ends in .vtp"),
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
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "vtk" else find(name, *rest))
    with pytest.raises(
        ImportError, match=r"\.vtp files are written by vtk: pip install 'lightning-landscape\[paraview\]'"
    ):
        write(lopsided, tmp_path / "b.vtp")
    assert not [*tmp_path.iterdir()]


def test_it_is_written_and_not_read(lopsided, tmp_path):
    path = save(lopsided, tmp_path / "a.vtp")
    with pytest.raises(ValueError, match=r"is written for other programs, and not read; choose one of .h5"):
        load(path)


@pytest.mark.parametrize("ndim", [1, 3])
def test_it_holds_landscapes_of_two_directions(ndim, tmp_path):
    landscape = Landscape(Grid.from_ranges(*[(-1, 1, 2)] * ndim), {"loss": np.zeros((2,) * ndim)}, "loss")
    with pytest.raises(ValueError, match=rf"\.vtp holds 2-D landscapes, this one is {ndim}-D: choose another of .h5"):
        save(landscape, tmp_path / "a.vtp")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", ["<f2", ">f8", "i1", "<u8", ">i4"])
def test_every_type_of_number_is_kept(kind, tmp_path):
    values = np.array([[0, 1], [1, 1]], dtype=kind)
    landscape = Landscape(Grid.from_ranges((-1, 1, 2), (0, 1, 2)), {"loss": values}, "loss")
    np.testing.assert_array_equal(Surface(save(landscape, tmp_path / "a.vtp")).arrays["loss"], values.reshape(-1))
