"""Hooks of loggers and profilers stay off a copy; hooks that take part in what a module computes stay on it."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.utils.parametrizations as parametrizations
from torch import Tensor, fx, nn
from torch.nn.utils import prune

from lightning_landscape.isolation.module_copy import module_copy
from lightning_landscape.isolation.observers import TABLES, Observers, without_global_observers

from ._formula import callback, plain_surface, train
from ._training import differences
from .test_zoo import BATCH, Lit, X, Y, mlp

ELSEWHERE = """
import functools
ROWS, STATE = [], {"count": 0}

def note(module, inputs, output):
    ROWS.append(float(output.detach().mean()))

def count(module, inputs, output):
    STATE["count"] += 1
    return None

class History:
    def __init__(self): self.rows = ROWS
    def hook(self, module, inputs, output): self.log(output)
    def __call__(self, module, inputs): ROWS.append(1)
    def log(self, output): ROWS.append(output.detach().mean().item())

def watch(module):
    history = History()
    module.register_forward_hook(note)
    module.register_forward_hook(count)
    module.register_forward_hook(history.hook)
    module.register_forward_pre_hook(history)
    module.register_forward_hook(lambda m, i, o: history.log(o))
    module.register_forward_hook(lambda m, i, o: ROWS.append(o.detach().sum()))
    module.register_forward_hook(functools.partial(note))
    module.register_full_backward_hook(lambda m, i, o: ROWS.append(2))

def doubled(module, inputs, output):
    return output * 2

def scaled(module, inputs):
    module.weight.data = module.base * 3

def zeroed(module, inputs, output):
    output[0] = 0

def halved(module, inputs, output):
    output.mul_(0.5)

def set_weight(module, inputs):
    setattr(module, "scale", 3.0)

class Grabber:
    def __init__(self): self.features = {}
    def __call__(self, module, inputs, output): self.features["x"] = output

def take(features, key):
    def hook(module, inputs, output): features[key] = output
    return hook
"""


def library(name: str) -> Any:
    """A package that the module's own code knows nothing of."""
    module = types.ModuleType(name)
    exec(ELSEWHERE, vars(module))
    return module


@pytest.fixture
def elsewhere() -> Iterator[Any]:
    module = library("some_tracker")
    sys.modules["some_tracker"] = module
    yield module
    del sys.modules["some_tracker"]


def hooks(module: nn.Module) -> int:
    return sum(len(getattr(part, table)) for part in module.modules() for table in TABLES)


def test_hooks_that_only_look_on_stay_off(elsewhere: Any) -> None:
    net = mlp()
    elsewhere.watch(net)
    elsewhere.watch(net[0])
    assert hooks(net) == 16
    twin = module_copy(net, {})
    assert hooks(twin) == 0
    assert torch.equal(twin(X), net.train()(X))
    rows = len(elsewhere.ROWS)
    twin(X)
    assert len(elsewhere.ROWS) == rows
    assert hooks(net) == 16


def test_hooks_of_known_loggers_stay_off_whatever_they_give_back() -> None:
    wandb = library("wandb")
    net = mlp()
    net.register_forward_hook(wandb.doubled)
    assert wandb.doubled in Observers(net)
    assert hooks(module_copy(net, {})) == 0


def test_profilers_of_torch_stay_off() -> None:
    tracker = pytest.importorskip("torch.utils.module_tracker", reason="torch before 2.4 has none").ModuleTracker()
    net = mlp()
    net.register_forward_hook(tracker._fw_post_hook)
    assert hooks(module_copy(net, {})) == 0


def test_a_module_that_copies_itself_has_no_observers_either(elsewhere: Any) -> None:
    net = fx.symbolic_trace(mlp())
    elsewhere.watch(net)
    assert hooks(module_copy(net, {})) == 0


def test_hooks_that_give_something_back_or_set_something_take_part(elsewhere: Any) -> None:
    net = nn.Linear(8, 8)
    net.register_forward_hook(elsewhere.doubled)
    net.register_forward_hook(lambda m, i, o: elsewhere.doubled(m, i, o))
    net.register_forward_hook(functools.partial(torch.no_grad()(elsewhere.doubled)))
    net.register_forward_pre_hook(elsewhere.scaled)
    net.register_forward_pre_hook(elsewhere.set_weight)
    net.register_forward_hook(elsewhere.zeroed)
    net.register_forward_hook(elsewhere.halved)
    net.base = net.weight.detach().clone()
    twin = module_copy(net, {})
    assert hooks(twin) == 7
    with torch.no_grad():
        assert torch.equal(twin(X), net(X))


def test_hooks_that_keep_what_the_module_uses_take_part(elsewhere: Any) -> None:
    net = mlp()
    net.grabber, net.features = elsewhere.Grabber(), {}  # type: ignore[assignment]
    net[0].register_forward_hook(net.grabber)
    net[1].register_forward_hook(net.grabber.__call__)
    net[2].register_forward_hook(elsewhere.take(net.features, "y"))
    net[3].register_forward_hook(elsewhere.take({}, "y"))
    twin = module_copy(net, {})
    assert hooks(twin) == 3
    twin(X)
    assert twin.grabber.features["x"].shape == (len(X), 8)
    assert list(twin.features) == ["y"]
    assert (net.grabber.features, net.features) == ({}, {})


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.count = nn.Linear(8, 3), 0
        self.linear.register_forward_hook(lambda module, inputs, output: self._tick())

    def _tick(self) -> None:
        self.count += 1

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def quantised() -> nn.Module:
    net = nn.Sequential(nn.Linear(8, 3))
    net.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    return torch.ao.quantization.prepare_qat(net)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    "make",
    [
        Own,
        lambda: nn.utils.weight_norm(nn.Linear(8, 3)),
        lambda: nn.utils.spectral_norm(nn.Linear(8, 3)),
        lambda: prune.l1_unstructured(nn.Linear(8, 3), "weight", 0.5),
        lambda: parametrizations.spectral_norm(nn.Linear(8, 3)),
        lambda: nn.LazyLinear(3),
        quantised,
    ],
    ids=["own", "weight_norm", "spectral_norm", "pruned", "parametrised", "lazy", "quantised"],
)
def test_hooks_of_the_module_and_of_torch_take_part(make: Any) -> None:
    net = make()
    twin = module_copy(net, {})
    assert hooks(twin) == hooks(net)
    if isinstance(net, Own):
        twin(X)
        assert (twin.count, net.count) == (1, 0)


def test_global_hooks_that_only_look_on_are_off_for_a_while(elsewhere: Any) -> None:
    net = mlp()
    handles = [
        nn.modules.module.register_module_forward_hook(hook)
        for hook in (elsewhere.note, elsewhere.count, lambda m, i, o: o + 1 if isinstance(m, nn.Sequential) else o)
    ]
    try:
        with pytest.raises(KeyError, match="boom"), without_global_observers(net):  # noqa: PT012
            assert torch.equal(net(X), net(X))
            assert elsewhere.ROWS == []
            raise KeyError("boom")
        with_hook = net(X)
        assert len(elsewhere.ROWS) == elsewhere.STATE["count"] == 5
    finally:
        for handle in handles:
            handle.remove()
    assert torch.allclose(net(X) + 1, with_hook)


@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader` but have no `validation_step`")
@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_a_watched_training_is_logged_as_without(tmp_path: Path, elsewhere: Any) -> None:
    from torch.utils.data import DataLoader, TensorDataset

    data = (DataLoader(TensorDataset(X, Y), BATCH, shuffle=True),)

    def run(*callbacks: Any) -> Any:
        torch.manual_seed(0)
        module = Lit(mlp())
        elsewhere.watch(module.net)
        elsewhere.ROWS.clear()
        elsewhere.STATE["count"] = 0
        _, result = train(module, data, list(callbacks), tmp_path)
        return module, {**result, "rows": list(elsewhere.ROWS), "count": elsewhere.STATE["count"]}

    landscape = callback()
    (_, without), (module, with_it) = run(), run(landscape)
    assert differences(without, with_it) == []
    assert without["count"] == 6
    assert landscape.landscape is not None
    expected = plain_surface(module, landscape.landscape, 4, lambda: nn.functional.cross_entropy(module.net(X), Y))
    assert landscape.landscape.loss == pytest.approx(expected, rel=2e-6)
