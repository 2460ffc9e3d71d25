"""The path of a training on a landscape: the loss of each record, and of the plane beside it, against naive loops."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import (
    PCA,
    Bezier,
    Grid,
    Landscape,
    LossLandscape,
    LossLandscapeCallback,
    Plane,
    Recorder,
    load,
    save,
)
from lightning_landscape.evaluators import Sequential
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.landscape import equal
from lightning_landscape.objectives.base import Batch, LossFunction
from lightning_landscape.paths.project import Recorded
from lightning_landscape.recipe import Recipe
from lightning_landscape.summary import summary
from lightning_landscape.survey import budget
from lightning_landscape.survey.budget import Deadline, Limit
from lightning_landscape.survey.data import frozen
from lightning_landscape.survey.group import Group
from lightning_landscape.survey.path import missing, outline_first
from lightning_landscape.survey.survey import Surface, Survey

X = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0.5).long()
LOADER = DataLoader(TensorDataset(X, Y), 16)


def batchnorm_net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Recorder, list[dict[str, Tensor]]]:
    """A net that was trained, its records, and its state dicts at the same steps."""
    net, recorder, states = batchnorm_net(), Recorder(), []
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        for step in range(7):
            recorder.record(net, 10 * step, rate=0.5)
            states.append(copy.deepcopy(net.state_dict()))
            for x, y in LOADER:
                optimizer.zero_grad()
                cross_entropy(net(x), y).backward()
                optimizer.step()
    net.load_state_dict(states[-1])
    return net, recorder, states


def naive(net: nn.Module, state: dict[str, Tensor]) -> tuple[float, float]:
    """Loss and accuracy of the net with a state dict, over all samples at once."""
    other = copy.deepcopy(net)
    other.load_state_dict(state)
    other.eval()
    with torch.no_grad():
        scores = other(X)
    return float(cross_entropy(scores, Y)), 100 * float((scores.argmax(1) == Y).float().mean())


def compute(net: nn.Module, folder: Path, **options: Any) -> LossLandscape:
    landscape = LossLandscape(net, LOADER, surf_file=folder / "a.h5", **options.pop("settings", {}))
    options = {"xrange": (-1, 1, 5), "yrange": (-1, 1, 3), **options}
    landscape.compute_2d(**options)
    return landscape


def test_own_losses_equal_a_naive_loop(trained, tmp_path):
    net, recorder, states = trained
    landscape = compute(net, tmp_path, directions=PCA(recorder.weights), trajectory=recorder).landscape
    path = landscape.trajectory
    expected = np.array([naive(net, state) for state in states])
    np.testing.assert_allclose(path.losses["train_loss"], expected[:, 0], rtol=1e-6)
    np.testing.assert_allclose(path.losses["train_acc"], expected[:, 1], rtol=1e-6)
    assert path.measured.all()
    assert path.losses["train_loss"][-1] == path.plane_losses["train_loss"][-1] == landscape.center["train_loss"]
    # The statistics of BatchNorm belong to a record: with those of the end its loss is another.
    wrong = naive(net, {**states[-1], **{n: t for n, t in states[0].items() if "running" not in n}})[0]
    assert abs(path.losses["train_loss"][0] / wrong - 1) > 0.01
    assert equal(load(tmp_path / "a.h5"), landscape)


def test_the_losses_of_the_plane_are_those_of_its_points(trained, tmp_path):
    """At θ* + Σ cᵢ dᵢ, with the net's own statistics of BatchNorm, as everywhere on the plane."""
    net, recorder, states = trained
    measured = compute(net, tmp_path, trajectory=recorder)  # on random directions
    path, plane = measured.landscape.trajectory, measured.plane
    for t, point in enumerate(path.points):
        expected = naive(net, {**states[-1], **plane.at(point)})
        assert path.plane_losses["train_loss"][t] == pytest.approx(expected[0], rel=1e-6)
        assert path.plane_losses["train_acc"][t] == pytest.approx(expected[1], rel=1e-6)


def test_the_surface_is_the_same_with_a_path(trained, tmp_path):
    net, recorder, _ = trained
    surfaces = [compute(net, tmp_path / name, trajectory=r).landscape for name, r in (("a", recorder), ("b", None))]
    np.testing.assert_array_equal(surfaces[0].loss, surfaces[1].loss)
    assert surfaces[1].trajectory is None


@pytest.mark.parametrize("settings", [{"mode": "train"}, {"accelerate": False}, {"tolerance": 0.05}])
def test_the_end_of_the_path_is_the_centre_in_any_setting(trained, tmp_path, settings):
    net, recorder, _ = trained
    landscape = compute(net, tmp_path, trajectory=recorder, settings=settings).landscape
    for table in (landscape.trajectory.losses, landscape.trajectory.plane_losses):
        assert table["train_loss"][-1] == landscape.center["train_loss"]
    assert len(set(landscape.trajectory.losses["train_loss"])) == 7


def test_a_line_has_a_path_too_and_a_curve_has_none(trained, tmp_path):
    net, recorder, states = trained
    landscape = LossLandscape(net, LOADER, surf_file=tmp_path / "a.h5")
    landscape.compute_1d(xrange=(-1, 1, 3), directions="target", target_model=states[0], trajectory=recorder)
    path = landscape.landscape.trajectory
    assert path.points.shape == (7, 1)
    assert path.points[0, 0] == pytest.approx(1, abs=1e-6)
    weights = {name: p.detach() for name, p in net.named_parameters()}
    with pytest.raises(ValueError, match="trajectory along a curve: a path has its place on a plane"):
        landscape.compute_1d(Bezier(weights, weights, weights), xrange=(0, 1, 3), trajectory=recorder)


def test_records_of_another_net_are_refused_before_anything_is_measured(trained, tmp_path):
    _, recorder, _ = trained
    with pytest.raises(ValueError, match="recorded at step 0 have no 'weight': they are of another module"):
        LossLandscape(nn.Linear(4, 3), LOADER, surf_file=tmp_path / "a.h5").compute_1d(trajectory=recorder)
    with pytest.raises(ValueError, match="Nothing was recorded"):
        LossLandscape(nn.Linear(4, 3), LOADER, surf_file=tmp_path / "a.h5").compute_1d(trajectory=Recorder())
    assert not [*tmp_path.iterdir()]


def test_a_continued_landscape_measures_no_record_again(trained, tmp_path):
    net, recorder, _ = trained
    first = compute(net, tmp_path, trajectory=recorder).landscape
    measured = copy.deepcopy(first.trajectory)
    first.trajectory.losses["train_loss"][:] += 1  # a mark
    first.trajectory.measured[2:4] = False
    first.done[0, 0] = False
    save(first, tmp_path / "a.h5")
    again = compute(net, tmp_path, trajectory=recorder, resume=True).landscape.trajectory
    mark = np.array([1, 1, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(again.losses["train_loss"], measured.losses["train_loss"] + mark)
    np.testing.assert_array_equal(again.plane_losses["train_acc"], measured.plane_losses["train_acc"])
    assert again.measured.all()


def test_a_finished_landscape_gets_the_path_that_it_lacks(trained, tmp_path):
    net, recorder, _ = trained
    without = compute(net, tmp_path).landscape
    landscape = compute(net, tmp_path, trajectory=recorder, resume=True).landscape
    np.testing.assert_array_equal(landscape.loss, without.loss)
    assert load(tmp_path / "a.h5").trajectory.measured.all()
    again = compute(net, tmp_path, resume=True).landscape  # without the recorder
    assert again.trajectory.measured.all()


@pytest.mark.parametrize("count", [1, 2, 3, 9, 64])
def test_an_outline_of_the_path_comes_first(count):
    order = outline_first(count)
    assert sorted(order) == list(range(count))
    assert order[:2] == [count - 1, 0][:count]
    for done in range(2, count):  # no gap is more than four times as long as it must be
        places = sorted(order[:done])
        assert max(np.diff(places)) <= 4 * count / (done - 1)


class Point(nn.Module):
    """Two weights."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 2.0]).double())


CORNERS = [torch.tensor(w).double() for w in ([5.0, 6.0], [3.0, 3.0], [2.0, 2.0], [1.0, 2.0])]
LINE = Plane({"w": torch.tensor([1.0, 2.0]).double()}, ({"w": torch.tensor([1.0, 0.0]).double()},))
BATCHES = [Batch(torch.tensor([1.0, 3.0]), 2)]


def square(module: nn.Module, data: Tensor) -> Tensor:
    return (module.w**2).sum() * data.double()


def survey_of_corners(function: Any = square, points: int = 5, group: Group | None = None, **options: Any) -> Any:
    """A survey of a line, its surface and its landscape, with four records."""
    survey = Survey(
        Sequential(Point()), Grid.from_ranges((-1, 1, points)), accelerate=False, group=group,
        tolerant=options.pop("tolerant", False),
    )  # fmt: skip
    survey.plane = LINE
    survey.recorded = Recorded([0, 1, 2, 3], options.pop("weights", [{"w": w} for w in CORNERS]))
    surface = Surface("data", LossFunction(function), frozen(BATCHES, None))
    surface.center = next(iter(survey.evaluator(surface.objective, LINE, np.zeros((1, 1)), BATCHES)))
    surface.names = {name: name for name in surface.center}
    return survey, surface


def finish(survey: Survey, surface: Surface, limit: Limit | None = None) -> Landscape:
    landscape = survey.begin([surface], None, Recipe())
    with preserved(), survey.running(landscape, [surface], None, landscape.remaining, limit) as landscapes:
        *_, last = landscapes
    return last


OWN = [2 * float((w**2).sum()) for w in CORNERS]
BESIDE = [2 * float(w[0] ** 2 + 4) for w in CORNERS]


class Clock:
    """Stands still unless a point takes time."""

    time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(budget, "clock", clock := Clock())
    return clock


@pytest.mark.parametrize("seconds, measured", [(100.0, 4), (9.5, 3), (8.4, 2), (6.9, 1), (2.0, 0)])
def test_the_points_come_first_and_the_records_keep_the_deadline(clock, seconds, measured):
    """Points end 3 s after the beginning, and then a record takes 2 s: two evaluations, each with its rehearsal."""

    def slow(module: nn.Module, data: Tensor) -> Tensor:
        clock.time += 0.5
        return square(module, data)

    survey, surface = survey_of_corners(slow)
    clock.time = 100.0
    landscape = finish(survey, surface, Limit(Deadline(seconds)))
    assert landscape.done.all()
    assert landscape.trajectory.measured.sum() == measured
    assert landscape.trajectory.measured[[3, 0][:measured]].all()
    assert np.isnan(landscape.trajectory.losses["loss"]).sum() == 4 - measured
    assert clock.time == 103 + 2 * measured
    sentence = f"{4 - measured} of 4 records of the path have no loss: the time was over." if measured < 4 else ""
    assert missing(landscape) == sentence
    if sentence:
        assert f"{4 - measured} of 4 records were not measured: the time was over" in summary(landscape)


def test_some_of_the_time_is_left_for_the_path(clock):
    """Where there is no time for all points, records are measured all the same."""

    def slow(module: nn.Module, data: Tensor) -> Tensor:
        clock.time += 0.05
        return square(module, data)

    survey, surface = survey_of_corners(slow, points=1001)
    clock.time = 100.0
    landscape = finish(survey, surface, Limit(Deadline(20.0), point=0.05))
    assert 200 < landscape.evaluated.sum() < 400
    assert landscape.trajectory.measured.all()
    assert 118 < clock.time < 120


def test_a_record_at_which_the_objective_fails_is_left_out_where_that_is_tolerated():
    def fragile(module: nn.Module, data: Tensor) -> Tensor:
        if module.w[0] == module.w[1]:  # of two records, and of no point
            raise RuntimeError("equal weights")
        return square(module, data)

    landscape = finish(*survey_of_corners(fragile, points=4, tolerant=True))
    assert landscape.trajectory.measured.tolist() == [True, False, False, True]
    assert missing(landscape) == "2 of 4 records of the path have no loss: RuntimeError: equal weights."
    with pytest.raises(RuntimeError, match="equal weights"):
        finish(*survey_of_corners(fragile, points=4))


def test_records_that_do_not_fit_cost_no_landscape_where_that_is_tolerated():
    landscape = finish(*survey_of_corners(weights=[{"v": w} for w in CORNERS], tolerant=True))
    assert landscape.done.all()
    assert landscape.trajectory is None
    assert missing(landscape).startswith("the path of the training is missing: ValueError: The weights recorded at")
    assert "path              missing: ValueError" in summary(landscape)


def test_processes_that_share_the_parameters_have_no_path():
    group = Group()
    group.in_step = True
    survey, surface = survey_of_corners(group=group)
    landscape = finish(survey, surface)
    assert landscape.trajectory is None
    assert missing(landscape) == (
        "the path of the training is missing: the parameters are divided among the processes."
    )


class Threads:
    """Two processes, as threads that wait for each other."""

    def __init__(self) -> None:
        self.barrier, self.given = threading.Barrier(2, timeout=60), [None, None]

    def of(self, rank: int) -> Group:
        def gather(mine: Any) -> list[Any]:
            self.given[rank] = mine
            self.barrier.wait()
            given = [mine if r == rank else copy.deepcopy(self.given[r]) for r in range(2)]
            self.barrier.wait()
            return given

        group = Group()
        group.size, group.is_first = 2, rank == 0
        group.share = lambda order: order[rank::2]  # type: ignore[method-assign]
        group.gather = gather  # type: ignore[method-assign]
        group.first = lambda mine: gather(mine)[0]  # type: ignore[method-assign]
        group.any = lambda mine: any(gather(mine))  # type: ignore[method-assign]
        return group


def test_the_records_of_the_first_process_are_enough():
    threads, results = Threads(), [None, None]

    def run(rank: int) -> None:
        survey, surface = survey_of_corners(group=threads.of(rank))
        if rank:
            survey.recorded = None
        landscape = survey.begin([surface], None, Recipe())
        with survey.running(landscape, [surface], None, landscape.remaining) as landscapes:
            *_, results[rank] = landscapes

    with preserved():
        workers = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
        _ = [worker.start() for worker in workers], [worker.join() for worker in workers]
    for landscape in results:
        assert landscape.done.all()
        np.testing.assert_allclose(landscape.trajectory.losses["loss"], OWN, rtol=1e-12)
        np.testing.assert_allclose(landscape.trajectory.plane_losses["loss"], BESIDE, rtol=1e-12)


class Module(L.LightningModule):
    """Logs its loss and its accuracy in both steps."""

    def __init__(self) -> None:
        super().__init__()
        self.net = batchnorm_net()

    def step(self, batch: Any, name: str) -> Tensor:
        scores = self.net(batch[0])
        loss = cross_entropy(scores, batch[1])
        self.log(f"{name}/loss", loss)
        self.log(f"{name}/acc", (scores.argmax(1) == batch[1]).float().mean())
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.step(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.step(batch, "val")

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.3)


class Recording(LossLandscapeCallback):
    """Records the net at each step, and hands the records to each pass."""

    def __init__(self, records: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.has_records = records
        self.path, self.states = Recorder(), []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *arguments: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *arguments)
        if not self.has_records:
            return
        self.path.record(pl_module, trainer.global_step)
        self.states.append(copy.deepcopy(pl_module.state_dict()))

    def _settings(self, trainer: L.Trainer) -> Any:
        return replace(super()._settings(trainer), recorded=self.path)


def fit(folder: Path, **options: Any) -> Recording:
    callback = Recording(
        x=(-1, 1, 3), y=(-1, 1, 3), data=("train", "val"), budget=None, plots=[], samples=0, max_samples=None,
        trajectory=False, **options,
    )  # fmt: skip
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, callbacks=[callback], default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(Module(), LOADER, DataLoader(TensorDataset(X[:24], Y[:24]), 8))
    return callback


def test_a_pass_before_the_first_record_has_no_path_and_fails_nothing(tmp_path):
    callback = fit(tmp_path, at_train_end=False, every_n_epochs=1, strict=True, records=False)
    assert callback.landscape.done.all()
    assert callback.landscape.trajectory is None
    assert callback.landscape.report.no_path is None


def test_in_a_training_each_record_has_its_loss_on_all_data_in_all_metrics(tmp_path):
    callback = fit(tmp_path)
    landscape = callback.landscape
    path = landscape.trajectory
    assert path.steps.tolist() == list(range(1, 9))
    assert path.losses.keys() == path.plane_losses.keys() == landscape.values.keys()
    assert landscape.values.keys() == {"train_loss", "train/acc", "val_loss", "val/acc"}
    probe = Module().eval()
    for t, state in enumerate(callback.states):
        probe.load_state_dict(state)
        for name, (x, y) in {"train": (X, Y), "val": (X[:24], Y[:24])}.items():
            with torch.no_grad():
                scores = probe.net(x)
            assert path.losses[f"{name}_loss"][t] == pytest.approx(float(cross_entropy(scores, y)), rel=1e-6)
            assert path.losses[f"{name}/acc"][t] == pytest.approx(float((scores.argmax(1) == y).float().mean()))
    loaded = load(next(tmp_path.rglob("landscape.h5")))
    assert equal(loaded, landscape)
