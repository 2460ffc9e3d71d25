"""Two processes (DDP, gloo): the points are shared, the result is that of one process, and nobody waits for ever."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from lightning_landscape import Grid, Landscape, LossLandscapeCallback, load, load_sharpness
from lightning_landscape.report import Report
from lightning_landscape.survey.group import merge

from ._limits import HANG
from ._two_processes import Net, numbers, validated

PROGRAM = Path(__file__).with_name("_two_processes.py")


def run(out: Path, mode: str, ends: int = 0) -> tuple[list[Any], str]:
    """What the ranks wrote, and the standard error."""
    out.mkdir(parents=True, exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")}
    command = [sys.executable, "-W", "ignore:.*LeafSpec", str(PROGRAM), str(out), mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG, env=environment, check=False)
    assert done.returncode == ends, done.stderr[-4000:]
    return [json.loads(path.read_text()) for path in sorted(out.glob("rank*.json"))], done.stderr


def test_two_processes_share_the_points_and_the_training_is_the_same(tmp_path: Path) -> None:
    (first, second), said = run(tmp_path / "with", "with")
    films = sorted(path.name for path in (tmp_path / "with" / "files").glob("*.gif"))
    assert films == ["train_loss_2dheat_steps=000003-000006.gif"]
    assert said.count("films of the 2 landscapes") == 1  # the first rank alone draws it
    plain, _ = run(tmp_path / "without", "without")[0]
    assert first["weights"] == plain["weights"]
    assert first["metrics"] == plain["metrics"]
    assert first["random"] == plain["random"]
    assert first["steps"] == [3, 6]
    assert first["done"] == second["done"] == 20
    assert first["values"] == second["values"]
    assert first["samples"] == second["samples"]

    # The same weights and buffers in one process give the same bits.
    module = Net("one")
    module.load_state_dict(torch.load(tmp_path / "weights.pt"))
    callback = LossLandscapeCallback(
        x=(-1, 1, 5),
        y=(-1, 1, 4),
        data=["train", "val"],
        samples=2,
        max_samples=None,
        budget=None,
        plots=[],
        strict=True,
    )
    L.Trainer(
        max_steps=1, accelerator="cpu", logger=False, callbacks=[callback, Frozen()], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=tmp_path,
    ).fit(module, DataLoader(numbers(37), 8), DataLoader(numbers(21), 8))  # fmt: skip
    assert callback.landscape is not None
    for name, array in callback.landscape.values.items():
        assert np.array_equal(array, np.array(first["values"][name])), name
    assert callback.landscape.samples is not None
    assert np.array_equal(callback.landscape.samples.values, np.array(first["samples"]))
    files = load(tmp_path / "with" / "files" / "step=000006" / "landscape.h5")
    assert np.array_equal(files.loss, callback.landscape.loss)


def test_two_processes_measure_the_same_sharpness(tmp_path: Path) -> None:
    (first, second), said = run(tmp_path / "with", "sharpness")
    plain, _ = run(tmp_path / "without", "without")[0]
    assert first["weights"] == plain["weights"]
    assert first["metrics"] == plain["metrics"]
    assert first["random"] == plain["random"]
    assert first["history"]["step"] == [3, 6]
    assert {"lambda_max", "trace", "critical", "sam", "lambda_max_preconditioned"} <= first["history"].keys()
    np.testing.assert_equal(second["history"], first["history"])
    assert "could not be measured" not in said
    columns = load_sharpness(tmp_path / "with" / "files" / "sharpness.h5").columns
    np.testing.assert_equal(columns["lambda_max"].tolist(), first["history"]["lambda_max"])


def test_steps_ranges_and_the_best_checkpoint_are_those_of_rank_0(tmp_path: Path) -> None:
    """Rank 1 would end the axes elsewhere, as it finds another loss there."""
    first, second = run(tmp_path / "with", "when")[0]
    plain, _ = run(tmp_path / "without", "when without")[0]
    assert first["weights"] == plain["weights"]
    assert first["metrics"] == plain["metrics"]
    assert first["random"] == plain["random"]
    assert first["steps"] == second["steps"] == [2, 4, 3, 6]  # of 3 an epoch; the best is that after the first
    assert first["axes"] == second["axes"]
    assert first["ends"] == second["ends"]
    assert first["values"] == second["values"]
    assert first["done"] == second["done"] == 15
    assert first["axes"][0][-1] > 0.2
    folders = sorted(path.parent.name for path in (tmp_path / "with" / "files").glob("*/landscape.h5"))
    assert folders == ["step=000002", "step=000003-best", "step=000004", "step=000006"]
    grids = [load(tmp_path / "with" / "files" / name / "landscape.h5").grid for name in folders]
    assert all(grid == grids[0] for grid in grids)


class Frozen(L.Callback):
    """Puts the weights and buffers back that the one step of training has moved."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.kept = {name: t.clone() for name, t in pl_module.state_dict().items()}

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.load_state_dict(self.kept)


def test_an_error_on_one_rank_stops_the_pass_on_all_and_the_training_ends(tmp_path: Path) -> None:
    ranks, errors = run(tmp_path / "error", "error")
    assert len(ranks) == 2
    assert [rank["steps"] for rank in ranks] == [[], []]
    assert "rank 1 failed with RuntimeError: only rank 1" in errors


def test_data_that_can_only_be_iterated_is_that_of_rank_0(tmp_path: Path) -> None:
    first, second = run(tmp_path / "stream", "stream")[0]
    assert first["values"] == second["values"]
    assert first["done"] == 20


def test_what_each_process_draws_for_itself_is_that_of_rank_0(tmp_path: Path) -> None:
    first, second = run(tmp_path / "sampler", "sampler")[0]
    assert first["values"] == second["values"]
    assert first["done"] == 20
    assert [place % 2 for place in first["places"]] == [0, 0]


def test_spawned_processes_leave_their_files(tmp_path: Path) -> None:
    (main,), _ = run(tmp_path / "spawn", "spawn")
    for step in (3, 6):
        assert load(tmp_path / "spawn" / "files" / f"step={step:06d}" / "landscape.h5").done.all()
    # What the callback of the main process has, which measured nothing.
    assert main["steps"] == [3, 6]
    last = load(tmp_path / "spawn" / "files" / "step=000006" / "landscape.h5")
    assert main["done"] == 20
    assert main["values"] == {name: array.tolist() for name, array in last.values.items()}


KILLED = Path("step=000000-validate")


def test_the_points_of_all_ranks_outlive_a_kill_and_go_on_with_any_number_of_ranks(tmp_path: Path) -> None:
    def alone(out: Path) -> tuple[int, Landscape]:
        L.seed_everything(1, workers=True)
        callback = LossLandscapeCallback(
            every_n_epochs=1, x=(-1, 1, 5), y=(-1, 1, 4), data=["train", "val"], samples=2, max_samples=None,
            plots=["heat"], dirpath=out / "files", accelerate=False, budget=None,
        )  # fmt: skip
        trainer = L.Trainer(accelerator="cpu", logger=False, callbacks=[callback], enable_progress_bar=False)
        measured = validated(trainer, Net("one"))
        assert callback.landscape is not None
        return measured, callback.landscape

    run(tmp_path / "two", "kill", ends=-signal.SIGKILL)
    left = {path.name: int(load(path).done.sum()) for path in (tmp_path / "two" / "files" / KILLED).glob("*.h5")}
    assert left == {"landscape.h5": 4, "landscape.rank1.h5": 3}
    shutil.copytree(tmp_path / "two", tmp_path / "one")

    measured, whole = alone(tmp_path / "none")
    assert measured == 20
    (first, second), _ = run(tmp_path / "two", "validate")
    assert first["measured"] + second["measured"] == 13
    measured, again = alone(tmp_path / "one")
    assert measured == 13
    for name, array in whole.values.items():
        for values in (again.values[name], first["values"][name], second["values"][name]):
            assert np.array_equal(array, np.array(values)), name
    for out in ("one", "two"):
        files = {path.name for path in (tmp_path / out / "files" / KILLED).iterdir()}
        assert {"landscape.h5"} == {name for name in files if name.endswith(".h5")}
        assert not {name for name in files if name.startswith(".")}


def test_a_point_that_another_rank_could_not_measure_is_told_by_the_whole() -> None:
    def part(done: list[bool], **report: Any) -> Landscape:
        landscape = Landscape.empty(Grid((np.array([0.0, 1.0, 2.0, 3.0]),)), ["loss"], "loss")
        landscape.done[:] = done
        landscape.values["loss"][done] = 1.0
        landscape.report = Report(**report)
        return landscape

    whole = merge([part([True, False, True, False]), part([False, True, False, False], failure="ValueError: no")])
    assert whole.done.tolist() == [True, True, True, False]
    assert whole.report.failure == "ValueError: no"
