"""PascalSun's interface: the JSON that it gives, its paths, and that our own `load` reads it the right way round."""

import copy
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscapeWriter, Random, Snapshot, load, sample_landscape

X = torch.randn(11, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randn(11, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LOADER = DataLoader(TensorDataset(X, Y), batch_size=4)


def mse(model, inputs, targets):
    return F.mse_loss(model(inputs), targets)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()


@pytest.fixture
def writer(tmp_path):
    return LossLandscapeWriter(tmp_path / "run")


def strict(path):
    """The content of a strict JSON file."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(Path(path).read_text(), parse_constant=refuse)


def there(model, directions, point):
    """The model's function with weights at a point."""
    weights = {n: p.detach() for n, p in model.named_parameters()}
    for c, d in zip(point, directions, strict=True):
        weights = {n: w + float(c) * d[n] for n, w in weights.items()}
    return lambda x: torch.func.functional_call(model, weights, (x,))


def loss_there(model, directions, point):
    with torch.no_grad():
        return F.mse_loss(there(model, directions, point)(X), Y).item()


def train(model, writer, epochs, say=True):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(epochs):
        for x, y in LOADER:
            optimizer.zero_grad()
            mse(model, x, y).backward()
            optimizer.step()
        known = {"train_loss": mse(model, X, Y).item(), "val_loss": 2.0 + epoch} if say else {}
        writer.record_checkpoint(model, epoch, **known)


# what is measured, and how it is written


def test_a_surface_by_hand(model, tmp_path):
    path = sample_landscape(model, LOADER, mse, tmp_path / "a" / "landscape.json", grid_size=4, range_scale=0.5)
    content = strict(path)
    directions = Random(seed=42)(Snapshot.of(model), 2)
    axis = np.linspace(-0.5, 0.5, 4)
    assert content["grid_size"] == 4
    assert content["mode"] == "2d"
    for i, x in enumerate(axis):
        for j, y in enumerate(axis):
            assert content["X"][i][j] == pytest.approx(x)
            assert content["Y"][i][j] == pytest.approx(y)
            assert content["loss_grid_2d"][i][j] == pytest.approx(loss_there(model, directions, (x, y)), rel=1e-12)
    assert content["baseline_loss"] == pytest.approx(mse(model, X, Y).item(), rel=1e-12)
    grid = np.array(content["loss_grid_2d"])
    assert np.abs(grid - grid.T).max() > 0.01  # else the next test tests nothing


@pytest.mark.parametrize("mode", ["1d", "2d", "3d", "1d+2d"])
def test_our_own_load_reads_it_the_right_way_round(model, writer, mode):
    returned = writer.sample_landscape(model, LOADER, mse, grid_size=4, mode=mode)
    writer.close()
    path = writer.log_dir / "landscape.json"
    content, landscape = strict(path), load(path)
    assert content == json.loads(json.dumps(returned))
    assert content["mode"] == mode
    k = {"1d": 1, "2d": 2, "3d": 3, "1d+2d": 2}[mode]
    key = {1: "loss_line_1d", 2: "loss_grid_2d", 3: "loss_grid_3d"}[k]
    assert landscape.grid.shape == (4,) * k
    np.testing.assert_array_equal(landscape.loss, content[key])
    assert (
        landscape.center["loss"]
        == content["baseline_loss"]
        == content.get("baseline_loss_1d", content["baseline_loss"])
    )
    directions = Random(seed=42)(Snapshot.of(model), k)
    for index, point in zip(np.ndindex(landscape.grid.shape), landscape.grid.points, strict=True):
        assert landscape.loss[index] == pytest.approx(loss_there(model, directions, point), rel=1e-12)
    if mode == "1d+2d":
        line = [loss_there(model, directions[:1], (x,)) for x in content["X_1d"]]
        np.testing.assert_allclose(content["loss_line_1d"], line, rtol=1e-12)
    if k == 3:
        for letter, axis in zip("xyz", landscape.grid.axes, strict=True):
            np.testing.assert_array_equal(content[f"volume_{letter}"], axis)
        x, _, z = np.meshgrid(*landscape.grid.axes, indexing="ij")
        np.testing.assert_array_equal(content["X"], x)
        np.testing.assert_array_equal(content["Z"], z)


def test_what_is_not_finite_is_null(model, writer):
    def loss(model, inputs, targets):
        return torch.log(model[0].weight.sum() - start + 0.1) if model[0].weight.sum() != start else torch.zeros(())

    start = model[0].weight.detach().sum()
    content = writer.sample_landscape(model, LOADER, loss, grid_size=5, mode="1d", range_scale=1.0)
    assert None in content["loss_line_1d"]
    landscape = load(writer.export())
    assert np.isnan(landscape.loss).sum() == content["loss_line_1d"].count(None)


# losses


def test_losses_of_every_kind(model, tmp_path):
    def l2(model):
        return sum(p.square().sum() for p in model.parameters() if p.requires_grad)

    def inside(model, inputs, targets):
        return mse(model, inputs, targets) + 0.01 * l2(model)

    given = [
        {"loss_fn": inside},
        {"custom_loss_fn": inside},
        {"loss_fn": mse, "regularizer": l2, "regularizer_weight": 0.01},
        {"loss_fn": nn.MSELoss(), "regularizer": l2, "regularizer_weight": 0.01},
        {"loss_fn": F.mse_loss, "regularizer": l2, "regularizer_weight": 0.01},
        {"post_batch_hook": lambda out, x, y: F.mse_loss(out, y), "regularizer": l2, "regularizer_weight": 0.01},
    ]
    surfaces = []
    for i, options in enumerate(given):
        writer = LossLandscapeWriter(tmp_path / str(i))
        surfaces.append(writer.sample_landscape(model, LOADER, grid_size=3, **options)["loss_grid_2d"])
    directions = Random(seed=42)(Snapshot.of(model), 2)
    corner = there(model, directions, (0.1, -0.1))
    weights = [
        p + 0.1 * d - 0.1 * e for p, d, e in zip(model.parameters(), *(v.values() for v in directions), strict=True)
    ]
    expected = F.mse_loss(corner(X), Y).item() + 0.01 * sum(w.square().sum() for w in weights).item()
    for surface in surfaces:
        np.testing.assert_allclose(surface, surfaces[0], rtol=1e-12)
    assert surfaces[0][2][0] == pytest.approx(expected, rel=1e-12)


def test_a_physics_informed_loss(model, writer):
    def residual(model, inputs, targets):
        inputs.requires_grad_(True)
        (slope,) = torch.autograd.grad(model(inputs).sum(), inputs, create_graph=True)
        return mse(model, inputs, targets) + slope.square().mean()

    content = writer.sample_landscape(model, LOADER, residual, grid_size=3)
    directions = Random(seed=42)(Snapshot.of(model), 2)
    call, x = there(model, directions, (0.1, 0.1)), X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(call(x).sum(), x)
    expected = loss_there(model, directions, (0.1, 0.1)) + slope.square().mean().item()
    assert content["loss_grid_2d"][2][2] == pytest.approx(expected, rel=1e-12)


def test_batches(model, tmp_path):
    def first(batches, **options):
        writer = LossLandscapeWriter(tmp_path / "batches")
        content = writer.sample_landscape(model, LOADER, mse, grid_size=2, max_batches=batches, mode="1d", **options)
        return content["baseline_loss"]

    assert first(None) == first(10) == pytest.approx(mse(model, X, Y).item())
    assert first(1) == pytest.approx(mse(model, X[:4], Y[:4]).item())
    doubled = first(1, pre_batch_hook=lambda batch: [batch[0] * 2, batch[1]])
    assert doubled == pytest.approx(mse(model, 2 * X[:4], Y[:4]).item())


def test_train_mode_is_a_mode_of_the_model(writer):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    net[1].running_var.fill_(9.0)
    got = writer.sample_landscape(net, LOADER, mse, mode="1d", grid_size=3, model_mode="train")
    own = copy.deepcopy(net)
    with torch.no_grad():
        expected = [mse(own, x, y).item() * len(x) for x, y in LOADER]
    assert got["loss_line_1d"][1] == pytest.approx(sum(expected) / len(X), rel=1e-6)
    assert got["metadata"]["landscape_1d"]["recipe"]["mode"] == "train"


def test_the_model_the_data_and_the_streams_are_as_before(model, writer):
    model.train()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    loader = DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True)

    def facts():
        bits = [(p._version, p.requires_grad, p.tolist()) for p in model.parameters()]
        streams = torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()  # noqa: NPY002
        return bits, model.training, model[0].weight.grad.tolist(), streams

    before = facts()
    for epoch in range(4):
        writer.record_checkpoint(model, epoch)
        model[2].bias.data += 1
        model[0].bias.data[epoch] += 1
    model[2].bias.data -= 4
    model[0].bias.data[:4] -= 1
    before = facts()
    writer.build_trajectory(model, loader, mse)
    writer.sample_landscape(model, loader, mse, grid_size=2)
    writer.close()
    assert facts() == before


# paths


def test_a_path_lies_in_its_principal_plane(model, writer):
    sklearn = pytest.importorskip("sklearn.decomposition")
    train(model, writer, 6)
    path = writer.build_trajectory(model, LOADER, mse)
    rows = np.array([torch.cat([t.reshape(-1) for t in w.values()]).numpy() for w in writer.recorder.weights])
    reference = sklearn.PCA(n_components=3).fit(rows)
    expected = (rows - rows[-1]) @ reference.components_.T
    expected *= np.sign(expected[0])
    got = np.stack([path["traj_1"], path["traj_2"], path["traj_3"]], axis=1)
    np.testing.assert_allclose(got, expected, atol=1e-10)
    assert got[-1].tolist() == [0, 0, 0]  # the final model
    assert path["epochs"] == [0, 1, 2, 3, 4, 5]
    assert path["val_losses"] == [2, 3, 4, 5, 6, 7]
    assert path["losses"][-1] == pytest.approx(mse(model, X, Y).item())
    np.testing.assert_allclose(path["distances"], np.linalg.norm(rows - rows[-1], axis=1), atol=1e-12)
    content = strict(writer.export())
    np.testing.assert_allclose(content["metadata"]["trajectory"]["explained"], reference.explained_variance_ratio_)
    assert content["trajectory_data"] == path


def test_a_landscape_after_a_path_lies_on_its_plane_and_holds_it(model, writer):
    train(model, writer, 6)
    path = writer.build_trajectory(model, LOADER, mse)
    writer.sample_landscape(model, LOADER, mse, grid_size=7)
    landscape = load(writer.export())
    x, y = landscape.grid.axes
    for axis, coordinates in ((x, path["traj_1"]), (y, path["traj_2"])):
        assert axis[0] < min(coordinates)
        assert axis[-1] > max(coordinates)
    (plane, _), point = writer.get_directions(), (x[1], y[5])
    assert sum(float(t.square().sum()) for t in plane.values()) == pytest.approx(1)
    assert landscape.loss[1, 5] == pytest.approx(loss_there(model, writer.get_directions(), point), rel=1e-9)


def test_losses_that_were_not_recorded_are_measured(model, writer):
    train(model, writer, 4, say=False)
    path = writer.build_trajectory(model, LOADER, mse)
    for weights, loss in zip(writer.recorder.weights, path["losses"], strict=True):
        with torch.no_grad():
            assert loss == pytest.approx(F.mse_loss(torch.func.functional_call(model, weights, (X,)), Y).item())
    assert "val_losses" not in path


def test_they_are_measured_with_the_statistics_of_their_time(writer):
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    expected = []
    for epoch in range(4):
        net.train()(X * (epoch + 1))
        net[0].weight.data += torch.randn_like(net[0].weight)
        expected.append(mse(net.eval(), X, Y).item())
        writer.record_checkpoint(net, epoch)
    assert writer.build_trajectory(net, LOADER, mse)["losses"] == pytest.approx(expected)


def test_a_path_on_given_directions(model, writer):
    train(model, writer, 3)
    with pytest.raises(ValueError, match="mode='fixed' needs directions: give them, or call sample_landscape first"):
        writer.build_trajectory(model, LOADER, mse, mode="fixed")
    writer.sample_landscape(model, LOADER, mse, grid_size=2)
    path = writer.build_trajectory(model, LOADER, mse, mode="fixed")
    matrix = np.stack([torch.cat([t.reshape(-1) for t in d.values()]).numpy() for d in writer.get_directions()], 1)
    rows = np.array([torch.cat([t.reshape(-1) for t in w.values()]).numpy() for w in writer.recorder.weights])
    expected = np.linalg.lstsq(matrix, (rows - rows[-1]).T, rcond=None)[0]
    np.testing.assert_allclose([path["traj_1"], path["traj_2"]], expected, atol=1e-12)


def test_a_path_beside_a_landscape_of_other_directions_is_warned_of(model, writer, caplog):
    writer.sample_landscape(model, LOADER, mse, grid_size=2)
    train(model, writer, 4)
    writer.build_trajectory(model, LOADER, mse)
    writer.close()
    assert "The path lies on its PCA directions, a landscape does not" in caplog.text


def test_models_are_compared_on_the_same_directions(model, tmp_path):
    other = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    a, b = (LossLandscapeWriter(tmp_path / name) for name in "ab")
    assert a.get_directions() is None
    a.sample_landscape(model, LOADER, mse, grid_size=2)
    content = b.sample_landscape(other, LOADER, mse, grid_size=2, directions=a.get_directions())
    expected = loss_there(other, a.get_directions(), (-0.1, 0.1))
    assert content["loss_grid_2d"][0][1] == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="directions holds 2, a 3-D landscape needs 3"):
        b.sample_landscape(other, LOADER, mse, grid_size=2, directions=a.get_directions(), mode="3d")


# the writer


def test_it_exports_on_leaving_and_writes_nothing_of_nothing(model, tmp_path, caplog):
    with LossLandscapeWriter(tmp_path / "a") as writer:
        writer.sample_landscape(model, LOADER, mse, grid_size=2)
    assert caplog.text == ""
    assert (tmp_path / "a" / "landscape.json").exists()
    LossLandscapeWriter(tmp_path / "b").close()
    assert list((tmp_path / "b").iterdir()) == []
    silent = LossLandscapeWriter(tmp_path / "c", auto_export=False)
    silent.sample_landscape(model, LOADER, mse, grid_size=2)
    silent.close()
    assert list((tmp_path / "c").iterdir()) == []
    assert silent.export(tmp_path / "c" / "other.json") == str(tmp_path / "c" / "other.json")


def test_errors_name_the_argument(model, writer):
    with pytest.raises(ValueError, match="There is nothing to export yet: call sample_landscape, build_trajectory or"):
        writer.export()
    with pytest.raises(ValueError, match=r"mode='4d' is unknown; the choices are 1d, 2d, 3d, 1d\+2d"):
        writer.sample_landscape(model, LOADER, mse, mode="4d")
    with pytest.raises(ValueError, match="grid_size=1: give the points along each direction, at least 2"):
        writer.sample_landscape(model, LOADER, mse, grid_size=1)
    with pytest.raises(ValueError, match="range_scale=-1: give how far to go, more than 0, or None"):
        writer.sample_landscape(model, LOADER, mse, range_scale=-1)
    with pytest.raises(ValueError, match="loss_fn=None and custom_loss_fn=None: give one of them"):
        writer.sample_landscape(model, LOADER)
    with pytest.raises(ValueError, match="direction_mode='randon' is unknown; the choices are random, pca"):
        writer.sample_landscape(model, LOADER, mse, direction_mode="randon")
    with pytest.raises(ValueError, match="model_mode='both' is unknown; the choices are eval, train"):
        writer.sample_landscape(model, LOADER, mse, model_mode="both")
    with pytest.raises(ValueError, match=r"PCA needs the weights.*none are recorded here.*record_checkpoint"):
        writer.sample_landscape(model, LOADER, mse, direction_mode="pca")
    with pytest.raises(ValueError, match=r"Nothing was recorded: call record_checkpoint\(model, epoch\) during"):
        writer.build_trajectory(model, LOADER, mse)
    with pytest.raises(ValueError, match="mode='umap' is unknown; the choices are pca, fixed"):
        writer.build_trajectory(model, LOADER, mse, mode="umap")


def test_the_hessian_of_epochs(writer, model):
    """Against the exact Hessian by `torch.autograd.functional`; of one epoch twice, the second counts."""
    expected = []
    writer.record_hessian(model, LOADER, mse, 3, top_k=1)
    for epoch, scale in ((3, 1.0), (1, 1.5)):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(scale)
        names, start = zip(*model.named_parameters(), strict=True)

        def loss(vector, names=names, start=start):
            pieces = vector.split([p.numel() for p in start])
            weights = {n: piece.view_as(p) for n, piece, p in zip(names, pieces, start, strict=True)}
            return F.mse_loss(torch.func.functional_call(model, weights, (X,)), Y)

        vector = torch.cat([p.detach().reshape(-1) for p in start])
        expected.insert(0, torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, vector)).flip(0).numpy())
        spectrum = writer.record_hessian(model, LOADER, mse, epoch, top_k=3)
    found = strict(writer.export())["hessian"]
    assert found.keys() == {"epochs", "max_eigenvalue", "trace", "top_eigenvalues"}
    assert found["epochs"] == [1, 3]
    assert np.allclose(found["max_eigenvalue"], [values[0] for values in expected], rtol=1e-6)
    assert np.allclose(found["top_eigenvalues"], [values[:3] for values in expected], rtol=1e-6)
    assert np.allclose(found["trace"], [values.sum() for values in expected], atol=3 * spectrum.trace_error + 1e-6)
