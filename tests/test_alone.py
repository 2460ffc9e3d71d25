"""Trainer.validate and Trainer.test on a checkpoint: the landscape is of its weights, its step and its epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ._formula import callback, plain_surface, train
from ._training import differences

X = torch.randn(22, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(22) % 3


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    validation_step = test_step = training_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.2)


def data() -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), 8)


since_2_6 = pytest.mark.skipif(
    tuple(map(int, L.__version__.split(".")[:2])) < (2, 6),
    reason="before 2.6 Lightning does not tell callbacks of the checkpoint here",
)


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint need to be provided")
@since_2_6
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("task", ["validate", "test"])
def test_a_checkpoint(tmp_path: Path, task: str, accumulate: int) -> None:
    trained = Net()
    trainer, _ = train(trained, [data()], [], tmp_path, max_epochs=3, accumulate_grad_batches=accumulate)
    path = tmp_path / "end.ckpt"
    trainer.save_checkpoint(path)

    def run(callbacks: list[Any]) -> Any:
        L.seed_everything(1)
        module = Net()
        runner = L.Trainer(
            accelerator="cpu", logger=False, callbacks=callbacks, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path,
        )  # fmt: skip
        result = getattr(runner, task)(module, data(), ckpt_path=path, verbose=False)
        return result, module.state_dict(), torch.get_rng_state()

    landscape = callback(every_n_epochs=None, dirpath=tmp_path / "out")
    assert differences(run([]), run([landscape])) == []
    result = landscape.landscape
    assert result is not None
    expected = plain_surface(trained, result, 4, lambda: nn.functional.cross_entropy(trained.net(X), Y))
    np.testing.assert_allclose(result.loss, expected, rtol=2e-6)
    step = 9 if accumulate == 1 else 6  # three batches an epoch; the last steps in any case
    assert (result.recipe.step, result.recipe.epoch) == (step, 3)
    assert list(landscape.landscapes) == [step]
    assert [folder.name for folder in (tmp_path / "out").iterdir()] == [f"step={step:06d}-{task}"]


@since_2_6
def test_the_next_task_without_a_checkpoint_is_of_no_step(tmp_path: Path) -> None:
    trained = Net()
    trainer, _ = train(trained, [data()], [], tmp_path)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    landscape = callback(every_n_epochs=None)
    runner = L.Trainer(
        accelerator="cpu", logger=False, callbacks=[landscape], enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path,
    )  # fmt: skip
    steps = []
    for path in (tmp_path / "end.ckpt", None):
        runner.validate(trained, data(), ckpt_path=path, verbose=False)
        assert landscape.landscape is not None
        steps.append(landscape.landscape.recipe.step)
    assert steps == [6, 0]
