"""The landscape of the best checkpoint beside that of the final weights."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import Landscape, LossLandscapeCallback, load
from lightning_landscape.weights.parameters import checksum

from ._training import differences
from ._training import fit as train

WEIGHTS = {0: 3.0, 1: 1.0, 2: 2.0}  # after each epoch; the loss is w², so that epoch 1 is the best


class Moves(L.LightningModule):
    """One weight, with a fixed value after each epoch, and BatchNorm's statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2, 1), 4.0))
        self.norm = nn.BatchNorm1d(1, affine=False)
        self.loaded = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.weight.square().mean() + 0 * self.norm(batch[0]).sum()

    def on_train_epoch_end(self) -> None:
        with torch.no_grad():
            self.weight.fill_(WEIGHTS[self.current_epoch])
            self.norm.running_mean.fill_(self.current_epoch)  # type: ignore[union-attr]
        self.log("score", WEIGHTS[self.current_epoch])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.loaded += 1

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.0)


def callback(**options: Any) -> LossLandscapeCallback:
    given = {
        "at_train_end": "best", "x": (-1, 1, 3), "y": None, "samples": 0, "plots": ["slices"], "formats": ["h5"],
        "strict": True, "accelerate": False,
    }  # fmt: skip
    return LossLandscapeCallback(**{**given, **options})


def best(root: Path, **options: Any) -> ModelCheckpoint:
    return ModelCheckpoint(root / "saved", monitor="score", filename="{epoch}", **options)


def fit(root: Path, *callbacks: Any, module: Any = None, logger: Any = False, **options: Any) -> Any:
    """Three epochs of four steps; the Trainer."""
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=3, logger=logger, callbacks=list(callbacks), default_root_dir=root,
        enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks), enable_progress_bar=False,
        enable_model_summary=False, log_every_n_steps=1, **options,
    )  # fmt: skip
    trainer.fit(Moves() if module is None else module, DataLoader(TensorDataset(torch.randn(8, 1)), 2))
    return trainer


def test_both_are_measured_each_in_a_plane_around_its_own_weights(tmp_path: Path) -> None:
    ours, module = callback(), Moves()
    fit(tmp_path, best(tmp_path), ours, module=module, logger=TensorBoardLogger(tmp_path, name="", version=""))
    assert [*ours.landscapes] == [8, 12]  # the best after epoch 1, the final ones
    for step, weight in ((8, 1.0), (12, 2.0)):
        landscape = ours.landscapes[step]
        assert isinstance(landscape, Landscape)
        assert landscape.center["train_loss"] == weight**2
        assert landscape.recipe.step == step
        assert landscape.recipe.weights_checksum == checksum([torch.full((2, 1), weight)])
        assert landscape.recipe.directions is not None
        assert landscape.recipe.directions.lengths == [pytest.approx(weight * 2**0.5)]  # of its own weights
    assert ours.landscape is ours.landscapes[12]
    assert ours.landscapes[8].recipe.weights == "the best checkpoint, epoch=1.ckpt"  # type: ignore[union-attr]
    assert ours.landscapes[12].recipe.weights == "the module's"  # type: ignore[union-attr]
    folder = tmp_path / "landscape"
    assert sorted(path.name for path in folder.glob("step=*")) == ["step=000008-best", "step=000012"]
    assert load(folder / "step=000008-best" / "landscape.h5").center["train_loss"] == 1.0
    assert module.loaded == 0  # its hook ran on the copy
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload()
    tags = {tag.split("/")[0] for kind in ("images", "scalars") for tag in events.Tags()[kind]}
    assert {"landscape", "landscape_best"} <= tags


def test_the_statistics_of_batchnorm_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    def mean(module: Any, batch: Any) -> Tensor:
        return module.norm.running_mean.sum() + module.weight.sum()

    ours = callback(objective=mean)
    fit(tmp_path, best(tmp_path), ours)
    assert [found.center["train_loss"] for found in ours.landscapes.values()] == [1 + 2.0, 2 + 4.0]  # type: ignore[union-attr]


def test_a_hook_that_edits_the_checkpoint_runs_on_the_copy(tmp_path: Path) -> None:
    """As of a module whose parameters had other names."""

    class Renamed(Moves):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["state_dict"]["old"] = checkpoint["state_dict"].pop("weight")

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["state_dict"]["weight"] = checkpoint["state_dict"].pop("old")

    ours = callback()
    fit(tmp_path, best(tmp_path), ours, module=Renamed())
    assert ours.landscapes[8].center["train_loss"] == 1.0  # type: ignore[union-attr]


def test_a_module_that_cannot_be_copied_gets_its_weights_back(tmp_path: Path) -> None:
    class Uncopyable(Moves):
        def __init__(self) -> None:
            super().__init__()
            self.part = Stays()

    class Stays(nn.Module):
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("never")

    ours, module = callback(), Uncopyable()
    fit(tmp_path, best(tmp_path), ours, module=module)
    assert ours.landscapes[8].center["train_loss"] == 1.0  # type: ignore[union-attr]
    assert ours.landscapes[12].center["train_loss"] == 4.0  # type: ignore[union-attr]
    assert module.weight.tolist() == [[2.0], [2.0]]
    assert float(module.norm.running_mean) == 2.0  # type: ignore[arg-type]


def test_the_landscape_of_a_step_that_was_measured_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points: list[int] = []
    record = Landscape.record
    monkeypatch.setattr(Landscape, "record", lambda *arguments: (points.append(1), record(*arguments))[1])
    ours = callback(every_n_epochs=1)
    fit(tmp_path, best(tmp_path), ours)
    assert len(points) == 3 * 3
    names = sorted(path.name for path in (tmp_path / "landscape").glob("step=*"))
    assert names == ["step=000004", "step=000008", "step=000008-best", "step=000012"]
    twins = [load(tmp_path / "landscape" / name / "landscape.h5").loss.tolist() for name in names[1:3]]
    assert twins[0] == twins[1]


def test_final_weights_that_are_the_best_are_measured_once(tmp_path: Path, caplog: Any) -> None:
    ours = callback()
    with caplog.at_level(logging.INFO):
        fit(tmp_path, best(tmp_path, mode="max", save_top_k=1, every_n_epochs=3), ours)
    assert [*ours.landscapes] == [12]
    assert 'at_train_end="best": The best checkpoint (epoch=2.ckpt) has the final weights.' in caplog.text


class Plain(Checkpoint):
    """A checkpoint callback that knows no best path."""


@pytest.mark.parametrize(
    "others, message",
    [
        ([], "The Trainer has no checkpoint callback. Add ModelCheckpoint"),
        ([Plain()], "Plain has saved no checkpoint. Let it save one"),
        ([ModelCheckpoint(save_top_k=0)], "ModelCheckpoint has saved no checkpoint. Let it save one"),
    ],
)
def test_without_a_best_checkpoint_there_is_one_warning(tmp_path: Path, others: Any, message: str) -> None:
    ours = callback()
    with pytest.warns(UserWarning, match=message) as told:
        fit(tmp_path, ours, *others)
    assert len([w for w in told if "at_train_end" in str(w.message)]) == 1
    assert [*ours.landscapes] == [12]


def test_a_checkpoint_that_is_gone_costs_its_landscape_only(tmp_path: Path) -> None:
    class Removes(L.Callback):
        def on_train_end(self, *arguments: Any) -> None:
            (tmp_path / "saved" / "epoch=1.ckpt").unlink()

    ours = callback(strict=False)
    with pytest.warns(UserWarning, match=r"The best checkpoint could not be read \(FileNotFoundError"):
        fit(tmp_path, best(tmp_path), Removes(), ours)
    assert [*ours.landscapes] == [12]


def test_a_smoke_test_has_no_checkpoint_and_no_warning(tmp_path: Path) -> None:
    ours = callback()
    fit(tmp_path, ours, fast_dev_run=True)
    assert [*ours.landscapes] == [1]


def test_a_share_of_the_time_is_enough_for_both(tmp_path: Path) -> None:
    class Slow(Moves):
        def on_train_batch_start(self, *arguments: Any) -> None:
            time.sleep(0.1)

    ours = callback(budget=0.9)
    fit(tmp_path, best(tmp_path), ours, module=Slow())
    assert [*ours.landscapes] == [8, 12]


@pytest.mark.filterwarnings(r"ignore:Found 1 module\(s\) in eval mode.*")  # on purpose: its part `still`
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_the_training_is_left_alone(tmp_path: Path) -> None:
    """With a checkpoint before the last epoch that is the best."""
    ours = callback(y=(-1, 1, 3), data=["train", "val"])
    results = {}
    for name, callbacks in (("without", []), ("with", [ours])):
        first = ModelCheckpoint(tmp_path / name / "first", every_n_epochs=3)
        results[name] = train(tmp_path / name, [*callbacks, first])
    assert len(ours.landscapes) == 2
    assert differences(results["without"], results["with"]) == []
