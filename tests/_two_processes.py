"""Run by test_ranks.py as a program: one fit under DDP with two processes, and what came of it as a file a rank."""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, Sampler, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

import lightning_landscape.survey.survey as survey
from lightning_landscape import Grid, Landscape, LossLandscapeCallback, SharpnessMonitor
from lightning_landscape.curvature.measures import MEASURES
from lightning_landscape.survey import surface_file

torch.set_num_threads(1)


def numbers(size: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(size)
    return TensorDataset(torch.randn(size, 4, generator=generator), torch.arange(size) % 3)


RANK = int(os.environ.get("LOCAL_RANK", "0"))  # a step that is measured would find itself alone


class Net(L.LightningModule):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 3))
        self.accuracy = MulticlassAccuracy(3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.mode == "error" and not self.training and RANK == 1 and self.global_step:
            raise RuntimeError("only rank 1")
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, sync_dist=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        logits = self.net(batch[0])
        self.accuracy(logits, batch[1])
        self.log("val_loss", nn.functional.cross_entropy(logits, batch[1]), sync_dist=True)
        self.log("val_acc", self.accuracy)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 0.01)


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter(list(zip(*numbers(32).tensors, strict=True)))


class Own(Sampler):
    """Each process draws others: the places of its own parity."""

    def __len__(self) -> int:
        return 16

    def __iter__(self) -> Any:
        return iter(range(torch.distributed.get_rank(), 32, 2))


def validated(trainer: L.Trainer, module: Net, kill: bool = False) -> int:
    """How many points this process measures in `Trainer.validate`; with `kill` it ends after some, a file each time."""
    record, count = Landscape.record, 0

    def counted(landscape: Landscape, *arguments: Any) -> None:
        nonlocal count
        if kill and count == 4 - trainer.global_rank:
            os.kill(os.getpid(), signal.SIGKILL)
        record(landscape, *arguments)
        count += 1

    with patch.object(Landscape, "record", counted), patch.object(surface_file, "SAVE_EVERY", 0.0):
        trainer.validate(module, DataLoader(numbers(21), 8), verbose=False)
    return count


ENDS: list[float] = []  # of x, in every grid that this process measures


def disagree() -> None:
    """Let rank 1 find the loss far steeper than it is, wherever ranges are searched."""
    real, lay = survey.loss_at, survey.Survey.lay_grid

    def noted(self: survey.Survey, grid: Grid) -> None:
        ENDS.append(float(grid.axes[0][-1]))
        lay(self, grid)

    def steeper(*arguments: Any) -> Any:
        loss = real(*arguments)
        return lambda point: loss(point) * (1 + 100 * RANK * abs(point).max())

    survey.loss_at, survey.Survey.lay_grid = steeper, noted  # type: ignore[assignment, method-assign]


def main(out: Path, mode: str) -> None:
    strategy: Any = DDPStrategy(process_group_backend="gloo", timeout=timedelta(minutes=20))
    if mode == "spawn":
        strategy = "ddp_spawn"
    callbacks: list[Any] = []
    if mode != "without":
        callbacks = [
            LossLandscapeCallback(
                every_n_epochs=1, x=(-1, 1, 5), y=(-1, 1, 4), data=["train", "val"], samples=2,
                max_samples=1000 if mode == "stream" else None,
                budget=None if mode in ("with", "kill", "validate") else "auto", plots=["heat"], dirpath=out / "files",
            )
        ]  # fmt: skip
    if mode == "when":
        disagree()
        callbacks = [
            LossLandscapeCallback(
                every_n_train_steps=2, at_train_end="best", x=("auto", 5), y=("auto", 3), max_samples=None, samples=2,
                plots=["heat"], dirpath=out / "files", strict=True,
            )
        ]  # fmt: skip
    if mode == "sharpness":
        callbacks = [SharpnessMonitor(measures=[*MEASURES], budget=None, dirpath=out / "files")]
    if mode.startswith("when"):
        callbacks.append(ModelCheckpoint(out / "saved", monitor="val_loss", mode="max"))
    L.seed_everything(1, workers=True)
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", devices=1 if mode == "one" else 2, logger=False, callbacks=callbacks,
        strategy="auto" if mode == "one" else strategy, enable_checkpointing=mode.startswith("when"),
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=out,
        use_distributed_sampler=True,
    )  # fmt: skip
    module = Net(mode)
    if mode in ("kill", "validate"):
        measured = validated(trainer, module, kill=mode == "kill")
        landscape = callbacks[0].landscape
        values = {name: array.tolist() for name, array in landscape.values.items()}
        (out / f"rank{trainer.global_rank}.json").write_text(json.dumps({"measured": measured, "values": values}))
        return
    data = Stream() if mode == "stream" else numbers(37)
    state = out.parent / "weights.pt"
    how: dict[str, Any] = {"sampler": Own()} if mode == "sampler" else {"shuffle": mode != "stream"}
    trainer.fit(module, DataLoader(data, 8, **how), DataLoader(numbers(21), 8))
    if mode == "with" and trainer.is_global_zero:
        torch.save(module.state_dict(), state)
    result: dict[str, Any] = {
        "weights": {name: t.double().flatten().tolist() for name, t in module.state_dict().items()},
        "metrics": {name: float(v) for name, v in trainer.callback_metrics.items()},
        "random": torch.get_rng_state().tolist(),
        "steps": [int(s) for s in getattr(callbacks[0], "landscapes", {})] if callbacks else [],
    }
    if mode == "sharpness":
        result["history"] = {name: column.tolist() for name, column in callbacks[0].history.items()}
    last = getattr(callbacks[0], "landscape", None) if callbacks else None
    if last is not None:
        result["values"] = {name: array.tolist() for name, array in last.values.items()}
        result["samples"] = last.samples.values.tolist()
        result["places"] = [sample.index for sample in last.samples.items]
        result["done"] = int(last.done.sum())
        result["axes"] = [axis.tolist() for axis in last.grid.axes]
        result["ends"] = ENDS
    (out / f"rank{trainer.global_rank}.json").write_text(json.dumps(result))


@atexit.register
def leave() -> None:
    """Here and in _sharded.py: Lightning leaves gloo open, and may then abort at its exit (pytorch/pytorch#65513)."""
    if torch.distributed.is_initialized():
        time.sleep(0.2)  # torch 2.2 waits with the GIL in hand for gloo's threads, which want it to let tensors go
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
