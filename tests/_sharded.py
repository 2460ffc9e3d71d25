"""Run by test_sharded.py as a program: one fit under FSDP2 with two processes, and what came of it as a file a rank."""

from __future__ import annotations

import pickle
import random
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from lightning_landscape import LossLandscapeCallback

from ._training import RowLogger
from ._two_processes import numbers

torch.set_num_threads(1)
SETTINGS: dict[str, Any] = {
    "x": (-1, 1, 5), "y": (-1, 1, 4), "data": ["train", "val"], "samples": 2, "max_samples": 24, "ignore": None,
    "normalize": "filter", "orthogonalize": True,
}  # fmt: skip


class Block(nn.Module):
    """A part with python state of its own, which its output depends on."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.calls, self.seen = 0, []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(float(x.detach().sum()))
        return torch.tanh(self.linear(x)) + 1e-3 * self.calls


class Net(L.LightningModule):
    """FSDP2 over parts of odd sizes; BatchNorm, dropout, metric and python state, a frozen part, a tied weight."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        torch.manual_seed(5)
        self.net = nn.Sequential(Block(4, 7), nn.BatchNorm1d(7), nn.Dropout(0.2), Block(7, 7), nn.Linear(7, 3))
        self.still = nn.Linear(4, 4).requires_grad_(False)
        self.accuracy = MulticlassAccuracy(3)
        self.trained_on: list[float] = []

    def configure_model(self) -> None:
        if self.mode == "one" or hasattr(self.net, "unshard"):
            return
        from torch.distributed.fsdp import fully_shard

        mesh = self.device_mesh["data_parallel"]
        for part in (self.net[0], self.net[3]):
            fully_shard(part, mesh=mesh)
        fully_shard(self.net, mesh=mesh)
        fully_shard(self.still, mesh=mesh)

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        self.trained_on.append(float(batch[0].sum()))
        logits = self.net(batch[0] + self.still(batch[0]))
        return nn.functional.cross_entropy(logits, batch[1]), logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss, _ = self.loss(batch)
        self.log("train_loss", loss, sync_dist=True, on_epoch=True, on_step=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss, logits = self.loss(batch)
        self.accuracy(logits, batch[1])
        self.log("val_loss", loss, sync_dist=True)
        self.log("val_acc", self.accuracy)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], 0.01)


class Fails(nn.Module):
    """Raises in the middle of a forward pass, between two parts that gather: on one rank or on both."""

    def __init__(self, module: Net, ranks: tuple[int, ...]) -> None:
        super().__init__()
        self.module, self.ranks, self.calls = [module], ranks, 0

    def forward(self, x: Tensor) -> Tensor:
        module = self.module[0]
        FORWARDS.append(module.training)
        if not module.training and module.global_step and module.global_rank in self.ranks and len(FORWARDS) > 50:
            raise RuntimeError("in the middle")
        return x


FORWARDS: list[bool] = []


def plain(value: Any) -> Any:
    """A value without sharded tensors: each rank keeps its own part."""
    if isinstance(value, Tensor):
        return (value.to_local() if hasattr(value, "to_local") else value).detach().clone()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def main(out: Path, mode: str) -> None:
    callbacks: list[Any] = []
    if mode != "without":
        callbacks = [LossLandscapeCallback(every_n_epochs=1, plots=["heat"], dirpath=out / "files", **SETTINGS)]
    L.seed_everything(1, workers=True)
    logger = RowLogger()
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", devices=2, logger=logger, callbacks=callbacks, log_every_n_steps=1,
        strategy=ModelParallelStrategy(
            data_parallel_size=2, tensor_parallel_size=1, process_group_backend="gloo", timeout=timedelta(seconds=40)
        ),
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=out,
    )  # fmt: skip
    module = Net(mode)
    ranks = {"one rank fails": (1,), "all ranks fail": (0, 1)}.get(mode)
    if ranks:
        module.net[2] = Fails(module, ranks)
    trainer.fit(module, DataLoader(numbers(37), 8, shuffle=True), DataLoader(numbers(21), 8))
    optimizer = trainer.optimizers[0]
    result: dict[str, Any] = {
        "weights": plain(module.state_dict()),
        "grads": [plain(p.grad) for p in module.parameters()],
        "optimizer": plain(optimizer.state_dict()),
        "rows": logger.rows,
        "metrics": {name: float(v) for name, v in trainer.callback_metrics.items()},
        "flags": [part.training for part in module.modules()],
        "python state": (module.trained_on, [(b.calls, b.seen) for b in (module.net[0], module.net[3])]),
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "python": random.getstate(),
    }
    landscape = callbacks[0].landscape if callbacks else None
    result["steps"] = [int(s) for s in callbacks[0].landscapes] if callbacks else []
    result["landscape"] = landscape and {
        "values": landscape.values,
        "samples": landscape.samples.values,
        "done": int(landscape.done.sum()),
        "meta": landscape.meta,
    }
    whole = {name: t.full_tensor() if hasattr(t, "full_tensor") else t for name, t in module.state_dict().items()}
    if trainer.is_global_zero:
        torch.save(whole, out / "weights.pt")
    (out / f"rank{trainer.global_rank}.pickle").write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
