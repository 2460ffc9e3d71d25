"""The lock of a folder: one process at a time, and nobody after the death of its owner."""

import errno
import os
import subprocess
import sys

import pytest

from lightning_landscape.storage import lock as home
from lightning_landscape.storage.lock import Lock

HOLDS = """
import sys, time
from pathlib import Path
from lightning_landscape.storage.lock import Lock
print(Lock.take(Path(sys.argv[1])) is not None, flush=True)
time.sleep(10_000)
"""
posix = pytest.mark.skipif(home.fcntl is None, reason="there are no POSIX locks")


@posix
def test_another_process_has_it_until_it_dies(tmp_path):
    folder = tmp_path / "a"
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(folder)], stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout.readline() == "True\n"
            assert Lock.take(folder) is None
            assert Lock.take(tmp_path / "b") is not None
        finally:
            owner.kill()
    mine = Lock.take(folder)
    assert mine is not None
    assert mine.is_sure
    mine.release()


def test_nothing_is_left_of_it_nor_of_an_empty_folder(tmp_path):
    for name, content in (("empty", []), ("full", ["a.txt"])):
        lock = Lock.take(tmp_path / name)
        for file in content:
            (tmp_path / name / file).write_text("")
        lock.release()
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["a.txt"]


def test_a_folder_that_vanishes_is_no_error(tmp_path):
    lock = Lock.take(tmp_path / "a")
    lock.path.unlink()
    (tmp_path / "a").rmdir()
    lock.release()
    assert not (tmp_path / "a").exists()


@posix
def test_a_file_that_its_owner_takes_away_meanwhile_is_no_lock(tmp_path, monkeypatch):
    real = home.fcntl.lockf
    taken_away = []

    def takes_away(descriptor, flags):
        if not taken_away:
            taken_away.append(1)
            (tmp_path / home.NAME).unlink()
        real(descriptor, flags)

    monkeypatch.setattr(home.fcntl, "lockf", takes_away)
    lock = Lock.take(tmp_path)
    assert os.path.samestat(os.stat(tmp_path / home.NAME), os.fstat(lock.descriptor))
    lock.release()


@posix
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def none(descriptor, flags):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(home.fcntl, "lockf", none)
    lock = Lock.take(tmp_path)
    assert not lock.is_sure
    lock.release()


@posix
@pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN])
def test_systems_say_in_two_ways_that_another_process_has_it(tmp_path, monkeypatch, number):
    def taken(descriptor, flags):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(home.fcntl, "lockf", taken)
    assert Lock.take(tmp_path) is None
    assert (tmp_path / home.NAME).exists()  # it is the other's


@posix
def test_its_file_goes_before_the_lock(tmp_path, monkeypatch):
    """Whoever takes the lock in between would have a file that is no more, and a third one another."""
    lock, close, there = Lock.take(tmp_path), os.close, []
    monkeypatch.setattr(os, "close", lambda descriptor: (there.append(lock.path.exists()), close(descriptor)))
    lock.release()
    assert there == [False]


def test_a_folder_that_can_not_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Lock.take(tmp_path / "file" / "a")
