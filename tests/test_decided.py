"""Two processes (DDP, gloo) that decide together: levels of points, accelerations, the end of a pass."""

from __future__ import annotations

import os
import pickle
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_landscape import Landscape, load

from . import _decided, _processes

Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, Found, list[str], Path]:
    """What each process has found in every case, what it said, and the files of both."""
    out = tmp_path_factory.mktemp("decided") / "out"
    errors = _processes.run("_decided", out, "all")
    first, second = (pickle.loads((out / f"rank{rank}.pickle").read_bytes()) for rank in (0, 1))
    return first, second, errors, out


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that measures a case in one process."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return lambda name: _decided.measured(name, tmp_path, None)["landscape"]


def assert_same(a: Landscape, b: Landscape) -> None:
    """Assert that two landscapes have the same bits at the same points."""
    np.testing.assert_array_equal(a.done, b.done)
    np.testing.assert_array_equal(a.interpolated, b.interpolated)
    assert a.values.keys() == b.values.keys()
    for name in a.values:
        np.testing.assert_array_equal(a.values[name], b.values[name], err_msg=name)
        np.testing.assert_array_equal(a.standard_errors[name], b.standard_errors[name], err_msg=name)
    if a.samples is not None and b.samples is not None:
        np.testing.assert_array_equal(a.samples.values, b.samples.values)
    assert a.report.interpolation == b.report.interpolation


@pytest.mark.parametrize("name", ["levels", "refused"])
def test_levels_are_shared_and_decided_from_the_values_of_all(ranks: Any, alone: Any, name: str) -> None:
    first, second = (found[name] for found in ranks[:2])
    with pytest.warns(UserWarning, match="could not be measured .*too far") if name == "refused" else nullcontext():
        whole = alone(name)
    assert 0.1 < whole.interpolated.mean() < 0.9
    assert (name == "refused") == (not whole.done.all())
    assert_same(first["landscape"], whole)
    assert_same(second["landscape"], whole)
    evaluated = int(whole.evaluated.sum())
    assert first["points"] + second["points"] == evaluated, "each point by one of them"
    assert abs(first["points"] - second["points"]) < 0.1 * evaluated


@pytest.mark.parametrize("name", ["coarse", "late", "enough"])
def test_what_a_budget_allows_is_what_one_process_measures(ranks: Any, alone: Any, name: str) -> None:
    whole = alone(name)
    first, second = (found[name]["landscape"] for found in ranks[:2])
    assert_same(first, second)
    assert whole.done.all()
    assert first.done.all(), "a point that the other rank had no time for is not one that it tried in vain"
    expected = {"coarse": whole.evaluated.sum(), "late": 120, "enough": whole.grid.size}
    assert whole.evaluated.sum() == first.evaluated.sum() == expected[name]
    both = whole.evaluated & first.evaluated
    assert both.sum() >= expected[name] - (name == "late"), "the last point may be another"
    for metric, values in whole.values.items():
        np.testing.assert_array_equal(first.values[metric][both], values[both])
    if name != "late":
        assert_same(first, whole)
    assert first.recipe.planned_samples == whole.recipe.planned_samples


def test_all_read_as_many_samples_as_the_first_has_time_for(ranks: Any, alone: Any) -> None:
    whole = alone("reading")
    assert 70 < whole.recipe.samples < 130, "a quarter of the time, and not all"
    for found in ranks[:2]:
        assert_same(found["reading"]["landscape"], whole)
        assert found["reading"]["landscape"].recipe.samples == whole.recipe.samples


def test_all_use_the_accelerations_of_the_first(ranks: Any, alone: Any) -> None:
    whole = alone("formats")
    for found in ranks[:2]:
        landscape = found["formats"]["landscape"]
        assert landscape.report.accelerations == {"small_batches": 2.0}
        assert_same(landscape, whole)
    assert not np.array_equal(whole.loss, ranks[0]["unprovable"]["landscape"].loss), "they change the last bits"


def test_what_does_not_prove_equal_on_every_rank_is_used_on_none(ranks: Any) -> None:
    for found in ranks[:2]:
        assert found["unprovable"]["landscape"].report.accelerations == {}


def test_an_error_on_one_rank_in_the_middle_of_a_level_ends_the_pass_on_all(ranks: Any) -> None:
    first, second, errors, _ = ranks
    assert "rank 1 failed with RuntimeError: in the middle of a level" in errors[0]
    assert second["fails"]["points"] == 69 <= first["fails"]["points"]
    for found in (first, second):
        assert not found["fails"]["landscape"].interpolated.any()


def test_the_points_of_both_ranks_are_there_after_a_failure(ranks: Any, goes_on: Any) -> None:
    parts = goes_on("fails", ["landscape.h5", "landscape.rank1.h5"])
    both = parts[0].evaluated & parts[1].evaluated
    assert (parts[0].evaluated & ~both).sum() > 0 < (parts[1].evaluated & ~both).sum()
    assert both.sum() >= 81, "those of the first level, which both have"


def test_a_pass_that_one_rank_is_told_to_stop_is_stopped_on_all(ranks: Any, goes_on: Any) -> None:
    first, second = (found["stopped"] for found in ranks[:2])
    assert second["points"] == 60 <= first["points"]
    assert_same(first["landscape"], second["landscape"])
    assert not first["landscape"].interpolated.any()
    (part,) = goes_on("stopped", ["landscape.h5"])
    assert_same(part, first["landscape"])


@pytest.fixture
def goes_on(ranks: Any, alone: Any, tmp_path: Path) -> Any:
    """A function that goes on alone with what a case of both ranks has left, and gives the files of it."""

    def check(name: str, files: list[str]) -> list[Landscape]:
        left = sorted((ranks[3] / name).rglob("*.h5"))
        assert [path.name for path in left] == files
        parts = [load(path) for path in left]
        evaluated = np.logical_or.reduce([part.evaluated for part in parts])
        whole = alone("levels")
        shutil.copytree(ranks[3] / name, tmp_path / "again" / "levels")
        again = _decided.measured("levels", tmp_path / "again", None)
        assert_same(again["landscape"], whole)
        assert again["points"] == whole.evaluated.sum() - evaluated.sum()
        assert [path.name for path in (tmp_path / "again").rglob("*.h5")] == ["landscape.h5"]
        return parts

    return check
