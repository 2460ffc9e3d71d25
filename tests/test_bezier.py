"""Bézier curves: the formula, its plane, its gradient; and that a trained one is lower than the straight line."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import Bezier, LossLandscape, train_bezier
from lightning_landscape.weights.parameters import Snapshot


def three(seed=0):
    rng = torch.Generator().manual_seed(seed)
    shapes = {"a": (3, 2), "b": (4,)}
    return [{n: torch.randn(s, generator=rng, dtype=torch.float64) for n, s in shapes.items()} for _ in range(3)]


def test_the_curve_is_de_casteljaus():
    start, bend, end = three()
    curve = Bezier(start, bend, end)
    for t in (0.0, 0.2, 0.5, 1.0, 1.3):
        for name in start:
            left, right = torch.lerp(start[name], bend[name], t), torch.lerp(bend[name], end[name], t)
            torch.testing.assert_close(curve.at(t)[name], torch.lerp(left, right, t), rtol=1e-13, atol=1e-13)


def test_its_points_on_its_plane_are_the_curve():
    start, bend, end = three()
    curve = Bezier(start, bend, end)
    towards = curve(Snapshot(start), 2)
    t = np.linspace(-0.5, 1.5, 9)
    for point, at in zip(curve.points(t), t, strict=True):
        for name in start:
            there = start[name] + point[0] * towards[0][name] + point[1] * towards[1][name]
            torch.testing.assert_close(there, curve.at(float(at))[name], rtol=1e-12, atol=1e-12)


def test_a_curve_from_elsewhere_is_told():
    start, bend, end = three()
    with pytest.raises(ValueError, match="The curve starts at other weights than the net's"):
        Bezier(start, bend, end)(Snapshot(bend), 2)
    with pytest.raises(ValueError, match="targets holds 2 models, and the number of directions is 3: give"):
        Bezier(start, bend, end)(Snapshot(start), 3)


# training one

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randn(12, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LOADER = DataLoader(TensorDataset(X, Y), batch_size=5)


def net(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


LOSSES = {
    "module": nn.MSELoss(),
    "(model, inputs, targets)": lambda model, inputs, targets: F.mse_loss(model(inputs), targets),
    "function": lambda outputs, targets: ((outputs - targets) ** 2).mean(),
}


@pytest.mark.parametrize("criterion", LOSSES.values(), ids=LOSSES)
def test_a_step_is_sgd_through_the_formula(criterion):
    """Two epochs of three batches, by autograd through φ(t)."""
    a, b = net(0), net(1)
    start, end = (dict(m.named_parameters()) for m in (a, b))
    curve = train_bezier(a, b, LOADER, criterion, epochs=2, lr=0.3, momentum=0.5, seed=6)
    bend = {n: ((start[n] + end[n]) / 2).detach().requires_grad_() for n in start}
    draws = torch.Generator().manual_seed(6)
    optimizer = torch.optim.SGD(bend.values(), lr=0.3, momentum=0.5)
    for epoch in range(2):
        for group in optimizer.param_groups:
            group["lr"] = 0.3 * (1 + np.cos(np.pi * epoch / 2)) / 2
        for x, y in LOADER:
            t = torch.rand((), generator=draws).item()
            here = {
                n: (1 - t) ** 2 * start[n].detach() + 2 * t * (1 - t) * bend[n] + t**2 * end[n].detach() for n in bend
            }
            optimizer.zero_grad()
            F.mse_loss(torch.func.functional_call(a, here, (x,)), y).backward()
            optimizer.step()
    for name, tensor in bend.items():
        torch.testing.assert_close(curve.bend[name], tensor.detach(), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(curve.end[name], end[name].detach(), rtol=1e-14, atol=1e-14)
        assert not curve.bend[name].requires_grad


def test_a_regulariser_sees_the_curve():
    def decay(model, inputs, targets):
        return sum(p.square().sum() for p in model.parameters() if p.requires_grad)

    curve = train_bezier(net(0), net(1), LOADER, decay, epochs=60, lr=0.5, momentum=0.0)
    middle = sum(float(t.square().sum()) for t in curve.at(0.5).values())
    straight = sum(float((((curve.start[n] + curve.end[n]) / 2) ** 2).sum()) for n in curve.start)
    assert middle < 0.5 * straight


@pytest.mark.parametrize("own", [False, True], ids=["global stream", "own generator"])
def test_neither_net_nor_streams_are_touched(own):
    a = nn.Sequential(net(0)[0], nn.BatchNorm1d(4).double(), nn.Dropout(0.3), net(0)[2]).eval()
    b = copy.deepcopy(a)
    a[0].weight.grad = torch.ones_like(a[0].weight)
    generator = torch.Generator().manual_seed(5) if own else None
    loader = DataLoader(TensorDataset(X, Y), batch_size=6, shuffle=True, generator=generator)

    def facts():
        bits = [(t._version, t.tolist()) for m in (a, b) for t in m.state_dict(keep_vars=True).values()]
        state = None if generator is None else generator.get_state().tolist()
        return bits, a[0].weight.grad.tolist(), a.training, torch.get_rng_state().tolist(), state

    before = facts()
    curves = [train_bezier(a, b, loader, nn.MSELoss(), epochs=2) for _ in range(2)]
    assert facts() == before
    assert all(torch.equal(curves[0].bend[n], curves[1].bend[n]) for n in curves[0].bend)


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="epochs=0: give the passes over the data, at least 1"):
        train_bezier(net(0), net(1), LOADER, nn.MSELoss(), epochs=0)
    with pytest.raises(ValueError, match=r"Target model 0 has no '0\.bias'"):
        train_bezier(net(0), nn.Linear(2, 2), LOADER, nn.MSELoss())
    with pytest.raises(
        TypeError, match=r"criterion is metrics of \(net, dataloader, use_cuda\), which has no gradient"
    ):
        train_bezier(net(0), net(1), LOADER, lambda net, dataloader, use_cuda: {})


# measuring one


def test_a_landscape_along_a_curve_is_the_naive_loop(tmp_path):
    a, (_, bend, end) = net(0), [dict(net(i).named_parameters()) for i in range(3)]
    curve = Bezier(*[{n: t.detach() for n, t in w.items()} for w in (dict(a.named_parameters()), bend, end)])
    landscape = LossLandscape(a, LOADER, nn.MSELoss(), surf_file=tmp_path / "curve.h5")
    result = landscape.compute_1d(curve, xrange=(-0.5, 1.5, 9))
    with torch.no_grad():
        expected = [
            F.mse_loss(torch.func.functional_call(a, curve.at(t), (X,)), Y).item() for t in np.linspace(-0.5, 1.5, 9)
        ]
    np.testing.assert_allclose(result["losses"], expected, rtol=1e-11)
    inside = np.array(expected[2:7])
    line = np.linspace(inside[0], inside[-1], 5)
    assert landscape.landscape.barrier() == pytest.approx((inside - line).max(), rel=1e-10)
    assert landscape.landscape.center["train_loss"] == pytest.approx(expected[2], rel=1e-12)
    # and its plane
    plane = landscape.compute_2d(xrange=(0, 1, 2), yrange=(0, 1, 2), directions=curve)
    corner = F.mse_loss(torch.func.functional_call(a, dict(curve.bend), (X,)), Y).item()
    assert plane["losses"][0, 1] == pytest.approx(corner, rel=1e-12)


def test_a_stopped_curve_goes_on_and_another_curve_does_not(tmp_path):
    a, b = net(0), net(1)
    curves = [train_bezier(a, b, LOADER, nn.MSELoss(), epochs=epochs) for epochs in (1, 2)]

    def along(curve, **options):
        landscape = LossLandscape(a, LOADER, nn.MSELoss(), surf_file=tmp_path / "curve.h5")
        return landscape.compute_1d(curve, xrange=(0, 1, 3), **options)["losses"]

    np.testing.assert_array_equal(along(curves[0]), along(curves[0], resume=True))
    with pytest.raises(ValueError, match="another directions"):
        along(curves[1], resume=True)


def trained(seed, loader):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(12):
            for x, y in loader:
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
    return model


def test_minima_of_digits_are_connected(tmp_path):
    """Mode connectivity (Garipov et al. 2018): two nets from different seeds, on real handwritten digits."""
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x / 16, dtype=torch.float32)[:600], torch.tensor(y)[:600])
    loader = DataLoader(data, batch_size=100, shuffle=True)
    a, b = trained(0, loader), trained(1, loader)
    curve = train_bezier(a, b, loader, nn.CrossEntropyLoss(), epochs=40, lr=0.1)
    landscape = LossLandscape(a, loader, nn.CrossEntropyLoss(), surf_file=tmp_path / "curve.h5")
    barriers = []
    for directions, target in (("target", b), (curve, None)):
        landscape.compute_1d(directions, xrange=(0, 1, 9), target_model=target, recalibrate=True)
        barriers.append(landscape.landscape.barrier())
    straight, curved = barriers
    assert straight > 0.1
    assert curved < straight / 4
