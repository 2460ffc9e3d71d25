"""Run by test_interrupted.py as a program: a training whose landscapes take long, and which says how far it is."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_landscape import LossLandscapeCallback

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
out, pause, task = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
output = os.dup(sys.stdout.fileno())  # not held back


class Rows(Dataset[Any]):
    """Twenty rows, which say when a landscape reads them."""

    slow = 0.0

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        if self.slow:
            os.write(output, f"row {index}\n".encode())
            time.sleep(self.slow)
        return torch.sin(torch.arange(4.0) + index), index % 3


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(4, 3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if not self.training:
            os.write(output, f"step at {self.global_step}\n".encode())
            time.sleep(pause)
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_train_batch_end(self, *_: Any) -> None:
        data.slow = 0.2 if task == "reading" else 0.0  # from the first landscape on


if __name__ == "__main__":
    data = Rows()
    landscapes = LossLandscapeCallback(
        every_n_epochs=1, x=(-1, 1, 7), y=(-1, 1, 5), samples=0, dirpath=out / "landscape", plots=["heat"], budget=None,
        accelerate=False, formats=["h5", "png"], strict=True,
    )  # fmt: skip
    callbacks = [landscapes, ModelCheckpoint(out, save_last=True)]
    trainer = L.Trainer(
        accelerator="cpu", logger=False, callbacks=callbacks[task == "without" :], devices=2 if task == "ranks" else 1,
        strategy="ddp" if task == "ranks" else "auto",
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=out, max_epochs=2,
    )  # fmt: skip
    workers = 0 if task == "reading" else 1
    loader = DataLoader(data, 20, num_workers=workers, persistent_workers=workers > 0)
    module = Net()
    trainer.fit(module, loader, ckpt_path=out / "last.ckpt" if task == "again" else None)
    print("finished with", trainer.global_step, module.net.weight.flatten().tolist(), flush=True)
