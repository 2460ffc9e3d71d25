"""The layout of .h5 files as other programs see it: everything here is read with h5py alone."""

import json

import h5py
import numpy as np
import pytest

from lightning_landscape.storage import LandscapeFileError, load, save


@pytest.fixture
def path(lopsided, tmp_path):
    return save(lopsided, tmp_path / "lopsided.h5")


def text(value):
    """The text of an attribute; other values as they are."""
    return value.decode() if isinstance(value, bytes) else value


def test_the_file_says_what_it_is(path):
    with h5py.File(path) as file:
        assert set(file) == {
            "xcoordinates",
            "ycoordinates",
            "train_loss",
            "val_acc",
            "standard_errors",
            "done",
        }
        attributes = {key: text(value) for key, value in file.attrs.items()}
        assert attributes["format"] == "lightning_landscape"
        assert attributes["format_version"] == 1
        assert attributes["convention"] == "values[i, j] is the value at (x_i, y_j)"
        assert attributes["main"] == "train_loss"
        assert json.loads(attributes["metrics"]) == {"train_loss": "train_loss", "val_acc": "val/acc"}
        assert json.loads(attributes["meta"])["axes"] == [[1], None]
        assert attributes["meta.seed"] == 7
        assert attributes["meta.lr"] == 0.1
        assert attributes["meta.reduction"] == "mean over samples"
        assert not attributes["meta.resumed"]
        assert "meta.axes" not in attributes


def test_values_follow_the_convention(path):
    with h5py.File(path) as file:
        x, y = file["xcoordinates"][()], file["ycoordinates"][()]
        assert x.tolist() == [-3, -1, -0.5, 0, 0.25, 2, 9]
        assert y.tolist() == [-2, 0, 0.5, 1, 4]
        assert file["train_loss"].shape == (7, 5)
        for i in range(7):
            for j in range(5):
                assert file["train_loss"][i, j] == 10 * x[i] + y[j]
                assert file["val_acc"][i, j] == x[i] - 100 * y[j]
                assert file["standard_errors/train_loss"][i, j] == x[i] ** 2 + 1


@pytest.mark.parametrize("name", ["train_loss", "val_acc", "standard_errors/train_loss", "done"])
def test_every_array_carries_its_coordinates(path, name):
    with h5py.File(path) as file:
        dims = file[name].dims
        assert [len(dim) for dim in dims] == [1, 1]
        assert [dim[0].name for dim in dims] == ["/xcoordinates", "/ycoordinates"]
        assert dims[0][0][-1] == 9
        assert dims[1][0][-1] == 4
        assert file["xcoordinates"].is_scale


def test_names_and_centres_are_exact_in_the_attributes(path):
    with h5py.File(path) as file:
        assert file["train_loss"].attrs["metric"] == b"train_loss"
        assert file["val_acc"].attrs["metric"] == b"val/acc"
        assert file["standard_errors/train_loss"].attrs["metric"] == b"train_loss"
        assert list(file["standard_errors"]) == ["train_loss"]
        assert [file[name].attrs["center"] for name in ("train_loss", "val_acc")] == [0.125, 0.75]


def test_the_mask_is_numbers_that_xarray_reads_as_booleans(path):
    with h5py.File(path) as file:
        assert file["done"].dtype == np.int8
        assert file["done"].attrs["dtype"] == b"bool"
        assert file["done"][()].sum() == 31
        assert file["done"][6].tolist() == [1, 0, 0, 0, 0]


def test_samples_are_a_group_of_columns(with_samples, tmp_path):
    with h5py.File(save(with_samples, tmp_path / "a.h5")) as file:
        group = file["samples"]
        assert group["values"].shape == (4, 3, 2)
        assert [dim[0].name for dim in group["values"].dims] == [
            "/samples/index",
            "/xcoordinates",
            "/ycoordinates",
        ]
        assert group["index"][()].tolist() == [5, 5, 2**40, 0]
        assert group["label_known"][()].tolist() == [1, 0, 0, 1]
        assert group["label"][0] == 0
        assert group["label"][3] == 2
        assert group["prediction"][0] == -1
        assert group["probability"][2] == 0.1
        assert group["label"].dims[0][0].name == "/samples/index"
        assert group["thumbnail"].shape == (4, 7, 4, 3)
        assert [dim[0].name for dim in group["thumbnail"].dims][1:] == [
            "/samples/row",
            "/samples/column",
            "/samples/channel",
        ]
        assert group["thumbnail"][0, :2, :4].ravel().tolist() == list(range(24))
        assert group["thumbnail_height"][()].tolist() == [2, 0, 1, 7]
        assert group["thumbnail_width"][()].tolist() == [4, 0, 3, 1]
        assert group["thumbnail_known"][()].tolist() == [1, 0, 1, 1]


def texts(place):
    """All the attributes of text in a file, by where they are."""
    found = {}

    def visit(name, thing):
        for key in thing.attrs:
            kind = thing.attrs.get_id(key).dtype
            if h5py.check_string_dtype(kind):
                found[f"{name}@{key}"] = h5py.check_string_dtype(kind).length

    visit("", place)
    place.visititems(visit)
    return found


def test_no_text_of_ours_lies_in_the_heap_without_checksum(with_samples, tmp_path):
    with_samples.meta = {"θ": "精度"}
    with h5py.File(save(with_samples, tmp_path / "a.h5")) as file:
        lengths = texts(file)
        assert {"@format", "@main", "@meta", "@metrics", "@recipe", "@meta.θ", "loss@metric"} <= {*lengths}
        ours = {where: length for where, length in lengths.items() if "@CLASS" not in where and "@NAME" not in where}
        assert None not in ours.values()
        assert lengths["@meta.θ"] == len("精度".encode())


@pytest.mark.parametrize("name", ["train_loss", "standard_errors/train_loss", "xcoordinates", "done"])
def test_a_flipped_bit_of_an_array_is_told(path, name):
    with h5py.File(path) as file:
        start, size = file[name].id.get_chunk_info(0)[2:]
    content = bytearray(path.read_bytes())
    content[start + size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        LandscapeFileError, match=r"lopsided\.h5 is damaged or is no landscape: .*filter returned failure"
    ):
        load(path)


def test_a_newer_file_asks_for_an_upgrade(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 3
    with pytest.raises(
        LandscapeFileError,
        match=r"lopsided\.h5 was written by a newer version: format 3, this version reads up to 1: upgrade",
    ):
        load(path)


def test_another_hdf5_file_is_no_landscape(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["train_loss"] = np.zeros((3, 2))
    with pytest.raises(LandscapeFileError, match=r"other.h5 is no landscape: it does not carry the mark 'lightning_"):
        load(tmp_path / "other.h5")


def replace(file, name, data):
    del file[name]
    file[name] = data


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda file: replace(file, "done", np.ones((5, 7))), "done has shape"),
        (lambda file: replace(file, "xcoordinates", np.arange(6.0)), r"the grid has \(6, 5\)"),
        (lambda file: replace(file, "xcoordinates", -np.arange(7.0)), "strictly increasing"),
        (lambda file: replace(file, "standard_errors/train_loss", np.zeros(3)), r"has shape \(3,\)"),
        (lambda file: file.__delitem__("val_acc"), "val_acc"),
        (lambda file: file.__delitem__("done"), "done"),
        (lambda file: replace(file, "standard_errors/train_loss", [b"text"]), "must hold real numbers"),
        (lambda file: file.attrs.__setitem__("main", "absent"), "main='absent' is not among the metrics"),
        (lambda file: file.attrs.__setitem__("meta", "{"), ""),
        (lambda file: file.attrs.__setitem__("meta", "[]"), "Expected `object`, got `array`"),
        (lambda file: file.attrs.__setitem__("recipe", '{"seed": "7"}'), "got `str`"),
        (lambda file: file.attrs.__setitem__("meta", "[" * 500_000), ""),
        (lambda file: file.attrs.__setitem__("format_version", "new"), ""),
        (lambda file: file.attrs.__delitem__("metrics"), ""),
    ],
)
def test_parts_that_do_not_fit_are_told(path, change, message):
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(LandscapeFileError, match=rf"lopsided\.h5 is damaged or is no landscape: .*{message}"):
        load(path)


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("label", np.zeros(3), "4 indices and 3 entries in 'label'"),
        ("thumbnail_width", np.array([4, 0, 3, 5]), "thumbnails of size 0 to 5 do not fit in 4"),
        ("thumbnail_width", np.array([4, 0, 3, -1]), "thumbnails of size -1 to 4 do not fit in 4"),
        ("thumbnail", np.zeros((4, 7, 4, 3)), "not RGB pictures"),
        ("values", np.zeros((4, 2, 3)), r"samples have shape \(2, 3\), the grid has \(3, 2\)"),
        ("values", np.zeros((3, 3, 2)), "3 landscapes for 4 samples"),
    ],
)
def test_samples_that_do_not_fit_are_told(with_samples, name, data, message, tmp_path):
    path = save(with_samples, tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        replace(file["samples"], name, data)
    with pytest.raises(LandscapeFileError, match=f"a.h5 is damaged or is no landscape: .*{message}"):
        load(path)


def test_xarray_opens_the_path_with_its_steps(with_path, tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    file, path = save(with_path, tmp_path / "p.h5"), with_path.trajectory
    with xarray.open_dataset(file, engine="h5netcdf", group="trajectory") as data:
        assert data.points.dims == ("steps", "direction")
        assert data.points.sel(steps=10.5).values.tolist() == path.points[1].tolist()
        assert data.measured.values.tolist() == [True, True, False, True]
        assert data.checkpoints.values.tolist() == [20, 40]
    for table, dimension in {"losses": "steps", "metrics": "steps", "history": "record"}.items():
        with xarray.open_dataset(file, engine="h5netcdf", group=f"trajectory/{table}") as data:
            exact = {v.attrs["metric"]: v for v in data.variables.values() if "metric" in v.attrs}
            assert exact.keys() == getattr(path, table).keys()
            for name, column in getattr(path, table).items():
                assert exact[name].dims == (dimension,)
                np.testing.assert_array_equal(exact[name].values, column)


def test_xarray_opens_it_with_its_coordinates(path, with_samples, tmp_path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    with xarray.open_dataset(path, engine="h5netcdf") as data:
        assert data.train_loss.dims == ("xcoordinates", "ycoordinates")
        assert set(data.coords) == {"xcoordinates", "ycoordinates"}
        assert float(data.train_loss.sel(xcoordinates=9, ycoordinates=-2)) == 88
        assert float(data.val_acc.sel(xcoordinates=-3, ycoordinates=4)) == -403
        assert data.done.dtype == bool
        assert int(data.done.sum()) == 31
        assert data.attrs["convention"] == "values[i, j] is the value at (x_i, y_j)"
        assert data.attrs["meta.seed"] == 7
        assert data.train_loss.attrs["center"] == 0.125
    with xarray.open_dataset(save(with_samples, tmp_path / "s.h5"), engine="h5netcdf", group="samples") as data:
        assert data["values"].dims == ("index", "xcoordinates", "ycoordinates")
        assert data.label_known.values.tolist() == [True, False, False, True]
        assert data.thumbnail.dims == ("index", "row", "column", "channel")
