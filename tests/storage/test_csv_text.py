"""The layout of .csv files as a table reader sees it."""

import json

import numpy as np
import pytest

from lightning_landscape.landscape import Grid, Landscape
from lightning_landscape.storage import LandscapeFileError, load, save


@pytest.fixture
def path(lopsided, tmp_path):
    return save(lopsided, tmp_path / "lopsided.csv")


def test_numpy_reads_the_table(path):
    table = np.genfromtxt(path, delimiter=",", names=True, skip_header=1, deletechars="", comments="#")
    assert table.dtype.names == ("x", "y", "train_loss", "val_acc", "standard_errors.train_loss", "done")
    assert len(table) == 35
    x, y = table["x"], table["y"]
    assert x[:6].tolist() == [-3, -3, -3, -3, -3, -1]  # the last axis fastest
    assert y[:6].tolist() == [-2, 0, 0.5, 1, 4, -2]
    np.testing.assert_array_equal(table["train_loss"], 10 * x + y)
    np.testing.assert_array_equal(table["val_acc"], x - 100 * y)
    np.testing.assert_array_equal(table["standard_errors.train_loss"], x**2 + 1)
    assert table["done"].sum() == 31


def test_the_first_line_is_the_header(path):
    first = path.read_text().splitlines()[0]
    said = json.loads(first.removeprefix("# "))
    assert said["format"] == "lightning_landscape"
    assert said["convention"] == "values[i, j] is the value at (x_i, y_j)"
    assert said["metrics"] == {"train_loss": "train_loss", "val_acc": "val/acc"}
    assert said["center"] == {"train_loss": 0.125, "val_acc": 0.75}
    assert said["meta"]["seed"] == 7


def test_no_name_breaks_the_table(tmp_path):
    names = ["a,b", '"', "#", "x", "y", "done", "new\nline", "a\r\n", "a.standard_error", "axis3", "\x85"]
    values = np.arange(6.0).reshape(3, 2)
    shown = Landscape(Grid.from_ranges((0, 1, 3), (0, 1, 2)), {n: values + i for i, n in enumerate(names)}, "#")
    path = save(shown, tmp_path / "a.csv")
    lines = path.read_text().splitlines()
    assert {line.count(",") for line in lines[1:]} == {2 + len(names)}
    loaded = load(path)
    assert list(loaded.values) == names
    for i, name in enumerate(names):
        np.testing.assert_array_equal(loaded.values[name], values + i)


def edited(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("\n-3.0,-2.0,", "\n-3.5,-2.0,", "its rows are not the points of a grid"),
        ("\n-3.0,-2.0,", "\n-3.0,", "zip"),
        ("\n-3.0,-2.0,", "\n-3.0,a,", "could not convert"),
        ('"shape": [7, 5]', '"shape": [5, 7]', "strictly increasing"),
        ('"shape": [7, 5]', '"shape": [7, 4]', "reshape"),
        ('"val_acc": "<f8"', '"val_acc": "O"', "'O' is no type"),
        ('"main": "train_loss"', '"main": "loss"', "main='loss' is not among"),
        ("x,y,train_loss,", "x,y,val_loss,", "val_loss"),
    ],
)
def test_parts_that_do_not_fit_are_told(path, old, new, message):
    edited(path, old, new)
    with pytest.raises(LandscapeFileError, match=f"lopsided.csv is damaged or is no landscape: .*{message}"):
        load(path)


def test_a_newer_file_asks_for_an_upgrade(path):
    edited(path, '"format_version": 1', '"format_version": 2')
    with pytest.raises(LandscapeFileError, match="by a newer version: format 2"):
        load(path)


@pytest.mark.parametrize("text", ["x,y,loss\n0,0,1\n", "# a remark\nx,y\n", "# {}\nx,y\n"])
def test_another_table_is_no_landscape(text, tmp_path):
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(LandscapeFileError, match=r"other.csv is .*no landscape: "):
        load(tmp_path / "other.csv")
