"""The layout of .json files as any JSON parser sees it."""

import json

import numpy as np
import pytest

from lightning_landscape.storage import LandscapeFileError, load, save


@pytest.fixture
def path(lopsided, tmp_path):
    return save(lopsided, tmp_path / "lopsided.json")


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def rewrite(path, *where, to):
    content = json.loads(path.read_text())
    inner = content
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = to
    path.write_text(json.dumps(content))


def test_a_json_parser_alone_reads_it(path):
    content = json.loads(path.read_bytes(), parse_constant=refuse)
    assert content["format"] == "lightning_landscape"
    assert content["convention"] == "values[i, j] is the value at (x_i, y_j)"
    assert content["metrics"] == {"train_loss": "train_loss", "val_acc": "val/acc"}
    assert content["main"] == "train_loss"
    assert content["center"] == {"train_loss": 0.125, "val_acc": 0.75}
    assert content["meta"] == {
        "seed": 7,
        "reduction": "mean over samples",
        "lr": 0.1,
        "resumed": False,
        "axes": [[1], None],
    }
    data = {name: array["values"] for name, array in content["data"].items()}
    x, y = data["xcoordinates"], data["ycoordinates"]
    assert (x[-1], y[-1]) == (9, 4)
    for i, j in np.ndindex(7, 5):
        assert data["train_loss"][i][j] == 10 * x[i] + y[j]
        assert data["val_acc"][i][j] == x[i] - 100 * y[j]
        assert data["standard_errors.train_loss"][i][j] == x[i] ** 2 + 1
    assert data["done"][6] == [True, False, False, False, False]
    assert path.read_bytes().isascii()


def test_odd_numbers_are_words(landscape, tmp_path):
    text = save(landscape, tmp_path / "a.json").read_text()
    json.loads(text, parse_constant=refuse)


def test_what_json_has_no_number_for_is_told_apart(lopsided, tmp_path):
    lopsided.loss[0, :3] = np.nan, np.inf, -np.inf
    content = json.loads(save(lopsided, tmp_path / "a.json").read_text())
    assert content["data"]["train_loss"]["values"][0][:3] == ["NaN", "Infinity", "-Infinity"]


def test_samples_are_columns(with_samples, tmp_path):
    content = json.loads(save(with_samples, tmp_path / "a.json").read_text(), parse_constant=refuse)["data"]
    samples = {name.removeprefix("samples."): array for name, array in content.items()}
    assert samples["values"]["shape"] == [4, 3, 2]
    assert samples["index"]["values"] == [5, 5, 2**40, 0]
    assert samples["probability"]["values"][0] == "NaN"
    assert samples["label_known"]["values"] == [True, False, False, True]


def test_a_newer_file_asks_for_an_upgrade(path):
    rewrite(path, "format_version", to=2)
    with pytest.raises(LandscapeFileError, match="by a newer version: format 2, this version reads up to 1: upgrade"):
        load(path)


@pytest.mark.parametrize("content", ["{}", "[]", "3", '{"format": "other"}', '{"train_loss": [1, 2]}'])
def test_another_json_file_is_no_landscape(content, tmp_path):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(LandscapeFileError, match=r"other.json is no landscape: it does not carry the mark"):
        load(tmp_path / "other.json")


@pytest.mark.parametrize(
    "where, to, message",
    [
        (("data", "val_acc", "dtype"), "O", "'O' is no type of real numbers"),
        (("data", "val_acc", "dtype"), "f8,f8", "'f8,f8' is no type of real numbers"),
        (("data", "val_acc", "dtype"), "bool", "val_acc must hold real numbers"),
        (("data", "val_acc", "shape"), [5, 7], r"val_acc has shape \(7, 5\), its file says \(5, 7\)"),
        (("data", "val_acc", "values"), [[1]], r"val_acc has shape \(1, 1\), its file says \(7, 5\)"),
        (("data", "val_acc", "values"), "text", "could not convert"),
        (("data",), {}, "disagree on: .*train_loss"),
        (("data", "ycoordinates"), {"dtype": "<f8", "shape": [2], "values": [1, 0]}, "strictly increasing"),
        (("main",), "other", "main='other' is not among"),
        (("meta",), None, "Expected `object`, got `null`"),
        (("recipe",), {"seed": "seven"}, r"Expected `int \| null`, got `str` - at `\$.seed`"),
        (("report",), {"interpolation": {"errors": [1]}}, "Expected `object`, got `array`"),
        (("arrays",), ["done"], "disagree on"),
    ],
)
def test_parts_that_do_not_fit_are_told(path, where, to, message):
    rewrite(path, *where, to=to)
    with pytest.raises(LandscapeFileError, match=f"lopsided.json is damaged or is no landscape: .*{message}"):
        load(path)


def test_numbers_wider_than_text_are_refused(lopsided, tmp_path):
    if np.longdouble(0).itemsize <= 8:
        pytest.skip("no wider numbers on this machine")
    lopsided.values["train_loss"] = lopsided.loss.astype(np.longdouble)
    for suffix in (".json", ".csv"):
        with pytest.raises(ValueError, match=r"train_loss has dtype .*, which text cannot hold: save as \.h5 or \.npz"):
            save(lopsided, tmp_path / f"a{suffix}")
