"""`python -W error`: a warning of ours ends no training; it is in the log instead."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscapeCallback, load, save

X, Y = torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3


class Plain(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.steps = nn.Linear(4, 3), 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steps += self.training
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class Raising(Plain):
    """Fails in the rehearsal."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if not self.training:
            raise TypeError("not me")
        return super().training_step(batch, batch_idx)


class Refusing(Plain):
    """Fails at the points."""

    def on_train_batch_end(self, *args: Any) -> None:
        self.trained = self.net.weight.clone()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if not self.training and self.steps == 3 and not torch.equal(self.trained, self.net.weight):
            raise KeyError("not here")
        return super().training_step(batch, batch_idx)


class Warns(Plain):
    """Warns where it is measured."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if not self.training:
            warnings.warn("of the step", stacklevel=1)
        return super().training_step(batch, batch_idx)


def one(site: Any, k: int) -> Any:
    """Directions that are one."""
    return [{name: torch.ones_like(p) for name, p in site.params.items()}] * k


def fit(module: Any, folder: Path, logger: Any = False, **options: Any) -> LossLandscapeCallback:
    """A training of three steps, which goes on to its end."""
    callback = LossLandscapeCallback(
        **{"x": (-1, 1, 3), "y": (-1, 1, 3), "plots": [], "samples": 0, "formats": ["h5"], **options}
    )
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=logger, callbacks=[callback], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, log_every_n_steps=1,
    )  # fmt: skip
    trained = module()
    with warnings.catch_warnings():  # as the option does; then what others warn of here in any case
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*")
        trainer.fit(trained, DataLoader(TensorDataset(X, Y), 8))
    assert trained.steps == 3
    return callback


@pytest.mark.parametrize(
    "module, options, said",
    [
        (Raising, {}, r"TypeError: not me.* The training goes on"),
        (Refusing, {}, r"8 of 9 points .* could not be measured \(KeyError: 'not here'\)"),
        (Warns, {}, r"The loss landscape failed \(.*UserWarning: of the step"),
        (Plain, {"directions": one}, r"Both directions are parallel"),
    ],
)
def test_a_training_goes_on(module: Any, options: Any, said: str, tmp_path: Path, caplog: Any) -> None:
    fit(module, tmp_path, **options)
    assert re.search(said, caplog.text)


@pytest.mark.parametrize(
    "seed, said", [(1, r"with 8 of 9 points\. To continue it"), (2, r"has another seed, .*\. Its 8 po")]
)
def test_a_training_goes_on_where_another_was_left(seed: int, said: str, tmp_path: Path, caplog: Any) -> None:
    """In another version of the logger's, and in the same folder."""
    torch.manual_seed(0)
    fit(Plain, tmp_path, CSVLogger(str(tmp_path)), seed=1)
    (file,) = tmp_path.rglob("landscape.h5")
    left = load(file)
    left.done[0, 0] = False
    save(left, file)
    torch.manual_seed(0)
    folder = {} if seed == 1 else {"dirpath": file.parents[1]}
    landscape = fit(Plain, tmp_path, CSVLogger(str(tmp_path)), seed=seed, **folder).landscape
    assert re.search(said, caplog.text)
    assert "landscape failed" not in caplog.text
    assert landscape is not None
    assert landscape.done.all()
