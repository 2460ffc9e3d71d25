"""Files of other programs, made here as those programs make them: each point holds f(x, y) = 100x + y of its own."""

import json

import h5py
import numpy as np
import pytest

from lightning_landscape.landscape import equal
from lightning_landscape.storage import FORMATS, LandscapeFileError, load, save
from lightning_landscape.storage.foreign import from_exploration, from_surface

SHAPES = [(7, 5), (5, 7), (4, 4), (2, 9)]


def slope(x, y=0.0):
    return 100 * x + y


def axes(nx, ny):
    return np.linspace(-1, 1, nx), np.linspace(-2, 3, ny)


def right(landscape, metric=None, function=slope) -> bool:
    """Whether every value stands at its own point."""
    values = landscape.values[landscape.metric(metric)]
    x, *rest = np.meshgrid(*landscape.grid.axes, indexing="ij")
    return bool(np.allclose(values, function(x, *rest), rtol=1e-15, equal_nan=True))


# loss-landscape, the code of Li et al.


def by_li(path, nx, ny=None, todo=0, function=slope):
    """A surface file as its scheduler fills it: the n-th place of the array gets the n-th point of the mesh."""
    x, y = axes(nx, ny or 2)
    losses = -np.ones(nx if ny is None else (nx, ny))
    accuracies = -np.ones_like(losses)
    points = [(a,) for a in x] if ny is None else list(zip(*(c.ravel() for c in np.meshgrid(x, y)), strict=True))
    for place, point in enumerate(points[: len(points) - todo]):
        losses.ravel()[place] = function(*point)
        accuracies.ravel()[place] = 50 + point[0]
    with h5py.File(path, "w") as file:
        file["dir_file"] = "trained_nets/directions.h5"
        file["xcoordinates"] = x
        if ny is not None:
            file["ycoordinates"] = y
        file["train_loss"], file["train_acc"] = losses, accuracies
    return path


@pytest.mark.parametrize("nx, ny", SHAPES)
def test_li_s_surface_is_put_right(nx, ny, tmp_path):
    landscape = load(by_li(tmp_path / "a.h5", nx, ny))
    assert landscape.grid.shape == (nx, ny)
    assert right(landscape)
    assert right(landscape, "train_acc", lambda x, y: 50 + x + 0 * y)
    assert landscape.main == "train_loss"
    assert landscape.done.all()
    source = landscape.meta["source"]
    assert source["program"] == "loss-landscape (Li et al. 2018)"
    assert source["arrangement"] == f"place p of the flat array was taken for (x[p % {nx}], y[p // {nx}])"


def test_li_s_line(tmp_path):
    landscape = load(by_li(tmp_path / "a.h5", 7))
    assert landscape.grid.shape == (7,)
    assert right(landscape)
    assert landscape.meta["source"]["arrangement"] == "as in the file"


def test_what_li_left_undone_is_in_the_mask(tmp_path):
    landscape = load(by_li(tmp_path / "a.h5", 7, 5, todo=9))
    done = np.ones((7, 5), dtype=bool)
    done[:, 4] = False  # the last row of the mesh, 7 points, and 2 of the row before
    done[5:, 3] = False
    np.testing.assert_array_equal(landscape.done, done)
    np.testing.assert_array_equal(np.isnan(landscape.loss), ~done)
    assert landscape.meta["source"]["not_evaluated"] == {"train_acc": 9, "train_loss": 9}


def test_a_loss_of_minus_one_with_an_accuracy_was_evaluated(tmp_path):
    landscape = load(by_li(tmp_path / "a.h5", 5, 5, function=lambda x, y: -1.0))
    assert landscape.done.all()
    assert (landscape.loss == -1).all()


def test_a_second_split_that_is_half_done_leaves_the_first_alone(tmp_path):
    path = by_li(tmp_path / "a.h5", 7, 5)
    with h5py.File(path, "r+") as file:
        file["test_loss"] = np.where(np.arange(35) < 7, 3.0, -1).reshape(7, 5)
        file["test_acc"] = np.where(np.arange(35) < 7, 60.0, -1).reshape(7, 5)
    landscape = load(path)
    assert landscape.done.all()
    assert right(landscape)
    assert (landscape.values["test_loss"][:, 0] == 3).all()  # the first row of the mesh: y = y_0
    assert np.isnan(landscape.values["test_loss"][:, 1:]).all()
    assert landscape.meta["source"]["not_evaluated"]["test_loss"] == 28


def test_eigenvalues_of_minus_one_are_eigenvalues(tmp_path):
    path = by_li(tmp_path / "a.h5", 3, 2)
    with h5py.File(path, "r+") as file:
        file["min_eig"], file["max_eig"] = np.full((3, 2), -1.0), np.array([[5.0, -1], [5, 5], [5, 5]])
    values = load(path).values
    assert np.isnan(values["min_eig"]).sum() == 1
    assert (values["min_eig"][values["max_eig"] == 5] == -1).all()


# LightZero


def by_lightzero(path, nx, ny=None, **metrics):
    """A surface file as its loops fill it."""
    x, y = axes(nx, ny or 2)
    with h5py.File(path, "w") as file:
        file["xcoordinates"] = x
        if ny is not None:
            file["ycoordinates"] = y
        for key, function in metrics.items():
            rows = [[function(a, b) for b in y] for a in x]
            file[key] = np.array(rows if ny is not None else [row[0] for row in rows])
    return path


@pytest.mark.parametrize("nx, ny", SHAPES)
def test_lightzero_s_surface_is_read_as_it_is(nx, ny, tmp_path):
    metrics = {"train_loss": slope, "train_acc": lambda x, y: y}
    landscape = load(by_lightzero(tmp_path / "a.h5", nx, ny, **metrics))
    assert right(landscape)
    assert right(landscape, "train_acc", lambda x, y: y + 0 * x)
    assert landscape.main == "train_loss"
    assert landscape.meta["source"] == {"program": "LightZero", "arrangement": "as in the file"}


def test_lightzero_s_metrics_keep_their_keys_and_minus_one(tmp_path):
    metrics = {"train_loss_accuracy": lambda x, y: y, "train_loss_total": lambda x, y: -1.0}
    landscape = load(by_lightzero(tmp_path / "a.h5", 4, 3, **metrics))
    assert list(landscape.values) == ["train_loss_accuracy", "train_loss_total"]
    assert (landscape.values["train_loss_total"] == -1).all()
    assert landscape.done.all()


def test_lightzero_s_line(tmp_path):
    landscape = load(by_lightzero(tmp_path / "a.h5", 6, train_loss=lambda x, y: x))
    assert landscape.loss.tolist() == landscape.grid.axes[0].tolist()


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"ycoordinates": np.arange(2.0), "train_loss": np.zeros((2, 3))}, r"train_loss has shape \(2, 3\), the grid"),
        ({"ycoordinates": np.arange(2.0)}, "it has coordinates and no values: xcoordinates, ycoordinates"),
        ({"ycoordinates": np.arange(1.0), "train_loss": np.zeros((3, 1))}, "at least 2 points"),
        ({"train_loss": np.array([b"a", b"b", b"c"])}, "it has coordinates and no values"),
    ],
)
@pytest.mark.parametrize("mark", [True, False])
def test_a_surface_that_does_not_fit_is_told(arrays, message, mark, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["xcoordinates"] = np.arange(3.0)
        for key, array in arrays.items():
            file[key] = array
        if mark:
            file["dir_file"] = "directions.h5"
    with pytest.raises(LandscapeFileError, match=f"a.h5 is damaged or is no landscape: .*{message}"):
        load(tmp_path / "a.h5")


# LossLandscape of PascalSun


def exploration(nx=7, ny=5, unfilled=()):
    """The export of a surface: its arrays begin as zeros, cell by cell gets coordinates and loss."""
    x, y = axes(nx, ny)
    xs, ys, losses = np.zeros((3, nx, ny))
    for i, j in np.ndindex(nx, ny):
        if (i, j) not in unfilled:
            xs[i, j], ys[i, j], losses[i, j] = x[i], y[j], slope(x[i], y[j])
    return {
        "X": xs.tolist(),
        "Y": ys.tolist(),
        "loss_grid_2d": losses.tolist(),
        "baseline_loss": 0.5,
        "grid_size": nx,
        "mode": "2d",
    }


def written(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("nx, ny", SHAPES)
def test_an_exploration_is_read_as_it_is(nx, ny, tmp_path):
    landscape = load(written(tmp_path / "a.json", exploration(nx, ny)))
    assert landscape.grid.shape == (nx, ny)
    assert right(landscape)
    assert landscape.center == {"loss": 0.5}
    assert landscape.done.all()
    source = landscape.meta["source"]
    assert source["program"] == "LossLandscape (PascalSun)"
    assert source["mode"] == "2d"


def test_cells_that_were_never_filled_are_no_zeros(tmp_path):
    unfilled = {(0, 0), (3, 1), (3, 4), (6, 4)}  # in row 3 lies x = 0
    landscape = load(written(tmp_path / "a.json", exploration(unfilled=unfilled)))
    assert {tuple(place) for place in np.argwhere(~landscape.done)} == unfilled
    assert np.isnan(landscape.loss[0, 0])
    assert [axis.tolist() for axis in landscape.grid.axes] == [axis.tolist() for axis in axes(7, 5)]


def test_null_is_not_finite_and_was_evaluated(tmp_path):
    content = exploration()
    content["loss_grid_2d"][2][3] = None
    landscape = load(written(tmp_path / "a.json", content))
    assert np.argwhere(np.isnan(landscape.loss)).tolist() == [[2, 3]]
    assert landscape.done.all()


def test_a_line_and_a_volume_are_read_too(tmp_path):
    x, y = axes(4, 3)
    z = np.array([0.0, 1.0])
    volume = 100 * x[:, None, None] + 10 * y[:, None] + z
    lists = {f"volume_{name}": axis.tolist() for name, axis in (("x", x), ("y", y), ("z", z))}
    mesh = np.broadcast_to(z, volume.shape).tolist()
    line = {"X_1d": x.tolist(), "loss_line_1d": (5 * x).tolist(), "baseline_loss_1d": 0.25}
    found = load(written(tmp_path / "a.json", {"mode": "3d", "Z": mesh, "loss_grid_3d": volume.tolist(), **lists}))
    assert found.grid.shape == (4, 3, 2)
    assert right(found, function=lambda a, b, c: 100 * a + 10 * b + c)
    meshes = dict(zip("XYZ", (m.tolist() for m in np.meshgrid(x, y, z, indexing="ij")), strict=True))
    again = from_exploration({**meshes, "loss_grid_3d": volume.tolist(), "baseline_loss": 1})
    np.testing.assert_array_equal(again.loss, volume)
    found = load(written(tmp_path / "a.json", {"mode": "1d", "X": x.tolist(), "baseline_loss": 1, **line}))
    assert found.grid.shape == (4,)
    assert found.loss.tolist() == (5 * x).tolist()
    assert found.center == {"loss": 0.25}


def test_of_several_grids_the_surface_is_read_and_the_rest_is_kept(tmp_path):
    rest = {
        "X_1d": [0, 1],
        "loss_line_1d": [1, 2],
        "trajectory_data": {"traj_1": [0.5, 0.0], "epochs": [0, 1]},
        "hessian": {"trace": [3.0]},
        "metadata": {"model": "mlp"},
    }
    landscape = load(written(tmp_path / "a.json", {**exploration(), **rest}))
    assert right(landscape)
    assert {key: landscape.meta["source"][key] for key in rest} == rest


@pytest.mark.parametrize(
    "change, message",
    [
        ({"X": None}, "loss_grid_2d has no coordinates along direction 0: X"),
        ({"Y": [[1, 2], [1, 2]]}, "loss_grid_2d has no coordinates along direction 1: Y"),
        ({"loss_grid_2d": "text"}, ""),
        ({"loss_grid_2d": [[1, 2], [3]]}, ""),
        ({"baseline_loss": "low"}, "low"),
    ],
)
def test_an_exploration_that_does_not_fit_is_told(change, message, tmp_path):
    content = {key: value for key, value in {**exploration(), **change}.items() if value is not None}
    with pytest.raises(LandscapeFileError, match=f"a.json is damaged or is no landscape: .*{message}"):
        load(written(tmp_path / "a.json", content))


# all


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("program", ["Li", "LightZero", "PascalSun"])
def test_what_was_read_survives_every_format_of_ours(program, suffix, tmp_path):
    landscape = {
        "Li": lambda: load(by_li(tmp_path / "li.h5", 7, 5, todo=3)),
        "LightZero": lambda: load(by_lightzero(tmp_path / "lz.h5", 7, 5, train_loss=slope)),
        "PascalSun": lambda: load(written(tmp_path / "ps.json", exploration(unfilled={(1, 2)}))),
    }[program]()
    assert equal(load(save(landscape, tmp_path / f"ours{suffix}")), landscape)


def test_our_own_mark_comes_first(lopsided, tmp_path):
    path = save(lopsided, tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["dir_file"] = "directions.h5"
    assert equal(load(path), lopsided)


def test_arrays_of_integers_are_surfaces_too():
    arrays = {"xcoordinates": np.arange(3), "ycoordinates": np.arange(2), "train_loss": np.arange(6).reshape(3, 2)}
    assert from_surface(arrays, by_li=False).loss.dtype == np.float64
