"""The file of a surface, and those in progress beside it."""

import errno
import warnings
from pathlib import Path

import numpy as np
import pytest

from lightning_landscape import Grid, Landscape, load, save
from lightning_landscape.landscape import equal
from lightning_landscape.recipe import Recipe
from lightning_landscape.survey.surface_file import SurfaceFile

LINE = Grid.from_ranges((-1, 1, 5))


def line(done: int, seed: int = 1) -> Landscape:
    """Squares at the first points, of a recipe with this seed."""
    values = np.where(np.arange(5) < done, LINE.axes[0] ** 2, np.nan)
    return Landscape(
        LINE, {"loss": values}, "loss", done=np.arange(5) < done, center={"loss": 0.0}, recipe=Recipe(seed=seed)
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_surface_in_progress_lies_in_its_place_where_nothing_is(tmp_path: Path) -> None:
    file = SurfaceFile(tmp_path / "a.h5")
    file.begin(line(0))
    for done in (1, 3, 5):
        file.keep(line(done))
        assert load(tmp_path / "a.h5").done.sum() == done
    assert names(tmp_path) == {"a.h5"}


def test_it_takes_the_place_of_an_earlier_one_only_when_it_is_finished(tmp_path: Path) -> None:
    old = save(line(5, seed=7), tmp_path / "a.npz")
    file = SurfaceFile(old)
    file.begin(line(0))
    file.keep(line(2))
    assert equal(load(old), line(5, seed=7))
    assert load(tmp_path / "a.part.npz").done.sum() == 2
    file.keep(line(5))
    assert equal(load(old), line(5))
    assert names(tmp_path) == {"a.npz"}


def test_the_parts_of_others_stay(tmp_path: Path) -> None:
    save(line(5, seed=7), tmp_path / "a.h5")
    save(line(3, seed=8), tmp_path / "a.part.h5")
    file = SurfaceFile(tmp_path / "a.h5")
    file.begin(line(0))
    file.keep(line(1))
    assert names(tmp_path) == {"a.h5", "a.part.h5", "a.part2.h5"}
    file.keep(line(5))
    assert names(tmp_path) == {"a.h5", "a.part.h5"}
    assert equal(load(tmp_path / "a.part.h5"), line(3, seed=8))


@pytest.mark.parametrize("place", ["a.h5", "a.part.h5", "a.part3.h5"])
def test_a_part_is_continued_where_it_lies(tmp_path: Path, place: str) -> None:
    if place != "a.h5":
        save(line(5, seed=7), tmp_path / "a.h5")
    save(line(3), tmp_path / place)
    file = SurfaceFile(tmp_path / "a.h5")
    assert sorted(int(earlier.done.sum()) for earlier in file.earlier()) == ([3] if place == "a.h5" else [3, 5])
    file.begin(line(0))
    file.keep(line(4))
    assert load(tmp_path / place).done.sum() == 4
    file.keep(line(5))
    assert names(tmp_path) == {"a.h5"}
    assert equal(load(tmp_path / "a.h5"), line(5))


def test_a_finished_one_of_which_points_are_to_be_measured_stays_until_the_other_is_finished(tmp_path: Path) -> None:
    spared = line(5)
    spared.interpolated[1] = True
    old = save(spared, tmp_path / "a.h5")
    file = SurfaceFile(old)
    file.earlier()
    file.begin(line(0))
    file.keep(line(3))
    assert equal(load(old), spared)
    assert load(tmp_path / "a.part.h5").done.sum() == 3
    file.keep(line(5))
    assert equal(load(old), line(5))
    assert names(tmp_path) == {"a.h5"}


def test_nothing_goes_away_if_the_whole_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    old = save(line(5, seed=7), tmp_path / "a.h5")
    file = SurfaceFile(old)
    file.begin(line(0))
    file.keep(line(3))
    monkeypatch.setattr("lightning_landscape.survey.surface_file.save", full)
    with pytest.warns(UserWarning, match="No space left"):
        file.keep(line(5))
    assert equal(load(old), line(5, seed=7))
    assert load(tmp_path / "a.part.h5").done.sum() == 3


def test_what_can_not_be_written_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = SurfaceFile(tmp_path / "file" / "a.h5")
    file.begin(line(0))
    with pytest.warns(UserWarning, match=r"The surface could not be saved in .*a\.h5 \(.*Error: .*save\(landscape"):
        file.keep(line(1))
    for done in (3, 5):
        file.keep(line(done))  # a warning would be an error here


def test_where_warnings_are_errors_the_log_tells_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    file = SurfaceFile(tmp_path / "file" / "a.h5")
    file.begin(line(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file.keep(line(1))
    assert "The surface could not be saved in" in caplog.text
