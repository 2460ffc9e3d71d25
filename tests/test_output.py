"""The files of a finished pass: names that fit any file system, numbers that any JSON parser reads."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from lightning_landscape.landscape import Grid, Landscape, Sample, Samples
from lightning_landscape.output import Files, Look, previous, put_out, put_out_films, samples_as_json
from lightning_landscape.recipe import Recipe
from tests.plots.walks import walk


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def test_samples_with_odd_numbers_are_strict_json():
    items = (
        Sample(np.int64(3), float("nan"), np.int32(1), 2, float("nan")),
        Sample(4, float("inf"), probability=-float("inf")),
        Sample(5, np.float32(0.5), probability=0.25),
    )
    values = np.zeros((3, 2))
    rows = json.loads(samples_as_json(Samples(values, items)), parse_constant=refuse)
    assert [row["index"] for row in rows] == [3, 4, 5]
    assert [row["label"] for row in rows] == [1, None, None]
    assert [row["center_loss"] for row in rows] == ["NaN", "Infinity", 0.5]
    assert [row["probability"] for row in rows] == ["NaN", "-Infinity", 0.25]


@pytest.mark.parametrize("letter", ["a", "🙂"])
def test_metrics_of_long_equal_beginnings_get_a_picture_each(letter, tmp_path):
    names = [letter * 240 + end for end in ("", "x", "y")]
    landscape = Landscape(Grid.from_ranges((-1, 1, 3)), {name: np.arange(3.0) for name in names}, names[0])
    files = Files(tmp_path)
    assert put_out(landscape, Look(plots=("slices",), formats=("png",)), files.write).failures == files.failures == []
    assert len([*tmp_path.glob("*.png")]) == 3


def test_a_file_that_can_not_be_made_or_written_costs_only_itself(tmp_path):
    landscape = Landscape(Grid.from_ranges((-1, 1, 3)), {"loss": np.arange(3.0)}, "loss", meta={"odd": {1, 2}})
    (tmp_path / "loss_1dslices.png").mkdir()
    files = Files(tmp_path)
    output = put_out(landscape, Look(plots=("slices",), formats=("h5", "png", "svg")), files.write)
    assert [name for name, _ in files.failures] == ["landscape.h5", "loss_1dslices.png"]
    assert "a file holds plain JSON" in str(files.failures[0][1])
    assert isinstance(files.failures[1][1], OSError)
    assert [*output.for_loggers.images] == ["landscape/slices"]
    assert output.for_loggers.text == {"landscape/reading": str(landscape.reading())}
    assert {path.name for path in tmp_path.iterdir()} == {"log.txt", "loss_1dslices.png", "loss_1dslices.svg"}


def test_the_reading_for_loggers_tells_the_change():
    """0.5 at the centre of the later one, and 1 at that of the earlier."""
    grid = Grid.from_ranges((-1, 1, 3))
    late = Landscape(grid, {"loss": np.array([2, 0.5, 2])}, "loss")
    early = Landscape(grid, {"loss": np.array([2.0, 1, 2])}, "loss", recipe=Recipe(step=3))
    look = Look(plots=(), formats=())
    (text,) = put_out(late, look, None, before=early).for_loggers.text.values()
    assert "- loss at the centre is 0.5, and it was 1 at step 3." in text
    other = Landscape(grid, {"val_loss": np.ones(3)}, "val_loss", recipe=Recipe(step=3))
    late.recipe = Recipe(step=8)
    assert previous({3: early, 1: other}, late) is early
    assert previous({3: other}, late) is previous({3: Path("landscape.h5")}, late) is None


def shown_tags(names, plots=("contour", "surface", "slices", "tiles"), **look):
    values = {name: np.add.outer(np.arange(3.0), np.arange(4.0)) for name in names}
    landscape = Landscape(Grid.from_ranges((-1, 1, 3), (-1, 1, 4)), values, names[0])
    landscape.samples = Samples(values[names[0]][None], (Sample(0, 1.0),))
    return [*put_out(landscape, Look(plots=plots, **look), None).for_loggers.images]


def test_every_other_metric_has_the_first_kind_only():
    assert shown_tags(["loss", "acc"]) == [
        "landscape/contour", "landscape/surface", "landscape/slices", "landscape/tiles", "landscape acc/contour",
    ]  # fmt: skip
    assert shown_tags(["loss", "acc"], ("surface", "heat")) == [
        "landscape/surface", "landscape/heat", "landscape acc/surface",
    ]  # fmt: skip
    assert len(shown_tags(["loss", "acc"], every_metric=True)) == 7


def test_tensorboard_shows_one_group_a_metric_the_main_loss_first():
    """TensorBoard's groups end at the first "/", and are sorted by their letters."""
    groups = sorted({tag.split("/")[0] for tag in shown_tags(["zloss", "acc", "a/b", "a_b", "Aa", "0"])})
    assert groups == ["landscape", "landscape 0", "landscape Aa", "landscape a_b", "landscape a_b_2", "landscape acc"]


def test_files_that_are_there_may_be_left_as_they_are(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"old")
    Files(tmp_path, replace=False).write("a", lambda: b"new")
    Files(tmp_path, replace=True).write("b", lambda: b"new")
    Files(tmp_path, replace=False).write("c", lambda: b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old", "b": b"new", "c": b"new"}


def with_path(**fields):
    x = Grid.from_ranges((-1, 1, 5), (-1, 1, 5))
    values = {"loss": 1 + (x.points**2).sum(axis=1).reshape(x.shape)}
    return Landscape(x, values, "loss", trajectory=replace(walk(), **fields))


def test_films_of_a_path_are_files_of_every_format_and_gifs_for_the_loggers(tmp_path):
    look = Look(plots=("contour", "heat", "slices", "path"), formats=("h5", "webp", "gif"))
    films = put_out_films(with_path(), look, Files(tmp_path).write, "landscape_path", frames=3)
    assert [*films] == ["landscape_path/contour_film", "landscape_path/heat_film"]
    names = {f"loss_{kind}_path.{suffix}" for kind in ("2dcontour", "2dheat") for suffix in ("gif", "webp")}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / "loss_2dheat_path.gif").read_bytes() == films["landscape_path/heat_film"]
    for path in tmp_path.iterdir():
        with PIL.Image.open(path) as image:
            assert (image.format.lower(), image.n_frames) == (path.suffix[1:], 3)


def test_there_is_no_film_of_a_dot_or_without_a_path():
    dot = with_path(points=0.001 * walk().points)
    bare = replace(dot, trajectory=None)
    assert put_out_films(dot, Look(), None) == put_out_films(bare, Look(), None) == {}


def test_without_time_a_film_has_fewer_frames_or_there_is_none():
    look, left = Look(plots=("contour", "heat")), iter([False, False, True, True])
    (film,) = put_out_films(with_path(), look, None, over=lambda: next(left)).values()
    with PIL.Image.open(io.BytesIO(film)) as image:
        assert image.n_frames == 3
    assert put_out_films(with_path(), look, None, over=lambda: True) == {}


def test_the_log_begins_with_the_reading(tmp_path):
    """0, 1, 2 on -1, 0, 1: lower by 1 on the left."""
    landscape = Landscape(Grid.from_ranges((-1, 1, 3)), {"loss": np.arange(3.0)}, "loss")
    assert put_out(landscape, Look(plots=(), formats=()), Files(tmp_path).write).failures == []
    reading, _, facts = (tmp_path / "log.txt").read_text(encoding="utf-8").partition("\n\n")
    assert reading.startswith("- loss is 1 at the centre and lower elsewhere: 0 at x = -1.")
    assert max(map(len, reading.splitlines())) <= 80
    assert facts.startswith("loss              loss of ?")
