"""House law 3: no disk ends a training, whatever room it has: the values stay, and the pictures reach the loggers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ._limits import HANG

PROGRAM = Path(__file__).with_name("_full_disk.py")
FILES = ["landscape.h5", "landscape.npz", "log.txt", "train_loss_1dslices.png"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits and file systems")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def trainings(disk: Path, how: str, sizes: list[int]) -> list[Any]:
    """What came of each training; of the first one without a landscape."""
    command = [sys.executable, "-W", "ignore", str(PROGRAM), str(disk), how, ",".join(map(str, sizes))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def check(plain: Any, with_it: list[Any], sizes: list[int]) -> None:
    """Each training is the one without, and its landscape is whole in memory and in the logger."""
    assert len(with_it) == len(sizes)
    for size, result in zip(sizes, with_it, strict=True):
        assert result["signal"] == 0, size
        assert "raised" not in result, (size, result["raised"])
        assert (result["weights"], result["epochs"]) == (plain["weights"], plain["epochs"]), size
        assert (result["points"], result["pictures"]) == ([9], 1), size
        missing = set(FILES) - set(result["files"])
        assert bool(result["warnings"]) == bool(missing), (size, result)
        assert all("No space left" in text or "File too large" in text for text in result["warnings"]), size
        assert not [name for name in result["files"] if name.startswith(".")], size  # halves, locks


def test_no_free_space_ends_a_training(small_disk: Path) -> None:
    sizes = [0, 4096, 12288, 16384, 20480, 28672, 36864, 61440, 102400, 200_000]
    plain, *with_it = trainings(small_disk, "disk", sizes)
    check(plain, with_it, sizes)
    assert with_it[0]["files"] == ["filler"]
    assert sorted(with_it[-1]["files"]) == sorted(["filler", *FILES])
    assert with_it[-1]["whole"] == 2
    assert any(set(FILES) & set(r["files"]) and set(FILES) - set(r["files"]) for r in with_it)  # some, not all


def test_no_limit_of_a_file_ends_a_training(tmp_path: Path) -> None:
    sizes = [0, 3000, 9000, 14_000, 1_000_000]
    plain, *with_it = trainings(tmp_path / "disk", "limit", sizes)
    check(plain, with_it, sizes)
    assert sorted(with_it[-1]["files"]) == FILES
