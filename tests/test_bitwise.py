"""House law 1: the training is bitwise the same with and without the callback."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch

from lightning_landscape import LossLandscapeCallback
from lightning_landscape.accelerations.trial import Choice
from lightning_landscape.evaluators.forked import Worker

from ._training import Net, differences, fit, loaders

pytestmark = pytest.mark.filterwarnings(r"ignore:Found 1 module\(s\) in eval mode.*")  # on purpose: Net.still

SMALL: dict[str, Any] = {"x": (-1, 1, 3), "y": (-1, 1, 2), "max_samples": 20, "samples": 2, "plots": ["contour"]}
FORK = "fork" if sys.platform == "linux" else None  # workers that start anew take seconds each
LOADING = {
    "workers 0": {},
    "user generator": {"own_generator": True},
    "workers 2": {"workers": 2, "context": FORK},
    "persistent workers": {"workers": 2, "persistent": True, "own_generator": True, "context": FORK},
}


class Counting(LossLandscapeCallback):
    """Counts the passes that came to an end, so that a test can't pass because nothing ran."""

    passes = 0

    def _finish(self, *args: Any) -> None:
        super()._finish(*args)
        self.passes += 1


@pytest.mark.parametrize("loading", LOADING)
@pytest.mark.parametrize("data", ["train", "val", ["train", "val"]], ids=str)
def test_every_hook_leaves_the_training_alone(tmp_path: Path, loading: str, data: Any) -> None:
    callback = Counting(every_n_epochs=1, data=data, strict=True, **SMALL)
    without = fit(tmp_path / "without", [], **LOADING[loading])
    with_it = fit(tmp_path / "with", [callback], **LOADING[loading])
    assert callback.passes == 5  # before epochs 1, 2, 3, and at the end twice: on the plane of the path, too
    assert len(without["checkpoints"]) == 4
    assert len(without["rows"]) > 20
    assert differences(without, with_it) == []


def test_train_mode_leaves_the_training_alone(tmp_path: Path) -> None:
    callback = Counting(every_n_epochs=1, data=["train", "val"], mode="train", strict=True, **SMALL)
    without = fit(tmp_path / "without", [])
    with_it = fit(tmp_path / "with", [callback])
    assert callback.passes == 5
    assert callback.landscape is not None
    assert callback.landscape.recipe.mode == "train"
    assert differences(without, with_it) == []


def test_workers_that_start_anew_leave_the_training_alone(tmp_path: Path) -> None:
    """As they do by default from Python 3.14 on."""
    callback = Counting(every_n_epochs=None, data="train", strict=True, **SMALL)
    loading: Any = {"workers": 1, "persistent": True, "context": "spawn", "epochs": 1}
    without = fit(tmp_path / "without", [], **loading)
    with_it = fit(tmp_path / "with", [callback], **loading)
    assert callback.passes == 1
    assert differences(without, with_it) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")
def test_worker_processes_beside_those_of_the_loaders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forks = []

    def forced(evaluator: Any, *args: Any, **options: Any) -> tuple[Any, Choice]:
        return evaluator, Choice(("processes",))

    class Counted(Worker):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            forks.append(self.pid)

    monkeypatch.setattr("lightning_landscape.survey.survey.fastest", forced)
    monkeypatch.setattr("lightning_landscape.evaluators.forked.Worker", Counted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        callback = Counting(every_n_epochs=1, data=["train", "val"], strict=True, trajectory=False, **SMALL)
        without = fit(tmp_path / "without", [], **LOADING["persistent workers"])
        with_it = fit(tmp_path / "with", [callback], **LOADING["persistent workers"])
    finally:
        torch.set_num_threads(before)
    assert callback.passes == 4
    assert len(forks) == 4 * 3  # of each pass: for the training data, the validation data, and the tiles
    assert differences(without, with_it) == []


def test_the_comparison_sees_a_single_bit(tmp_path: Path) -> None:
    class Nudge(L.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                torch.rand(1)

    found = differences(fit(tmp_path / "a", []), fit(tmp_path / "b", [Nudge()]))
    assert any(place.startswith("/weights") for place in found)
    assert any(place.startswith("/torch") for place in found)


class Interrupted(LossLandscapeCallback):
    """Raises in the middle of the second pass."""

    error: BaseException = RuntimeError("in the middle")
    points = 0

    def _run(self, *arguments: Any, **options: Any) -> None:
        import lightning_landscape.trainer.rank_points as home

        real, owner = home.measuring, self

        def interrupted(points: Any) -> Any:
            for landscape in points:
                yield landscape
                owner.points += 1
                if owner.points == 10:  # 7 yields a pass
                    raise owner.error

        @contextmanager
        def measuring(*args: Any) -> Any:
            with real(*args) as points:
                yield interrupted(points)

        home.measuring = measuring  # type: ignore[assignment]
        try:
            super()._run(*arguments, **options)
        finally:
            home.measuring = real


def test_an_exception_in_a_pass(tmp_path: Path) -> None:
    callback = Interrupted(every_n_epochs=1, trajectory=False, **SMALL)
    without = fit(tmp_path / "without", [])
    with pytest.warns(UserWarning, match=r"RuntimeError: in the middle.*The training goes on.*strict=True"):
        with_it = fit(tmp_path / "with", [callback])
    assert callback.points > 10
    assert differences(without, with_it) == []


@pytest.mark.filterwarnings("ignore:Detected KeyboardInterrupt")
def test_ctrl_c_in_a_pass(tmp_path: Path) -> None:
    class CtrlC(L.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    try:
        callback = Interrupted(every_n_epochs=1, trajectory=False, dirpath=tmp_path / "pictures", **SMALL)
        callback.error = KeyboardInterrupt()
        without = fit(tmp_path / "without", [CtrlC()], interrupts=(SystemExit, KeyboardInterrupt))
        with_it = fit(tmp_path / "with", [callback], interrupts=(SystemExit, KeyboardInterrupt))
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores it from then on
    assert callback.points == 10
    assert differences(without, with_it) == []
    assert callback.landscape is not None
    assert callback.landscape.done.sum() == 2  # the points done are kept, here and on disk
    assert len(list((tmp_path / "pictures").glob("step=*/landscape.h5"))) == 2


@pytest.mark.parametrize("task", ["validate", "test"])
def test_validation_and_test_on_their_own(tmp_path: Path, task: str) -> None:
    def run(callbacks: list[Any]) -> Any:
        L.seed_everything(1)
        module, (_, loader) = Net(), loaders()
        trainer = L.Trainer(
            accelerator="cpu",
            logger=False,
            callbacks=callbacks,
            default_root_dir=tmp_path,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        result = getattr(trainer, task)(module, loader, verbose=False)
        return result, module.state_dict(), module.steps, module.seen, torch.get_rng_state(), loader.dataset.reads

    callback = Counting(strict=True, **SMALL)
    without, with_it = run([]), run([callback])
    assert callback.passes == 1
    assert callback.landscape is not None
    assert callback.landscape.main == {"validate": "val_loss", "test": "test_loss"}[task]
    assert differences(without, with_it) == []
