"""What computes with the net itself, in whole or in part, is refused: the landscape moves a copy of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape, LossLandscapeCallback
from lightning_landscape.objectives.base import CannotMeasureError
from lightning_landscape.objectives.touched import Touched

X, Y = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 3
LOADER = DataLoader(TensorDataset(X, Y), 6)
NETS: dict[str, nn.Module] = {}  # a global


class Agent:
    """Holds a net, as people's trainers do."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def metrics(self, net: nn.Module, dataloader: Any, use_cuda: bool) -> dict[str, float]:
        return {"loss": sum(F.cross_entropy(self.model(x), y).item() for x, y in dataloader)}

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.model(inputs), targets)

    def regularised(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets) + 0.1 * self.model[0].weight.square().sum()

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(model, inputs, targets)


def with_numpy(net: nn.Module) -> Callable[..., Any]:
    """A regulariser that is computed outside of torch."""
    return lambda model, x, y: F.cross_entropy(model(x), y) + float((net[0].weight.detach() * 1).numpy().sum())


def through_a_global(net: nn.Module) -> Callable[..., Any]:
    NETS["net"] = net
    return lambda model, x, y: F.cross_entropy(model(x), y) + NETS["net"][2].bias.data.abs().max()


REACHED = {
    "a closure": lambda net: lambda model, x, y: F.cross_entropy(net(x), y),
    "an object": lambda net: Agent(net),
    "a bound method": lambda net: Agent(net).loss,
    "metrics by a bound method": lambda net: Agent(net).metrics,
    "an argument": lambda net: functools.partial(lambda given, outputs, targets: given(X).sum(), net),
    "a regulariser": lambda net: Agent(net).regularised,
    "a regulariser over a list": lambda net: lambda out, y: out.mean() + sum(p.norm() for p in net.parameters()),
    "a regulariser through a global": through_a_global,
    "a regulariser in numpy": with_numpy,
    "a script": lambda net: lambda model, x, y: F.cross_entropy(torch.jit.script(net)(x), y),
}


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning", "ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("make", REACHED.values(), ids=REACHED)
def test_a_criterion_that_computes_with_the_net_itself_is_refused(make, net, tmp_path):
    landscape = LossLandscape(net, LOADER, make(net), surf_file=tmp_path / "a.npz")
    with pytest.raises(CannotMeasureError, match=r"criterion computes with '\d\.(weight|bias)' of the net .* Take the"):
        landscape.compute_1d(xrange=(-1, 1, 3), save=False)


def test_what_moves_the_net_itself_is_refused_before_it_does(net, tmp_path):
    def decay(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            net[0].weight.mul_(0.5)
        return F.cross_entropy(model(inputs), targets)

    before = net[0].weight.clone()
    with pytest.raises(CannotMeasureError, match=r"would have moved the training itself: 0\.weight"):
        LossLandscape(net, LOADER, decay, surf_file=tmp_path / "a.npz").compute_1d(xrange=(-1, 1, 3), save=False)
    assert torch.equal(net[0].weight, before)


def test_what_does_not_depend_on_the_weights_that_move_is_refused(net, tmp_path):
    other = nn.Linear(4, 3)
    for criterion, ignore in (
        (lambda model, x, y: F.cross_entropy(other(x), y), "biasbn"),
        (lambda net, dataloader, use_cuda: {"acc": 0.5}, "biasbn"),
        (lambda model, x, y: F.cross_entropy(x[:, :3], y) + model[0].bias.sum(), "*.bias"),
    ):
        landscape = LossLandscape(net, LOADER, criterion, surf_file=tmp_path / "a.npz")
        with pytest.raises(CannotMeasureError, match="criterion does not depend on the weights that the directions"):
            landscape.compute_1d(xrange=(-1, 1, 3), ignore=ignore, save=False)


def test_a_criterion_may_hold_a_copy_another_net_or_the_net_in_a_loss_module(net, tmp_path):
    class Regularised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = [net]

        def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return F.cross_entropy(outputs, targets) + sum(p.square().sum() for p in self.nets[0].parameters())

    teacher = nn.Linear(4, 3)
    names = [name for name, _ in net.named_parameters()]
    for criterion in (
        Regularised(),
        lambda model, x, y: (model(x) - teacher(x)).square().mean(),
        lambda model, x, y: F.cross_entropy(model(x), y) * len(list(net.parameters())) * net[0].weight.shape[0],
        lambda model, x, y: F.cross_entropy(model(x), y) * len(names) * (net[0].weight.detach().T.ndim),
    ):
        landscape = LossLandscape(net, LOADER, criterion, surf_file=tmp_path / "a.npz")
        assert np.ptp(landscape.compute_1d(xrange=(-1, 1, 3), save=False)["losses"]) > 0


def test_what_cannot_be_watched_is_measured_all_the_same(net, tmp_path, monkeypatch):
    def refuse(self, func, types, args=(), kwargs=None):
        raise NotImplementedError("not under a mode")

    monkeypatch.setattr(Touched, "__torch_dispatch__", refuse)
    landscape = LossLandscape(net, LOADER, surf_file=tmp_path / "a.npz")
    assert np.ptp(landscape.compute_1d(xrange=(-1, 1, 3), save=False)["losses"]) > 0


# a module in its Trainer


class Plain(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)
        NETS["module"] = self

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class Global(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + NETS["module"].net.weight.square().sum()


class Logged(Plain):
    """Only a value that it logs is of the original."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("norm", NETS["module"].net.weight.norm())
        return super().training_step(batch, batch_idx)


def fit(module: L.LightningModule, folder: Any, **options: Any) -> Any:
    callback = LossLandscapeCallback(x=(-1, 1, 3), y=None, plots=[], samples=0, formats=["npz"], strict=True, **options)
    L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, callbacks=[callback], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    ).fit(module, LOADER)  # fmt: skip
    return callback.landscape


@pytest.mark.parametrize("module", [Global, Logged])
def test_a_step_that_computes_with_the_module_that_is_trained_is_refused(module, tmp_path):
    with pytest.raises(
        MisconfigurationException, match=rf"{module.__name__}\.training_step computes with 'net.weight'"
    ):
        fit(module(), tmp_path)


def test_an_objective_that_computes_with_the_module_that_is_trained_is_refused(tmp_path):
    def penalised(module: L.LightningModule, batch: Any) -> Tensor:
        return module.training_step(batch, 0) + NETS["module"].net.bias.sum()

    with pytest.raises(MisconfigurationException, match=r"penalised.* computes with 'net.bias'"):
        fit(Plain(), tmp_path, objective=penalised)
