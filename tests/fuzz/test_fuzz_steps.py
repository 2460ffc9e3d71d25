"""Steps drawn at random, optimiser calls in any order, edits and side effects: the training is bitwise unchanged."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from .._formula import callback, plain_surface, train
from .._steps import BATCH, Manual, Sam, X, Y
from .._training import differences

WORLD: dict[str, Any] = {}  # what a step reaches by a global variable


def backward(module: Any, batch: Any) -> None:
    module.manual_backward(module.loss(batch))


def clip(module: Any, batch: Any) -> None:
    with torch.no_grad():
        for p in module.net.parameters():
            p.clamp_(-0.4, 0.4)


def clip_data(module: Any, batch: Any) -> None:
    for p in module.net.parameters():
        p.data.mul_(0.99)


def momentum(module: Any, batch: Any) -> None:
    for state in module.trainer.optimizers[0].state.values():
        for value in state.values():
            if isinstance(value, Tensor):
                value.mul_(0.5)


def rate(module: Any, batch: Any) -> None:
    for group in module.optimizers().param_groups:
        group["lr"] = group["lr"] * 0.9


def draw(module: Any, batch: Any) -> None:
    module.seen.append(float(torch.rand(()) + np.random.rand() + random.random()))  # noqa: NPY002


def other_optimizer(module: Any, batch: Any) -> None:
    module.other.step()
    module.other.zero_grad()


def world_weights(module: Any, batch: Any) -> None:
    WORLD["module"].net[0].weight.data.add_(0.01)


def world_gradients(module: Any, batch: Any) -> None:
    WORLD["module"].net[2].bias.grad = torch.full((2,), 0.5)


def world_optimizer(module: Any, batch: Any) -> None:
    WORLD["module"].world.step()


def world_scheduler(module: Any, batch: Any) -> None:
    WORLD["scheduler"].step()


ACTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "backward": backward,
    "first_step": lambda m, b: m.optimizers().first_step(),
    "second_step": lambda m, b: m.optimizers().second_step(),
    "zero_grad": lambda m, b: m.optimizers().zero_grad(),
    "step of another": other_optimizer,
    "zero_grad by the trainer": lambda m, b: m.trainer.optimizers[0].zero_grad(set_to_none=False),
    "scheduler": lambda m, b: m.lr_schedulers().step(),
    "clip": clip,
    "clip data": clip_data,
    "momentum": momentum,
    "rate": rate,
    "draw": draw,
    "buffer": lambda m, b: m.count.add_(1),
    "gradients": lambda m, b: [p.grad.mul_(2) for p in m.parameters() if p.grad is not None],
    "freeze": lambda m, b: m.net[0].requires_grad_(m.count.item() % 2 == 0),
    "mode": lambda m, b: m.net.train(not m.net.training),
    "load": lambda m, b: m.optimizers().load_state_dict(m.optimizers().state_dict()),
    "trainer's module": lambda m, b: m.trainer.lightning_module.net[2].bias.data.mul_(0.9),
}
REACHING: dict[str, Callable[[Any, Any], Any]] = {
    "weights by a global": world_weights,
    "gradients by a global": world_gradients,
    "optimiser by a global": world_optimizer,
    "scheduler by a global": world_scheduler,
}


class Drawn(Manual):
    """Does the actions before or after its loss; those by a global variable on the trained module, be it itself."""

    def __init__(self, before: list[str], after: list[str]) -> None:
        super().__init__()
        self.before, self.after, self.seen = before, after, list[float]()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for name in self.before:
            {**ACTIONS, **REACHING}[name](self, batch)
        loss = self.loss(batch)
        for name in self.after:
            {**ACTIONS, **REACHING}[name](self, batch)
        return loss

    def configure_optimizers(self) -> Any:
        first = Sam(self.parameters(), base=torch.optim.Adam, lr=0.02)
        self.other = torch.optim.SGD(self.net[2].parameters(), 0.1, momentum=0.9)
        object.__setattr__(self, "world", torch.optim.Adam(self.net.parameters(), 0.01))
        scheduler = torch.optim.lr_scheduler.ExponentialLR(first, 0.9)
        WORLD.update(module=self, scheduler=scheduler)
        return [first], [scheduler]


ACTS = st.lists(st.sampled_from([*ACTIONS, "backward", "backward", "first_step", "second_step"]), max_size=6)


def run(path: Any, before: list[str], after: list[str], *callbacks: Any) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    module = Drawn(before, after)
    _, state = train(module, [DataLoader(TensorDataset(X, Y), BATCH, shuffle=True)], list(callbacks), path)
    gradients = [None if p.grad is None else p.grad.clone() for p in module.parameters()]
    own = {"seen": module.seen, "other": module.other.state_dict(), "world": module.world.state_dict()}
    flags = [(p.requires_grad for p in module.parameters()), [part.training for part in module.modules()]]
    return module, {**state, **own, "gradients": gradients, "flags": [list(f) for f in flags]}


quiet = pytest.mark.filterwarnings(
    "ignore:Detected call of `lr_scheduler.step", "ignore:.*lr_scheduler.step.*before.*optimizer.step"
)


@quiet
@settings(max_examples=30)
@given(before=ACTS, after=ACTS)
def test_a_drawn_step_is_undisturbed(tmp_path_factory: Any, before: list[str], after: list[str]) -> None:
    path = tmp_path_factory.mktemp("drawn")
    # A step that fails in the training itself is no step.
    try:
        _, without = run(path, before, after)
    except (RuntimeError, AttributeError, TypeError, KeyError):
        return
    landscapes = callback(strict=False)
    module, with_it = run(path, before, after, landscapes)
    assert differences(without, with_it) == []
    result = landscapes.landscape
    assert result is not None
    edits = {"clip", "clip data", "trainer's module", "freeze"} & set(before)
    if not edits and all(p.requires_grad for p in module.parameters()):
        module._trainer = None
        batches = [(X[i : i + BATCH], Y[i : i + BATCH]) for i in range(0, len(X), BATCH)]
        expected = plain_surface(module, result, 4, lambda: sum(float(module.loss(b)) for b in batches) / 3)
        np.testing.assert_allclose(result.loss, expected, rtol=2e-5, atol=1e-7)


@quiet
@pytest.mark.filterwarnings("ignore:The loss landscape is switched off")
@settings(max_examples=20)
@given(before=ACTS, after=ACTS, reaching=st.lists(st.sampled_from(list(REACHING)), min_size=1, max_size=2))
def test_a_drawn_step_that_reaches_the_training_is_put_back(
    tmp_path_factory: Any, before: list[str], after: list[str], reaching: list[str]
) -> None:
    path = tmp_path_factory.mktemp("drawn")
    try:
        _, without = run(path, before, [*after, *reaching])
    except (RuntimeError, AttributeError, TypeError, KeyError):
        return
    landscapes = callback(strict=False)
    _, with_it = run(path, before, [*after, *reaching], landscapes)
    assert differences(without, with_it) == []
