"""The moments at which landscapes are measured: after steps, after epochs, and within the time of the training."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import Landscape, LossLandscapeCallback
from lightning_landscape.trainer import compat
from lightning_landscape.weights.parameters import checksum

from ._training import differences
from ._training import fit as train


class Line(L.LightningModule):
    """A linear net, trained by SGD."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(3, 1)
        self.after: dict[int, str] = {}  # the checksums of the weights when all of a step is over, by the step

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.net(batch[0]).square().mean()

    def on_train_batch_end(self, *arguments: Any) -> None:
        """A hook that edits the weights after the step, and after the hooks of all callbacks."""
        with torch.no_grad():
            self.net.weight.clamp_(-0.5, 0.5).mul_(0.99)
        self.after[self.global_step] = checksum([self.net.weight.detach()])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class TwoOptimizers(Line):
    """Manual optimisation, in which a batch is two steps."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = super().training_step(batch, batch_idx)
        optimizers: Any = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        return loss

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD([parameter], 0.1) for parameter in self.parameters()]


def small(**options: Any) -> LossLandscapeCallback:
    given = {
        "x": (-1, 1, 3), "y": None, "samples": 0, "plots": [], "formats": ["h5"], "strict": True, "at_train_end": False,
        "accelerate": False,
    }  # fmt: skip
    return LossLandscapeCallback(**{**given, "trajectory": False, **options})


def fit(root: Path, callback: Any, module: Any = None, *others: Any, checkpoint: Any = None, **options: Any) -> Any:
    """A training of 8 batches an epoch; its module."""
    module = Line() if module is None else module
    given = {"max_epochs": 2, "enable_checkpointing": any(isinstance(o, ModelCheckpoint) for o in others), **options}
    trainer = L.Trainer(
        accelerator="cpu", logger=False, callbacks=[callback, *others], default_root_dir=root,
        enable_progress_bar=False, enable_model_summary=False, **given,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    trainer.fit(module, DataLoader(TensorDataset(torch.randn(32, 3, generator=generator)), 4), ckpt_path=checkpoint)
    return module


def weights(callback: LossLandscapeCallback) -> dict[int, str | None]:
    """The checksums of the weights at which the landscapes lie, by their step."""
    found = {}
    for step, landscape in callback.landscapes.items():
        assert isinstance(landscape, Landscape)
        assert landscape.recipe.step == step
        found[step] = landscape.recipe.weights_checksum
    return found


class OnlyWeight(Line):
    """Nothing but the weight is trained, so that its checksum is that of a landscape."""

    def __init__(self) -> None:
        super().__init__()
        self.net.bias.requires_grad_(False)


@pytest.mark.parametrize("steps, expected", [(1, [*range(1, 17)]), (3, [3, 6, 9, 12, 15]), (8, [8, 16]), (17, [])])
def test_landscapes_after_steps_are_of_the_weights_after_all_hooks_of_the_step(
    tmp_path: Path, steps: int, expected: list[int]
) -> None:
    callback = small(every_n_train_steps=steps)
    module = fit(tmp_path, callback, OnlyWeight())
    assert weights(callback) == {step: module.after[step] for step in expected}


def test_steps_and_epochs_together_measure_each_moment_once(tmp_path: Path) -> None:
    callback = small(every_n_train_steps=6, every_n_epochs=1, at_train_end=True)
    fit(tmp_path, callback)
    assert [*callback.landscapes] == [6, 8, 12, 16]
    folders = sorted(path.name for path in (tmp_path / "landscape").glob("step=*"))
    assert folders == [f"step={step:06d}" for step in (6, 8, 12, 16)]


@pytest.mark.parametrize("accumulated, expected", [(2, [2, 4, 6, 8]), (3, [2, 4, 6]), (8, [2])])
def test_batches_whose_gradients_accumulate_are_no_steps(tmp_path: Path, accumulated: int, expected: list[int]) -> None:
    """8 batches an epoch are 4, 3 (the last of 2 batches) and 1 steps."""
    callback = small(every_n_train_steps=2)
    fit(tmp_path, callback, accumulate_grad_batches=accumulated)
    assert [*callback.landscapes] == expected


@pytest.mark.parametrize("kind, steps", [(Line, 3), (Line, 5), (TwoOptimizers, 6), (TwoOptimizers, 3)])
@pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual optimization")
def test_steps_are_counted_as_by_a_checkpoint(tmp_path: Path, kind: Any, steps: int) -> None:
    """`ModelCheckpoint` names its files by the optimisers' steps."""
    saving = ModelCheckpoint(
        tmp_path / "saved", every_n_train_steps=steps, save_top_k=-1, filename="{step}", auto_insert_metric_name=False
    )
    seen: list[int] = []

    class Noting(LossLandscapeCallback):
        def _run(self, trainer: Any, *arguments: Any, **options: Any) -> None:
            seen.append(trainer.global_step)

    callback = Noting(every_n_train_steps=steps, at_train_end=False)
    fit(tmp_path, callback, kind(), saving)
    assert seen == sorted(int(path.stem) for path in (tmp_path / "saved").iterdir())
    assert seen


@pytest.mark.parametrize("loading", [{}, {"workers": 2, "persistent": True, "own_generator": True}], ids=str)
@pytest.mark.filterwarnings(r"ignore:Found 1 module\(s\) in eval mode.*")  # on purpose: its part `still`
def test_landscapes_in_the_middle_of_an_epoch_leave_the_training_alone(tmp_path: Path, loading: Any) -> None:
    callback = small(every_n_train_steps=4, data=["train", "val"], samples=2)
    without = train(tmp_path / "without", [], epochs=3, **loading)
    with_it = train(tmp_path / "with", [callback], epochs=3, **loading)
    assert [*callback.landscapes] == [4, 8, 12, 16]  # of 6 steps an epoch
    assert differences(without, with_it) == []


def test_accumulated_gradients_are_left_alone(tmp_path: Path) -> None:
    """A landscape falls between the batches of which a step is made."""
    callback = small(every_n_train_steps=1)
    with_it = fit(tmp_path / "with", callback, accumulate_grad_batches=3)
    without = fit(tmp_path / "without", L.Callback(), accumulate_grad_batches=3)
    assert len(callback.landscapes) == 6
    assert differences(dict(with_it.state_dict()), dict(without.state_dict())) == []


@pytest.mark.filterwarnings("ignore:Checkpoint directory")  # that of the first part
def test_a_training_that_goes_on_has_the_landscape_of_its_checkpoint(tmp_path: Path) -> None:
    """It may be unfinished. Here it is not, and is found."""

    class Plain(Line):  # Lightning writes a checkpoint before the module's own hook has edited the weights
        def on_train_batch_end(self, *arguments: Any) -> None:
            pass

    saving = ModelCheckpoint(tmp_path / "saved", every_n_train_steps=4, save_top_k=-1, filename="{step}")
    first = small(every_n_train_steps=4, dirpath=tmp_path / "out")
    fit(tmp_path, first, Plain(), saving, max_epochs=1)
    assert [*first.landscapes] == [4, 8]
    second = small(every_n_train_steps=4, dirpath=tmp_path / "out")
    resumed = ModelCheckpoint(tmp_path / "saved", every_n_train_steps=4, save_top_k=-1, filename="{step}-again")
    with pytest.warns(UserWarning, match="checkpoint that ended before the epoch ended"):
        fit(tmp_path, second, Plain(), resumed, checkpoint=tmp_path / "saved" / "step=4.ckpt")
    assert [*second.landscapes] == [4, 8, 12, 16]
    assert weights(second)[4] == weights(first)[4]
    folders = sorted(path.name for path in (tmp_path / "out").glob("step=*"))
    # Step 8 has other weights: the loader starts anew in the middle of the epoch.
    assert folders == ["step=000004", "step=000008", "step=000008_2", "step=000012", "step=000016"]


@pytest.mark.parametrize(
    "options, text, batches",
    [
        ({"every_n_train_steps": 3}, "every 3 steps", 3),
        ({"every_n_train_steps": 1, "every_n_epochs": 2}, "every 2 epochs and every step", 1),
        ({"every_n_epochs": 1, "every_n_train_steps": 100}, "every epoch and every 100 steps", 8),
        ({"at_train_end": True}, "at the end", 16),
    ],
)
def test_the_cost_is_said_for_the_moments(
    tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch, options: Any, text: str, batches: int
) -> None:
    from lightning_landscape.trainer import cost

    known: list[float] = []
    between = cost._batches_between
    monkeypatch.setattr(cost, "_batches_between", lambda *given: (known.append(between(*given)), known[0])[1])
    with caplog.at_level(logging.INFO):
        fit(tmp_path, small(**options))
    assert known == [batches]
    (line,) = [
        record.getMessage() for record in caplog.records if record.getMessage().startswith("landscape: 3 points")
    ]
    assert f", {text}" in line


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "3"])
def test_a_number_of_steps_that_is_none_is_refused(steps: Any) -> None:
    with pytest.raises(ValueError, match=r"every_n_train_steps=.*: give a landscape every so many steps, or None"):
        LossLandscapeCallback(every_n_train_steps=steps)


def test_another_word_at_the_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r'at_train_end=\'last\' is unknown; the choices are True, False, "best"\.'):
        LossLandscapeCallback(at_train_end="last")  # type: ignore[arg-type]


# max_time is a limit on the wall clock: of the training and of the landscapes during it.


class Clock(L.Callback):
    """The seconds from the start of the training to its end, before any landscape of the final weights."""

    def on_train_start(self, *arguments: Any) -> None:
        self.began = time.monotonic()

    def on_train_end(self, *arguments: Any) -> None:
        self.seconds = time.monotonic() - self.began


def slow(module: Any, batch: Any) -> Tensor:
    time.sleep(0.05)
    return module.net(batch[0]).square().mean()


def test_max_time_ends_a_landscape_that_would_take_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take 20 s at least, and a second is left."""
    left = iter([1.0])
    monkeypatch.setattr(compat, "time_left", lambda trainer: next(left, -1.0))
    callback = small(every_n_epochs=1, objective=slow, max_batches=1, x=(-1, 1, 401), strict=False)
    with pytest.warns(UserWarning, match=r"of 401 points of the landscape of step 8 could not be measured \(max_time"):
        fit(tmp_path, callback, None, max_epochs=3)
    first = callback.landscapes[8]
    assert isinstance(first, Landscape)
    assert 0 < first.done.sum() < 401
    assert first.done[200]  # from the centre outwards
    assert len(callback.landscapes) == 1


def test_a_landscape_with_less_time_left_than_the_last_one_took_is_left_to_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    left = iter([1000.0, 1e-9, 1000.0])
    monkeypatch.setattr(compat, "time_left", lambda trainer: next(left, 1000.0))
    callback = small(every_n_train_steps=4, at_train_end=True)
    with caplog.at_level(logging.INFO, "lightning_landscape"):
        fit(tmp_path, callback)
    assert [*callback.landscapes] == [4, 12, 16]
    assert "no landscape of step 8: 1e-09 s of max_time are left for the training" in caplog.text


def test_the_landscape_of_the_final_weights_is_measured_after_max_time(tmp_path: Path) -> None:
    callback = small(at_train_end=True)
    fit(tmp_path, callback, None, max_epochs=-1, max_time={"seconds": 1})
    assert callback.landscape is not None
    assert callback.landscape.done.all()


def test_a_timer_counts_the_landscapes_during_a_training_and_not_the_last(tmp_path: Path) -> None:
    timer, callback = Timer(), small(every_n_epochs=1, at_train_end=True, objective=slow, max_batches=1, x=(-1, 1, 9))
    began = time.monotonic()
    fit(tmp_path, callback, None, timer)
    assert 9 * 0.05 < timer.time_elapsed("train") < time.monotonic() - began - 9 * 0.05


def test_a_budget_is_no_longer_than_what_is_left_of_max_time(tmp_path: Path) -> None:
    clock = Clock()
    callback = small(every_n_epochs=1, objective=slow, x=(-1, 1, 401), budget="60s", strict=False)
    fit(tmp_path, callback, None, clock, max_epochs=-1, max_time={"seconds": 3})
    assert clock.seconds < 13
    landscape = callback.landscapes[8]
    assert isinstance(landscape, Landscape)
    assert 0 < landscape.evaluated.sum() < 60  # of 0.05 s each
