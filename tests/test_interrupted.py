"""Ctrl-C during a pass ends the pass: its points are kept, and the training goes on. A second one stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_landscape import load

from ._limits import HANG

PROGRAM = Path(__file__).with_name("_interrupted.py")
POINTS = 35


def start(out: Path, task: str, pause: float = 0.0) -> Any:
    """The program in a group of its own, as a terminal starts it."""
    command = [sys.executable, str(PROGRAM), str(out), str(pause), task]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def press(process: Any) -> None:
    """Ctrl-C, which a terminal sends to the whole group."""
    os.killpg(process.pid, signal.SIGINT)


def wait_for(process: Any, word: str, times: int = 1) -> None:
    """Read what the program says, until it has said a word so many times."""
    for line in process.stdout:
        times -= line.startswith(word)
        if not times:
            return
    pytest.fail(process.communicate(timeout=HANG)[1][-3000:])


def last_words(process: Any) -> tuple[str, str]:
    """The last line of a program that ends well, and its messages."""
    output, messages = process.communicate(timeout=HANG)
    assert process.returncode == 0, messages[-3000:]
    return output.splitlines()[-1], messages


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal's signals")
def test_one_ends_the_pass_and_a_later_run_completes_it(tmp_path: Path) -> None:
    process = start(tmp_path / "ended", "with", pause=0.05)
    for step in (0, 1):  # as the last training step has read it; the rehearsal takes some calls of the first
        wait_for(process, f"step at {step}", times=25)
        press(process)
    words, messages = last_words(process)
    for step in (1, 2):
        assert f"Ctrl-C ended the landscape of step {step}: its " in messages
        folder = tmp_path / "ended" / "landscape" / f"step={step:06d}"
        assert 1 <= load(folder / "landscape.h5").done.sum() < POINTS
        assert (folder / "train_loss_2dheat.png").exists()
    assert "The training goes on; press Ctrl-C twice within 3 s to stop it." in messages
    assert words == last_words(start(tmp_path / "without", "without"))[0]  # the same weights, bit by bit

    last = tmp_path / "ended" / "landscape" / "step=000002" / "landscape.h5"
    _, messages = last_words(start(tmp_path / "ended", "again"))  # a training that is over has nothing left to train
    assert load(last).done.all(), messages
    last_words(start(tmp_path / "whole", "with"))
    for path in (tmp_path / "whole" / "landscape").rglob("*.h5"):
        if path.parent.name == last.parent.name:
            assert np.array_equal(load(path).loss, load(last).loss)


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal's signals")
def test_two_stop_the_training_as_ever(tmp_path: Path) -> None:
    process = start(tmp_path, "with", pause=0.05)
    wait_for(process, "step at 0", times=25)
    press(process)
    time.sleep(0.02)  # shorter than a point
    press(process)
    output, messages = process.communicate(timeout=HANG)
    assert process.returncode == 1, messages[-3000:]
    assert "Detected KeyboardInterrupt" in messages
    assert "finished" not in output
    assert 1 <= load(tmp_path / "landscape" / "step=000001" / "landscape.h5").done.sum() < POINTS


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal's signals")
def test_all_ranks_end_the_pass_and_none_waits(tmp_path: Path) -> None:
    process = start(tmp_path, "ranks", pause=0.1)
    wait_for(process, "step at 0", times=45)  # both ranks say it, some twenty times in their rehearsals
    press(process)
    words, messages = last_words(process)
    assert "Ctrl-C ended the landscape of step 1: its " in messages
    assert words.startswith("finished with 2 ")
    assert 1 <= load(tmp_path / "landscape" / "step=000001" / "landscape.h5").done.sum() < POINTS
    assert load(tmp_path / "landscape" / "step=000002" / "landscape.h5").done.all()


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal's signals")
def test_before_the_first_point_there_is_nothing_to_keep(tmp_path: Path) -> None:
    process = start(tmp_path, "reading")
    wait_for(process, "row 5")
    press(process)
    wait_for(process, "row 19", times=2)  # of that landscape's only batch, and of the next epoch
    _, messages = last_words(process)
    assert "Ctrl-C ended the landscape of step 1: it had no points yet. The training goes on; press" in messages
    assert [path.name for path in (tmp_path / "landscape").glob("step=*")] == ["step=000002"]
