"""The method's acceptance numbers that need no download: closed forms, known counts, known invariances."""

import copy

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape import LossLandscape
from lightning_landscape.directions import PCA, Random, random_walk_shares
from lightning_landscape.evaluators import evaluate
from lightning_landscape.landscape import Grid, Landscape
from lightning_landscape.models import LinearMNIST, TinyCNN
from lightning_landscape.objectives.base import Batch
from lightning_landscape.weights.parameters import Snapshot
from lightning_landscape.weights.plane import Plane

GRID = Grid.from_ranges((-1.5, 1, 11), (-2, 2, 9))
SIZES = (10, 10, 10, 3)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def make_batches(*tensors, sizes=SIZES) -> list[Batch]:
    ends = np.cumsum(sizes)
    return [Batch(tuple(t[end - n : end] for t in tensors), n) for n, end in zip(sizes, ends, strict=True)]


def cross_entropy(module, data):
    x, y = data
    return nn.functional.cross_entropy(module(x), y)


def surface(objective, net, plane, batches, grid=GRID) -> Landscape:
    values = evaluate(objective, net, plane, grid.points, batches)["loss"]
    return Landscape(grid, {"loss": values.reshape(grid.shape)}, "loss")


def plane_of(net, **settings) -> Plane:
    snapshot = Snapshot.of(net)
    return Plane(snapshot.params, Random(**settings)(snapshot, 2))


# 1. linear softmax


def closed_form(net, plane, x, y) -> np.ndarray:
    """mean log Σ exp Z − Z_y with Z = Z* + α Z^δ + β Z^η: three forward passes, then numpy alone."""
    logits = []
    for params in (plane.origin, *plane.directions):
        with torch.no_grad():
            logits.append(torch.func.functional_call(net, dict(params), (x,)).numpy())
    surface = np.empty(GRID.shape)
    for i, a in enumerate(GRID.axes[0]):
        for j, b in enumerate(GRID.axes[1]):
            z = logits[0] + a * logits[1] + b * logits[2]
            top = z.max(axis=1, keepdims=True)
            log_sum = np.log(np.exp(z - top).sum(axis=1)) + top[:, 0]
            surface[i, j] = (log_sum - z[np.arange(len(y)), y.numpy()]).mean()
    return surface


@pytest.mark.parametrize("ignore", [None, "biasbn"])
def test_linear_softmax_equals_its_closed_form(ignore):
    net = nn.Sequential(nn.Flatten(), nn.Linear(28, 10)).double()
    x, y = torch.randn(33, 1, 4, 7, dtype=torch.float64), torch.randint(10, (33,))
    plane = plane_of(net, ignore=ignore)
    got = surface(cross_entropy, net, plane, make_batches(x, y)).loss
    assert np.ptp(got) > 0.1
    np.testing.assert_allclose(got, closed_form(net, plane, x, y), rtol=0, atol=1e-12)


def test_the_closed_form_of_a_cnn_is_another_function():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(40, 10)).double()
    x, y = torch.randn(33, 1, 4, 7, dtype=torch.float64), torch.randint(10, (33,))
    plane = plane_of(net, ignore=None)
    got = surface(cross_entropy, net, plane, make_batches(x, y)).loss
    wrong = closed_form(net, plane, x, y)
    assert got[GRID.center_index] == pytest.approx(wrong[GRID.center_index], rel=1e-12)
    assert np.abs(got - wrong).max() > 0.05


# 2. the reference models


@pytest.mark.parametrize("model, count", [(LinearMNIST, 7850), (TinyCNN, 19466)])
def test_the_reference_models_have_their_numbers_of_parameters(model, count):
    assert sum(p.numel() for p in model().parameters()) == count
    assert sum(t.numel() for t in Snapshot.of(model()).params.values()) == count


# 3. the quadratic loss

SPECTRA = {
    "convex": (5, 1, 0.5, 0.2, 0.1),
    "saddle": (-5, 1, 0.5, 0.2, 0.1),
    "concave": (-0.1, -0.2, -0.5, -1, -5),
}


class Quadratic(nn.Module):
    """p as a 5×1 matrix, so that the default `ignore` lets it move."""

    def __init__(self, p: np.ndarray) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p).reshape(5, 1))


class Problem:
    """Per sample c_i + g_i·p + ½ pᵀH_i p, whose mean over the 12 samples is c + g·p + ½ pᵀHp."""

    def __init__(self, spectrum) -> None:
        rng = np.random.default_rng(4)
        self.vectors = np.linalg.qr(rng.normal(size=(5, 5)))[0]
        self.hessian = self.vectors @ np.diag(spectrum) @ self.vectors.T
        self.c, self.g = rng.normal(size=12), rng.normal(size=(12, 5))
        noise = rng.normal(size=(12, 5, 5))
        noise = noise + noise.transpose(0, 2, 1)
        self.h = self.hessian + noise - noise.mean(axis=0)
        self.p = rng.normal(size=5)
        self.net = Quadratic(self.p)

    def batches(self, sizes) -> list[Batch]:
        return make_batches(torch.tensor(self.c), torch.tensor(self.g), torch.tensor(self.h), sizes=sizes)

    @staticmethod
    def loss(module, data):
        c, g, h = data
        p = module.p[:, 0]
        return (c + g @ p + 0.5 * torch.einsum("i,nij,j->n", p, h, p)).mean()

    def exact(self, directions: np.ndarray) -> np.ndarray:
        """The surface over GRID for directions as columns, shape (5, 2)."""
        values = []
        for point in GRID.points:
            p = self.p + directions @ point
            values.append(self.c.mean() + self.g.mean(axis=0) @ p + 0.5 * p @ self.hessian @ p)
        return np.array(values).reshape(GRID.shape)


@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
@pytest.mark.parametrize("sizes", [(12,), (5, 5, 2), (1,) * 12, (3, 3, 3, 3)], ids=str)
def test_the_surface_of_a_quadratic_is_exact_whatever_the_batches(spectrum, sizes):
    problem = Problem(spectrum)
    plane = plane_of(problem.net, seed=9)
    directions = np.stack([d["p"].numpy()[:, 0] for d in plane.directions], axis=1)
    landscape = surface(problem.loss, problem.net, plane, problem.batches(sizes))
    expected = problem.exact(directions)
    np.testing.assert_allclose(landscape.loss, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    second = np.diag(directions.T @ problem.hessian @ directions)
    np.testing.assert_allclose(landscape.curvature(), second, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_the_curvatures_along_eigenvectors_are_the_extreme_eigenvalues(spectrum):
    problem = Problem(spectrum)
    order = np.argsort(spectrum)
    directions = tuple({"p": torch.tensor(problem.vectors[:, i].copy()).reshape(5, 1)} for i in (order[-1], order[0]))
    plane = Plane(Snapshot.of(problem.net).params, directions)
    landscape = surface(problem.loss, problem.net, plane, problem.batches((5, 5, 2)))
    np.testing.assert_allclose(landscape.curvature(), (max(spectrum), min(spectrum)), rtol=1e-10, atol=1e-11)


# 4. scale invariance under filter normalisation


def difference(net, twin, x, y) -> float:
    """How much the surfaces of two networks differ, with the same raw noise."""
    batches = make_batches(x, y)
    a, b = (surface(cross_entropy, n, plane_of(n, seed=5), batches).loss for n in (net, twin))
    assert np.ptp(a) > 0.05
    center = GRID.center_index
    assert a[center] == pytest.approx(b[center], abs=1e-14)  # the same function, so a fair question
    return float(np.abs(a - b).max())


def relu_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).double()


def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(33, 6, dtype=torch.float64), torch.randint(3, (33,))


def test_scaling_relu_layers_against_each_other_does_not_change_the_surface():
    net = relu_net()
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in twin[0].parameters():
            parameter.mul_(7)
        twin[2].weight.div_(7)
    assert difference(net, twin, *vectors()) < 5e-15


def test_scaling_conv_filters_before_batch_norm_does_not_change_the_surface():
    net = nn.Sequential(
        nn.Conv2d(1, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(30, 3)
    ).double()  # fmt: skip
    x, y = torch.randn(33, 1, 4, 5, dtype=torch.float64), torch.randint(3, (33,))
    with torch.no_grad():
        for _ in range(60):
            net.train()(x)  # the statistics of these data
    net[1].eps = 0.0  # else the smallest scale would show
    twin = copy.deepcopy(net)
    scales = torch.tensor([7, 1 / 7, 3, 0.5, 11], dtype=torch.float64)
    with torch.no_grad():
        twin[0].weight.mul_(scales[:, None, None, None])
        twin[1].running_mean.mul_(scales)
        twin[1].running_var.mul_(scales**2)
    assert difference(net, twin, x, y) < 1e-14


def test_scaling_single_relu_units_does_change_it():
    """A negative control: the filters of the next layer mix the scales, so its norms do not follow."""
    net = relu_net()
    twin = copy.deepcopy(net)
    scales = torch.logspace(-1, 1, 12, dtype=torch.float64)
    with torch.no_grad():
        twin[0].weight.mul_(scales[:, None])
        twin[0].bias.mul_(scales)
        twin[2].weight.div_(scales)
    assert difference(net, twin, *vectors()) > 0.01


@pytest.mark.parametrize("how", ["layer", "none", "model"])
def test_other_normalisations_are_not_invariant_to_filter_scales(how):
    """Another negative control: what filter normalisation is for."""
    net = relu_net()
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in twin[0].parameters():
            parameter.mul_(7)
        twin[2].weight.div_(7)
    x, y = vectors()
    a, b = (surface(cross_entropy, n, plane_of(n, normalize=how), make_batches(x, y)).loss for n in (net, twin))
    moved = np.abs(a - b).max()
    assert (moved < 5e-15) if how == "layer" else (moved > 0.01)


# 5. principal components


def test_the_principal_components_of_a_random_walk():
    """60.8 and 15.2 % in the limit: what a path must show more than."""
    shares = []
    for seed in range(3):
        steps = np.random.default_rng(seed).normal(size=(300, 4000))
        weights = [{"w": torch.tensor(row)} for row in steps.cumsum(axis=0)]
        pca = PCA(weights)
        plane = Plane(weights[-1], pca(Snapshot(weights[-1]), 2))
        assert plane.project(weights[-1]).tolist() == [0, 0]
        shares.append(pca.explained)
    np.testing.assert_allclose(np.mean(shares, axis=0), (0.608, 0.152), atol=0.01)
    np.testing.assert_allclose(random_walk_shares(10**6, 2), (6 / np.pi**2, 6 / np.pi**2 / 4), rtol=1e-5)


def test_points_in_a_plane_are_explained_by_two_components():
    rng = np.random.default_rng(1)
    rows = 7 + rng.normal(size=(12, 2)) @ rng.normal(size=(2, 50))
    weights = [{"w": torch.tensor(row)} for row in rows]
    pca = PCA(weights)
    plane = Plane(weights[-1], pca(Snapshot(weights[-1]), 2))
    assert pca.explained.sum() == pytest.approx(1, abs=1e-12)
    points = np.array([plane.project(w) for w in weights])
    np.testing.assert_allclose(
        np.linalg.norm(points[:, None] - points, axis=2), np.linalg.norm(rows[:, None] - rows, axis=2), atol=1e-10
    )


# 6. interpolation


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-13), (torch.float32, 1e-5)], ids=str)
def test_the_ends_of_an_interpolation_are_the_losses_of_the_models(dtype, tolerance, tmp_path):
    x, y = torch.randn(33, 6, dtype=dtype), torch.randint(3, (33,))
    nets = []
    for scale in (1, 3, 9):
        net = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3)).to(dtype)
        for _ in range(30):
            net.train()(scale * x)  # statistics of its own
        nets.append(net.eval())
    own = [nn.functional.cross_entropy(net(x), y).item() for net in nets]
    loader = [(x[:20], y[:20]), (x[20:], y[20:])]
    landscape = LossLandscape(nets[0], loader, nn.CrossEntropyLoss(), surf_file=tmp_path / "line.h5")
    line = landscape.compute_1d("target", xrange=(0, 1, 3), dir_type="states", target_model=nets[1])["losses"]
    np.testing.assert_allclose(line[[0, -1]], own[:2], rtol=tolerance)
    plane = landscape.compute_2d((0, 1, 2), (0, 1, 3), dir_type="states", x_target=nets[1], y_target=nets[2])["losses"]
    np.testing.assert_allclose(plane[[0, 1, 0], [0, 0, 2]], own, rtol=tolerance)
    weights_alone = landscape.compute_1d("target", xrange=(0, 1, 3), target_model=nets[1])["losses"]
    assert abs(weights_alone[-1] - own[1]) > 0.01  # the negative control: other statistics are another function


# 8. the centre


def test_the_centre_is_the_modules_own_loss():
    net = relu_net().float()
    x, y = vectors()
    x = x.float()
    center = surface(cross_entropy, net, plane_of(net), make_batches(x, y)).center["loss"]
    with torch.no_grad():
        assert center == pytest.approx(cross_entropy(net, (x, y)).item(), rel=1e-6)


# 9. LightZero's protocol


def test_lightzeros_protocol(tmp_path):
    """21×21 points of several metrics at each checkpoint, on one raw noise; four views a metric, by their names."""
    x, y = vectors()

    def metrics(net, dataloader, use_cuda):
        net.eval()
        outputs = torch.cat([net(inputs) for inputs, _ in dataloader])
        policy = nn.functional.cross_entropy(outputs, y).item()
        value = nn.functional.mse_loss(outputs[:, 0], x[:, 0]).item()
        return {"total_loss": policy + 0.5 * value, "policy_loss": policy, "value_loss": value}

    net = relu_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for iteration in ("10K", "100K"):
        for _ in range(30):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        file = tmp_path / f"iter{iteration}" / "loss_landscape_Pong_21x21.h5"
        landscape = LossLandscape(net, [(x[:20], y[:20]), (x[20:], y[20:])], metrics, True, str(file))
        result = landscape.compute_2d((-1, 1, 21), (-1, 1, 21), "weights", "filter", "biasbn", save=True)
        landscape.plot_2d_contour(surf_name="auto", vmin=None, vmax=None)
        landscape.plot_2d_surface(surf_name="auto")
        losses = result["losses"]
        assert [grid.size for grid in losses.values()] == [441, 441, 441]
        np.testing.assert_allclose(losses["total_loss"], losses["policy_loss"] + 0.5 * losses["value_loss"], rtol=1e-12)
        assert losses["policy_loss"][10, 10] == pytest.approx(nn.functional.cross_entropy(net(x), y).item(), rel=1e-12)
        with h5py.File(file) as stored:
            for name, values in losses.items():
                np.testing.assert_array_equal(stored[f"train_loss_{name}"][:], values)
        views = ("2dcontour", "2dheat", "3dsurface")
        expected = {f"loss_landscape_Pong_21x21_train_loss_{name}_{view}.pdf" for name in losses for view in views}
        assert {path.name for path in file.parent.iterdir()} == {*expected, file.name}
