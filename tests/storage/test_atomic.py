import errno
import io
import os
import stat
import sys

import pytest

from lightning_landscape.storage.atomic import write_whole


def test_the_file_appears_whole_in_the_place_of_the_older_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    assert write_whole(path, b"new") == path
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


class FullDisk:
    """A file of which only the first bytes reach the disk."""

    def __init__(self, path, *args):
        self.file = io.FileIO(path, "x")

    def write(self, content):
        self.file.write(content[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self.file.close()


@pytest.mark.parametrize("existing", [True, False])
def test_half_a_file_leaves_the_older_file_alone(tmp_path, monkeypatch, existing):
    path = tmp_path / "a.txt"
    if existing:
        path.write_text("old")
    monkeypatch.setattr("builtins.open", FullDisk)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    monkeypatch.undo()
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"] * existing


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_older_file_alone(tmp_path, monkeypatch, call):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(*args):
        raise OSError("disk is gone")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="disk is gone"):
        write_whole(path, b"new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_the_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "ordinary").write_text("")
    write_whole(tmp_path / "a", b"")
    modes = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("ordinary", "a")]
    assert modes[0] == modes[1]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "store").mkdir()
    link = tmp_path / "a"
    link.symlink_to(tmp_path / "store" / "a")
    write_whole(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "store" / "a").read_text() == "new"
