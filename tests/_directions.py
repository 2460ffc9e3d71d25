"""Run by test_directions_ranks.py as a program: directions from data and records in two processes, one file a rank."""

from __future__ import annotations

import os
import pickle
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_landscape import LossLandscapeCallback, Snapshot
from lightning_landscape.directions import Gradient

from ._sharded import Net as Sharded
from ._training import recorded
from ._two_processes import numbers

torch.set_num_threads(1)
RANK = int(os.environ.get("LOCAL_RANK", "0"))
SETTINGS: dict[str, Any] = {
    "x": (-1, 1, 3), "y": (-1, 1, 3), "samples": 0, "max_samples": None, "plots": [], "formats": ["h5"],
    "strict": True, "budget": None,
}  # fmt: skip


class Net(L.LightningModule):
    """A loss that gathers from all processes, with gradients: each rank would wait for the others in the backward."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logits = self.net(batch[0])
        gathered = self.all_gather(logits, sync_grads=True)
        return nn.functional.cross_entropy(logits, batch[1]) + 0 * gathered.sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 0.01)


class Seen(Gradient):
    """A gradient whose calls are seen."""

    calls: list[Any] = []  # noqa: RUF012

    def __call__(self, site: Any, k: int) -> Any:
        result = super().__call__(site, k)
        self.calls.append(result)
        return result


def records(module: nn.Module, step: float = 0.1) -> list[dict[str, Tensor]]:
    """Whole records around the weights that the module begins with."""
    generator = torch.Generator().manual_seed(0)
    params = Snapshot.of(module).params
    return [{n: t + step * torch.randn(t.shape, generator=generator) for n, t in params.items()} for _ in range(5)]


def fit(module: Any, callbacks: list[Any], strategy: Any, out: Path) -> None:
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy=strategy, logger=False, callbacks=callbacks,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=out,
    )  # fmt: skip
    trainer.fit(module, DataLoader(numbers(37), 8))


def main(out: Path, mode: str) -> None:
    result: dict[str, Any] = {}
    limit = timedelta(seconds=60)
    if mode == "ddp":
        module = Net()
        kinds = {
            "gradient": Seen(ignore=None),
            "update": "update",
            "pca": "pca",
            "mixed": "mixed",
            "hessian": "hessian",
        }
        callbacks = {kind: LossLandscapeCallback(directions=given, **SETTINGS) for kind, given in kinds.items()}
        for kind in ("pca", "mixed") if RANK == 0 else ():  # rank 0 alone has the records
            callbacks[kind].settings = replace(callbacks[kind].settings, recorded=recorded(records(Net())))
        fit(module, [*callbacks.values()], DDPStrategy(process_group_backend="gloo", timeout=limit), out)
        result = {kind: (c.landscape.recipe.directions, c.landscape.loss) for kind, c in callbacks.items()}
        result["calls"], result["weights"] = Seen.calls, {n: p.detach() for n, p in module.named_parameters()}
    else:
        callback = LossLandscapeCallback(directions=mode, **SETTINGS)
        whole = Sharded("one")
        callback.settings = replace(callback.settings, recorded=recorded(records(whole)))
        try:
            fit(Sharded("with"), [callback], ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1), out)
            result = {mode: (callback.landscape.recipe.directions, callback.landscape.loss)}
        except MisconfigurationException as error:
            result = {"refused": str(error)}
    (out / f"rank{RANK}.pickle").write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
