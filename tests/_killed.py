"""Run by test_killed.py as a program: a slow pass of `Trainer.validate`, which says on each line how far it is."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_landscape.callback as home
from lightning_landscape import LossLandscapeCallback

torch.set_num_threads(1)
out, pause, seed = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
home.SAVE_EVERY = 0.05


class Net(L.LightningModule):
    calls = 0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Linear(4, 3)

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        Net.calls += 1
        print(f"call {Net.calls}", flush=True)
        time.sleep(pause)
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])


generator = torch.Generator().manual_seed(0)
data = TensorDataset(torch.randn(20, 4, generator=generator), torch.arange(20) % 3)
callback = LossLandscapeCallback(
    x=(-1, 1, 7), y=(-1, 1, 5), samples=2, sample_layout="1x2", dirpath=out, plots=["heat"], strict=True
)
L.Trainer(
    accelerator="cpu", logger=False, callbacks=[callback], enable_progress_bar=False, enable_model_summary=False,
    default_root_dir=out,
).validate(Net(), DataLoader(data, 20), verbose=False)  # fmt: skip
print(f"finished after {Net.calls} calls")
