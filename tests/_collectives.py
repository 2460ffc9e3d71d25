"""Run by test_collectives.py as a program, one of two processes: fits of steps that talk to the other process."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
import torch.distributed.nn.functional as differentiable
from lightning.fabric import Fabric
from lightning.fabric import strategies as fabric_strategies
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric

from ._formula import callback, plain_surface
from ._two_processes import leave  # noqa: F401  # at the exit

torch.set_num_threads(1)
X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
Way = Callable[["Lit", Tensor], Tensor]
VALUES: dict[str, tuple[Way, Callable[[nn.Module, Tensor], Tensor]]] = {}
REFUSED: dict[str, tuple[Way, str]] = {}


def contrast(z: Tensor) -> Tensor:
    """A loss that knows how many rows there are."""
    z = nn.functional.normalize(z, dim=1)
    return nn.functional.cross_entropy(z @ z.T / 0.5, torch.arange(len(z)))


def plain(net: nn.Module, x: Tensor) -> Tensor:
    return net(x).square().mean()


def gives(expected: Callable[[nn.Module, Tensor], Tensor]) -> Callable[[Way], Way]:
    """The way is measured, and this is its loss in one process."""

    def note(way: Way) -> Way:
        VALUES[way.__name__] = way, expected
        return way

    return note


def is_refused(words: str) -> Callable[[Way], Way]:
    """The way is refused in the rehearsal, in these words."""

    def note(way: Way) -> Way:
        REFUSED[way.__name__] = way, words
        return way

    return note


contrasting = gives(lambda net, x: contrast(net(x)))
squared = gives(plain)


@contrasting
def lightning_gathers(self: Lit, x: Tensor) -> Tensor:
    return contrast(self.all_gather(self.net(x), sync_grads=True).flatten(0, 1))


@contrasting
def lightning_gathers_where_there_are_several(self: Lit, x: Tensor) -> Tensor:
    z = self.net(x)
    return contrast(self.all_gather(z, sync_grads=True).flatten(0, 1) if self.trainer.world_size > 1 else z)


@contrasting
def lists_are_gathered(self: Lit, x: Tensor) -> Tensor:
    z = self.net(x)
    gathered = [torch.zeros_like(z) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, z.detach())
    gathered[dist.get_rank()] = z
    return contrast(torch.cat(gathered))


@contrasting
def tensors_are_gathered(self: Lit, x: Tensor) -> Tensor:
    z = self.net(x)
    into = torch.zeros(dist.get_world_size() * len(z), z.shape[1])
    dist.all_gather_into_tensor(into, z.detach())
    into[dist.get_rank() * len(z) :][: len(z)] = z
    return contrast(into)


@contrasting
def gathered_by_a_differentiable_function(self: Lit, x: Tensor) -> Tensor:
    return contrast(torch.cat(differentiable.all_gather(self.net(x))))


@contrasting
def gathered_by_a_functional_collective(self: Lit, x: Tensor) -> Tensor:
    z = self.net(x)
    others = functional.wait_tensor(functional.all_gather_tensor(z.detach(), 0, dist.group.WORLD))
    return contrast(torch.cat([z, others]))[None].sum() * 0 + contrast(others + 0 * z.sum()) + 0 * z.sum()


@squared
def the_strategy_reduces(self: Lit, x: Tensor) -> Tensor:
    loss = plain(self.net, x)
    return loss + self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean") - loss.detach()


@gives(lambda net, x: 2 * plain(net, x))
def a_sum_that_nobody_divides(self: Lit, x: Tensor) -> Tensor:
    loss = plain(self.net, x)
    total = loss.detach().clone()
    dist.all_reduce(total)
    return loss + total


@squared
def a_sum_divided_by_the_number_of_processes(self: Lit, x: Tensor) -> Tensor:
    loss = plain(self.net, x)
    total = loss.detach().clone()
    dist.all_reduce(total, op=dist.ReduceOp.SUM, async_op=True).wait()
    return loss + total / dist.get_world_size() - loss.detach()


@squared
def a_differentiable_sum(self: Lit, x: Tensor) -> Tensor:
    return differentiable.all_reduce(plain(self.net, x)) / self.trainer.strategy.world_size


@squared
def functional_reductions(self: Lit, x: Tensor) -> Tensor:
    loss = plain(self.net, x)
    mean = functional.wait_tensor(functional.all_reduce(loss.detach(), "sum", dist.group.WORLD)) / dist.get_world_size()
    rows = torch.ones(dist.get_world_size(), 2)
    part = functional.wait_tensor(functional.reduce_scatter_tensor(rows, "sum", 0, dist.group.WORLD))
    assert part.shape == (1, 2)
    return loss + mean - loss.detach() + 0 * part.sum()


@gives(lambda net, x: 5 * plain(net, x))
def scattered_and_exchanged(self: Lit, x: Tensor) -> Tensor:
    size, rank = dist.get_world_size(), dist.get_rank()
    loss = plain(self.net, x)
    value = loss.detach().reshape(1)
    exchanged, scattered, reduced = torch.zeros(size), torch.zeros(1), value.clone()
    dist.all_to_all_single(exchanged, value.expand(size).contiguous())
    dist.scatter(scattered, [value.clone() for _ in range(size)] if rank == 0 else None, src=0)
    gathered = [torch.zeros(1) for _ in range(size)] if rank == 0 else None
    dist.gather(value, gathered, dst=0)
    dist.reduce(reduced, dst=0)
    return loss + exchanged.sum() / size + scattered.sum() + reduced.sum() + (gathered or [value])[0].sum()


@squared
def objects_go_round(self: Lit, x: Tensor) -> Tensor:
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, float(x.sum()))
    first = [len(x)]
    dist.broadcast_object_list(first, src=0)
    assert self.trainer.strategy.broadcast(self.global_rank) == 0
    assert self.trainer.log_dir
    return plain(self.net, x) * first[0] / len(x) + 0 * len(every)


@squared
def barriers(self: Lit, x: Tensor) -> Tensor:
    dist.barrier()
    dist.monitored_barrier()
    self.trainer.strategy.barrier("here")
    return plain(self.net, x)


@gives(lambda net, x: plain(net, x - x.mean(0)))
def means_over_all_processes(self: Lit, x: Tensor) -> Tensor:
    mean = torch.cat([x.mean(0), torch.ones(1)])
    with dist._coalescing_manager():
        dist.all_reduce(mean)
    dist.broadcast(mean, src=0)
    return plain(self.net, x - mean[:-1] / mean[-1])


@squared
def groups_of_the_users(self: Lit, x: Tensor) -> Tensor:
    loss = plain(self.net, x)
    total = loss.detach().clone()
    dist.all_reduce(total, group=self.group)
    total /= dist.get_world_size(self.group)
    dist.broadcast(total, src=dist.get_global_rank(self.pair, 0), group=self.pair)
    assert dist.get_rank(self.pair) == 0
    dist.all_reduce(total, group=self.world)  # the very group of all, kept since the set-up
    return loss + total / len(dist.get_process_group_ranks(self.world)) - loss.detach()


@gives(lambda net, x: 3 * plain(net, x))
def what_is_done_by_rank(self: Lit, x: Tensor) -> Tensor:
    places = {self.global_rank, dist.get_rank(), self.trainer.strategy.global_rank, int(os.environ["LOCAL_RANK"])}
    factor = 3 if places == {0} and self.trainer.is_global_zero else 5
    sizes = {self.trainer.world_size, self.trainer.num_devices, int(os.environ["WORLD_SIZE"]), dist.get_world_size()}
    assert sizes <= {1, 2}
    return plain(self.net, x) * factor / max(sizes)


@contrasting
def a_loss_that_keeps_its_place(self: Lit, x: Tensor) -> Tensor:
    return self.kept(self.net(x))


class Kept(nn.Module):
    """As contrastive losses are made: with the rank and the number of processes."""

    def __init__(self, rank: int, world_size: int) -> None:
        super().__init__()
        self.rank, self.world_size = rank, world_size

    def forward(self, z: Tensor) -> Tensor:
        if self.world_size > 1:
            gathered = [torch.zeros_like(z) for _ in range(self.world_size)]
            dist.all_gather(gathered, z.detach())
            gathered[self.rank] = z
            z = torch.cat(gathered)
        return contrast(z)


@gives(lambda net, x: torch.autograd.grad(plain(net, g := x.clone().requires_grad_()), g)[0].square().sum())
def gradients_through_a_collective(self: Lit, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    loss = differentiable.all_reduce(plain(self.net, x)) / dist.get_world_size()
    return torch.autograd.grad(loss, x, create_graph=True)[0].square().sum()


@squared
def metrics_that_are_put_together(self: Lit, x: Tensor) -> Tensor:
    loss = plain(self.net, x)
    metric = MeanMetric()
    metric.update(loss.detach())
    return loss + metric.compute() - loss.detach()


@contrasting
def fabric_gathers(self: Lit, x: Tensor) -> Tensor:
    z = self.net(x)
    loss = contrast(self.side.all_gather(z, sync_grads=True).flatten(0, 1))
    total = self.side.all_reduce(loss.detach().clone(), reduce_op="sum") / self.side.world_size
    self.side.barrier()
    return loss + total * (1 + self.side.global_rank) - loss.detach()


@squared
def synchronised_statistics(self: Lit, x: Tensor) -> Tensor:
    statistics = SyncedNorm(6)(x)
    return plain(self.net, x) + 0 * statistics.sum()


class SyncedNorm(nn.BatchNorm1d):
    """As SyncBatchNorm, but on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and dist.get_world_size() == 1:
            return super().forward(x)
        mean = differentiable.all_reduce(torch.cat([x.mean(0), x.square().mean(0)])) / dist.get_world_size()
        return (x - mean[:6]) / (mean[6:] - mean[:6].square() + self.eps).sqrt()


@gives(plain)
def a_metric_of_each_rank(self: Lit, x: Tensor) -> Tensor:
    self.log("place", float(self.place))  # kept from the start: no surface is of one function
    self.log("twice", 2 * plain(self.net, x))
    return plain(self.net, x)


@is_refused("ProcessGroup.send")
def a_message(self: Lit, x: Tensor) -> Tensor:
    rank = dist.get_rank()
    dist.send(x, 1) if rank == 0 else dist.recv(torch.zeros_like(x), 0)
    return plain(self.net, x)


@is_refused("rank 1 as the root")
def a_broadcast_from_elsewhere(self: Lit, x: Tensor) -> Tensor:
    dist.broadcast(x.clone(), src=1)
    return plain(self.net, x)


@is_refused(r"torch.ops.c10d.broadcast_")
def a_call_from_below(self: Lit, x: Tensor) -> Tensor:
    dist._broadcast_coalesced(self.world, [x.clone()], 1000, 0)
    return plain(self.net, x)


@is_refused("torch.distributed.new_group")
def a_group_made_in_the_step(self: Lit, x: Tensor) -> Tensor:
    dist.new_group()
    return plain(self.net, x)


@is_refused("ProcessGroup.allgather with inputs of the shapes")
def a_number_of_processes_that_is_kept(self: Lit, x: Tensor) -> Tensor:
    z = self.net(x)
    dist.all_gather([torch.zeros_like(z) for _ in range(2)], z.detach())
    return plain(self.net, x)


@is_refused("on rank 0 and .* on rank 1")
def a_rank_that_is_kept(self: Lit, x: Tensor) -> Tensor:
    return plain(self.net, x) * (1 + self.place)


class Lit(L.LightningModule):
    """One way to step."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self.way, self.net = way, nn.Linear(6, 8)

    def setup(self, stage: str) -> None:
        self.place = dist.get_rank()
        self.group, self.world = dist.new_group([0, 1]), dist.group.WORLD
        self.pair = [dist.new_group([rank]) for rank in (0, 1)][self.place]
        self.kept = Kept(self.place, 2)
        self.side = Fabric(accelerator="cpu", devices=2, strategy=fabric_strategies.DDPStrategy())
        self.side.launch()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.way(self, batch[0])
        self.log("loss", loss, sync_dist=True)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


def fit(way: Way, out: Path, callbacks: list[Any]) -> Lit:
    L.seed_everything(3)
    os.environ["WORLD_SIZE"] = "2"  # the end of a fit has deleted it
    module = Lit(way)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", devices=2, logger=False, callbacks=callbacks, default_root_dir=out,
        strategy=DDPStrategy(process_group_backend="gloo", timeout=timedelta(minutes=20)), enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(X), 6))
    return module


def measured(way: Way, expected: Callable[[nn.Module, Tensor], Tensor], out: Path) -> dict[str, Any]:
    """The surface, and what a loop over the points says; the weights with and without it."""
    shown = callback(y=(-0.5, 0.5, 3), every_n_epochs=None)
    module = fit(way, out, [shown])

    def loss() -> float:
        with torch.enable_grad():
            return float(np.mean([float(expected(module.net, x)) for x in X.split(6)]))

    return {
        "surface": shown.landscape.loss.tolist(),
        "names": sorted(shown.landscape.values),
        "expected": plain_surface(module, shown.landscape, 4, loss).tolist(),
        "weights": weights(module),
        "weights without": weights(fit(way, out, [])),
    }


def weights(module: Lit) -> list[float]:
    return module.net.weight.double().flatten().tolist()


def main(out: Path, rank: str) -> None:
    warnings.simplefilter("ignore")
    result: dict[str, Any] = {}
    for name, (way, expected) in VALUES.items():
        try:
            result[name] = measured(way, expected, out)
        except Exception as error:  # noqa: BLE001  # looked at by the test
            result[name] = {"error": f"{type(error).__name__}: {error}"}
    for name, (way, _) in REFUSED.items():
        try:
            fit(way, out, [callback(y=(-0.5, 0.5, 3), every_n_epochs=None)])
        except Exception as error:  # noqa: BLE001  # looked at by the test
            result[name] = {"error": f"{type(error).__name__}: {error}"}
    (out / f"rank{rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), os.environ["LOCAL_RANK"])
