"""Several runs on the plane of all their records: against linear algebra in NumPy, and against plain evaluations."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape, Recorder
from lightning_landscape.paths.runs import SharedPlane, ranges_of_paths
from lightning_landscape.trajectory import Trajectory

POINTS = {
    "a": np.array([(0.0, 0.0), (1.0, 0.5), (2.0, 0.2), (3.0, 1.0)]),
    "b": np.array([(0.0, 0.0), (0.5, -1.0), (0.7, -2.5)]),
}


class Lazy(Sequence):
    """Records that are made when they are asked for, as those in files are."""

    def __init__(self, make, count):
        self.make, self.count = make, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self.make(t) for t in range(self.count)[index]]
        return self.make(range(self.count)[index])


@pytest.fixture
def world():
    """A linear net of 6 weights, its data, and two skew directions that span the plane of two runs."""
    generator = torch.Generator().manual_seed(3)
    net = nn.Linear(3, 2, bias=False).double()
    x, y = torch.randn(20, 3, generator=generator).double(), torch.randn(20, 2, generator=generator).double()
    start, d, e = (torch.randn(2, 3, generator=generator).double() for _ in range(3))
    loader = DataLoader(TensorDataset(x, y), batch_size=8)
    return net, loader, (start, d, e), lambda w: float(((x @ w.T - y) ** 2).mean())


def records(world, name, off=0.0):
    start, d, e = world[2]
    normal = torch.linalg.svd(torch.stack([d.reshape(-1), e.reshape(-1)]))[2][2].reshape(2, 3)  # across d and e
    return [{"weight": start + a * d + b * e + off * normal} for a, b in POINTS[name]]


def measured(world, runs, tmp_path, **options):
    net, loader, _, _ = world
    landscape = LossLandscape(net, loader, nn.MSELoss(), surf_file=tmp_path / "runs.h5")
    return landscape, landscape.compute_runs(runs, points=7, **options)


def test_runs_in_a_known_plane_come_back_exactly(world, tmp_path):
    runs = {name: records(world, name) for name in POINTS}
    landscape, comparison = measured(world, runs, tmp_path)
    flat = np.stack([r["weight"].numpy().reshape(-1) for run in runs.values() for r in run])
    mean = flat.mean(axis=0)
    _, values, axes = np.linalg.svd(flat - mean)
    np.testing.assert_allclose(landscape.plane.origin["weight"].reshape(-1), mean, atol=1e-14)
    directions = np.stack([d["weight"].numpy().reshape(-1) for d in landscape.plane.directions])
    np.testing.assert_allclose(np.abs(directions @ axes[:2].T), np.eye(2), atol=1e-9)
    points = np.concatenate([x.trajectory.points for x in comparison.landscapes.values()])
    np.testing.assert_allclose(mean + points @ directions, flat, atol=1e-9)
    for x in comparison.landscapes.values():
        np.testing.assert_allclose(x.trajectory.residuals, 0, atol=1e-9)
    explained = landscape.landscape.recipe.directions.settings["explained"]
    np.testing.assert_allclose(explained, (values**2 / (values**2).sum())[:2])


def test_the_surface_and_the_losses_are_those_of_the_weights(world, tmp_path):
    runs = {"a": records(world, "a"), "b": records(world, "b", off=0.7)}
    landscape, comparison = measured(world, runs, tmp_path)
    loss, plane = world[3], landscape.plane
    expected = [loss(plane.at(point)["weight"]) for point in landscape.landscape.grid.points]
    np.testing.assert_allclose(landscape.landscape.loss.reshape(-1), expected, rtol=1e-6)
    for name, x in comparison.landscapes.items():
        path, main = x.trajectory, x.main
        np.testing.assert_allclose(path.losses[main], [loss(r["weight"]) for r in runs[name]], rtol=1e-12)
        np.testing.assert_allclose(
            path.plane_losses[main], [loss(plane.at(p)["weight"]) for p in path.points], rtol=1e-6
        )
    off = comparison.landscapes["b"].trajectory
    assert (off.residuals > 0.05).all()
    assert not np.allclose(off.losses[x.main], off.plane_losses[x.main])


def test_the_plane_is_the_nearest_of_all(world):
    """The squared residuals sum up to the variance that the axes leave unexplained (Eckart and Young 1936)."""
    runs = {"a": records(world, "a"), "b": records(world, "b", off=0.7)}
    paths = SharedPlane.of(runs, copy.deepcopy(world[0])).paths()
    flat = np.stack([r["weight"].numpy().reshape(-1) for run in runs.values() for r in run])
    values = np.linalg.svd(flat - flat.mean(axis=0))[1]
    total = sum(float((path.residuals**2).sum()) for path in paths.values())
    np.testing.assert_allclose(total, (values[2:] ** 2).sum(), rtol=1e-8)


def test_the_table_has_the_distance_between_the_ends(world, tmp_path):
    runs = {"a": records(world, "a"), "b": records(world, "b", off=0.7)}
    table = measured(world, runs, tmp_path)[1].table()
    ends = {name: run[-1]["weight"] for name, run in runs.items()}
    starts = {name: run[0]["weight"] for name, run in runs.items()}
    np.testing.assert_allclose(table["distance to a"], (0, float((ends["b"] - ends["a"]).norm())), rtol=1e-12)
    np.testing.assert_allclose(
        table["distance from the start"], [float((ends[n] - starts[n]).norm()) for n in runs], rtol=1e-12
    )
    np.testing.assert_allclose(table["norm of the weights"], [float(ends[n].norm()) for n in runs], rtol=1e-12)
    np.testing.assert_allclose(table["train_loss at the end"], [world[3](ends[n]) for n in runs], rtol=1e-12)


def test_records_are_read_one_by_one_from_any_sequence(world, tmp_path):
    lists = {name: records(world, name, off=0.3) for name in POINTS}
    lazy = {name: Lazy(lambda t, name=name: records(world, name, off=0.3)[t], len(POINTS[name])) for name in POINTS}
    a, b = (measured(world, runs, tmp_path)[1] for runs in (lists, lazy))
    for name in POINTS:
        np.testing.assert_array_equal(a.landscapes[name].trajectory.points, b.landscapes[name].trajectory.points)
        np.testing.assert_array_equal(a.landscapes[name].loss, b.landscapes[name].loss)


def test_a_recorder_brings_its_steps(world, tmp_path):
    net, runs = copy.deepcopy(world[0]), {name: Recorder() for name in POINTS}
    for name, recorder in runs.items():
        for t, record in enumerate(records(world, name)):
            net.load_state_dict(record)
            recorder.record(net, 10 * t, lr=0.1)
    landscapes = measured(world, runs, tmp_path)[1].landscapes
    assert landscapes["b"].trajectory.steps.tolist() == [0, 10, 20]
    assert landscapes["b"].trajectory.metrics["lr"].tolist() == [0.1, 0.1, 0.1]
    assert landscapes["b"].trajectory.history["step"].tolist() == [0, 10, 20]


def test_the_net_and_the_random_numbers_are_left_as_they_were(world, tmp_path):
    before, stream = copy.deepcopy(world[0].state_dict()), torch.get_rng_state()
    measured(world, {name: records(world, name) for name in POINTS}, tmp_path)
    assert all(torch.equal(before[name], tensor) for name, tensor in world[0].state_dict().items())
    assert torch.equal(torch.get_rng_state(), stream)


def test_a_surface_that_is_there_is_taken_over(world, tmp_path):
    runs = {name: records(world, name) for name in POINTS}
    first = measured(world, runs, tmp_path)[1].landscapes["a"]
    again = measured(world, runs, tmp_path, resume=True)[1].landscapes["a"]
    np.testing.assert_array_equal(first.loss, again.loss)
    moved = {**runs, "b": records(world, "b", off=1.0)}
    with pytest.raises(ValueError, match="can't be continued: it has another"):
        measured(world, moved, tmp_path, resume=True, xrange=(-4, 4, 7), yrange=(-4, 4, 7))


def test_batch_norm_is_that_of_each_record_and_recalibrated_on_the_plane(tmp_path):
    """The statistics of a record are its own; at a point between runs those of neither would be right."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    x = torch.randn(32, 3)
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=32)
    runs, states = {"a": Recorder(), "b": Recorder()}, {"a": [], "b": []}
    for name, recorder in runs.items():
        for step in range(3):
            for parameter in net.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
            net.train()(x * (step + 1))
            recorder.record(net, step)
            states[name].append(copy.deepcopy(net.state_dict()))
    landscape = LossLandscape(net, loader, nn.CrossEntropyLoss(), surf_file=tmp_path / "bn.h5")
    comparison = landscape.compute_runs(runs, points=3)
    assert landscape.landscape.recipe.recalibrate
    for name, x_run in comparison.landscapes.items():
        path = x_run.trajectory
        for t, state in enumerate(states[name]):
            net.load_state_dict(state)
            with torch.no_grad():
                own = nn.functional.cross_entropy(net.eval()(x), (x[:, 0] > 0).long())
                net[1].reset_running_stats()
                net[1].momentum = None
                net.train()(x)
                net.load_state_dict(landscape.plane.at(path.points[t]), strict=False)
                net[1].reset_running_stats()
                net.train()(x)
                anew = nn.functional.cross_entropy(net.eval()(x), (x[:, 0] > 0).long())
                net[1].momentum = 0.1
            np.testing.assert_allclose(path.losses["train_loss"][t], float(own), rtol=1e-5)
            np.testing.assert_allclose(path.plane_losses["train_loss"][t], float(anew), rtol=1e-4)


def test_the_range_holds_all_paths_with_a_margin():
    def path(*points):
        return Trajectory(np.arange(len(points)), np.array(points, float), np.zeros(len(points)), np.ones(len(points)))

    ranges = ranges_of_paths({"a": path((0, 0), (10, 1)), "b": path((-10, 0), (5, 2))})
    np.testing.assert_allclose(ranges[0], (-13, 13))  # 15 % of 20 on each side
    np.testing.assert_allclose(ranges[1], (1 - 3.25, 1 + 3.25))  # a quarter of 20, and 15 % of it on each side


@pytest.mark.parametrize(
    "runs, message",
    [
        ({"a": POINTS}, r"runs holds 1 run \(a\), and a plane of several needs at least 2"),
        ({}, r"runs holds 0 runs \(none\)"),
        ({"a": [{"weight": torch.zeros(2, 3)}], "b": []}, r"runs\['b'\] has no record: call record"),
        ({"a": [{"weight": torch.zeros(2, 3)}], "b": [{"bias": torch.zeros(2)}]}, r"runs\['b'\] has none for 'weight'"),
        (
            {"a": [{"weight": torch.zeros(2, 3)}], "b": [{"weight": torch.zeros(5, 3)}]},
            r"runs\['b'\] has shape \(5, 3\) for 'weight', the net has \(2, 3\).*one architecture",
        ),
    ],
)
def test_runs_that_have_no_plane_are_refused(world, runs, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        measured(world, runs, tmp_path)
