"""Run by test_killed.py as a program: a slow pass of `Trainer.validate` or of a fit, which says how far it is."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscapeCallback
from lightning_landscape.survey import surface_file

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
out, pause, seed, task = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
surface_file.SAVE_EVERY = 0.05


class Calls:
    """How often a step was measured: state that a landscape does not put back, and words that it does not hold back."""

    __slots__ = ("count",)


calls, output = Calls(), os.dup(sys.stdout.fileno())
calls.count = 0


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Linear(4, 3)

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        if not self.training:
            calls.count += 1
            os.write(output, f"call {calls.count}\n".encode())
            time.sleep(pause)
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    training_step = validation_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


generator = torch.Generator().manual_seed(0)
data = TensorDataset(torch.randn(20, 4, generator=generator), torch.arange(20) % 3)
callbacks: list[Any] = []
if task != "without":
    callbacks.append(
        LossLandscapeCallback(
            every_n_epochs=1, at_train_end=False, x=(-1, 1, 7), y=(-1, 1, 5), samples=2, sample_layout="1x2",
            dirpath=out, plots=["heat"], strict=True, budget=None,
        )
    )  # fmt: skip
module = Net()


class Stopped(L.Callback):
    """Says what the training has come to when a signal stops it; without a landscape, sends the signal itself."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if task == "without" and trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        print(type(exception).__name__, trainer.global_step, pl_module.net.weight.flatten().tolist(), flush=True)


trainer = L.Trainer(
    accelerator="cpu", logger=False, callbacks=[*callbacks, Stopped()], enable_progress_bar=False,
    enable_model_summary=False, enable_checkpointing=False, default_root_dir=out, max_epochs=2,
)  # fmt: skip
if task == "validate":
    trainer.validate(module, DataLoader(data, 20), verbose=False)
else:
    trainer.fit(module, DataLoader(data, 20))
print(f"finished after {calls.count} calls")
