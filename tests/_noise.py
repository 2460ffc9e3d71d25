"""Run by test_noise.py as a program: a training whose landscape tries accelerations that torch warns of."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscapeCallback
from lightning_landscape.accelerations import ACCELERATIONS
from lightning_landscape.accelerations.trial import Trial

folder, row = Path(sys.argv[1]), sys.argv[2]
for name in [n for n in ACCELERATIONS if n not in (row, "kept_memory")]:
    del ACCELERATIONS[name]
Trial._is_affordable = lambda *_: True  # type: ignore[method-assign]  # tried in any case
plain_attempt, attempts = Trial.attempt, list[tuple[str, ...]]()


def attempt(self: Trial, names: Any) -> Any:
    """An attempt, which is counted."""
    attempts.append(tuple(names))
    return plain_attempt(self, names)


Trial.attempt = attempt  # type: ignore[method-assign]
object.__setattr__(ACCELERATIONS[row], "replaces", None)


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.bag, self.hidden, self.out = nn.EmbeddingBag(20, 4), nn.Linear(9, 4), nn.Linear(4, 5)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        features = self.bag(batch[0]) if row == "several_points" else self.hidden(batch[0].float()).tanh()
        scores = self.out(features)
        if not self.training:
            warnings.warn("the user's own", UserWarning, stacklevel=1)
        return nn.functional.cross_entropy(scores, batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.05)


torch.manual_seed(0)
data = TensorDataset(torch.randint(0, 20, (64, 9)), torch.randint(0, 5, (64,)))
callback = LossLandscapeCallback(
    x=(-1, 1, 31), y=(-1, 1, 31), samples=0, plots=[], formats=["h5"], budget=None, strict=True, mode="eval"
)
trainer = L.Trainer(
    accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_model_summary=False,
    enable_progress_bar=False, callbacks=[callback], default_root_dir=folder,
)  # fmt: skip
trainer.fit(Net(), DataLoader(data, 4))
assert (row,) in attempts
