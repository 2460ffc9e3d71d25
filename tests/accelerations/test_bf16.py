"""Points in bfloat16: what they are, how their error is measured, and where it is stated.

Expected values: functional_call under autocast by hand, and differences counted by hand.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape, LossLandscapeCallback, Plane, Random, Snapshot, accelerations, load, save
from lightning_landscape.accelerations import Compiler, applied
from lightning_landscape.accelerations.bf16 import control_points, control_values, errors
from lightning_landscape.accelerations.choose import choose
from lightning_landscape.accelerations.trial import Choice
from lightning_landscape.evaluators import Measurement, Sequential
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.landscape import Landscape
from lightning_landscape.objectives.base import Batch, LossFunction
from lightning_landscape.objectives.criterion import LOSS
from lightning_landscape.plots.furniture import inexact
from lightning_landscape.summary import summary

POINTS = np.array([[0.0, 0.0], [0.4, -0.3], [-0.7, 0.9]])
QUIET: Any = {"logger": False, "enable_checkpointing": False}
GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(48, 6, generator=GENERATOR), torch.arange(48) % 3


def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).eval()


def loss(module: Any, data: Any) -> Tensor:
    return nn.functional.cross_entropy(module(data[0]), data[1])


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        scores = self.net(batch[0])
        self.log("acc", (scores.argmax(1) == batch[1]).float().mean())
        return nn.functional.cross_entropy(scores, batch[1])

    validation_step = training_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.2)


def by_hand(module: nn.Module, plane: Plane, point: np.ndarray, rounded: bool, batches: int = 6) -> float:
    """The mean loss of the first batches of 8."""
    moved = {
        n: sum((float(c) * d[n] for c, d in zip(point, plane.directions, strict=True)), t)
        for n, t in plane.origin.items()
    }
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=rounded):
        scores = [torch.func.functional_call(module, moved, (x,)) for x in X[: 8 * batches].split(8)]
    each = [nn.functional.cross_entropy(s.float(), y) for s, y in zip(scores, Y.split(8), strict=False)]
    return float(torch.stack(each).double().mean())


@pytest.fixture
def case() -> Any:
    module = net()
    snapshot = Snapshot.of(net())
    plane = Plane(snapshot.params, Random()(snapshot, 2))
    batches = [Batch([x, y], 8, i) for i, (x, y) in enumerate(zip(X.split(8), Y.split(8), strict=True))]
    return module, plane, batches


@pytest.mark.parametrize("trained", [False, True])
def test_every_point_is_measured_under_autocast_with_its_own_weights(case: Any, trained: bool) -> None:
    """Also where autocast could cache the weights: those that autograd wants."""
    module, plane, batches = case
    points = POINTS[::-1]  # a rehearsal at the origin comes first

    def function(module: Any, data: Any) -> Tensor:
        if trained:
            torch.autograd.grad(loss(module, data), [*module.parameters()])
        return loss(module, data)

    with applied(["bf16"], Sequential(module), batches) as (evaluator, converted), preserved():
        values = []
        for row in evaluator(LossFunction(function), plane, points, converted):
            assert (X @ X.T).dtype == torch.float32, "the caller has no part in it"
            values.append(row["loss"].value)
    rounded = [by_hand(net(), plane, point, rounded=True) for point in points]
    exact = [by_hand(net(), plane, point, rounded=False) for point in points]
    np.testing.assert_allclose(values, rounded, rtol=1e-6)
    assert not np.allclose(values, exact, rtol=1e-5)


def test_the_origin_and_points_up_to_the_outermost_are_checked() -> None:
    points = np.arange(1, 101)[:, None] * np.array([[1.0, -1.0]])
    got = control_points(points)
    assert got.shape == (9, 2)
    assert got[0].tolist() == [0, 0]
    assert got[1].tolist() == [1, -1]
    assert got[-1].tolist() == [100, -100]
    assert control_points(points[:1]).tolist() == [[0, 0]] + [[1, -1]] * 8


class Rows:
    """An evaluator that refuses the second point, and has seen these batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, objective: Any, plane: Any, points: np.ndarray, batches: Any) -> Any:
        self.batches.append(len(batches))
        if points[0, 0] == 2:
            raise ValueError("not here")
        yield {"loss": Measurement(points[0, 0] * objective, 0.0)}


def test_a_refused_point_is_left_out_and_four_batches_do() -> None:
    evaluator: Any = Rows()
    streams: Any = [(1, [0] * 9), (10, [0] * 2)]
    first, second = control_values(evaluator, None, np.array([[1.0], [2.0], [3.0]]), streams)  # type: ignore[arg-type]
    np.testing.assert_array_equal(first["loss"], [1, np.nan, 3])
    np.testing.assert_array_equal(second["loss"], [10, np.nan, 30])
    assert evaluator.batches == [4, 4, 4, 2, 2, 2]


def test_errors_are_the_largest_difference_and_its_share() -> None:
    exact = {
        "a": np.array([1.0, 5.0, np.inf]),
        "b": np.array([2.0, 2.0, 2.0]),
        "c": np.array([2.0, 2.0, 2.0]),
        "d": np.array([1.0, 2.0, 3.0]),
        "e": np.full(3, np.nan),
        "f": np.array([1.0, 2.0, 3.0]),
    }
    rounded = {
        "a": np.array([1.5, 4.0, 7.0]),
        "b": np.array([2.0, 2.0, 2.0]),
        "c": np.array([2.0, 2.5, 2.0]),
        "d": np.array([1.0, np.nan, 3.0]),
        "e": np.zeros(3),
    }
    inf, nan = np.inf, np.nan
    expected = {"a": (1, 0.25), "b": (0, 0), "c": (0.5, inf), "d": (inf, inf), "e": (nan, nan), "f": (inf, inf)}
    got = errors(exact, rounded)
    assert got.keys() == expected.keys()
    for name, pair in expected.items():
        np.testing.assert_array_equal([got[name]["largest"], got[name]["share"]], pair, err_msg=name)


def test_it_is_tried_on_request_alone_and_need_not_be_equal(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module, plane, batches = case

    def seconds(evaluator: Any, *args: Any) -> Any:
        """A trial in which autocast gives other values in half of the time."""
        rounded = type(evaluator).__name__ == "_Autocast"
        return [{"loss": Measurement(1.1 if rounded else 1.0, 0.0)}], 0.5 if rounded else 1.0

    monkeypatch.setattr(accelerations.trial, "time_points", seconds)
    monkeypatch.setattr(accelerations.trial, "first_seconds", lambda *args: 1e-6)
    slow = replace(accelerations.ON_REQUEST["bf16"], compiler=Compiler(first_call=1e12))  # however long it may take
    monkeypatch.setitem(accelerations.ON_REQUEST, "bf16", slow)
    objective = LossFunction(loss)
    for accelerate in (True, "bf16"):
        with preserved():
            choice = choose(Sequential(module), objective, plane, batches, 10**9, accelerate)
        assert ("bf16" in choice.names) == (accelerate == "bf16")


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that takes what is on request."""

    def choice(reference: Any, *args: Any, **options: Any) -> Any:
        return reference, Choice(("bf16",) if args[-1] == "bf16" else (), {"bf16": 2.0} if args[-1] == "bf16" else {})

    monkeypatch.setattr("lightning_landscape.survey.survey.fastest", choice)


def swept(path: Path, accelerate: Any = "bf16", **options: Any) -> tuple[LossLandscape, Landscape]:
    landscapes = LossLandscape(
        net(), DataLoader(TensorDataset(X, Y), 8), nn.CrossEntropyLoss(), surf_file=path / "a.h5", accelerate=accelerate
    )
    landscapes.compute_2d((-1, 1, 5), (-1, 1, 3), **options)
    return landscapes, landscapes.landscape


def test_a_landscape_says_how_far_it_is_from_float32(tmp_path: Path, chosen: None) -> None:
    landscapes, landscape = swept(tmp_path)
    assert landscapes.plane is not None
    grid, plane = landscape.grid, landscapes.plane
    rounded = [by_hand(net(), plane, point, rounded=True) for point in grid.points]
    np.testing.assert_allclose(landscape.loss.reshape(-1), rounded, rtol=1e-6)
    places = control_points(grid.points[grid.outwards])
    a, b = (np.array([by_hand(net(), plane, p, rounded=r, batches=4) for p in places]) for r in (False, True))
    said = landscape.report.rounding_error
    assert said.points == 9
    assert said.batches == 4
    largest = np.abs(a - b).max()
    assert said.largest[LOSS] == pytest.approx(largest, rel=1e-3)
    assert said.share[LOSS] == pytest.approx(largest / np.ptp(a), rel=1e-3)
    assert landscape.report.accelerations == {"bf16": 2.0}
    assert landscape.center[LOSS] == pytest.approx(by_hand(net(), plane, np.zeros(2), rounded=False), rel=1e-6)
    assert f"{LOSS} {largest:.2g} ({said.share[LOSS]:.2g})" in summary(load(tmp_path / "a.h5"))
    assert "at 9 points checked in float32" in inexact(landscape, LOSS)


def test_exact_landscapes_say_nothing_of_it(tmp_path: Path, chosen: None) -> None:
    _, landscape = swept(tmp_path, True)
    assert landscape.report.rounding_error is None
    assert landscape.recipe.rounding is None
    assert "bfloat16" not in summary(landscape)
    assert not inexact(landscape, LOSS)


def test_a_stopped_pass_is_continued_with_the_same_rounding_only(
    tmp_path: Path, chosen: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept(tmp_path)
    with pytest.raises(ValueError, match="another rounding"):
        swept(tmp_path, True, resume=True)
    stopped = load(tmp_path / "a.h5")
    stopped.done[0] = False
    save(stopped, tmp_path / "a.h5")
    nothing = lambda reference, *args, **options: (reference, Choice())  # noqa: E731
    monkeypatch.setattr("lightning_landscape.survey.survey.fastest", nothing)
    _, landscape = swept(tmp_path, resume=True)
    assert landscape.done.all()
    assert LOSS in landscape.report.rounding_error.share, "also where the rest is measured exactly"


def test_the_callback_says_it_of_every_surface_and_of_the_tiles(tmp_path: Path, chosen: None) -> None:
    landscapes = LossLandscapeCallback(
        accelerate="bf16", x=(-1, 1, 5), y=(-1, 1, 5), data=["train", "val"], samples=2, formats=["h5"]
    )
    loaders = [DataLoader(TensorDataset(X[:n], Y[:n]), 8) for n in (48, 16)]
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[landscapes], default_root_dir=tmp_path, **QUIET,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Net().train(), *loaders)
    landscape = landscapes.landscape
    assert landscape is not None
    said = landscape.report.rounding_error
    assert {"train_loss", "val_loss", "train_acc", "val_acc", "samples"} <= said.share.keys()
    assert 0 < said.share["train_loss"] < 0.1
    assert 0 < said.share["val_loss"] < 0.1
    assert 0 < said.largest["samples"] < 1
    (log,) = tmp_path.rglob("log.txt")
    assert f"val_loss {said.largest['val_loss']:.2g}" in log.read_text()


@pytest.mark.parametrize("value", ["fp16", "", None, 2, ["bf16"]])
def test_an_unknown_value_names_the_choices(value: Any) -> None:
    for make in (LossLandscapeCallback, lambda **options: LossLandscape(net(), [], **options)):
        with pytest.raises(ValueError, match=r"accelerate=.* is unknown; the choices are True, False, 'bf16'\."):
            make(accelerate=value)
