"""Whose folder a pass has, what it finds there, and what it leaves."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lightning_landscape import Grid, Landscape, Sample, Samples, load, save
from lightning_landscape.landscape import equal
from lightning_landscape.objectives.base import CannotMeasureError
from lightning_landscape.output import Look, put_out
from lightning_landscape.recipe import DataRecipe, Recipe
from lightning_landscape.storage.lock import Lock
from lightning_landscape.trainer.folders import check_folder, continuation_advice, continued_folders
from lightning_landscape.trainer.pass_files import PassFiles

ALONE = SimpleNamespace(world_size=1)
NAME = "step=000008"
GRID = Grid.from_ranges((-1, 1, 4), (-1, 1, 3))


def surface(done: Any = None, center: float = 0.5, samples: int = 0, checksum: str = "a", **recipe: Any) -> Landscape:
    """x + 10 y at the points that are done, and NaN elsewhere."""
    x, y = GRID.points.T
    mask = np.zeros(GRID.size, dtype=bool)
    mask[[] if done is None else done] = True
    mask = mask.reshape(GRID.shape)
    values = np.where(mask, (x + 10 * y).reshape(GRID.shape), np.nan)
    tiles = Samples(np.stack([values] * samples), tuple(Sample(i, 0.0) for i in range(samples))) if samples else None
    data = {"train": DataRecipe(8, checksum=checksum)}
    return Landscape(
        GRID, {"loss": values}, "loss", {"loss": 0 * values}, mask, {"loss": center}, tiles,
        recipe=Recipe(**{"seed": 1, "data": data, **recipe}),
    )  # fmt: skip


EVERYTHING = range(GRID.size)


def begin(root: Path, landscape: Landscape | None = None, **options: Any) -> tuple[PassFiles, Landscape | None]:
    """A pass that has taken its folder, and what it found."""
    files = PassFiles(root, NAME, options.pop("elsewhere", ()))
    earlier = files.find(ALONE, surface() if landscape is None else landscape, **options)
    assert files.error is None
    return files, earlier


def finish(root: Path, formats: Any = ("h5",), landscape: Landscape | None = None, **recipe: Any) -> Path:
    """The folder of a pass that comes to its end."""
    files, _ = begin(root, surface(**recipe))
    written = files.begin()
    assert written is not None
    put_out(landscape or surface(EVERYTHING, **recipe), Look(plots=("slices",), formats=formats), written.write)
    assert files.end(landscape or surface(EVERYTHING, **recipe), formats) == []
    files.close()
    assert files.folder is not None
    return files.folder


def leave(root: Path, done: Any, rank: int = 0, name: str = NAME, **recipe: Any) -> Path:
    """The folder of a pass that is killed with these points of a rank."""
    file = "landscape.h5" if rank == 0 else f"landscape.rank{rank}.h5"
    return save(surface(done, **recipe), root / name / file).parent


def test_a_finished_landscape_is_recognised_and_not_touched(tmp_path: Path) -> None:
    folder = finish(tmp_path, ("h5", "png"))
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    files, earlier = begin(tmp_path)
    assert (files.finished, files.folder) == (True, folder)
    assert earlier is not None
    assert equal(earlier, surface(EVERYTHING))
    assert files.keep(surface([0])) == []
    written = files.begin()
    assert written is not None
    put_out(earlier, Look(plots=("slices", "heat"), formats=("h5", "csv", "png")), written.write)
    assert files.end(earlier, ("h5", "csv", "png")) == []
    files.close()
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"landscape.csv", "loss_2dheat.png"}  # what was not there yet


OTHERS: list[dict[str, Any]] = [
    {"seed": 2}, {"center": 0.25}, {"checksum": "b"}, {"samples": 2}, {"tolerance": 0.1}, {"budget": 1.0},
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_another_recipe_gets_a_folder_of_its_own_and_comes_back_to_it(tmp_path: Path, other: dict[str, Any]) -> None:
    first = finish(tmp_path)
    second = finish(tmp_path, **other)
    third = finish(tmp_path, seed=3)
    assert [folder.name for folder in (first, second, third)] == [NAME, f"{NAME}_2", f"{NAME}_3"]
    for folder, recipe in ((first, {}), (second, other), (third, {"seed": 3})):
        files, earlier = begin(tmp_path, surface(**recipe))
        files.close()
        assert (files.folder, files.finished) == (folder, True)
        assert earlier is not None
        assert earlier.recipe == surface(**recipe).recipe


def test_the_names_of_other_passes_are_others(tmp_path: Path) -> None:
    for name in (f"{NAME}0", f"{NAME}-validate", f"{NAME}_x", f"{NAME}-validate_2"):
        leave(tmp_path, [1, 2], name=name)
    files, earlier = begin(tmp_path)
    assert (files.folder, earlier) == (tmp_path / NAME, None)
    files.close()


def test_the_points_of_all_ranks_are_taken_over_and_their_files_go_away_with_the_end(tmp_path: Path) -> None:
    for rank in range(3):
        leave(tmp_path, [rank, 6 + rank], rank)
    (tmp_path / NAME / ".half.tmp").write_text("of a file")
    files, earlier = begin(tmp_path)
    assert earlier is not None
    assert np.flatnonzero(earlier.done).tolist() == [0, 1, 2, 6, 7, 8]
    np.testing.assert_array_equal(earlier.loss[earlier.done], surface(EVERYTHING).loss[earlier.done])
    assert files.folder == tmp_path / NAME
    files.keep(surface([0, 1, 2, 3, 6, 7, 8]))
    other = PassFiles(tmp_path, NAME, rank=1)
    other.folder = files.folder
    other.keep(surface([0, 1, 2, 4, 6, 7, 8]))
    files.close()  # killed again

    files, earlier = begin(tmp_path)
    assert earlier is not None
    assert np.flatnonzero(earlier.done).tolist() == [0, 1, 2, 3, 4, 6, 7, 8]
    written = files.begin()
    assert written is not None
    put_out(surface(EVERYTHING), Look(plots=(), formats=("h5",)), written.write)
    assert files.end(surface(EVERYTHING), ("h5",)) == []
    files.close()
    assert sorted(path.name for path in (tmp_path / NAME).iterdir()) == ["landscape.h5", "log.txt"]
    assert load(tmp_path / NAME / "landscape.h5").done.all()


def test_the_parts_of_ranks_stay_if_the_whole_can_not_be_written(tmp_path: Path, monkeypatch: Any) -> None:
    leave(tmp_path, [0])
    leave(tmp_path, [1], rank=1)
    files, _ = begin(tmp_path)
    written = files.begin()
    assert written is not None

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lightning_landscape.output.write_whole", full)
    put_out(surface(EVERYTHING), Look(plots=(), formats=("h5",)), written.write)
    assert [name for name, _ in files.end(surface(EVERYTHING), ("h5",))] == ["landscape.h5", "log.txt"]
    files.close()
    assert [load(tmp_path / NAME / name).done.sum() for name in ("landscape.h5", "landscape.rank1.h5")] == [1, 1]


def test_a_part_of_another_recipe_stays_and_is_told(tmp_path: Path) -> None:
    folder = leave(tmp_path, [1, 2, 3], seed=2)
    before = (folder / "landscape.h5").read_bytes()
    files, earlier = begin(tmp_path)
    files.close()
    assert (files.folder, earlier) == (tmp_path / f"{NAME}_2", None)
    (note,) = files.notes
    assert note.startswith(
        f"The unfinished landscape of this step in {folder} has another seed. Its 3 points stay there"
    )
    assert (folder / "landscape.h5").read_bytes() == before


@pytest.mark.parametrize("file", ["landscape.h5", "landscape.npz", "landscape.rank1.h5", "train_loss_2dheat.png"])
def test_what_can_not_be_read_is_never_written_over(tmp_path: Path, file: str) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / file).write_bytes(b"\x89HDF damaged")
    assert finish(tmp_path).name == f"{NAME}_2"
    assert (tmp_path / NAME / file).read_bytes() == b"\x89HDF damaged"


def test_a_damaged_file_beside_a_readable_part_stays_and_the_part_is_taken_over(tmp_path: Path) -> None:
    folder = leave(tmp_path, [1, 2], rank=1)
    (folder / "landscape.h5").write_bytes(b"\x89HDF damaged")
    files, earlier = begin(tmp_path)
    files.keep(surface([1, 2, 3]))
    files.close()
    assert files.folder == tmp_path / f"{NAME}_2"
    assert earlier is not None
    assert np.flatnonzero(earlier.done).tolist() == [1, 2]
    assert (folder / "landscape.h5").read_bytes() == b"\x89HDF damaged"


def test_points_of_another_tolerance_are_taken_over_into_a_folder_of_its_own(tmp_path: Path) -> None:
    """With a tolerance, some points of a finished landscape are not evaluated: it is not what is asked for here."""
    spared = surface(EVERYTHING, tolerance=0.1)
    spared.interpolated[1:3] = True
    folder = save(spared, tmp_path / NAME / "landscape.h5").parent
    files, earlier = begin(tmp_path)
    files.close()
    assert (files.finished, files.folder) == (False, tmp_path / f"{NAME}_2")
    assert earlier is not None
    assert earlier.done.tolist() == (~spared.interpolated).tolist()
    assert equal(load(folder / "landscape.h5"), spared)

    files, earlier = begin(tmp_path, surface(tolerance=0.1))
    files.close()
    assert (files.finished, files.folder) == (True, folder)


HOLDS = """
import sys, time
from pathlib import Path
from lightning_landscape.storage.lock import Lock
assert Lock.take(Path(sys.argv[1])) is not None
print("taken", flush=True)
time.sleep(10_000)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
@pytest.mark.parametrize("done", [[], [1, 2]])
def test_a_folder_in_which_another_process_is_at_work_is_its_own(tmp_path: Path, done: list[int]) -> None:
    (tmp_path / NAME).mkdir()
    if done:
        leave(tmp_path, done)
    command = [sys.executable, "-c", HOLDS, str(tmp_path / NAME)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "taken\n"
            files, earlier = begin(tmp_path)
            files.close()
            assert files.folder == tmp_path / f"{NAME}_2"
            assert (0 if earlier is None else earlier.done.sum()) == len(done)
        finally:
            owner.kill()
    files, earlier = begin(tmp_path)
    files.close()
    assert files.folder == tmp_path / NAME
    assert (0 if earlier is None else earlier.done.sum()) == len(done)


LATER: list[tuple[Any, bool]] = [([1, 2, 3], False), (EVERYTHING, True)]


@pytest.mark.parametrize("done, finished", LATER, ids=["some", "all"])
def test_what_the_owner_of_a_folder_writes_until_it_lets_go_is_taken_over(
    tmp_path: Path, monkeypatch: Any, done: Any, finished: bool
) -> None:
    leave(tmp_path, [1])
    take = Lock.take
    monkeypatch.setattr(Lock, "take", lambda folder: take(leave(folder.parent, done)))
    files, earlier = begin(tmp_path)
    files.close()
    assert (files.folder, files.finished) == (tmp_path / NAME, finished)
    assert earlier is not None
    assert np.flatnonzero(earlier.done).tolist() == [*done]


def test_an_empty_folder_that_is_filled_until_it_is_locked_is_not_taken(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / NAME).mkdir()
    take = Lock.take

    def filled(folder: Path) -> Lock | None:
        leave(tmp_path, [1], seed=2)
        return take(folder)

    monkeypatch.setattr(Lock, "take", filled)
    files, _ = begin(tmp_path)
    files.close()
    assert files.folder == tmp_path / f"{NAME}_2"


@pytest.mark.parametrize("how", ["another process has it", "nobody can write there"])
def test_a_finished_landscape_that_can_not_be_locked_is_only_read(tmp_path: Path, monkeypatch: Any, how: str) -> None:
    def take(folder: Path) -> None:
        if how == "nobody can write there":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    folder = finish(tmp_path)
    monkeypatch.setattr(Lock, "take", take)
    files, earlier = begin(tmp_path)
    assert (files.folder, files.finished) == (folder, True)
    assert earlier is not None
    assert (files.begin(), files.end(earlier, ("h5",))) == (None, [])
    files.close()


def test_points_in_a_folder_that_can_not_be_locked_are_taken_over(tmp_path: Path, monkeypatch: Any) -> None:
    folder, take = leave(tmp_path / "old", [1, 2]), Lock.take

    def refuse(place: Path) -> Lock | None:
        if place == folder:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return take(place)

    monkeypatch.setattr(Lock, "take", refuse)
    files, earlier = begin(tmp_path / "new", elsewhere=[tmp_path / "old"])
    assert earlier is not None
    assert np.flatnonzero(earlier.done).tolist() == [1, 2]
    assert files.folder == tmp_path / "new" / NAME
    assert files.keep(surface([1, 2, 3])) == []
    files.close()


def test_without_locks_a_folder_that_somebody_has_just_made_is_his(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("lightning_landscape.storage.lock.fcntl", None)
    (tmp_path / NAME).mkdir()
    for expected in (f"{NAME}_2", f"{NAME}_3"):
        files, _ = begin(tmp_path)
        assert files.folder is not None
        assert files.folder.name == expected  # and is not closed: the other is at work


def test_a_pass_that_leaves_nothing_leaves_no_folder(tmp_path: Path) -> None:
    files, _ = begin(tmp_path)
    files.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "formats, samples, kept",
    [
        (["h5"], 2, {"h5"}),
        (["npz", "png"], 2, {"npz"}),
        (["json"], 2, {"json"}),
        (["csv"], 2, {"csv", "h5"}),  # a table holds no samples
        (["csv"], 0, {"csv"}),
        (["vtp", "npz"], 2, {"vtp", "npz"}),
        (["vtp"], 0, {"vtp", "h5"}),  # which nothing reads
        (["png"], 0, {"h5"}),
    ],
)
def test_some_file_holds_all_of_a_landscape(tmp_path: Path, formats: list[str], samples: int, kept: set[str]) -> None:
    leave(tmp_path, [1], samples=samples)
    folder = finish(tmp_path, formats, samples=samples)
    assert {path.suffix[1:] for path in folder.glob("landscape.*")} == kept
    files, earlier = begin(tmp_path, surface(samples=samples))
    assert files.finished
    assert earlier is not None
    assert equal(earlier, surface(EVERYTHING, samples=samples))
    data = files.data(earlier, formats)
    assert data is not None
    assert data.exists()
    files.close()


def test_a_disk_that_has_no_room_at_first_may_have_some_later(tmp_path: Path, monkeypatch: Any) -> None:
    real = os.open

    def full(path: Any, *args: Any, **options: Any) -> int:
        if str(path).endswith(".lock"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", full)
    files = PassFiles(tmp_path, NAME)
    assert files.find(ALONE, surface()) is None
    assert isinstance(files.error, OSError)
    assert files.folder is None
    assert files.keep(surface([1])) == []
    assert files.begin() is None
    assert [name for name, _ in files.end(surface([1]), ("h5",))] == ["The folder"]
    monkeypatch.undo()
    written = files.begin()
    assert written is not None
    assert written.folder == tmp_path / NAME
    files.close()


def test_without_a_root_there_are_no_files() -> None:
    files = PassFiles(None, NAME)
    assert files.find(ALONE, surface()) is None
    assert (files.keep(surface([1])), files.begin(), files.end(surface([1]), ("h5",))) == ([], None, [])
    assert files.data(surface(EVERYTHING), ("h5",)) is None
    files.close()


# What an earlier run has left.


def test_a_training_that_goes_on_finds_its_landscapes_where_they_were(tmp_path: Path) -> None:
    earlier, now = (tmp_path / "logs" / version / "landscape" for version in ("version_0", "version_3"))
    leave(earlier, [1, 2, 3])
    places = continued_folders(now, tmp_path / "logs" / "version_0" / "checkpoints" / "last.ckpt")
    assert places[:2] == [earlier.with_name("checkpoints") / "landscape", earlier]
    files, found = begin(now, elsewhere=places)
    files.close()
    assert (files.folder, files.notes) == (earlier / NAME, [])
    assert found is not None
    assert found.done.sum() == 3
    files, found = begin(now, surface(seed=2), elsewhere=places)
    assert (files.folder, found, files.notes) == (now / NAME, None, [])
    files.close()
    # Checkpoints that lie elsewhere: the numbered runs are looked through.
    assert earlier in continued_folders(now, tmp_path / "checkpoints" / "last.ckpt")
    assert continued_folders(tmp_path / "run" / "landscape", tmp_path / "a" / "last.ckpt") == [
        tmp_path / "a" / "landscape",
        tmp_path / "landscape",
    ]


def test_a_rerun_is_told_continuation_advice_the_run_before(tmp_path: Path) -> None:
    roots = [tmp_path / f"version_{number}" / "landscape" for number in range(12)]
    assert continuation_advice(roots[0]) is None
    assert continuation_advice(roots[1]) is None
    leave(roots[10], EVERYTHING, name="step=000004")
    os.utime(roots[10] / "step=000004" / "landscape.h5", (1, 1))
    leave(roots[10], [1, 2, 3])
    note = continuation_advice(roots[11])
    assert note is not None
    assert (
        f"{roots[10] / NAME} with 3 of 12 points. To continue it, train again with the same settings and "
        f'dirpath="{roots[10]}"' in note
    )
    assert continuation_advice(tmp_path / "landscape") is None
    leave(roots[10], EVERYTHING)
    assert continuation_advice(roots[11]) is None
    (roots[10] / NAME / "landscape.h5").write_bytes(b"damaged")
    assert continuation_advice(roots[11]) is None


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
def test_a_run_that_is_at_work_has_left_nothing(tmp_path: Path) -> None:
    first, second = (tmp_path / version / "landscape" for version in ("version_0", "version_1"))
    leave(first, [1])
    assert continuation_advice(second) is not None
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(first / NAME)], stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "taken\n"
            assert continuation_advice(second) is None
        finally:
            owner.kill()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ESTALE])
def test_a_disk_in_trouble_is_no_reason_not_to_train(tmp_path: Path, monkeypatch: Any, number: int) -> None:
    def trouble(**options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.TemporaryFile", trouble)
    error = check_folder(tmp_path / "a")
    assert error is not None
    assert error.errno == number


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG])
def test_a_place_that_can_never_be_written_is_refused(tmp_path: Path, monkeypatch: Any, number: int) -> None:
    def never(**options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.TemporaryFile", never)
    with pytest.raises(CannotMeasureError, match=r"dirpath='.*a' can't be written \(.*\): give another dirpath"):
        check_folder(tmp_path / "a")
    monkeypatch.undo()
    assert check_folder(tmp_path / "a") is None
