"""House law 3: a process that is killed in the middle of a surface loses at most its last seconds."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lightning_landscape import load
from lightning_landscape.landscape import equal

from ._limits import HANG

PROGRAM = Path(__file__).with_name("_killed.py")
FILE = Path("step=000000-validate") / "landscape.h5"
POINTS = 35


def start(out: Path, pause: float, seed: int = 0, task: str = "validate") -> Any:
    command = [sys.executable, str(PROGRAM), str(out), str(pause), str(seed), task]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: Any) -> int:
    """How many steps a run took to its end."""
    output, errors = process.communicate(timeout=HANG)
    assert process.returncode == 0, errors[-3000:]
    return int(output.splitlines()[-1].split()[-2])


def stop_in_the_middle(out: Path, how: signal.Signals) -> int:
    """Stop a run after about half of its points; gives the exit code."""
    process = start(out, 0.03)
    for line in process.stdout:
        if line.startswith("call 45"):
            break
    process.send_signal(how)
    process.communicate(timeout=HANG)
    return process.returncode


def test_kill_9_and_the_next_run_continues(tmp_path: Path) -> None:
    assert stop_in_the_middle(tmp_path / "killed", signal.SIGKILL) == -signal.SIGKILL
    kept = load(tmp_path / "killed" / FILE)
    done = int(kept.done.sum())
    assert 3 < done < POINTS
    assert kept.done[3, 2]  # from the centre outwards
    assert not list((tmp_path / "killed").rglob("*.tmp*"))

    whole = finish(start(tmp_path / "whole", 0))
    rest = finish(start(tmp_path / "killed", 0))
    assert rest == whole - 2 * done  # a point is one step for all and one for the tiles
    first, second = load(tmp_path / "whole" / FILE), load(tmp_path / "killed" / FILE)
    assert second.done.all()
    for landscape in (first, second):
        landscape.report.seconds = None
    assert equal(first, second)


def test_other_weights_are_measured_anew(tmp_path: Path) -> None:
    stop_in_the_middle(tmp_path / "killed", signal.SIGKILL)
    kept = load(tmp_path / "killed" / FILE)
    again = start(tmp_path / "killed", 0, seed=1)
    output, told = again.communicate(timeout=HANG)
    assert "has another weights checksum, " in told
    assert int(output.splitlines()[-1].split()[-2]) == finish(start(tmp_path / "whole", 0, seed=1))
    new = FILE.parent.with_name(f"{FILE.parent.name}_2") / FILE.name
    a, b = load(tmp_path / "killed" / new), load(tmp_path / "whole" / FILE)
    assert np.array_equal(a.loss, b.loss)
    assert equal(load(tmp_path / "killed" / FILE), kept)  # the other weights' part is left as it is


def test_ctrl_c_keeps_the_points(tmp_path: Path) -> None:
    stop_in_the_middle(tmp_path / "stopped", signal.SIGINT)  # the exit code is Lightning's affair
    assert 3 < load(tmp_path / "stopped" / FILE).done.sum() < POINTS


def test_sigterm_keeps_the_points_without_pictures_and_the_training_ends_as_it_would(tmp_path: Path) -> None:
    out, name = tmp_path / "stopped", Path("step=000001")
    process = start(out, 0.03, task="fit")
    for line in process.stdout:
        if line.startswith("call 61"):
            break
    process.send_signal(signal.SIGTERM)
    with_it, errors = process.communicate(timeout=HANG)
    without, _ = start(tmp_path / "without", 0, task="without").communicate(timeout=HANG)
    ends = [[line for line in said.splitlines() if line.startswith("SIGTERM")] for said in (with_it, without)]
    assert len(ends[0]) == 1
    assert ends[0] == ends[1]  # the same step and weights
    assert "finished" not in with_it
    assert "could not" not in errors, errors
    assert "failed" not in errors, errors

    done = int(load(out / name / "landscape.h5").done.sum())
    assert 3 < done < POINTS
    assert sorted(path.name for path in (out / name).iterdir()) == ["landscape.h5", "log.txt"]
    whole = finish(start(tmp_path / "whole", 0, task="fit"))
    assert finish(start(out, 0, task="fit")) == whole - 2 * done
    first, second = load(tmp_path / "whole" / name / "landscape.h5"), load(out / name / "landscape.h5")
    assert second.done.all()
    assert np.array_equal(first.loss, second.loss)
    assert (out / name / "train_loss_2dheat.png").exists()
