"""Run by test_memory.py as a program: the peak memory of a landscape of wide layers."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscapeCallback

torch.set_num_threads(1)
WIDTH, LAYERS = 1024, int(sys.argv[1])


def highest() -> int:
    """The most memory that this program has ever held, in bytes; getrusage would count that of its parent."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


class Wide(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.net(batch[0]).square().mean()


class Before(L.Callback):
    """`Trainer.validate` needs no gradients, whose memory would hide that of the pass."""

    peak = 0

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.peak = highest()


before = Before()
landscape = LossLandscapeCallback(
    x=(-1, 1, 3), y=(-1, 1, 2), samples=2, plots=[], formats=["h5"], strict=True, orthogonalize=True
)
module, data = Wide(), DataLoader(TensorDataset(torch.randn(8, WIDTH)), 4)
with tempfile.TemporaryDirectory() as folder:
    L.Trainer(
        accelerator="cpu", logger=False, callbacks=[before, landscape], enable_progress_bar=False,
        default_root_dir=folder, enable_model_summary=False, enable_checkpointing=False,
    ).validate(module, data, verbose=False)  # fmt: skip
assert landscape.landscape is not None
assert landscape.landscape.done.all()
parameters = sum(p.numel() * p.element_size() for p in module.parameters())
print(json.dumps({"pass": highest() - before.peak, "parameters": parameters}))
