"""Recorder: what is kept of a training, and its path on a plane, against least squares on flat vectors."""

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape import PCA, Between, Plane, Recorder, Snapshot


@pytest.fixture
def walk():
    """A net that moves, and the recorder that has seen it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, recorder = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).double(), Recorder()
        for step in range(5):
            recorder.record(net, 10 * step, train_loss=1 / (step + 1), val_loss=None if step < 2 else float(step))
            for parameter in net.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
            net[1].running_mean += 1
    recorder.record(net, 50)
    return net, recorder


def flat(params, names):
    return np.concatenate([params[name].detach().numpy().reshape(-1) for name in names])


def test_weights_and_statistics_are_copied(walk):
    net, recorder = walk
    assert recorder.steps == [0, 10, 20, 30, 40, 50]
    last = recorder.weights[-1]
    assert last.keys() == {
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var",
    }  # fmt: skip
    before = last["0.weight"].clone()
    net[0].weight.data.zero_()
    assert torch.equal(last["0.weight"], before)
    assert [w["1.running_mean"][0].item() for w in recorder.weights] == [0, 1, 2, 3, 4, 5]
    assert not any(t.requires_grad for t in last.values())


def test_metrics_that_were_not_said_are_unknown(walk):
    _, recorder = walk
    np.testing.assert_array_equal(recorder.metrics["train_loss"], [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, np.nan])
    np.testing.assert_array_equal(recorder.metrics["val_loss"], [np.nan, np.nan, 2, 3, 4, np.nan])


def test_the_path_is_the_least_squares_projection(walk):
    net, recorder = walk
    names = [n for n, _ in net.named_parameters()]
    snapshot = Snapshot.of(net)
    rng = torch.Generator().manual_seed(1)
    directions = tuple(
        {n: torch.randn(p.shape, generator=rng, dtype=p.dtype) for n, p in snapshot.params.items()} for _ in range(2)
    )
    path = recorder.trajectory(Plane(snapshot.params, directions))
    matrix = np.stack([flat(d, names) for d in directions], axis=1)
    origin = flat(snapshot.params, names)
    for t, weights in enumerate(recorder.weights):
        offset = flat(weights, names) - origin
        expected, *_ = np.linalg.lstsq(matrix, offset, rcond=None)
        np.testing.assert_allclose(path.points[t], expected, atol=1e-12)
        assert path.residuals[t] == pytest.approx(np.linalg.norm(offset - matrix @ expected), abs=1e-12)
        assert path.distances[t] == pytest.approx(np.linalg.norm(offset), abs=1e-12)
    assert path.points[-1].tolist() == [0, 0]
    np.testing.assert_array_equal(path.steps, recorder.steps)
    np.testing.assert_array_equal(path.metrics["train_loss"], recorder.metrics["train_loss"])


def test_a_path_in_its_own_plane_has_no_residual():
    net, recorder = nn.Linear(4, 3, bias=False).double(), Recorder()
    d, e = torch.randn(2, 3, 4, dtype=torch.float64)
    start = net.weight.detach().clone()
    for step, (a, b) in enumerate([(3, 0), (2, 1), (1, 3), (0, 0)]):
        net.weight.data = start + a * d + b * e
        recorder.record(net, step)
    pca = PCA(recorder.weights)
    path = recorder.trajectory(Plane(Snapshot.of(net).params, pca(Snapshot.of(net), 2)))
    assert pca.explained.sum() == pytest.approx(1)
    np.testing.assert_allclose(path.residuals, 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(path.points, axis=1), path.distances, atol=1e-12)


def save(path, value, **entries):
    torch.save({"state_dict": {"weight": torch.full((1, 1), float(value))}, **entries}, path)


def test_files_are_sorted_by_the_number_in_their_name(tmp_path):
    steps = (10_000, 20_000, 100_000)
    for step in steps:
        save(tmp_path / f"iteration_{step}.pth.tar", step)
    paths = sorted(tmp_path.iterdir())  # as text: 10000, 100000, 20000
    assert [path.name for path in paths] != [f"iteration_{step}.pth.tar" for step in steps]
    recorder = Recorder.of_files(paths)
    assert recorder.steps == [*steps]
    assert [float(weights["weight"]) for weights in recorder.weights] == [*steps]


@pytest.mark.parametrize("entry", ["global_step", "last_iter"])
def test_the_step_in_a_file_goes_before_its_name(entry, tmp_path):
    for number, step in ((1, 300), (2, 100), (3, torch.tensor(200))):
        save(tmp_path / f"model_{number}.ckpt", number, **{entry: step})
    recorder = Recorder.of_files(tmp_path.iterdir())
    assert recorder.steps == [100, 200, 300]
    assert [float(weights["weight"]) for weights in recorder.weights] == [2, 3, 1]


def test_one_file_without_a_step_inside_sets_the_names_for_all(tmp_path):
    save(tmp_path / "step_5.pt", 5, global_step=999)
    save(tmp_path / "step_40.pt", 40)
    assert Recorder.of_files(tmp_path.iterdir()).steps == [5, 40]


def test_files_whose_steps_are_not_known_are_refused(tmp_path):
    save(tmp_path / "a.pt", 0, global_step=1)
    save(tmp_path / "b.pt", 0)
    with pytest.raises(
        ValueError, match=r"b\.pt has no step: it holds neither global_step nor last_iter, and its name"
    ):
        Recorder.of_files(tmp_path.iterdir())
    save(tmp_path / "b.pt", 0, last_iter=2)
    with pytest.raises(ValueError, match=r"different ways \(a.pt by global_step; b.pt by last_iter\): name each after"):
        Recorder.of_files(sorted(tmp_path.iterdir()))


def test_two_files_of_one_step_are_refused(tmp_path):
    save(tmp_path / "epoch=1-step=40.ckpt", 0, global_step=40)
    save(tmp_path / "last.ckpt", 0, global_step=40)
    with pytest.raises(ValueError, match=r"step=40\.ckpt and .*last\.ckpt are both of step 40, by global_step"):
        Recorder.of_files(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"last\.ckpt and .*last\.ckpt are both of step 40"):
        Recorder.of_files([tmp_path / "last.ckpt"] * 2)


def test_files_are_read_when_they_are_asked_for(tmp_path):
    for step in range(3):
        save(tmp_path / f"{step}.pt", step)
    recorder = Recorder.of_files(tmp_path.iterdir())
    assert float(recorder.weights[1]["weight"]) == 1
    save(tmp_path / "1.pt", 50)  # which is read again: no record stays in memory
    assert [float(weights["weight"]) for weights in recorder.weights[1:]] == [50, 2]
    (tmp_path / "2.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"2\.pt"):
        recorder.weights[-1]


def test_a_net_may_follow_the_files(tmp_path):
    save(tmp_path / "3.pt", 3)
    recorder, net = Recorder.of_files([tmp_path / "3.pt"]), nn.Linear(1, 1, bias=False)
    recorder.record(net, 4, loss=0.5)
    path = recorder.trajectory(Plane(Snapshot.of(net).params, Between((recorder.weights[0],))(Snapshot.of(net), 1)))
    np.testing.assert_allclose(path.points[:, 0], [1, 0], atol=1e-7)
    np.testing.assert_array_equal(path.metrics["loss"], [np.nan, 0.5])


def test_what_can_not_be_projected_is_told(walk):
    _, recorder = walk
    plane = Plane({"w": torch.ones(2)}, ({"w": torch.ones(2)},))
    with pytest.raises(ValueError, match=r"Nothing was recorded: call record\(module, step\) during the training"):
        Recorder().trajectory(plane)
    with pytest.raises(ValueError, match=r"The weights recorded at step 0 have no 'w': they are of another module"):
        recorder.trajectory(plane)
