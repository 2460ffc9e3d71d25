"""LossLandscape: values against a naive loop over functional_call; the files, pictures and errors that users meet."""

import copy
import errno
import logging
import random
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import PCA, LossLandscape, Random, load, train_bezier
from lightning_landscape.weights.parameters import Snapshot

RANGES = {"xrange": (-1, 0.5, 4), "yrange": (-0.5, 1, 3)}  # not square, not symmetric


class Net(nn.Module):
    """BatchNorm with statistics of its own, dropout, a frozen parameter."""

    def __init__(self, outputs=3):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)
        self.last = nn.Linear(6, outputs)
        self.still = nn.Parameter(torch.ones(outputs), requires_grad=False)
        self.norm.running_mean.uniform_(-0.5, 0.5)
        self.norm.running_var.uniform_(0.5, 2)
        self.norm.num_batches_tracked.fill_(5)

    def forward(self, x):
        return self.last(self.drop(self.norm(self.first(x)).relu())) * self.still


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def net():
    return Net().double()


@pytest.fixture
def data():
    """13 samples, in batches of 5, 5 and 3."""
    return torch.randn(13, 4, dtype=torch.float64), torch.randint(3, (13,))


@pytest.fixture
def loader(data):
    return DataLoader(TensorDataset(*data), batch_size=5)


@pytest.fixture
def make(net, loader, tmp_path):
    def made(criterion=None, **options):
        given = {"net": net, "dataloader": loader, "surf_file": tmp_path / "surface.h5", **options}
        return LossLandscape(criterion=criterion, **given)

    return made


def moved(origin, directions, point):
    return {
        name: tensor + sum(float(c) * d[name] for c, d in zip(point, directions, strict=True))
        for name, tensor in origin.items()
    }


def naive(net, directions, axes, measure, buffers=False):
    """`measure(call)` at every point, with the weights given to functional_call; shape of the axes."""
    twin = copy.deepcopy(net).eval()
    origin = {n: p.detach() for n, p in twin.named_parameters() if p.requires_grad}
    if buffers:
        origin |= {n: b for n, b in twin.named_buffers() if b.is_floating_point()}
    values = []
    with torch.no_grad():
        for point in np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes)):
            params = moved(origin, directions, point)
            values.append(float(measure(lambda x, params=params: functional_call(twin, params, (x,)))))
    return np.reshape(values, [len(axis) for axis in axes])


# what is measured


@pytest.mark.parametrize("k", [1, 2, 3])
def test_every_value_is_that_of_the_naive_loop(make, net, data, k):
    x, y = data
    landscape = make(nn.CrossEntropyLoss())
    ranges = {**RANGES, "zrange": (-0.2, 0.2, 2)}
    compute = (landscape.compute_1d, landscape.compute_2d, landscape.compute_3d)[k - 1]
    result = compute(**dict(list(ranges.items())[:k]))
    axes = [np.linspace(*given) for given in list(ranges.values())[:k]]
    directions = Random(seed=42)(Snapshot.of(net), k)
    expected = naive(net, directions, axes, lambda call: F.cross_entropy(call(x), y))
    right = naive(net, directions, axes, lambda call: 100 * (call(x).argmax(1) == y).double().mean())
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(result["losses"], expected, rtol=1e-12)
    np.testing.assert_allclose(result["accuracies"], right, rtol=1e-6)
    assert list(result)[2:] == ["xcoordinates", "ycoordinates", "zcoordinates"][:k]
    for axis, letter in zip(axes, "xyz", strict=False):
        np.testing.assert_allclose(result[f"{letter}coordinates"], axis, atol=1e-15)


def test_arguments_by_position_as_in_the_older_library(make):
    given = make().compute_1d("random", (-1, 1, 3), "weights", "layer", None, None, False)
    named = make().compute_1d(xrange=(-1, 1, 3), normalize="layer", ignore=None)
    np.testing.assert_array_equal(given["losses"], named["losses"])
    given = make().compute_2d((-1, 1, 3), (0, 1, 2), "weights", "layer", "biasbn", None, None, False)
    named = make().compute_2d(xrange=(-1, 1, 3), yrange=(0, 1, 2), normalize="layer")
    np.testing.assert_array_equal(given["losses"], named["losses"])


def test_a_range_comes_first_in_every_method(make, net):
    """`compute_1d`, whose first argument are the directions, takes a range there all the same."""
    named = make().compute_1d(xrange=(-1, 1, 3))
    for first in ((-1, 1, 3), [-1, 1, 3]):
        np.testing.assert_array_equal(make().compute_1d(first)["losses"], named["losses"])
    np.testing.assert_array_equal(make().compute_1d()["xcoordinates"], np.linspace(-1, 1, 51))
    target = copy.deepcopy(net)
    nn.init.ones_(target.first.weight)
    towards = make().compute_1d((0, 1, 3), target_model=target)
    expected = make().compute_1d("target", (0, 1, 3), target_model=target)
    np.testing.assert_array_equal(towards["losses"], expected["losses"])
    plane = make().compute_2d((-1, 1, 3), (0, 1, 2))
    assert plane["losses"].shape == (3, 2)
    with pytest.raises(
        ValueError, match=r"\(0, 1, 3\) in the place of directions, and xrange=\(0, 1, 5\): .* one range"
    ):
        make().compute_1d((0, 1, 3), (0, 1, 5))
    with pytest.raises(ValueError, match=r"xrange=\(1, 0, 3\) is reversed"):
        make().compute_1d((1, 0, 3))


def metrics(net, dataloader, use_cuda):
    net.eval()
    total = right = count = 0
    for x, y in dataloader:
        total += F.cross_entropy(net(x), y, reduction="sum").item()
        right += (net(x).argmax(1) == y).sum().item()
        count += len(y)
    return {"ce_loss": total / count, "accuracy": 100 * right / count}


def test_a_metrics_function_gives_a_dict_of_arrays(make, net, data):
    x, y = data
    result = make(metrics).compute_2d(**RANGES)
    axes = [np.linspace(*given) for given in RANGES.values()]
    expected = naive(net, Random(seed=42)(Snapshot.of(net), 2), axes, lambda call: F.cross_entropy(call(x), y))
    assert list(result) == ["losses", "xcoordinates", "ycoordinates"]
    assert list(result["losses"]) == ["ce_loss", "accuracy"]
    np.testing.assert_allclose(result["losses"]["ce_loss"], expected, rtol=1e-12)


def test_a_regression_has_losses_alone(make, net, data):
    x, _ = data
    loader = DataLoader(TensorDataset(x, x[:, :3]), batch_size=5)
    result = make(nn.MSELoss(), dataloader=loader).compute_1d(xrange=(-1, 1, 3))
    assert list(result) == ["losses", "xcoordinates"]
    assert result["losses"][1] == pytest.approx(F.mse_loss(net.eval()(x), x[:, :3]).item(), rel=1e-12)


def test_the_kind_of_criterion_is_said_in_the_log(make, caplog):
    with caplog.at_level(logging.INFO, "lightning_landscape"):
        make(metrics), make(nn.CrossEntropyLoss()), make(lambda model, inputs, targets: 0)
    said = [record.message for record in caplog.records]
    assert said[0] == "criterion metrics is measured as metrics of (net, dataloader, use_cuda)."
    assert said[1] == "criterion CrossEntropyLoss() is measured as a loss of (outputs, targets)."
    assert said[2].endswith("is measured as a loss of (model, inputs, targets).")


# losses that need more than outputs


class Field(nn.Module):
    """u(x) = w₂ tanh(w₁ x)."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(1, 4, bias=False), nn.Linear(4, 1, bias=False)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


def curved(call, x):
    """mean (u'' + u)², by autograd."""
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        u = call(x)
        (first,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
        return ((second + u) ** 2).mean().detach()


@pytest.mark.parametrize("how", ["clone", "on the batch", "torch.func", "the loader wants it"])
def test_a_physics_informed_loss_sees_the_perturbed_weights(how, tmp_path):
    net, x = Field().double(), torch.linspace(-1, 1, 7, dtype=torch.float64)[:, None]

    def loss(model, inputs, targets):
        if how == "torch.func":
            u = lambda t: model(t[None, None]).squeeze()  # noqa: E731
            second = torch.vmap(torch.func.grad(torch.func.grad(u)))(inputs[:, 0])
            return ((second + model(inputs)[:, 0]) ** 2).mean()
        inputs = inputs.clone().requires_grad_() if how == "clone" else inputs
        u = model(inputs.requires_grad_() if how == "on the batch" else inputs)
        (first,) = torch.autograd.grad(u.sum(), inputs, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), inputs, create_graph=True)
        return ((second + u) ** 2).mean()

    given = x.clone().requires_grad_(how == "the loader wants it")
    loader = DataLoader(TensorDataset(given, x), batch_size=3)
    result = LossLandscape(net, loader, loss, surf_file=tmp_path / "a.h5").compute_2d(**RANGES)
    axes = [np.linspace(*r) for r in RANGES.values()]
    expected = naive(net, Random(seed=42)(Snapshot.of(net), 2), axes, lambda call: curved(call, x))
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(result["losses"], expected, rtol=1e-10)
    assert all(p.grad is None for p in net.parameters())
    assert not x.requires_grad


@pytest.mark.parametrize("which", [lambda p: True, lambda p: p.requires_grad], ids=["all", "trainable"])
def test_a_regulariser_sees_the_perturbed_weights(make, net, data, which):
    x, y = data

    def loss(model, inputs, targets):
        penalty = sum(p.square().sum() for p in model.parameters() if which(p))
        return F.cross_entropy(model(inputs), targets) + 0.1 * penalty

    result = make(loss).compute_2d(**RANGES)
    directions, axes = Random(seed=42)(Snapshot.of(net), 2), [np.linspace(*r) for r in RANGES.values()]
    expected = naive(net, directions, axes, lambda call: F.cross_entropy(call(x), y))
    origin = {n: p.detach() for n, p in net.named_parameters() if p.requires_grad}
    still = 0 if not which(net.still) else 3
    for index in np.ndindex(expected.shape):
        there = moved(origin, directions, [axis[i] for axis, i in zip(axes, index, strict=True)])
        expected[index] += 0.1 * (sum(float(t.square().sum()) for t in there.values()) + still)
    np.testing.assert_allclose(result["losses"], expected, rtol=1e-12)


def test_a_loss_module_that_holds_the_net_sees_the_perturbed_weights(make, net):
    class Decay(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, outputs, targets):
            return self.net.last.weight.square().sum()

    result = make(Decay(net)).compute_1d(xrange=(-1, 1, 3), ignore=["first.*", "norm.*", "last.bias"])
    (d,) = Random(seed=42)(Snapshot.of(net), 1)
    expected = [(net.last.weight + c * d["last.weight"]).square().sum().item() for c in (-1, 0, 1)]
    np.testing.assert_allclose(result["losses"], expected, rtol=1e-12)


def test_a_net_that_edits_its_inputs_sees_the_same_at_every_point(make, net, data):
    class Scaled(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x.mul_(0.5))

    plain = make(dataloader=[(0.5 * data[0], data[1])]).compute_2d(**RANGES)
    edited = make(net=Scaled(net), dataloader=[data], seed=42).compute_2d(
        **RANGES, directions=lambda snapshot, k: tuple(
            {f"net.{n}": t for n, t in d.items()} for d in Random(seed=42)(Snapshot.of(net), k)
        ),
    )  # fmt: skip
    np.testing.assert_array_equal(edited["losses"], plain["losses"])


# nothing of the user's is touched


def everything(net, loader):
    """The bits, versions and flags of a net and the states of all streams, comparable."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    own = getattr(loader, "generator", None)
    return (
        {n: (id(t), t._version, t.requires_grad, t.detach().tolist()) for n, t in tensors.items()},
        {n: None if p.grad is None else p.grad.tolist() for n, p in net.named_parameters()},
        {n: m.training for n, m in net.named_modules()},
        torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate(),  # noqa: NPY002
        None if own is None else own.get_state().tolist(),
    )  # fmt: skip


def broken(model, inputs, targets):
    model.train()
    torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
    if model.last.weight.sum() != broken.start:
        raise ZeroDivisionError("in the middle")
    return model(inputs).mean()


@pytest.mark.parametrize("own", [False, True], ids=["global stream", "own generator"])
@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss(), metrics, broken], ids=["loss", "metrics", "raises"])
@pytest.mark.parametrize("dir_type", ["weights", "states"])
def test_net_streams_and_shuffled_loaders_are_as_before(make, net, data, own, criterion, dir_type):
    generator = torch.Generator().manual_seed(7) if own else None
    loader = DataLoader(TensorDataset(*data), batch_size=5, shuffle=True, generator=generator)
    net.train().norm.eval()
    net.first.bias.grad = torch.ones_like(net.first.bias)
    broken.start = net.last.weight.sum()
    before = everything(net, loader)
    landscape = make(criterion, dataloader=loader)
    if criterion is broken:
        with pytest.raises(ZeroDivisionError):
            landscape.compute_2d(**RANGES, dir_type=dir_type)
    else:
        landscape.compute_2d(**RANGES, dir_type=dir_type, recalibrate=True)
        landscape.plot_2d_contour(surf_name="auto")
    assert everything(net, loader) == before


def test_the_data_are_read_once_and_the_seed_orders_them(make, data):
    reads = []

    class Counting(TensorDataset):
        def __getitem__(self, index):
            reads.append(index)
            return super().__getitem__(index)

    loader = DataLoader(Counting(*data), batch_size=5, shuffle=True)
    landscape = make(dataloader=loader, max_batches=2)
    first = landscape.compute_1d(xrange=(-1, 1, 3))
    landscape.compute_2d(**RANGES)
    assert len(reads) == 10
    torch.rand(5)
    again = make(dataloader=loader, max_batches=2).compute_1d(xrange=(-1, 1, 3))
    np.testing.assert_array_equal(first["losses"], again["losses"])
    other = make(dataloader=loader, max_batches=2, seed=1)
    other.compute_1d(xrange=(-1, 1, 3), directions=Random(seed=42))
    assert other.landscape.center != landscape.landscape.center


def test_the_plane_stays_where_it_was_when_the_training_goes_on(make, net):
    landscape = make()
    landscape.compute_1d(xrange=(-1, 1, 3))
    before = net.last.weight.detach().clone()
    net.last.weight.data.add_(1)
    assert torch.equal(landscape.plane.origin["last.weight"], before)


def test_without_a_gpu_it_measures_on_the_cpu(make, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    told = []
    landscape = make(
        lambda net, dataloader, use_cuda: {
            "loss": told.append(use_cuda) or float(sum(p.sum() for p in net.parameters()))
        },
        use_cuda=True,
    )
    landscape.compute_1d(xrange=(-1, 1, 2))
    assert "there is no GPU: measuring on the CPU" in caplog.text
    assert set(told) == {False}


# between models; buffers that move, rest, or are computed anew


@pytest.fixture
def other():
    with torch.random.fork_rng():
        torch.manual_seed(9)
        return Net().double()


def mixed(net, other, t, buffers):
    """A net whose weights, and statistics, lie at t between two."""
    result = copy.deepcopy(net).eval()
    with torch.no_grad():
        for name, mine in result.named_parameters():
            if mine.requires_grad:
                mine.copy_((1 - t) * dict(net.named_parameters())[name] + t * dict(other.named_parameters())[name])
        for name in ("running_mean", "running_var") if buffers else ():
            between = (1 - t) * getattr(net.norm, name) + t * getattr(other.norm, name)
            getattr(result.norm, name).copy_(between)
        result.norm.running_var.clamp_(min=torch.finfo(torch.float64).tiny)
    return result


@pytest.mark.parametrize("dir_type", ["weights", "states"])
def test_a_line_between_two_models(make, net, other, data, dir_type, tmp_path):
    x, y = data
    torch.save({"state_dict": other.state_dict()}, tmp_path / "other.ckpt")
    ts = np.linspace(-1, 2, 7)
    expected = [F.cross_entropy(mixed(net, other, t, dir_type == "states")(x), y).item() for t in ts]
    for target in (other, other.state_dict(), tmp_path / "other.ckpt"):
        landscape = make()
        result = landscape.compute_1d("target", xrange=(-1, 2, 7), dir_type=dir_type, target_model=target)
        np.testing.assert_allclose(result["losses"], expected, rtol=1e-9)
    ends = landscape.landscape.loss[[2, 4]]
    if dir_type == "states":
        whole = [F.cross_entropy(n.eval()(x), y).item() for n in (net, other)]
        np.testing.assert_allclose(ends, whole, rtol=1e-13)
    inside = np.array(expected[2:5])
    rise = max(inside - [(1 - t) * inside[0] + t * inside[2] for t in (0, 0.5, 1)])
    assert landscape.landscape.barrier() == pytest.approx(rise, rel=1e-9)


def test_a_variance_beyond_both_models_stays_positive_and_integers_rest(make, net, other):
    with torch.no_grad():
        net.norm.running_var.fill_(3.0)
        other.norm.running_var.fill_(1.0)
    seen = []

    def watch(model, inputs, targets):
        seen.append((model.norm.running_var.min().item(), int(model.norm.num_batches_tracked)))
        return model(inputs).mean()

    make(watch).compute_1d("target", xrange=(0, 4, 5), dir_type="states", target_model=other)
    assert {count for _, count in seen} == {5}
    lowest = [low for low, _ in seen]
    assert min(lowest) > 0
    assert 1.0 in lowest
    assert min(lowest) < 1e-300  # from t = 1.5 on, the line is below zero


def test_three_models_span_a_plane(make, net, other, data):
    x, y = data
    third = Net().double()
    result = make().compute_2d(
        xrange=(0, 1, 3), yrange=(0, 1, 2), dir_type="states", x_target=other, y_target=third.state_dict()
    )
    corners = [F.cross_entropy(n.eval()(x), y).item() for n in (net, other, third)]
    np.testing.assert_allclose(result["losses"][[0, 2, 0], [0, 0, 1]], corners, rtol=1e-13)


def test_one_target_beside_a_random_direction(make, net, other, data):
    x, y = data
    result = make().compute_2d(xrange=(-1, 1, 3), yrange=(0, 1, 2), y_target=other)
    (d,) = Random(seed=42)(Snapshot.of(net), 1)
    towards = {n: dict(other.named_parameters())[n].detach() - p.detach() for n, p in net.named_parameters() if n in d}
    axes = [np.linspace(-1, 1, 3), np.linspace(0, 1, 2)]
    expected = naive(net, (d, towards), axes, lambda call: F.cross_entropy(call(x), y))
    np.testing.assert_allclose(result["losses"], expected, rtol=1e-12)


def test_a_target_that_differs_in_a_frozen_parameter_is_told(make, net, other):
    """At 1 the line would not be at the target."""
    other.still.data.add_(1)
    for target in (other, other.state_dict()):
        with pytest.raises(ValueError, match=r"differs in 'still', which is frozen \(requires_grad=False\)"):
            make().compute_1d("target", xrange=(0, 1, 3), target_model=target)
        with pytest.raises(ValueError, match="differs in 'still'"):
            train_bezier(net, target, [])
    other.first.weight.requires_grad_(False)
    other.still.data.sub_(1)
    make().compute_1d("target", xrange=(0, 1, 3), target_model=other)  # it moves in the net


def test_the_model_itself_is_no_target(make, net, other):
    with pytest.raises(ValueError, match=r"Direction 0 is zero: it moves nothing. Give .* a target of other weights"):
        make().compute_2d(xrange=(0, 1, 2), yrange=(0, 1, 2), x_target=net, y_target=other)


def test_the_same_target_twice_is_a_line_and_said(make, other):
    with pytest.warns(UserWarning, match=r"Both directions are parallel \(cosine 1\.000\)"):
        result = make().compute_2d(xrange=(0, 1, 2), yrange=(0, 1, 2), x_target=other, y_target=other)
    assert result["losses"][0, 1] == result["losses"][1, 0] != result["losses"][0, 0]


@pytest.mark.parametrize("criterion", [None, metrics], ids=["loss", "metrics that call eval"])
@pytest.mark.parametrize("dir_type", ["weights", "states"])
def test_recalibrated_statistics_are_those_of_update_bn(make, net, other, data, loader, criterion, dir_type):
    x, y = data
    result = make(criterion).compute_1d(
        "target", xrange=(0, 1, 3), dir_type=dir_type, target_model=other, recalibrate=True
    )
    expected = []
    for t in (0, 0.5, 1):
        there = mixed(net, other, t, buffers=False)
        torch.optim.swa_utils.update_bn(loader, there)
        expected.append(F.cross_entropy(there.eval()(x), y).item())
    losses = result["losses"] if criterion is None else result["losses"]["ce_loss"]
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


# files


def test_the_keys_of_the_file(make, tmp_path):
    result = make().compute_2d(**RANGES)
    with h5py.File(tmp_path / "surface.h5") as file:
        for key, name in [("train_loss", "losses"), ("train_acc", "accuracies"), ("xcoordinates",) * 2]:
            np.testing.assert_array_equal(file[key][:], result[name])
        assert file["ycoordinates"].shape == (3,)
    make(metrics).compute_2d(**RANGES)
    with h5py.File(tmp_path / "surface.h5") as file:
        assert {"train_loss_ce_loss", "train_loss_accuracy"} <= set(file)
        assert "train_loss" not in file


def test_the_recipe_of_the_file(make, net, data):
    make().compute_2d(**RANGES)
    landscape = load(make().surf_file)
    assert landscape.recipe.samples == 13
    assert landscape.recipe.seed == 42
    assert landscape.recipe.directions.kind == "random"
    assert landscape.recipe.objective == "CrossEntropyLoss"
    assert landscape.center["train_loss"] == pytest.approx(F.cross_entropy(net.eval()(data[0]), data[1]).item())
    assert landscape.done.all()


def test_without_save_there_is_no_file(make, tmp_path):
    landscape = make()
    with pytest.raises(ValueError, match=r"There is no landscape yet, nor a file '.*surface.h5': compute one first"):
        landscape.plot_1d()
    landscape.compute_1d(xrange=(-1, 1, 3), save=False)
    assert list(tmp_path.iterdir()) == []
    assert landscape.landscape.grid.size == 3


def test_a_surface_on_disk_is_drawn_without_computing(make, tmp_path):
    make().compute_2d(**RANGES)
    make().plot_2d_surface()
    assert (tmp_path / "surface_train_loss_3dsurface.pdf").stat().st_size > 1000


@pytest.mark.parametrize("name", ["surface", "surface.hdf5", "surface.pdf"])
def test_an_unknown_suffix_is_told_before_anything_is_measured(make, name, tmp_path):
    with pytest.raises(ValueError, match=rf"surf_file='.*{name}' must end in one of .h5, .npz, .json, .csv"):
        make(surf_file=str(tmp_path / name))


def test_the_file_for_paraview_is_no_surface_file(make, tmp_path):
    with pytest.raises(
        ValueError, match=r"a\.vtp' must end in one of .*\.csv\. \.vtp is written by export_paraview\(\)\."
    ):
        make(surf_file=tmp_path / "a.vtp")


# going on


class Stop(Exception):
    """As Ctrl-C would."""


def stopping(after):
    """A loss that counts its batches and stops."""
    calls = []

    def loss(model, inputs, targets):
        calls.append(1)
        if len(calls) > after:
            raise Stop
        return F.cross_entropy(model(inputs), targets)

    loss.calls = calls
    return loss


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".json", ".csv"])
def test_a_stopped_surface_goes_on_where_it_stopped(make, suffix, tmp_path):
    path = tmp_path / f"surface{suffix}"
    whole = make(stopping(10**6), surf_file=tmp_path / "whole.h5").compute_2d(**RANGES)
    with pytest.raises(Stop):
        make(stopping(30), surf_file=path).compute_2d(**RANGES)
    partial = load(path)
    assert 0 < partial.done.sum() < 12
    np.testing.assert_array_equal(partial.loss[partial.done], whole["losses"][partial.done])
    rest = stopping(10**6)
    result = make(rest, surf_file=path).compute_2d(**RANGES, resume=True)
    np.testing.assert_array_equal(result["losses"], whole["losses"])
    around = 3 + 1 + 1 + 3 + 2  # centre and grid: their rehearsals of the first batch, and the centre's three batches
    around += 3  # the losses of single samples: found, proved, and seen under their names
    assert len(rest.calls) <= around + 3 * (12 - partial.done.sum())
    finished = stopping(10**6)
    make(finished, surf_file=path).compute_2d(**RANGES, resume=True)
    assert len(finished.calls) <= around


def test_a_finished_surface_is_not_replaced_by_a_part(make, tmp_path):
    path = tmp_path / "surface.h5"
    make(surf_file=path).compute_2d(**RANGES)
    before = path.read_bytes()
    with pytest.raises(Stop):
        make(stopping(30), surf_file=path).compute_2d(**RANGES)
    assert path.read_bytes() == before
    part = load(tmp_path / "surface.part.h5")
    assert 0 < part.done.sum() < 12

    rest = stopping(10**6)
    make(rest, surf_file=path).compute_2d(**RANGES, resume=True)
    assert len(rest.calls) <= 10 + 3 * (12 - part.done.sum())
    assert load(path).recipe.objective == "loss"
    assert [p.name for p in tmp_path.glob("*.h5")] == ["surface.h5"]


def test_a_full_disk_costs_no_values(make, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    expected = make(surf_file=tmp_path / "a.h5").compute_2d(**RANGES)["losses"]
    monkeypatch.setattr("lightning_landscape.storage.write_whole", full)
    monkeypatch.setattr("lightning_landscape.survey.surface_file.SAVE_EVERY", 0.0)
    landscape = make(surf_file=tmp_path / "b.h5")
    with pytest.warns(UserWarning, match=r"could not be saved in .*b\.h5 \(OSError: .*No space left") as caught:
        result = landscape.compute_2d(**RANGES)
    assert len(caught) == 1
    np.testing.assert_array_equal(result["losses"], expected)
    np.testing.assert_array_equal(landscape.landscape.loss, expected)
    assert not (tmp_path / "b.h5").exists()


def test_a_grid_that_no_one_can_wait_for_is_refused_at_once(make):
    called = []
    landscape = make(lambda outputs, targets: called.append(1))
    for call, given in (
        (landscape.compute_1d, {"xrange": (-1, 1, 10**9)}),
        (landscape.compute_2d, {"xrange": (-1, 1, 100_000), "yrange": (-1, 1, 100_000)}),
        (landscape.compute_3d, {"xrange": (-1, 1, 300), "yrange": (-1, 1, 300), "zrange": (-1, 1, 300)}),
    ):
        with pytest.raises(ValueError, match=r"xrange=\(-1, 1, .*\) has [\d,]+ points: .* days at a millisecond a po"):
            call(**given)
    assert not called


def test_metrics_of_a_whole_set_go_on_too(make):
    """Their loader is part of the checksum of the data; its address must not be."""
    make(metrics).compute_2d(**RANGES)
    again = make(metrics).compute_2d(**RANGES, resume=True)
    assert list(again["losses"]) == ["ce_loss", "accuracy"]


def test_going_on_without_an_earlier_surface_begins_anew(make):
    assert make().compute_2d(**RANGES, resume=True)["losses"].shape == (4, 3)


OTHERS = {
    "weights": ("weights checksum", lambda net: net.last.weight.data.add_(1), {}, {}),
    "data": ("data checksum", None, {"max_batches": 1}, {}),
    "criterion": ("value at the centre", None, {"criterion": nn.CrossEntropyLoss(label_smoothing=0.3)}, {}),
    "objective": ("objective", None, {"criterion": metrics}, {}),
    "seed": ("seed", None, {"seed": 1}, {}),
    "grid": ("grid", None, {}, {"xrange": (-1, 0.5, 5)}),
    "directions": ("directions", None, {}, {"normalize": "layer"}),
    "recalibrate": ("recalibrate", None, {}, {"recalibrate": True}),
    "states": ("dir type", None, {}, {"dir_type": "states"}),
}


@pytest.mark.parametrize("what, change, options, arguments", OTHERS.values(), ids=OTHERS)
def test_a_surface_of_something_else_is_not_continued(make, net, what, change, options, arguments):
    make().compute_2d(**RANGES)
    if change is not None:
        change(net)
    with pytest.raises(ValueError, match=rf"can't be continued: it has another .*{what}.*\. Measure anew"):
        make(**options).compute_2d(**{**RANGES, **arguments}, resume=True)


def test_another_target_is_not_continued(make, other):
    """Even one just as far away."""

    def target(sign):
        return {n: p.detach() + sign * p.requires_grad for n, p in make().net.named_parameters()}

    make().compute_1d("target", xrange=(0, 1, 3), target_model=target(1))
    with pytest.raises(ValueError, match="another directions"):
        make().compute_1d("target", xrange=(0, 1, 3), target_model=target(-1), resume=True)


# pictures


def test_the_names_of_the_pictures(make, tmp_path):
    landscape = make(surf_file=tmp_path / "new" / "a.b.h5")
    landscape.compute_2d(**RANGES, save=False)
    assert len(landscape.plot_2d_contour("auto", vmin=0.1, vmax=10, vlevel=0.5)) == 4
    landscape.plot_2d_surface("auto")
    views = ("2dcontour", "2dheat", "3dsurface")
    expected = {f"a.b_{name}_{view}.pdf" for name in ("train_loss", "train_acc") for view in views}
    assert {path.name for path in (tmp_path / "new").iterdir()} == expected


@pytest.mark.parametrize(
    "options", [{}, {"vmin": 0.1, "vmax": 5}, {"vlevel": 0.1}, {"vmin": 500, "vmax": 1e3}], ids=str
)
@pytest.mark.parametrize("name", [None, "train_loss", "train_acc", "auto"])
def test_levels_may_lie_anywhere(make, options, name):
    landscape = make()
    landscape.compute_2d(**RANGES)
    landscape.plot_2d_contour(name, **options)


def test_levels_are_where_they_are_asked_for(make):
    landscape = make()
    landscape.compute_2d(**RANGES)
    lines, _ = landscape.plot_2d_contour(vmin=1, vmax=2, vlevel=0.25)
    levels = [n for c in lines.axes[0].collections if hasattr(c, "levels") and len(c.levels) > 1 for n in c.levels]
    assert levels
    assert set(levels) <= {1, 1.25, 1.5, 1.75, 2}


def test_pictures_of_a_line(make, tmp_path):
    landscape = make()
    landscape.compute_1d(xrange=(-1, 1, 5))
    loss, accuracy = landscape.plot_1d(xmin=-0.5, xmax=1, loss_max=5, log=True)
    assert {p.name for p in tmp_path.glob("*.pdf")} == {
        "surface_train_loss_1dslices.pdf", "surface_train_acc_1dslices.pdf",
    }  # fmt: skip
    assert 5 <= loss.axes[0].get_ylim()[1] < 6  # and the margin
    assert loss.axes[0].get_yscale() == "log"
    assert loss.axes[0].get_xlim() == pytest.approx((-0.5, 1), abs=0.1)
    assert accuracy.axes[0].get_yscale() == "linear"


def test_metrics_far_above_loss_max_are_drawn_all_the_same(make):
    landscape = make(lambda net, dataloader, use_cuda: {"loss": 1.0 + net.last.weight.sum(), "accuracy": 93.0})
    landscape.compute_1d(xrange=(-1, 1, 5))
    _, accuracy = landscape.plot_1d(loss_max=5)
    low, high = accuracy.axes[0].get_ylim()
    assert low < 93 < high


def test_pictures_of_a_volume(make, tmp_path):
    landscape = make()
    landscape.compute_3d((-1, 1, 3), (-1, 1, 4), (-1, 1, 5))
    landscape.plot_3d()
    assert len(list(tmp_path.glob("surface_train_loss_3d*.pdf"))) == 2


def test_the_picture_of_another_number_of_directions_is_told(make):
    landscape = make()
    landscape.compute_2d(**RANGES)
    with pytest.raises(ValueError, match="The landscape has 2 directions, this picture needs 1: call compute_1d"):
        landscape.plot_1d()
    landscape.compute_1d(xrange=(-1, 1, 3))
    for draw in (landscape.plot_2d_contour, landscape.plot_2d_surface, landscape.export_paraview):
        with pytest.raises(ValueError, match="The landscape has 1 directions, this picture needs 2: call compute_2d"):
            draw()


def test_without_a_screen_showing_is_said_in_the_log(make, caplog):
    landscape = make()
    landscape.compute_1d(xrange=(-1, 1, 3))
    landscape.plot_1d(show=True)
    assert "There is no screen to show the figure on" in caplog.text


def test_export_for_paraview(make, tmp_path):
    pytest.importorskip("vtk")
    landscape = make()
    landscape.compute_2d(**RANGES)
    path = landscape.export_paraview(surf_name="train_loss", log=False, zmax=-1, interp=-1)
    assert path == str(tmp_path / "surface_train_loss.vtp")
    assert b"height of train_loss" in Path(path).read_bytes()
    assert landscape.export_paraview() == path
    with pytest.raises(ValueError, match="'nonsense'"):
        landscape.export_paraview("nonsense")


# errors


def test_errors_name_the_argument(make, other):
    landscape = make()
    with pytest.raises(ValueError, match=r"directions='randon' is unknown; the choices are random, .*mixed, .*target"):
        landscape.compute_1d("randon")
    with pytest.raises(ValueError, match=r"directions='target' is unknown"):
        landscape.compute_2d(directions="target")
    with pytest.raises(ValueError, match=r"directions='target' with target_model=None: give a target_model"):
        landscape.compute_1d("target")
    with pytest.raises(ValueError, match=r"directions='random' with target_model=Net: give a target_model with"):
        landscape.compute_1d(target_model=other)
    with pytest.raises(ValueError, match=r"dir_type='state' is unknown; the choices are weights, states"):
        landscape.compute_1d(dir_type="state")
    with pytest.raises(ValueError, match=r"xrange=\(1, -1, 5\) is reversed"):
        landscape.compute_1d(xrange=(1, -1, 5))
    with pytest.raises(ValueError, match=r"Target model 0 has no 'first.bias'"):
        landscape.compute_1d("target", target_model=nn.Linear(2, 2))
    landscape.compute_2d(**RANGES)
    with pytest.raises(
        ValueError, match=r"surf_name='loss' is not in this landscape; the choices are auto, train_loss"
    ):
        landscape.plot_2d_contour("loss")
    with pytest.raises(ValueError, match=r"vlevel=-1: give the distance between two levels of train_loss, more than 0"):
        landscape.plot_2d_contour(vlevel=-1)
    with pytest.raises(
        ValueError,
        match=r"vlevel=3: give the distance between two levels of train_loss, more than 0 and at most 2, the",
    ):
        landscape.plot_2d_contour(vmin=0, vmax=2, vlevel=3)
    with pytest.raises(ValueError, match=r"vmin=2, vmax=1: give vmin < vmax"):
        landscape.plot_2d_contour(vmin=2, vmax=1)
    with pytest.raises(ValueError, match=r"vmin=1000, vmax=None: give vmin < vmax; train_loss goes from"):
        landscape.plot_2d_contour(vmin=1000)


def test_other_directions(make, net):
    path = [{n: p.detach() + t * torch.randn_like(p) for n, p in net.named_parameters()} for t in (3, 2, 1, 0)]
    landscape = make()
    landscape.compute_2d(**RANGES, directions=PCA(path))
    assert landscape.landscape.recipe.directions.kind == "pca"
    assert landscape.landscape.recipe.directions.lengths == pytest.approx([1, 1])


def test_a_compiled_net_is_what_was_compiled(make, net):
    compiled = torch.compile(net, backend="eager")
    result = make(net=compiled).compute_1d(xrange=(-1, 1, 3))
    np.testing.assert_array_equal(result["losses"], make().compute_1d(xrange=(-1, 1, 3))["losses"])
