"""The files of a finished pass: names that fit any file system, numbers that any JSON parser reads."""

import json

import numpy as np
import pytest

from lightning_landscape.landscape import Grid, Landscape, Sample, Samples
from lightning_landscape.report import Look, report, write_samples


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def test_samples_with_odd_numbers_are_strict_json(tmp_path):
    items = (
        Sample(np.int64(3), float("nan"), np.int32(1), 2, float("nan")),
        Sample(4, float("inf"), probability=-float("inf")),
        Sample(5, np.float32(0.5), probability=0.25),
    )
    values = np.zeros((3, 2))
    landscape = Landscape(Grid.from_ranges((-1, 1, 2)), {"loss": values[0]}, "loss", samples=Samples(values, items))
    write_samples(landscape, tmp_path / "a.json")
    rows = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert [row["index"] for row in rows] == [3, 4, 5]
    assert [row["label"] for row in rows] == [1, None, None]
    assert [row["center_loss"] for row in rows] == ["NaN", "Infinity", 0.5]
    assert [row["probability"] for row in rows] == ["NaN", "-Infinity", 0.25]


@pytest.mark.parametrize("letter", ["a", "🙂"])
def test_metrics_of_long_equal_beginnings_get_a_picture_each(letter, tmp_path):
    names = [letter * 240 + end for end in ("", "x", "y")]
    landscape = Landscape(Grid.from_ranges((-1, 1, 3)), {name: np.arange(3.0) for name in names}, names[0])
    assert report(landscape, Look(plots=("slices",), formats=("png",)), tmp_path).failures == []
    assert len([*tmp_path.glob("*.png")]) == 3
