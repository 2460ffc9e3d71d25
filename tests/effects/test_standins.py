"""Copies of open files and of what writes to them."""

from __future__ import annotations

import copy
import csv
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from lightning_landscape.isolation.effects import replace_writers, stand_in


class Holder:
    """Holds something deep inside."""

    def __init__(self, value: Any) -> None:
        self.inside = {"list": [value]}

    @property
    def value(self) -> Any:
        return self.inside["list"][0]


def copied(value: Any) -> Any:
    with replace_writers():
        return copy.deepcopy(Holder(value)).value


@pytest.mark.parametrize("mode", ["w", "a", "r+", "w+", "wb", "ab", "r+b"])
def test_what_a_copy_writes_is_nowhere(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before ")
    data = b"own" if "b" in mode else "own"
    with open(path, mode) as file:
        twin = copied(file)
        assert twin.write(b"copy" if "b" in mode else "copy") == 4
        assert (twin.name, twin.mode) == (file.name, file.mode)
        twin.flush()
        os.write(twin.fileno(), b"copy")
        file.write(data)
        twin.close()
        file.flush()
    assert "copy" not in path.read_text()
    assert "own" in path.read_text()


def test_a_copy_reads_on_from_the_same_place_and_moves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("abcdef")
    for mode, found in (("r", "cd"), ("rb", b"cd")):
        with open(tmp_path / "file", mode) as file:
            file.read(2)
            assert copied(file).read(2) == found
            assert file.tell() == 2


def test_csv_writers_have_the_same_dialect(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        twin, rows = copied(writer), copied(csv.DictWriter(file, ["a", "b"]))
        assert twin.dialect.delimiter == ";"
        twin.writerow([1, 2])
        rows.writerow({"a": 1, "b": 2})
        writer.writerow([3, 4])
    assert (tmp_path / "a.csv").read_text() == "3;4\n"


def test_memory_is_copied_and_writers_and_modules_are_shared(tmp_path: Path) -> None:
    class Mine(SummaryWriter):
        pass

    memory = io.StringIO("text")
    assert copied(memory).getvalue() == "text"
    assert copied(memory) is not memory
    for kind in (SummaryWriter, Mine):
        writer = kind(str(tmp_path))
        assert copied(writer) is writer
        writer.close()
    assert copied(np) is np


def test_closed_files_and_streams(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as file:
        pass
    assert copied(file).closed
    assert stand_in(sys.__stdout__).write("nowhere") == 7


def test_outside_files_are_not_copied(tmp_path: Path) -> None:
    with replace_writers(), pytest.raises(KeyError), replace_writers():
        raise KeyError
    with (tmp_path / "a").open("w") as file, pytest.raises(TypeError, match="cannot pickle"):
        copy.deepcopy(file)
