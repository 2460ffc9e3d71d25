"""`LossLandscape.hessian`: the curvature of plain modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(40, 6, generator=GENERATOR), torch.randint(3, (40,), generator=GENERATOR)


def tanh_net():
    """53 parameters: 6 × 5 + 5 and 5 × 3 + 3."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def exact():
    """The eigenvalues by `torch.autograd.functional`, descending."""
    net = tanh_net().double()
    names, start = zip(*net.named_parameters(), strict=True)

    def loss(vector):
        pieces = vector.split([p.numel() for p in start])
        params = {name: piece.view_as(p) for name, piece, p in zip(names, pieces, start, strict=True)}
        return F.cross_entropy(torch.func.functional_call(net, params, (X.double(),)), Y)

    vector = torch.cat([p.detach().reshape(-1) for p in start])
    return np.linalg.eigvalsh(torch.autograd.functional.hessian(loss, vector).numpy())[::-1]


def landscape(net, batch=16, criterion=None, **options):
    return LossLandscape(net, DataLoader(TensorDataset(X, Y), batch), criterion or nn.CrossEntropyLoss(), **options)


@pytest.mark.parametrize("batch", [40, 7])
def test_the_tanh_net(batch):
    net, expected = tanh_net(), exact()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    spectrum = landscape(net, batch).hessian(top_k=5, density=True, blocks=True)
    assert np.abs(spectrum.eigenvalues - expected[:5]).max() <= 1e-5
    assert abs(spectrum.lowest - expected[-1]) <= 1e-5
    assert abs(spectrum.trace - expected.sum()) <= 3 * spectrum.trace_error + 1e-5
    mean, error = spectrum.node_mean
    assert abs(mean * spectrum.size - expected.sum()) <= 3 * error * spectrum.size
    assert list(spectrum.blocks) == ["0", "2"]
    parts = sum(block.trace for block in spectrum.blocks.values())
    errors = sum(block.trace_error for block in spectrum.blocks.values())
    assert abs(parts - expected.sum()) <= 3 * errors + 1e-5
    assert (spectrum.size, spectrum.samples, spectrum.seed) == (53, 40, 42)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_curvature_along_the_gradient():
    net = tanh_net()
    spectrum = landscape(net).hessian(top_k=1, trace=False)
    loss = F.cross_entropy(net(X), Y)
    gradient = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)
    fixed = [g.detach() for g in gradient]
    square = sum((g * g).sum() for g in fixed)
    product = torch.autograd.grad(sum((g * f).sum() for g, f in zip(gradient, fixed, strict=True)), net.parameters())
    expected = sum((p * f).sum() for p, f in zip(product, fixed, strict=True)) / square
    assert spectrum.curvature_along_gradient == pytest.approx(expected.item(), rel=1e-5)
    assert spectrum.gradient_norm == pytest.approx(square.sqrt().item(), rel=1e-5)
    assert spectrum.loss == pytest.approx(loss.item(), rel=1e-6)
    assert np.isnan(spectrum.trace)


def test_random_slices_have_the_mean_curvature_of_the_trace():
    """On a smooth net; at kinks a slice is more curved than the pieces of which H tells."""
    net = tanh_net().double()
    spectrum = landscape(net, criterion=lambda net, x, y: F.cross_entropy(net(x.double()), y)).hessian()
    start = torch.nn.utils.parameters_to_vector(net.parameters()).detach()
    step, curvatures = 1e-3, []

    def loss(vector):
        torch.nn.utils.vector_to_parameters(vector, net.parameters())
        with torch.no_grad():
            return F.cross_entropy(net(X.double()), Y).item()

    for i in range(300):
        slope = torch.randn(len(start), generator=torch.Generator().manual_seed(i)).double()
        slope *= step / slope.norm()
        curvatures.append((loss(start + slope) - 2 * loss(start) + loss(start - slope)) / step**2)
    error = np.std(curvatures, ddof=1) / 300**0.5
    assert abs(np.mean(curvatures) - spectrum.trace / spectrum.size) <= 3 * (error + spectrum.trace_error / 53)


def test_a_criterion_with_the_original_net_is_refused():
    net = tanh_net()
    with pytest.raises(ValueError, match=r"computes with '0\.weight' of the net that it was written with"):
        landscape(net, criterion=lambda model, x, y: F.cross_entropy(net(x), y)).hessian()


def test_metrics_without_a_graph_are_refused():
    def metrics(net, dataloader, use_cuda):
        return {"loss": 1.0}

    with pytest.raises(ValueError, match="has no graph to the parameters"):
        landscape(tanh_net(), criterion=metrics).hessian()


def test_top_k_below_one_is_refused():
    with pytest.raises(ValueError, match="top_k=0: give the number"):
        landscape(tanh_net()).hessian(top_k=0)


def test_train_mode_is_another_function():
    net = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Tanh(), nn.Linear(6, 3))
    trained, evaluated = (landscape(net, mode=mode).hessian(top_k=1).largest for mode in ("train", "eval"))
    assert trained == landscape(net, mode="train").hessian(top_k=1).largest
    assert abs(trained - evaluated) > 1e-3


class Quartic(nn.Module):
    """w₀⁴ − w₁² at (1, 0): the Hessian is diag(12 w₀², −2)."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, x):
        return self.w[0] ** 4 - self.w[1] ** 2


def quartic(**options):
    return LossLandscape(Quartic(), [(torch.zeros(1), torch.zeros(1))], lambda net, x, y: net(x), **options)


def axes(site, k):
    return tuple({"w": torch.eye(2)[i]} for i in range(k))


def test_a_map_of_the_extremes():
    plain = quartic()
    plain.compute_2d((-1, 1, 3), (-1, 1, 3), directions=axes, save=False)
    found = plain.hessian_map((0, 2, 3), (-1, 1, 2))
    highest = np.array([12.0, 48.0, 108.0])[:, None] * np.ones(2)
    np.testing.assert_allclose(found.values["lambda_max"], highest, rtol=1e-5)
    np.testing.assert_allclose(found.values["lambda_min"], -2, rtol=1e-5)
    np.testing.assert_allclose(found.values["ratio"], 2 / highest, rtol=1e-5)
    assert found.recipe.directions.kind == "axes"
    assert plain.net.w.tolist() == [1, 0]
    assert plain.landscape.main != "ratio"


def test_a_map_has_gaps_where_the_loss_is_not_finite_and_an_error_where_it_is_nowhere():
    plain = quartic()
    plain.compute_1d(xrange=(-1, 1, 3), directions=axes, save=False)
    found = plain.hessian_map((0, 1e30, 2))
    assert np.isnan(found.values["ratio"]).tolist() == [False, True]
    assert found.done.all()
    with pytest.raises(ValueError, match="not finite on batch 0"):
        plain.hessian_map((1e30, 2e30, 2))


def test_a_map_needs_a_plane_and_a_range_for_each_direction():
    plain = quartic()
    with pytest.raises(ValueError, match="There is no plane yet"):
        plain.hessian_map()
    plain.compute_1d(xrange=(-1, 1, 3), directions=axes, save=False)
    with pytest.raises(ValueError, match="ranges has 2 ranges, and the plane 1 directions"):
        plain.hessian_map((-1, 1, 3), (-1, 1, 3))
    assert plain.hessian_map().grid.shape == (11,)


def test_eigenvalues_along_a_training():
    records = [{"w": torch.tensor([w, 0.0])} for w in (3.0, 2.0, 1.0)]
    for spectra in (quartic().hessian_path(records), quartic(records=records).hessian_path()):
        assert [spectrum.largest for spectrum in spectra] == pytest.approx([108, 48, 12], rel=1e-5)
        assert [spectrum.lowest for spectrum in spectra] == pytest.approx([-2] * 3, rel=1e-5)
    with pytest.raises(ValueError, match="records is empty"):
        quartic().hessian_path()
