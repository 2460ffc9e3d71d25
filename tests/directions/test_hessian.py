"""The Hessian's eigenvectors as directions, against quadratics and the exact Hessian of a small net."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape, Snapshot, load
from lightning_landscape.directions import Hessian, Site
from lightning_landscape.directions.hessian import spread
from lightning_landscape.objectives.base import Batch, CannotMeasureError, LossFunction
from lightning_landscape.weights.plane import Plane

from .._formula import callback, train
from .._steps import BATCH, Automatic, X, Y

EIGENVALUES = torch.tensor([5.0, 1.0, 0.5, 0.2, -2.0], dtype=torch.float64)


class Bowl(nn.Module):
    """½ wᵀ A w, A being diag(5, 1, .5, .2, −2) in a turned basis."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.basis = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))[0]
        self.w = nn.Parameter(torch.ones(5, dtype=torch.float64))

    def forward(self) -> Tensor:
        return 0.5 * (EIGENVALUES * (self.basis.T @ self.w).square()).sum()


def site(module: Bowl) -> Site:
    return Site.at(Snapshot.of(module), module, LossFunction(lambda net, batch: net()), [Batch(None, 1)])


@pytest.mark.parametrize(
    "which, k, columns", [("top and bottom", 2, [0, 4]), ("top and bottom", 3, [0, 1, 4]), ("top", 3, [0, 1, 2])]
)
def test_a_quadratic_gives_its_axes_uphill(which: Any, k: int, columns: list[int]) -> None:
    module = Bowl()
    kind = Hessian(which)
    directions = torch.stack([direction["w"] for direction in kind(site(module), k)])
    axes = module.basis.T[columns]
    slopes = EIGENVALUES[columns] * (axes @ torch.ones(5, dtype=torch.float64))  # the gradient is A w
    torch.testing.assert_close(directions, slopes.sign()[:, None] * axes, atol=1e-5, rtol=0)
    values = EIGENVALUES[columns].tolist()
    assert kind.recipe()["eigenvalues"] == pytest.approx(values)
    texts = [f"{value:.3g}".replace("-", "−") for value in values]
    words = ["λ_max", "λ₂", "λ₃"][:k]
    if which == "top and bottom":
        words[-1] = "λ_min"
    assert kind.labels == tuple(f"{word} = {text}" for word, text in zip(words, texts, strict=True))


def test_the_slice_along_an_eigenvector_has_its_eigenvalue_as_curvature(tmp_path: Path) -> None:
    module = Bowl()
    plain = LossLandscape(module, [0], lambda net, batch, _: net(), surf_file=tmp_path / "bowl.h5")
    plain.dataloader = [(torch.zeros(1), torch.zeros(1))]
    plain.compute_2d((-1, 1, 5), (-1, 1, 5), directions="hessian")
    found = plain.landscape
    assert found.curvature() == pytest.approx((5, -2), rel=1e-6)
    assert found.curvature(of_weights=True) == pytest.approx((5, -2), rel=1e-6)
    assert found.spectrum.eigenvalues.tolist() == pytest.approx([5, 1])
    assert found.spectrum.lowest == pytest.approx(-2)
    assert load(tmp_path / "bowl.h5").spectrum.lowest == found.spectrum.lowest


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))


def exact(module: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The eigenvalues and eigenvectors of the exact Hessian, ascending."""
    twin = copy.deepcopy(module).double()
    names, start = zip(*twin.named_parameters(), strict=True)

    def loss(vector: Tensor) -> Tensor:
        pieces = vector.split([p.numel() for p in start])
        params = {name: piece.view_as(p) for name, piece, p in zip(names, pieces, start, strict=True)}
        return cross_entropy(torch.func.functional_call(twin, params, (x.double(),)), y)

    vector = torch.cat([p.detach().reshape(-1) for p in start])
    return torch.linalg.eigh(torch.autograd.functional.hessian(loss, vector))


def flat(direction: Any) -> Tensor:
    return torch.cat([t.reshape(-1) for t in direction.values()]).double()


def test_a_net_gives_the_eigenvectors_of_its_exact_hessian_over_uneven_batches() -> None:
    module = net()
    values, vectors = exact(module, X, Y)
    plain = LossLandscape(module, DataLoader(TensorDataset(X, Y), BATCH), nn.CrossEntropyLoss())
    plain.compute_2d((-0.02, 0.02, 3), (-0.02, 0.02, 3), directions="hessian", save=False)
    highest, lowest = (flat(direction) for direction in plain.plane.directions)
    assert abs(highest @ vectors[:, -1]) == pytest.approx(1, abs=1e-4)
    assert lowest @ (vectors @ (values * (vectors.T @ lowest))) == pytest.approx(values[0].item(), abs=1e-5)
    recipe = plain.landscape.recipe.directions
    assert recipe.settings["eigenvalues"] == pytest.approx([values[-1].item(), values[0].item()], abs=1e-5)
    assert recipe.resting_parameters == 0
    assert plain.landscape.spectrum.samples == len(X)


def test_it_is_taken_at_the_weights_of_the_site_and_leaves_flags_alone() -> None:
    module, elsewhere = Bowl(), Bowl()
    elsewhere.w.data.fill_(7.0)
    elsewhere.w.requires_grad_(False)
    cubic = LossFunction(lambda net, batch: (net.w**3).sum())  # H = diag(6 w)
    module.w.data = torch.arange(1.0, 6.0, dtype=torch.float64)
    elsewhere.w.requires_grad_(True)
    kind = Hessian("top")
    kind(Site.at(Snapshot.of(module), elsewhere, cubic, [Batch(None, 1)]), 2)
    assert kind.recipe()["eigenvalues"] == pytest.approx([30, 24])
    assert elsewhere.w.requires_grad
    assert elsewhere.w.grad is None


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.BatchNorm1d(6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(x))


def test_train_mode_leaves_the_statistics_of_batchnorm_alone() -> None:
    module = Norm().train()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    objective = LossFunction(lambda net, batch: cross_entropy(net(batch[0]), batch[1]))
    Hessian()(Site.at(Snapshot.of(module), module, objective, [Batch((X, Y), len(X))]), 2)
    assert all(torch.equal(before[name], buffer) for name, buffer in module.named_buffers())


class Wrong(torch.autograd.Function):
    """x³ whose gradient is not that of any function twice: its second derivative is not symmetric."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (3 * x**2 + torch.roll(x, 1))


class Broken(Automatic):
    """A step whose gradients are those of no loss: neither way gives a symmetric Hessian."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return Wrong.apply(next(self.parameters()).reshape(-1)).sum() + super().training_step(batch, batch_idx)


def test_a_hessian_that_is_not_proved_is_refused_in_words_before_a_point_is_measured(tmp_path: Path) -> None:
    module = nn.Linear(6, 2)
    points = []

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        points.append(1)
        return Wrong.apply(model.weight.reshape(-1)).sum() + cross_entropy(model(x), y)

    plain = LossLandscape(module, DataLoader(TensorDataset(X, Y), 99), loss, surf_file=tmp_path / "a.h5")
    with pytest.raises(CannotMeasureError, match="Nor do differences of gradients in float64 help"):
        plain.compute_2d((-1, 1, 31), (-1, 1, 31), directions="hessian")
    assert len(points) < 100
    assert not (tmp_path / "a.h5").exists()


def test_the_callback_refuses_it_before_the_training(tmp_path: Path) -> None:
    watched = callback(directions="hessian")
    module = Broken()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(Exception, match="are not those of a Hessian"):
        train(module, [DataLoader(TensorDataset(X, Y), BATCH)], [watched], tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_the_callback_keeps_the_spectrum_in_its_file(tmp_path: Path) -> None:
    watched = callback(directions=Hessian("top", density=True), every_n_epochs=None)
    train(Automatic(), [DataLoader(TensorDataset(X, Y), BATCH)], [watched], tmp_path)
    spectrum = watched.landscape.spectrum
    assert np.isfinite(spectrum.trace)
    assert spectrum.density()[1].max() > 0
    (file,) = tmp_path.rglob("*.h5")
    assert load(file).spectrum.eigenvalues.tolist() == spectrum.eigenvalues.tolist()
    assert watched.landscape.recipe.directions.kind == "hessian"


def test_batches_are_spread_and_at_least_one() -> None:
    batches = [Batch(i, 10) for i in range(9)]
    assert [batch.data for batch in spread(batches, None)] == [*range(9)]
    assert [batch.data for batch in spread(batches, 20)] == [0, 8]
    assert [batch.data for batch in spread(batches, 5)] == [0]
    assert sum(batch.size for batch in spread([replace(b, size=b.data + 1) for b in batches], 20)) <= 20


@pytest.mark.parametrize(
    "given, words", [({"which": "bottom"}, "which='bottom'"), ({"max_samples": 0}, "max_samples=0")]
)
def test_settings_that_are_none_are_refused(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Hessian(**given)


def test_more_directions_than_weights_are_refused() -> None:
    module = nn.Linear(1, 1, bias=False)
    objective = LossFunction(lambda net, batch: net.weight.square().sum())
    with pytest.raises(CannotMeasureError, match="Hessian of 1 weights has no 2 eigenvectors"):
        Hessian()(Site.at(Snapshot.of(module), module, objective, [Batch(None, 1)]), 2)
    assert Plane(
        Snapshot.of(module).params, Hessian()(Site.at(Snapshot.of(module), module, objective, [Batch(None, 1)]), 1)
    )


def test_a_site_without_a_loss_is_refused() -> None:
    with pytest.raises(CannotMeasureError, match="A Hessian needs a loss and data"):
        Hessian()(Snapshot.of(nn.Linear(1, 1)), 1)
