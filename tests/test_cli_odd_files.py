"""Every command with files of every wrong kind, and with outputs that can't be written: one line, and an exit code."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lightning_landscape import Grid, Landscape, save
from lightning_landscape.cli import COMMANDS, main
from lightning_landscape.recipe import Recipe
from lightning_landscape.report import Report
from lightning_landscape.storage import FORMATS
from lightning_landscape.trajectory import Trajectory

from ._limits import HANG

USES: dict[str, Callable[[Any, Any, Any], list[Any]]] = {
    "view": lambda file, good, out: ["view", file],
    "view of several": lambda file, good, out: ["view", file, good],
    "plot": lambda file, good, out: ["plot", file, "--kinds", "slices", "--out", out],
    "film": lambda file, good, out: ["film", file, "--out", f"{out}.gif"],
    "film of several": lambda file, good, out: ["film", good, file, "--out", f"{out}.gif"],
    "compare, first": lambda file, good, out: ["compare", file, good, "--out", f"{out}.png"],
    "compare, second": lambda file, good, out: ["compare", good, file, "--out", f"{out}.png"],
    "export": lambda file, good, out: ["export", file, "--to", "csv", "--out", f"{out}.csv"],
}
uses = pytest.mark.parametrize("use", USES)


def bowl() -> Landscape:
    grid = Grid.from_ranges((-1, 1, 5), (-1, 1, 4))
    path = Trajectory(np.arange(3.0), np.linspace(0.8, 0.2, 6).reshape(3, 2), np.zeros(3), np.ones(3))
    values = {"loss": (grid.points**2).sum(axis=1).reshape(grid.shape)}
    return Landscape(grid, values, "loss", trajectory=path)


class Marker:
    def __reduce__(self) -> Any:
        return print, ("executed",)


def other_hdf5() -> bytes:
    with h5py.File("other", "w", driver="core", backing_store=False) as file:
        file["weights"] = np.zeros(3)
        file.flush()
        return bytes(file.id.get_file_image())


CONTENTS = {
    "empty": b"",
    "zeros": bytes(5000),
    "text": "Landschaft über Wäldern\n".encode("latin-1") * 9,
    "bytes": random.Random(0).randbytes(5000),
    "pickle": pickle.dumps(Marker()),
    "archive": b"PK\3\4" + bytes(60),
    "other HDF5": other_hdf5(),
    "list": b"[1, 2, 3]",
    "nested": b"[" * 200_000,
    "numbers": b'{"format": "lightning_landscape", "format_version": 1e999, "meta": NaN}',
    "newer": json.dumps({"format": "lightning_landscape", "format_version": 99}).encode(),
    "no grid": b'{"X": [], "Y": [], "loss_grid_2d": []}',
    "ragged": b'{"X": [0, 1], "Y": [0, 1], "loss_grid_2d": [[1, 2], [3]]}',
    "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><VTKFile>&b;</VTKFile>\n',
}


def check(code: int, captured: Any) -> str:
    """The one line that was said."""
    assert code == 1, captured
    assert captured.err.startswith("lightning-landscape: "), captured.err
    assert captured.err.count("\n") == 1, captured.err
    assert "executed" not in captured.out
    return str(captured.err)


def run(use: str, file: Path, good: Path, out: Path) -> int:
    return main([str(argument) for argument in USES[use](file, good, out)])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return save(bowl(), tmp_path / "good.h5")


def test_every_command_is_in_the_table() -> None:
    assert {use("f", "g", "o")[0] for use in USES.values()} | {"demo"} == COMMANDS.keys()


@uses
@pytest.mark.parametrize("suffix", [*FORMATS, ".ckpt", ""])
def test_files_of_every_wrong_kind(use: str, suffix: str, tmp_path: Path, good: Path, capsys: Any) -> None:
    for name, content in CONTENTS.items():
        file = tmp_path / f"{name}{suffix}"
        file.write_bytes(content)
        check(run(use, file, good, tmp_path / "out"), capsys.readouterr())
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("out")]


@uses
@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_no_file_or_no_whole_one(use: str, suffix: str, tmp_path: Path, good: Path, capsys: Any) -> None:
    odd = [tmp_path / f"{name}{suffix}" for name in ("folder", "missing", "dangling", "loop", "x" * 300, "cut")]
    odd[0].mkdir()
    odd[2].symlink_to(tmp_path / "nowhere")
    odd[3].symlink_to(odd[3])
    save(bowl(), odd[5])
    odd[5].write_bytes(odd[5].read_bytes()[:-70])
    odd.append(good / f"below a file{suffix}")
    if hasattr(os, "mkfifo"):
        odd.append(tmp_path / f"pipe{suffix}")
        os.mkfifo(odd[-1])
    for file in odd:
        said = check(run(use, file, good, tmp_path / "out"), capsys.readouterr())
        assert file.name[:10] in said


ODD = [[1], "x", 3, None, {"a": 1}, {"train": [{}]}]
ENTRIES = [("recipe", field.name) for field in fields(Recipe)] + [("report", field.name) for field in fields(Report)]


@pytest.mark.parametrize("table, entry", [*ENTRIES, ("recipe", None), ("report", None), ("meta", None)])
def test_a_recipe_that_is_none_is_shown_or_one_line(
    table: str, entry: str | None, tmp_path: Path, good: Path, capsys: Any
) -> None:
    content = json.loads(save(bowl(), tmp_path / "a.json").read_text())
    for i, value in enumerate(ODD):
        file = tmp_path / f"{i}.json"
        file.write_text(json.dumps({**content, table: value if entry is None else {entry: value}}))
        for use in ("view", "compare, first", "plot") if i < 1 else ("view",):
            code = run(use, file, good, tmp_path / "out")
            captured = capsys.readouterr()
            assert (code, captured.err) == (0, "") or file.name in check(code, captured)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e308, 0.0])
@pytest.mark.parametrize("ndim", [1, 2, 4])
def test_a_surface_of_odd_values_is_shown_or_one_line(value: float, ndim: int, tmp_path: Path, capsys: Any) -> None:
    grid = Grid.from_ranges(*[(1, 2, 3)] * ndim)  # without its centre
    empty = Landscape.empty(grid, ["loss"], "loss")
    for landscape in (Landscape(grid, {"loss": np.full(grid.shape, value)}, "loss"), empty):
        file = save(landscape, tmp_path / "a.h5")
        for use in ("view", "plot", "compare, first"):
            code = run(use, file, file, tmp_path / "out")
            captured = capsys.readouterr()
            assert (code, captured.err) == (0, "") or check(code, captured)


@pytest.mark.parametrize("use", [use for use in USES if "view" not in use])
def test_outputs_that_can_not_be_written(use: str, tmp_path: Path, good: Path, capsys: Any, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("old")
    for end in (".png", ".csv", ".gif"):
        (tmp_path / f"folder{end}").mkdir()
    for out in (tmp_path / "file" / "a", tmp_path / ("x" * 300)):
        check(run(use, good, good, out), capsys.readouterr())
    if use != "plot":  # which makes a folder
        check(run(use, good, good, tmp_path / "folder"), capsys.readouterr())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in check(run(use, good, good, tmp_path / "full"), capsys.readouterr())
    assert [p for p in sorted(tmp_path.rglob("*")) if p.is_file()] == [p for p in before if p.is_file()]


def test_a_demo_that_can_not_write_its_logs_is_one_line(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").write_text("")
    odd = {tmp_path / "file" / "logs": "file/logs", tmp_path / ("x" * 300): "too long", "s3://bucket/a": "remote"}
    for folder, said in odd.items():
        assert said in check(main(["demo", "--dir", str(folder)]), capsys.readouterr())
    said = check(main(["demo", "--dir", str(tmp_path), "--points", "100000"]), capsys.readouterr())
    assert "days at a millisecond" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["view", "{good}"], ["export", "{good}", "--to", "npz"]])
def test_an_answer_that_finds_no_room_is_one_line(good: Path, arguments: list[str], unbuffered: str) -> None:
    command = [sys.executable, "-m", "lightning_landscape.cli", *(a.format(good=good) for a in arguments)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=HANG,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "lightning-landscape: No space left on device\n")


def test_a_reader_that_has_read_enough_is_no_error(good: Path) -> None:
    command = [sys.executable, "-m", "lightning_landscape.cli", "view", *[str(good)] * 400]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_an_error_that_finds_no_room_is_no_other_error(monkeypatch: Any) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    assert main(["view", "none.h5"]) == 1


def test_ctrl_c_is_no_traceback(good: Path, monkeypatch: Any) -> None:
    def stop(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning_landscape.storage.load", stop)
    assert main(["view", str(good)]) == 130
