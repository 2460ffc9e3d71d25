"""The next update: θ* + d is where the real optimiser goes with that gradient."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lightning_landscape import Snapshot
from lightning_landscape.directions import Site, Update
from lightning_landscape.objectives.criterion import objective_of

from .test_gradient import BATCHES, INPUTS, LABELS

optim = torch.optim


class Lion(optim.Optimizer):
    """One as libraries write it: numbers beside the state, a count, and a schedule of its own."""

    def __init__(self, params: Any, lr: float, decay: float) -> None:
        super().__init__(params, {"lr": lr})
        self.decay, self.steps, self.schedule = decay, 0, lambda step: 1 / (1 + step)
        self.averages: dict[Any, Any] = {}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.steps += 1
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                average = self.averages.setdefault(p, torch.zeros_like(p))
                direction = (0.9 * average + 0.1 * p.grad).sign() + self.decay * p
                p.sub_(group["lr"] * self.schedule(self.steps) * direction)
                average.mul_(0.99).add_(p.grad, alpha=0.01)


def groups(module: nn.Module) -> list[dict[str, Any]]:
    """Weights with decay and a rate of their own, and biases without."""
    named = dict(module.named_parameters())
    weights, biases = ([p for n, p in named.items() if n.endswith(end)] for end in ("weight", "bias"))
    return [{"params": weights, "weight_decay": 0.1, "lr": 0.05}, {"params": biases}]


OPTIMIZERS = {
    "SGD": lambda m: [optim.SGD(m.parameters(), 0.1)],
    "momentum": lambda m: [optim.SGD(m.parameters(), 0.1, momentum=0.9, weight_decay=0.01)],
    "Nesterov": lambda m: [optim.SGD(m.parameters(), 0.1, momentum=0.9, nesterov=True)],
    "Adam": lambda m: [optim.Adam(m.parameters(), 0.01)],
    "amsgrad": lambda m: [optim.Adam(m.parameters(), 0.01, amsgrad=True)],
    "AdamW": lambda m: [optim.AdamW(m.parameters(), 0.01, weight_decay=0.3)],
    "fused": lambda m: [optim.AdamW(m.parameters(), 0.01, fused=True)],
    "RMSprop": lambda m: [optim.RMSprop(m.parameters(), 0.01, momentum=0.5, centered=True)],
    "Adagrad": lambda m: [optim.Adagrad(m.parameters(), 0.05)],
    "groups": lambda m: [optim.AdamW(groups(m), 0.01)],
    "several": lambda m: [optim.SGD(m[0].parameters(), 0.1, momentum=0.9), optim.Adam(m[2].parameters(), 0.01)],
    "a library's": lambda m: [Lion(m.parameters(), 0.01, 0.1)],
}


def net(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)


def train(module: nn.Module, optimizers: list[Any], steps: int, dtype: torch.dtype) -> None:
    """Real steps, with the gradient of all samples."""
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        cross_entropy(module(INPUTS.to(dtype)), LABELS).backward()
        for optimizer in optimizers:
            optimizer.step()


def site(module: nn.Module, optimizers: list[Any], dtype: torch.dtype = torch.float32) -> Site:
    """As a landscape has it: the probe is a copy, the optimisers are the training's."""
    from dataclasses import replace

    batches = [replace(batch, data=(batch.data[0].to(dtype), batch.data[1])) for batch in BATCHES]
    objective = objective_of(nn.CrossEntropyLoss())[0]
    return Site.at(
        Snapshot.of(module), copy.deepcopy(module), objective, batches, optimizers=optimizers, original=module
    )


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_origin_and_the_direction_give_the_weights_after_the_next_step(name: str, steps: int) -> None:
    module = net()
    optimizers = OPTIMIZERS[name](module)
    train(module, optimizers, steps, torch.float32)
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    states = copy.deepcopy([optimizer.state_dict() for optimizer in optimizers])
    (d,) = Update()(site(module, optimizers), 1)
    torch.testing.assert_close(dict(module.named_parameters()), before, rtol=0, atol=0)
    for optimizer, state in zip(optimizers, states, strict=True):
        torch.testing.assert_close(optimizer.state_dict(), state, rtol=0, atol=0)
    train(module, optimizers, 1, torch.float32)
    for parameter, weight in module.named_parameters():
        # The gradients of batches are added in another order than those of all samples.
        torch.testing.assert_close(before[parameter] + d[parameter], weight.detach(), rtol=1e-5, atol=2e-6)
        assert (before[parameter] - weight).abs().max() > 1e-4


def test_it_moves_what_it_moves_and_beside_it_are_random_directions_as_long() -> None:
    module = net(torch.float64)
    (d, e) = Update(ignore="biasbn")(site(module, [optim.SGD(module.parameters(), 0.1)], torch.float64), 2)
    assert all(d[name].any() for name in d)  # biases, too
    assert [name for name in e if e[name].any()] == ["0.weight", "2.weight"]
    length = torch.cat([t.reshape(-1) for t in d.values()]).norm()
    torch.testing.assert_close(torch.cat([t.reshape(-1) for t in e.values()]).norm(), length)


def test_a_parameter_without_gradient_is_left_alone_even_by_weight_decay() -> None:
    module = nn.ModuleDict({"used": net(), "idle": nn.Linear(2, 2)})
    from lightning_landscape.objectives.base import LossFunction

    optimizer = optim.AdamW(module.parameters(), 0.1, weight_decay=0.5)
    objective = LossFunction(lambda m, batch: cross_entropy(m["used"](batch[0].float()), batch[1]))
    (d,) = Update()(Site.at(Snapshot.of(module), module, objective, BATCHES, optimizers=[optimizer]), 1)
    assert not d["idle.weight"].any()
    assert d["used.0.weight"].any()


def test_sparse_gradients_stay_sparse_for_their_optimiser() -> None:
    from lightning_landscape.objectives.base import Batch, LossFunction

    table = nn.Embedding(5, 3, sparse=True)
    optimizer = optim.SparseAdam(table.parameters(), 0.1)
    objective = LossFunction(lambda m, batch: m(batch).sum())
    data = torch.tensor([1, 3])
    (d,) = Update()(
        Site.at(
            Snapshot.of(table),
            copy.deepcopy(table),
            objective,
            [Batch(data, 2)],
            optimizers=[optimizer],
            original=table,
        ),
        1,
    )
    before = table.weight.detach().clone()
    table(data).sum().backward()
    optimizer.step()
    torch.testing.assert_close(before + d["weight"], table.weight.detach())


def test_a_schedulers_patch_and_hooks_do_not_reach_the_training() -> None:
    module = net()
    optimizer = optim.SGD(module.parameters(), 0.1)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1, 0.1)
    calls: list[int] = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    train(module, [optimizer], 1, torch.float32)
    scheduler.step()
    counted = optimizer.step.__self__ if hasattr(optimizer.step, "__self__") else None
    before = copy.deepcopy(module.state_dict())
    (d,) = Update()(site(module, [optimizer]), 1)
    assert calls == [1]
    assert scheduler.get_last_lr() == [pytest.approx(0.01)]
    del counted
    train(module, [optimizer], 1, torch.float32)
    torch.testing.assert_close(before["0.weight"] + d["0.weight"], module[0].weight.detach(), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_an_update_is_refused_in_words() -> None:
    module = net(torch.float64)

    def refused(optimizers: list[Any], match: str) -> None:
        with pytest.raises(ValueError, match=match):
            Update()(site(module, optimizers, torch.float64), 2)

    refused([optim.LBFGS(module.parameters())], "LBFGS computes the loss at several weights.*directions='gradient'")
    refused([], "needs the optimisers that train these weights.*optimizers=.optimizer.")
    refused([optim.SGD(module.parameters(), 0.0)], r"moves nothing \(learning rates 0.0\)")
    refused([optim.SGD(net().parameters(), 0.1)], "hold none of the parameters that are measured")

    class Broken(optim.SGD):
        def step(self, closure: Any = None) -> Any:
            raise AssertionError("closure is needed")

    refused([Broken(module.parameters(), 0.1)], "a copy of Broken can't step.*closure is needed")
    idle = Update()
    idle.rehearse(site(module, [optim.SGD(module.parameters(), 0.0)], torch.float64))  # a warm-up begins at 0
