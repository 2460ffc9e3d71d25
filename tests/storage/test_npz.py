"""The layout of .npz files as numpy alone sees it, and what a hostile one may not do."""

import json
import os
import sys

import numpy as np
import pytest

from lightning_landscape.storage import LandscapeFileError, load, save


@pytest.fixture
def path(lopsided, tmp_path):
    return save(lopsided, tmp_path / "lopsided.npz")


def rewrite(path, **changes):
    """The same archive with other arrays; None leaves one out."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def changed_header(path, **changes):
    with np.load(path) as archive:
        return np.array(json.dumps(json.loads(archive["header"].item()) | changes).encode())


def test_numpy_alone_reads_it(path):
    with np.load(path, allow_pickle=False) as archive:
        header = json.loads(archive["header"].item())
        assert header["format"] == "lightning_landscape"
        assert header["convention"] == "values[i, j] is the value at (x_i, y_j)"
        assert header["metrics"] == {"train_loss": "train_loss", "val_acc": "val/acc"}
        assert header["meta"]["seed"] == 7
        x, y = archive["xcoordinates"], archive["ycoordinates"]
        np.testing.assert_array_equal(archive["train_loss"], 10 * x[:, None] + y[None, :])
        np.testing.assert_array_equal(archive["val_acc"], x[:, None] - 100 * y[None, :])
        assert header["center"] == {"train_loss": 0.125, "val_acc": 0.75}
        assert archive["done"].dtype == bool
        assert archive["done"].sum() == 31


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("name", ["train_loss", "header", "done", "xcoordinates"])
def test_a_pickle_inside_is_never_executed(path, name, tmp_path):
    sprung = tmp_path / "sprung"
    rewrite(path, **{name: np.array([Trap(str(sprung))], dtype=object)})
    with pytest.raises(LandscapeFileError, match=r"lopsided\.npz is damaged or is no landscape: Object arrays"):
        load(path)
    assert not sprung.exists()
    with np.load(path, allow_pickle=True) as archive:
        _ = archive[name]
    assert sprung.exists(), "the trap itself is broken"


def test_a_newer_file_asks_for_an_upgrade(path):
    rewrite(path, header=changed_header(path, format_version=2))
    with pytest.raises(LandscapeFileError, match="by a newer version: format 2, this version reads up to 1: upgrade"):
        load(path)


@pytest.mark.parametrize("arrays", [{}, {"train_loss": np.zeros(3)}])
def test_another_archive_is_no_landscape(arrays, tmp_path):
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(LandscapeFileError, match=r"other.npz is no landscape: it does not carry the mark"):
        load(tmp_path / "other.npz")


def test_a_bare_array_is_no_landscape(tmp_path):
    with open(tmp_path / "bare.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(LandscapeFileError, match=r"bare.npz is no landscape: it is not an .npz archive"):
        load(tmp_path / "bare.npz")


def test_a_flipped_bit_is_told(path):
    content = bytearray(path.read_bytes())
    start = content.index(np.float64(-32.0).tobytes())  # 10x + y at the first point
    content[start] ^= 1
    path.write_bytes(content)
    with pytest.raises(LandscapeFileError, match="Bad CRC-32"):
        load(path)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"val_acc": np.zeros((5, 7))}, r"val/acc has shape \(5, 7\), the grid has \(7, 5\)"),
        ({"val_acc": None}, "val_acc"),
        ({"val_acc": np.array([["text"]])}, "val_acc must hold real numbers"),
        ({"done": None}, "done"),
        ({"done": np.ones(7, dtype=bool)}, "train_loss has shape"),
        ({"ycoordinates": None}, "ycoordinates"),
        ({"header": np.array(b"{")}, "Expecting property name"),
        ({"header": np.array(b"[" * 500_000)}, "Stack overflow" if sys.version_info >= (3, 14) else "recursion"),
        ({"samples.values": np.zeros((2, 7, 5))}, r"disagree on: samples\.values"),
        ({"standard_errors.train_loss": None}, r"disagree on: standard_errors\.train_loss"),
    ],
)
def test_parts_that_do_not_fit_are_told(path, changes, message):
    rewrite(path, **changes)
    with pytest.raises(LandscapeFileError, match=f"lopsided.npz is damaged or is no landscape: .*{message}"):
        load(path)


@pytest.mark.parametrize("table", ["recipe", "report", "meta"])
@pytest.mark.parametrize("value, kind", [(None, "null"), ([], "array"), ("seed", "str"), (7, "int")])
def test_a_recipe_is_an_object(path, table, value, kind):
    rewrite(path, header=changed_header(path, **{table: value}))
    with pytest.raises(LandscapeFileError, match=f"lopsided.npz is damaged .*: Expected `object`, got `{kind}`"):
        load(path)


def test_an_array_under_another_name_is_missed(path):
    content = path.read_bytes().replace(b"standard_errors.train_loss.npy", b"standard_arrers.train_loss.npy")
    path.write_bytes(content)
    with pytest.raises(LandscapeFileError, match=r"disagree on: standard_arrers\.train_loss, standard_errors\.train_l"):
        load(path)
