"""The files that folders of runs hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_landscape.comparison import find_runs


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Two runs with landscapes at two steps, of the best checkpoint and on the plane of the path; and other files."""
    for run in ("version_0", "version_1"):
        for name in ("step=999000", "step=1000000", "step=999000-best", "step=1000000-best", "step=1000000-path"):
            folder = tmp_path / run / "landscape" / name
            folder.mkdir(parents=True)
            for file in ("landscape.h5", "landscape.npz", "landscape.rank1.h5", "log.txt"):
                (folder / file).touch()
        records = tmp_path / run / "landscape" / "trajectory"
        records.mkdir()
        (records / "000000001.h5").touch()
    return tmp_path


def test_several_runs_give_the_last_landscape_of_each(logs: Path) -> None:
    last = {f"version_{i}": logs / f"version_{i}" / "landscape" / "step=1000000" / "landscape.h5" for i in range(2)}
    assert find_runs([logs / "version_0", logs / "version_1"]) == last
    assert find_runs([logs]) == last
    assert find_runs([logs / "version_0" / "landscape", logs / "version_1"]) == last


def test_a_single_run_gives_all_landscapes_of_its_weights(logs: Path) -> None:
    names = ["step=999000", "step=999000-best", "step=1000000", "step=1000000-best"]
    folder = logs / "version_0" / "landscape"
    assert find_runs([logs / "version_0"]) == {name: folder / name / "landscape.h5" for name in names}


def test_a_landscape_folder_and_a_file_stand_for_themselves(logs: Path) -> None:
    folder = logs / "version_0" / "landscape"
    assert [*find_runs([folder / "step=999000", folder / "step=1000000-path" / "landscape.npz"]).values()] == [
        folder / "step=999000" / "landscape.h5",
        folder / "step=1000000-path" / "landscape.npz",
    ]
    assert [*find_runs([logs / "version_0", folder / "step=999000"])] == ["step=1000000", "step=999000"]


def test_runs_at_different_steps_have_both_in_their_names(logs: Path) -> None:
    other = logs / "version_1" / "landscape" / "step=999000"
    assert [*find_runs([logs / "version_0", other])] == ["version_0/step=1000000", "version_1/step=999000"]


def test_a_folder_without_landscapes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "landscape.rank1.h5").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no landscape: give a folder with files landscape\.h5"):
        find_runs([tmp_path])
