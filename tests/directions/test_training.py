"""Directions from a training: what the optimiser really does next, a training that stays the same, and its records."""

from __future__ import annotations

import copy
import itertools
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape, Recorder, Snapshot
from lightning_landscape.objectives.base import CannotMeasureError

from .._formula import callback, train
from .._steps import SIZE, STEPS, Automatic, X, Y
from .._training import differences, recorded


def one_batch() -> list[Any]:
    """All data in one batch: the frozen data are those of every step."""
    return [DataLoader(TensorDataset(X, Y), SIZE)]


def scheduled(optimizer: Any) -> Any:
    return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7)]


OPTIMIZERS = {
    "momentum": lambda m: torch.optim.SGD(m.parameters(), 0.3, momentum=0.9, nesterov=True, weight_decay=0.01),
    "scheduled": lambda m: scheduled(torch.optim.AdamW(m.parameters(), 0.03, amsgrad=True)),
    "two": lambda m: torch.optim.RMSprop(m.parameters(), 0.02),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_landscape_shows_at_1_the_loss_that_the_next_step_reaches(name: str, tmp_path: Path) -> None:
    class Trained(Automatic):
        def configure_optimizers(self) -> Any:
            return OPTIMIZERS[name](self)

    watched = callback(directions="update", x=(0.0, 1.0, 2), y=None)
    train(Trained(), one_batch(), [watched], tmp_path, max_epochs=4)
    lines = list(watched.landscapes.values())
    assert len(lines) == 4
    for now, following in itertools.pairwise(lines):
        assert now.loss[1] == pytest.approx(following.loss[0], rel=2e-6)
        assert abs(now.loss[1] - now.loss[0]) > 1e-4


@pytest.mark.parametrize("kind", ["update", "hessian"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
@pytest.mark.filterwarnings("ignore")
def test_whatever_a_step_does_the_training_is_the_same(step: Any, kind: str, tmp_path: Path) -> None:
    """What has no derivatives, or no optimiser that can step on a copy, is refused: all but one before the training."""
    torch.manual_seed(0)
    plain = step()
    torch.manual_seed(0)
    module, watched = step(), callback(directions=kind, every_n_epochs=None, strict=True)
    refused = REFUSED if kind == "update" else WITHOUT_HESSIAN
    data = [DataLoader(TensorDataset(X, Y), 16, shuffle=True)]
    try:
        _, with_it = train(module, data, [watched], tmp_path / "with")
    except (MisconfigurationException, CannotMeasureError) as error:
        assert refused[step.__name__] in str(error)  # noqa: PT017  # some are refused
        return
    assert step.__name__ not in refused
    _, without = train(plain, data, [], tmp_path / "without")
    assert differences(without, with_it) == []
    assert watched.landscape is not None
    assert watched.landscape.done.all()


CLOSURE = "a copy of Sam can't step"
EDITS = "edits weights after it has computed train_loss"
REFUSED = {
    **dict.fromkeys(("SamReturnsTheFirst", "SamReturnsTheSecond", "SamAccumulates", "SamByClosure"), CLOSURE),
    **dict.fromkeys(("KeptInAnObject", "ClipsWeights", "StepsByHand"), EDITS),
    "KeptAndNeverToldToTheTrainer": "The next update moves nothing",
    "Lbfgs": "LBFGS computes the loss at several weights",
    "ReturnsNothingButLogs": "my_loss has no gradient",
}


WITHOUT_HESSIAN = {
    **dict.fromkeys(
        ("KeptInAnObject", "ClipsWeights", "StepsByHand"), "torch gives no second derivatives of this step"
    ),
    **dict.fromkeys(
        ("ClipsWeightsData", "ClipsWeightsByNumpy", "ClipsInALaterBatch", "ReachesItselfByTheTrainer"),
        "The step edits the weights",
    ),
    "ReturnsNothingButLogs": "my_loss can't be differentiated",
}


class Quiet(Automatic):
    """A rate that begins and ends at 0."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.2)
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(0 < step < 4))
        return [optimizer], [{"scheduler": rates, "interval": "step"}]


def test_a_rate_of_zero_is_no_error_at_first_and_said_at_the_end(tmp_path: Path) -> None:
    watched = callback(directions="update", every_n_train_steps=2, every_n_epochs=None, strict=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(Quiet(), one_batch(), [watched], tmp_path, max_epochs=4)
    texts = [str(w.message) for w in caught if "next update moves nothing" in str(w.message)]
    assert len(texts) == 1
    assert "learning rates 0.0" in texts[0]
    assert [*watched.landscapes] == [2]


def test_the_best_checkpoint_has_no_next_update(tmp_path: Path) -> None:
    class Logs(Automatic):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("falls", -float(self.current_epoch == 0), on_epoch=True)
            return self.loss(batch)

    watched = callback(directions="update", every_n_epochs=None, at_train_end="best", strict=False)
    saves = ModelCheckpoint(tmp_path, monitor="falls")
    with pytest.warns(UserWarning, match="needs the optimisers that train these weights"):
        train(Logs(), one_batch(), [watched, saves], tmp_path, enable_checkpointing=True)
    assert len(watched.landscapes) == 1


class Fills(L.Callback):
    """Records each epoch, as a recorder would: at the rehearsal there are none."""

    def __init__(self, records: list[Any]) -> None:
        self.records = records

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.records.append(copy.deepcopy(Snapshot.view(pl_module).params))


def test_before_the_first_record_a_rehearsal_takes_other_directions(tmp_path: Path) -> None:
    for kind in ("pca", "mixed"):
        records: list[Any] = []
        watched = callback(directions=kind, every_n_epochs=None, ignore=None, trajectory="auto")
        watched.settings = replace(watched.settings, recorded=recorded(records))
        train(Automatic(), one_batch(), [Fills(records), watched], tmp_path / kind, max_epochs=5)
        recipe = watched.landscape.recipe.directions
        assert (recipe.kind, recipe.settings["recorded"]) == (kind, 5)
        assert recipe.labels[0].startswith("PCA 1 (")
    with pytest.raises(MisconfigurationException, match=r"ignore='encoder\.\*' matches no trainable"):
        train(Automatic(), one_batch(), [callback(directions="pca", ignore="encoder.*", trajectory="auto")], tmp_path)


def test_an_evaluation_without_records_says_so(tmp_path: Path) -> None:
    class Validated(Automatic):
        def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.loss(batch)

    watched = callback(directions="pca", data="val", strict=False, trajectory="auto")
    trainer = L.Trainer(accelerator="cpu", logger=False, callbacks=[watched], default_root_dir=tmp_path)
    with pytest.warns(UserWarning, match="none are recorded here"):
        trainer.validate(Validated(), DataLoader(TensorDataset(X, Y), 16), verbose=False)


def test_checkpoints_that_are_not_there_are_told_before_the_training(tmp_path: Path) -> None:
    from lightning_landscape.directions import Between

    watched = callback(directions=Between((str(tmp_path / "no.ckpt"), str(tmp_path / "nor.ckpt"))))
    with pytest.raises(MisconfigurationException, match=r"no\.ckpt"):
        train(Automatic(), one_batch(), [watched], tmp_path)


def test_a_range_of_auto_holds_the_path_and_grows_with_it(tmp_path: Path, caplog: Any) -> None:
    records: list[Any] = []
    watched = callback(
        directions="pca", every_n_epochs=3, x=("auto", 3), y=("auto", 3), ignore=None, trajectory="auto"
    )  # fmt: skip
    watched.settings = replace(watched.settings, recorded=recorded(records))
    with caplog.at_level(logging.INFO):
        train(Automatic(), one_batch(), [Fills(records), watched], tmp_path, max_epochs=9)
    assert "there the recorded path ends" in caplog.text
    ends = []
    for count, landscape in zip((3, 6, 9), watched.landscapes.values(), strict=True):
        first = torch.cat([t.reshape(-1) for t in records[0].values()])
        last = torch.cat([t.reshape(-1) for t in records[count - 1].values()])
        ends.append([axis[-1] for axis in landscape.grid.axes])
        assert landscape.recipe.ranges["x"].samples == 0
        assert ends[-1][0] <= 1.5 * float((first - last).norm())
    assert ends[2][0] > ends[0][0]


def test_a_range_of_auto_holds_the_path_without_a_trainer() -> None:
    torch.manual_seed(0)
    net, recorder = nn.Linear(6, 2), Recorder()
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    for step in range(8):
        recorder.record(net, step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(X), Y).backward()
        optimizer.step()
    recorder.record(net, 8)
    landscape = LossLandscape(net, DataLoader(TensorDataset(X, Y), 16), nn.CrossEntropyLoss(), records=recorder.weights)
    for kind, axes_of_path in (("pca", (0, 1)), ("mixed", (0,))):
        landscape.compute_2d(("auto", 3), ("auto", 3), directions=kind, ignore=None, save=False)
        points = np.abs(recorder.trajectory(landscape.plane).points).max(axis=0)
        for i in axes_of_path:
            end = landscape.landscape.grid.axes[i][-1]
            assert 1.1 * points[i] <= end <= 1.5 * points[i]
