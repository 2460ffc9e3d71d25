"""Trainings that are run again, stopped, continued, or share a folder: nothing is lost, nothing is written over."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import Landscape, LossLandscapeCallback, load, save
from lightning_landscape.landscape import equal

from ._limits import HANG

POINTS = 35
STEP = "step=000004"


class Stop(Exception):
    """As a kill would, in the middle of a pass."""


class Net(L.LightningModule):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Linear(4, 3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def loader() -> Any:
    generator = torch.Generator().manual_seed(0)
    return DataLoader(TensorDataset(torch.randn(20, 4, generator=generator), torch.arange(20) % 3), 10)


class Run:
    """One training of two epochs, with a landscape of 7 × 5 points at its end, which counts those it measures."""

    def __init__(
        self, root: Path, stop_after: int = 10**9, *, checkpoint: Any = None, logger: Any = False, weights: int = 0,
        callbacks: Any = (), epochs: int = 2, at: Any = None, **options: Any,
    ) -> None:  # fmt: skip
        self.measured, self.stopped = 0, False
        self.callback = LossLandscapeCallback(
            **{
                "x": (-1, 1, 7), "y": (-1, 1, 5), "samples": 0, "plots": ["slices"], "formats": ["h5", "png"],
                "strict": True, "accelerate": False, **options,
            }
        )  # fmt: skip
        trainer = L.Trainer(
            accelerator="cpu", max_epochs=epochs, logger=logger, callbacks=[self.callback, *callbacks],
            default_root_dir=root, enable_checkpointing=bool(callbacks), enable_progress_bar=False,
            enable_model_summary=False, log_every_n_steps=1,
        )  # fmt: skip
        record = Landscape.record

        def counted(landscape: Landscape, *arguments: Any) -> None:
            if self.measured == stop_after:
                raise Stop
            record(landscape, *arguments)
            self.measured += 1
            if at is not None:
                at(self.measured)

        with patch.object(Landscape, "record", counted):
            try:
                trainer.fit(Net(weights), loader(), ckpt_path=checkpoint)
            except Stop:
                self.stopped = True

    @property
    def landscape(self) -> Landscape:
        assert self.callback.landscape is not None
        return self.callback.landscape


def done(root: Path) -> dict[str, int]:
    """How many points each file holds."""
    return {path.relative_to(root).parent.as_posix(): int(load(path).done.sum()) for path in root.rglob("landscape.h5")}


def content(folder: Path) -> dict[str, Any]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_a_finished_landscape_without_a_metric_that_is_logged_now_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(tmp_path, dirpath=tmp_path / "out")
    kept, step = content(tmp_path / "out" / STEP), Net.training_step

    def logs(self: Net, batch: Any, batch_idx: int) -> Tensor:
        loss = step(self, batch, batch_idx)
        self.log("twice", 2 * loss)
        return loss

    monkeypatch.setattr(Net, "training_step", logs)
    again = Run(tmp_path, dirpath=tmp_path / "out")
    assert again.measured == POINTS
    np.testing.assert_allclose(again.landscape.values["twice"], 2 * again.landscape.loss, rtol=1e-6)
    assert content(tmp_path / "out" / STEP) == kept
    assert done(tmp_path / "out") == {STEP: POINTS, f"{STEP}_2": POINTS}
    monkeypatch.setattr(Net, "training_step", step)
    assert Run(tmp_path, dirpath=tmp_path / "out").measured == 0  # what it lacks was never asked for


def test_a_finished_landscape_is_recognised_in_the_next_run(tmp_path: Path, caplog: Any) -> None:
    first = Run(tmp_path, dirpath=tmp_path / "out")
    assert first.measured == POINTS
    before = content(tmp_path / "out" / STEP)
    with caplog.at_level(logging.INFO, "lightning_landscape"):
        again = Run(tmp_path, dirpath=tmp_path / "out")
    assert "is finished already, and is not measured again" in caplog.text
    assert again.measured == 0
    assert equal(again.landscape, first.landscape)
    assert content(tmp_path / "out" / STEP) == before
    assert not Run(tmp_path, 1, dirpath=tmp_path / "out").stopped  # a rerun that would be killed has nothing to do
    assert done(tmp_path) == {f"out/{STEP}": POINTS}


@pytest.mark.parametrize("other", [{"seed": 1}, {"x": (-1, 1, 9)}, {"max_samples": 10}, {"normalize": "layer"}])
def test_two_recipes_in_one_folder_both_stay_also_where_the_second_is_stopped(tmp_path: Path, other: Any) -> None:
    first = Run(tmp_path, dirpath=tmp_path / "out")
    before = content(tmp_path / "out" / STEP)
    stopped = Run(tmp_path, 11, dirpath=tmp_path / "out", **other)
    assert stopped.stopped
    assert done(tmp_path) == {f"out/{STEP}": POINTS, f"out/{STEP}_2": 11}
    second = Run(tmp_path, dirpath=tmp_path / "out", **other)
    assert second.measured == second.landscape.grid.size - 11
    assert done(tmp_path) == {f"out/{STEP}": POINTS, f"out/{STEP}_2": second.landscape.grid.size}
    assert content(tmp_path / "out" / STEP) == before
    for run, folder in ((first, STEP), (second, f"{STEP}_2")):
        assert equal(load(tmp_path / "out" / folder / "landscape.h5"), run.landscape)


def test_a_stopped_pass_goes_on_where_it_was_and_gives_the_same(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole")
    assert Run(tmp_path, 19).stopped
    assert done(tmp_path / "landscape") == {STEP: 19}
    rest = Run(tmp_path)
    assert rest.measured == POINTS - 19
    for landscape in (whole.landscape, rest.landscape):
        landscape.report.seconds = None
    assert equal(whole.landscape, rest.landscape)
    assert sorted(path.name for path in (tmp_path / "landscape" / STEP).iterdir()) == [
        "landscape.h5", "log.txt", "train_loss_1dslices.png",
    ]  # fmt: skip


@pytest.mark.parametrize("formats", [["npz"], ["json", "png"], ["csv"], ["vtp"], ["png"]])
def test_every_format_is_recognised(tmp_path: Path, formats: list[str]) -> None:
    first = Run(tmp_path, formats=formats, samples=2)
    before = content(tmp_path / "landscape" / STEP)
    again = Run(tmp_path, formats=formats, samples=2)
    assert again.measured == 0
    assert equal(again.landscape, first.landscape)
    assert content(tmp_path / "landscape" / STEP) == before
    assert [path.name for path in (tmp_path / "landscape").glob("step=*")] == [STEP]


@pytest.mark.parametrize("name", ["train_loss", "train/loss", "my_loss"])
def test_a_metric_that_was_there_twice_is_continued(tmp_path: Path, name: str) -> None:
    """The loss that a step logs, too, has one surface in a finished file, and two in a pass."""

    class Logs(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.log(name, self.factor * loss)
            return loss

        factor = 1.0

    def fit(out: Path) -> Landscape:
        callback = LossLandscapeCallback(x=(-1, 1, 4), y=None, samples=0, plots=[], dirpath=out, strict=True)
        L.Trainer(
            accelerator="cpu", max_epochs=2, logger=False, callbacks=[callback], enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        ).fit(Logs(), loader())  # fmt: skip
        assert callback.landscape is not None
        return callback.landscape

    whole = fit(tmp_path)
    stopped = load(tmp_path / STEP / "landscape.h5")
    stopped.done[:2] = False
    save(stopped, tmp_path / STEP / "landscape.h5")
    again = fit(tmp_path)
    assert list(again.values) == list(whole.values) == ["train_loss"]
    np.testing.assert_array_equal(again.loss, whole.loss)
    assert again.recipe.same_as_loss == whole.recipe.same_as_loss
    assert list(whole.recipe.same_as_loss.values()) == ["train_loss"]
    assert done(tmp_path) == {STEP: 4}

    Logs.factor = 2.0  # that name is of another function now
    assert len(fit(tmp_path).values) == 2
    assert done(tmp_path) == {STEP: 4, f"{STEP}_2": 4}


# Continuing with Lightning's own folders.


def checkpoints(folder: Path | None = None) -> list[Any]:
    return [ModelCheckpoint(folder, save_last=True)]


ignored = [
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("where", ["no logger", "beside the checkpoint", "checkpoints elsewhere", "dirpath"])
def test_a_final_landscape_is_completed_from_the_last_checkpoint(tmp_path: Path, where: str) -> None:
    def run(stop_after: int = 10**9, checkpoint: Any = None) -> Run:
        folder = tmp_path / "checkpoints" if where in ("checkpoints elsewhere", "dirpath") else None
        return Run(
            tmp_path, stop_after, checkpoint=checkpoint, callbacks=checkpoints(folder),
            logger=False if where == "no logger" else CSVLogger(str(tmp_path)),
            **({"dirpath": tmp_path / "out"} if where == "dirpath" else {}),
        )  # fmt: skip

    assert run(19).stopped
    (before,) = done(tmp_path).items()
    assert before[1] == 19
    last = "last" if where != "beside the checkpoint" else next(tmp_path.rglob("last.ckpt"))
    rest = run(checkpoint=last)
    assert rest.measured == POINTS - 19
    assert done(tmp_path) == {before[0]: POINTS}
    assert rest.landscape.done.all()
    assert list(rest.callback.landscapes) == [4]
    again = run(checkpoint=last)
    assert again.measured == 0
    assert equal(again.landscape, rest.landscape)
    assert equal(again.landscape, load(tmp_path / before[0] / "landscape.h5"))
    assert done(tmp_path) == {before[0]: POINTS}


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_training_that_is_continued_and_trains_has_its_landscape_at_its_end(tmp_path: Path) -> None:
    Run(tmp_path, callbacks=checkpoints(), every_n_epochs=2)
    more = Run(tmp_path, callbacks=checkpoints(), checkpoint="last", epochs=3, every_n_epochs=2)
    assert list(more.callback.landscapes) == [4, 6]
    assert more.measured == POINTS  # of step 6; that of step 4, where it goes on, is finished
    assert done(tmp_path / "landscape") == {STEP: POINTS, "step=000006": POINTS}


def test_a_training_of_no_epochs_has_no_landscape(tmp_path: Path) -> None:
    run = Run(tmp_path, epochs=0)
    assert run.callback.landscape is None


def test_a_rerun_that_gets_a_new_version_is_told_how_to_continue_the_old_one(tmp_path: Path) -> None:
    logger = CSVLogger(str(tmp_path), "logs")
    assert Run(tmp_path, 19, logger=logger).stopped
    old = tmp_path / "logs" / "version_0" / "landscape"
    with pytest.warns(UserWarning, match=rf'{STEP} with 19 of 35 points\. To continue it, .* dirpath="{old}"'):
        new = Run(tmp_path, logger=CSVLogger(str(tmp_path), "logs"))
    assert new.measured == POINTS
    assert Run(tmp_path, logger=CSVLogger(str(tmp_path), "logs"), dirpath=old).measured == POINTS - 19
    assert done(tmp_path / "logs") == {
        f"version_0/landscape/{STEP}": POINTS, f"version_1/landscape/{STEP}": POINTS,
    }  # fmt: skip


# At the same time.


PROGRAM = """
import sys
from pathlib import Path
from lightning_landscape.survey import surface_file
from tests.test_continued import Run

surface_file.SAVE_EVERY = 0.0

def meet(measured):
    if measured == 5:
        print("in the middle", flush=True)
        sys.stdin.readline()

run = Run(Path(sys.argv[1]), dirpath=Path(sys.argv[1]) / "out", at=meet)
print("measured", run.measured, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
def test_two_trainings_at_the_same_time_have_a_folder_each(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)]
    options: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **options, cwd=Path(__file__).parents[1]) as first:
        try:
            assert first.stdout is not None
            assert "in the middle\n" in iter(first.stdout.readline, "")
            same = Run(tmp_path, dirpath=tmp_path / "out")
            other = Run(tmp_path, dirpath=tmp_path / "out", weights=1)
            assert (same.measured, other.measured) == (POINTS - 4, POINTS)  # of the same, 4 were kept by then
            output, errors = first.communicate("go on\n", timeout=HANG)
        finally:
            first.kill()
    assert "measured 35" in output, errors
    assert done(tmp_path / "out") == {STEP: POINTS, f"{STEP}_2": POINTS, f"{STEP}_3": POINTS}
    one, two = (load(tmp_path / "out" / name / "landscape.h5") for name in (STEP, f"{STEP}_2"))
    np.testing.assert_array_equal(one.loss, two.loss)
    assert not list(tmp_path.rglob(".lock"))
