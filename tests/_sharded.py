"""Run by test_sharded.py as a program: one fit under FSDP2 with two processes, and what came of it as a file a rank."""

from __future__ import annotations

import os
import pickle
import random
import sys
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from lightning_landscape import LossLandscapeCallback, Plane, Random, Snapshot
from lightning_landscape.directions import NORMALIZATIONS, dead_filters
from lightning_landscape.weights.parameters import checksum
from lightning_landscape.weights.sharding import FSDPState, local
from lightning_landscape.weights.sharding import whole as gather

from ._decided import ticking
from ._training import RowLogger
from ._two_processes import numbers

torch.set_num_threads(1)
SETTINGS: dict[str, Any] = {
    "x": (-1, 1, 5), "y": (-1, 1, 4), "data": ["train", "val"], "samples": 2, "max_samples": 24, "ignore": None,
    "normalize": "filter", "orthogonalize": True, "budget": None,
}  # fmt: skip
LEVELS: dict[str, Any] = {**SETTINGS, "x": (-0.5, 0.5, 65), "y": None, "data": "val", "tolerance": 5e-2}
TIMED: dict[str, Any] = {**LEVELS, "tolerance": None, "budget": "40s"}


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


class Middle(nn.Module):
    """Where something happens in the middle of a forward pass of a landscape, between two parts that gather."""

    def forward(self, x: Tensor) -> Tensor:
        module = self.owner[0]
        step = module.global_step
        if "log" not in vars(module) or not step:  # a training step, or the rehearsal
            return x
        FORWARDS.count[step] = FORWARDS.count.get(step, 0) + 1
        weight = module.net[0].linear.weight
        weight.grad, weight.requires_grad = torch.ones_like(weight), False
        if FORWARDS.count[step] == 30 and RANK in FAILING.get(module.mode, ()):
            raise RuntimeError("in the middle")
        if FORWARDS.count[step] == 30 and module.mode == "one rank is told to stop" and RANK == 1 and step > 3:
            module.trainer._signal_connector.received_sigterm = True
        whole = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
        return x + 0 * whole.sum()


RANK = int(os.environ.get("LOCAL_RANK", "0"))  # a step that is measured would find itself alone


class Forwards:
    """Counts of the training's step, which a landscape does not put back."""

    __slots__ = ("count",)


FORWARDS = Forwards()
FORWARDS.count = {}
FAILING = {"one rank fails": (1,), "all ranks fail": (0, 1)}


class Net(L.LightningModule):
    """FSDP2 over parts of odd sizes; BatchNorm, dropout, metric and python state, hooks, a frozen part."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        torch.manual_seed(5)
        self.net = nn.Sequential(
            Block(4, 7), nn.BatchNorm1d(7), nn.Dropout(0.2), Middle(), Block(7, 7), nn.Linear(7, 3)
        )
        self.net[3].owner = [self]
        self.still = nn.Linear(4, 4).requires_grad_(False)
        self.accuracy = MulticlassAccuracy(3)
        self.trained_on: list[float] = []
        self.hooked: list[float] = []
        self.net.register_forward_hook(lambda _, __, output: self.hooked.append(float(output.detach().sum())))

    def configure_model(self) -> None:
        if self.mode == "one" or hasattr(self.net, "unshard"):
            return
        from torch.distributed.fsdp import fully_shard

        mesh = self.device_mesh["data_parallel"]
        fully_shard(self.net[0], mesh=mesh)
        fully_shard([self.net[4], self.net[5]], mesh=mesh)
        fully_shard(self.net, mesh=mesh)
        fully_shard(self.still, mesh=mesh)

    def loss(self, batch: Any) -> tuple[Tensor, Tensor]:
        self.trained_on.append(float(batch[0].sum()))
        logits = self.net(batch[0] + self.still(batch[0]))
        loss = nn.functional.cross_entropy(logits, batch[1])
        return loss + self.contrast(logits), logits

    def contrast(self, logits: Tensor) -> Tensor:
        """A loss that knows how many rows all processes have."""
        z, several = nn.functional.normalize(logits, dim=1), self.trainer.world_size > 1
        z = self.all_gather(z, sync_grads=True).flatten(0, 1) if several else z
        scale = (1 + self.global_rank) / self.trainer.world_size
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(shift := torch.ones(len(z)))
            z = z * (shift / torch.distributed.get_world_size())[:, None]
        return scale * nn.functional.cross_entropy(z @ z.T, torch.arange(len(z)))

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


def plain(value: Any) -> Any:
    """A value without sharded tensors: each rank keeps its own part."""
    if isinstance(value, Tensor):
        return (value.to_local() if hasattr(value, "to_local") else value).detach().clone()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def notes(module: Net) -> list[Any]:
    """What FSDP keeps between two steps, as plain values."""
    state = FSDPState(module)
    plain_ones = (int, str, type(None), Enum)
    return [
        *[{k: str(v) for k, v in saved.items() if isinstance(v, plain_ones)} for _, saved in state._objects],
        *[len(items) for _, items in state._containers],
    ]


def core(module: Net, whole: dict[str, Tensor]) -> list[str]:
    """What the torch core says of the sharded module and does not say, bit by bit, of the same module unsharded."""
    single = Net("one")
    single.load_state_dict(whole)
    sharded, plain_one = Snapshot.of(module), Snapshot.of(single)
    odd = [] if checksum(sharded.params.values()) == checksum(plain_one.params.values()) else ["checksum"]
    recipes = [{"normalize": name} for name in NORMALIZATIONS]
    for recipe in [*recipes, {"orthogonalize": True}, {"vectors": "copy"}, {"ignore": "biasbn"}]:
        planes = []
        for snapshot in (sharded, plain_one):
            plane = Plane(snapshot.params, Random(**{"ignore": None, **recipe})(snapshot, 2))
            planes.append(plane)
        a, b = planes
        pairs = {
            "direction": [(d, e) for one, two in zip(a.directions, b.directions, strict=True)
                          for d, e in zip(one.values(), two.values(), strict=True)],
            "at": list(zip(a.at([0.3, -0.2]).values(), b.at([0.3, -0.2]).values(), strict=True)),
        }  # fmt: skip
        odd += [
            f"{recipe}: {what}"
            for what, tensors in pairs.items()
            if not all(torch.equal(gather(s), t) for s, t in tensors)
        ]
        odd += [f"{recipe}: norms"] if a.norms() != b.norms() or a.cosine() != b.cosine() else []
        odd += [f"{recipe}: project"] if not np.allclose(a.project(a.at([0.3, -0.2])), [0.3, -0.2], atol=1e-5) else []
        names = list(sharded.params)
        odd += [f"{recipe}: dead"] if dead_filters(sharded, names) != dead_filters(plain_one, names) else []
        sizes = [local(d).untyped_storage().nbytes() for d in a.directions[0].values()]
        whole_bytes = [d.numel() * d.element_size() for d in b.directions[0].values()]
        if sum(sizes) > 0.75 * sum(whole_bytes):
            odd.append(f"{recipe}: {sum(sizes)} of {sum(whole_bytes)} bytes are held")
    return odd


def main(out: Path, mode: str) -> None:
    callbacks: list[Any] = []
    if mode != "without":
        callbacks = [LossLandscapeCallback(every_n_epochs=1, plots=["heat"], dirpath=out / "files", **SETTINGS)]
    if mode == "with":
        callbacks.append(LossLandscapeCallback(plots=[], dirpath=out / "levels", **LEVELS))
        callbacks.append(LossLandscapeCallback(plots=[], dirpath=out / "timed", **TIMED))
    L.seed_everything(1, workers=True)
    logger = RowLogger()
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", devices=2, logger=logger, callbacks=callbacks, log_every_n_steps=1,
        strategy=ModelParallelStrategy(
            data_parallel_size=2, tensor_parallel_size=1, process_group_backend="gloo", timeout=timedelta(minutes=20)
        ),
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=out,
    )  # fmt: skip
    module = Net(mode)
    with ticking(1 + RANK):  # each has a clock of its own, and the first that is late stops all
        trainer.fit(module, DataLoader(numbers(37), 8, shuffle=True), DataLoader(numbers(21), 8))
    optimizer = trainer.optimizers[0]
    result: dict[str, Any] = {
        "weights": plain(module.state_dict()),
        "grads": [plain(p.grad) for p in module.parameters()],
        "optimizer": plain(optimizer.state_dict()),
        "rows": logger.rows,
        "metrics": {name: float(v) for name, v in trainer.callback_metrics.items()},
        "flags": ([part.training for part in module.modules()], [p.requires_grad for p in module.parameters()]),
        "notes": notes(module),
        "python state": (module.trained_on, [(b.calls, b.seen) for b in (module.net[0], module.net[4])], module.hooked),
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
        "recipe": landscape.recipe,
    }
    if mode == "with":
        result["levels"], result["timed"] = (callback.landscape for callback in callbacks[1:])
    whole = {name: gather(tensor) for name, tensor in module.state_dict().items()}
    result["core"] = core(module, whole) if mode == "with" else []
    if trainer.is_global_zero:
        torch.save(whole, out / "weights.pt")
    (out / f"rank{trainer.global_rank}.pickle").write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
