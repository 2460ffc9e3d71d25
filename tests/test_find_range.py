"""The range of "auto": where a loss of known shape has risen, in at most 12 evaluations, for both faces."""

from __future__ import annotations

import itertools
import logging
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import Grid, LossLandscape, LossLandscapeCallback, load
from lightning_landscape.paths.bezier import Bezier
from lightning_landscape.survey.find_range import find_end, find_ranges, ranges_of, readable

TEN_TIMES = "the loss has risen to 10 times that of the centre"
BY_ONE = "the loss has risen by 1"
HALF = "the loss has changed by 50 % of its largest change within 8"
NOT_FINITE = "the loss is not finite farther out"


@pytest.mark.parametrize(
    "loss, center, end, reason",
    [
        # A bowl c + a x²: it is 10 c at sqrt(9 c / a), which is 3, 0.3, 1.5.
        (lambda x: 1 + x * x, 1.0, 3.0, TEN_TIMES),
        (lambda x: 1 + 100 * x * x, 1.0, 0.3, TEN_TIMES),
        (lambda x: 2 + 8 * x * x, 2.0, 1.5, TEN_TIMES),
        # The same with a centre near 0 rises by 1 at sqrt(1 / a).
        (lambda x: 1e-7 + 25 * x * x, 1e-7, 0.2, BY_ONE),
        (lambda x: 4 * x * x, 0.0, 0.5, BY_ONE),
        # Steeper walls: 1 + x⁴ is 10 at 1.73; exp(5 |x|) is 10 at 0.46.
        (lambda x: 1 + x**4, 1.0, 1.5, TEN_TIMES),
        (lambda x: math.exp(5 * abs(x)), 1.0, 0.5, TEN_TIMES),
        # A negative loss, as of a density: -2 + x² is 9 · 2 higher at 4.24.
        (lambda x: -2 + x * x, -2.0, 4.0, TEN_TIMES),
        # A slope: 1 + x + x² is 10 at 2.54 on one side; the mirrored one as well.
        (lambda x: 1 + x + x * x, 1.0, 2.5, TEN_TIMES),
        (lambda x: 1 - x + x * x, 1.0, 2.5, TEN_TIMES),
        # An edge at 0.5, or at -3 alone.
        (lambda x: 1 + x * x if abs(x) < 0.5 else math.inf, 1.0, 0.6, NOT_FINITE),
        (lambda x: 1.0 if x > -3 else math.nan, 1.0, 5.0, NOT_FINITE),
        # Nowhere as high: what saturates at +1 has half of that where x² = 0.5; an accuracy of 0.9 that falls
        # to 0.1 has lost half where 0.8 (1 - exp(-x²)) = 0.4, at 0.83.
        (lambda x: 1 + x * x / (x * x + 0.5), 1.0, 0.8, HALF),
        (lambda x: 0.1 + 0.8 * math.exp(-x * x), 0.9, 0.8, HALF),
        # Nothing tells: a flat loss, and no loss at the centre.
        (lambda x: 2.0, 2.0, 1.0, "the loss stays the same within 8, so that nothing says how far"),
        (lambda x: 1 + x * x, math.nan, 1.0, "the loss at the centre is not finite, so that nothing says how far"),
    ],
)
def test_the_end_of_a_known_loss(loss: Any, center: float, end: float, reason: str) -> None:
    found, why = find_end(loss, center)
    assert why == reason
    # Two neighbours among the readable numbers differ by a third at most.
    assert end / 1.34 <= found <= end * 1.34
    if reason in (TEN_TIMES, BY_ONE):
        rise = max(loss(found), loss(-found)) - center
        wanted = max(9 * abs(center), 1.0)
        assert wanted / 2 < rise < wanted * 2


@pytest.mark.parametrize("curvature", [1e-4, 1e-2, 0.3, 1, 7, 100, 1e4, 1e6])
def test_bowls_of_any_curvature_have_the_nearest_readable_number(curvature: float) -> None:
    """The range that a bowl c + a x² / 2 should have is sqrt(18 c / a), between 1/512 and 8."""
    expected = min(max(math.sqrt(18 / curvature), 1 / 512), 8.0)
    numbers = [m * 10.0**e for m, e in itertools.product((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), range(-4, 2))]
    found = find_end(lambda x: 1 + curvature * x * x / 2, 1.0)[0]
    nearest = min(numbers, key=lambda number: abs(math.log(number / expected)))
    assert found == pytest.approx(nearest) or expected == 8.0
    assert str(found) == str(float(f"{found:.2g}"))  # 0.3, not 0.30000000000000004


def test_a_plane_takes_12_evaluations_at_most_and_each_axis_has_its_own_range() -> None:
    """1 + x² + 900 y² is 10 at x = 3 and at y = 0.1."""
    points: list[tuple[float, ...]] = []

    def loss(point: Any) -> float:
        points.append(tuple(point))
        return float(1 + point[0] ** 2 + 900 * point[1] ** 2)

    grid, told = find_ranges(Grid.from_ranges((-1, 1, 7), (-1, 1, 5)), (0, 1), loss, samples=64)
    assert len(points) <= 12
    assert grid.axes[0].tolist() == [-3, -2, -1, 0, 1, 2, 3]
    np.testing.assert_allclose(grid.axes[1], [-0.1, -0.05, 0, 0.05, 0.1])
    assert (told["x"].end, told["y"].end, told["y"].samples) == (3.0, 0.1, 64)


def test_the_slowest_search_takes_12_evaluations_at_most() -> None:
    count = itertools.count()

    def loss(point: Any) -> float:
        next(count)
        return float("nan") if np.abs(point).max() > 1e-3 else 1.0

    grid, _ = find_ranges(Grid.from_ranges((-1, 1, 3), (-1, 1, 3)), (0, 1), loss)
    assert next(count) <= 12
    assert grid.has_center


def test_only_the_axes_that_are_left_to_us_change() -> None:
    grid, searched = ranges_of({"x": (0, 2, 3), "y": ("auto", 5)})
    assert searched == (1,)
    found, told = find_ranges(grid, searched, lambda point: float(1 + 4 * point[1] ** 2))
    assert found.axes[0].tolist() == [0, 1, 2]
    assert found.axes[1].tolist() == [-1.5, -0.75, 0, 0.75, 1.5]
    assert [*told] == ["y"]


@pytest.mark.parametrize("value", [0.0123, 0.99, 1.0, 9.4, 55.0, 1e-5])
def test_readable_numbers_are_near(value: float) -> None:
    assert 1 / 1.16 < readable(value) / value < 1.16
    assert f"{readable(value):.1e}" == f"{readable(value):e}".replace("00000e", "e")  # two digits


@pytest.mark.parametrize("given", [("auto", 4), ("auto", 1), ("auto", 5.0), ("auto", True), ("auto",), ("auto", 3, 3)])
def test_auto_with_points_that_have_no_middle_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"x=\('auto'.*: give an odd number of at least 3 points"):
        LossLandscapeCallback(x=given)


def test_another_word_is_refused() -> None:
    with pytest.raises(ValueError, match=r"y='wide' is not a range: .* or \"auto\"\."):
        LossLandscapeCallback(y="wide")  # type: ignore[arg-type]


# In a training. The loss is the mean of (w·x - y)² with w = 0.1 · (1, 1, 1, 1), y = 0: any direction is a bowl.


class Bowl(L.LightningModule):
    """A quadratic loss, `height` + |w - (1, 1)|² with w near (1, 1), which one step of SGD moves little."""

    def __init__(self, height: float = 1.0, rate: float = 1e-3) -> None:
        super().__init__()
        self.net = nn.Linear(2, 1, bias=False)
        self.height, self.rate = height, rate
        nn.init.ones_(self.net.weight)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.height + (self.net.weight - 1).square().sum() + 0 * batch[0].sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.rate)


def loader() -> Any:
    return DataLoader(TensorDataset(torch.ones(32, 2)), 8)


def fit(root: Path, callback: Any, module: Any = None, checkpoint: Any = None, epochs: int = 1, **options: Any) -> Any:
    others = options.pop("callbacks", [])
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, callbacks=[callback, *others], default_root_dir=root,
        enable_checkpointing=bool(others), enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(Bowl() if module is None else module, loader(), ckpt_path=checkpoint)
    return trainer


def small(**options: Any) -> LossLandscapeCallback:
    given = {"x": ("auto", 5), "y": ("auto", 3), "samples": 0, "plots": [], "formats": ["h5"], "strict": True}
    return LossLandscapeCallback(**{**given, **options})


def test_a_training_finds_the_range_says_it_and_keeps_it(tmp_path: Path, caplog: Any) -> None:
    """A direction has the length of w, sqrt(2): 1 + 2 x² is 10 at sqrt(4.5) = 2.12."""
    callback, module = small(every_n_epochs=1), Bowl()
    with caplog.at_level(logging.INFO):
        fit(tmp_path, callback, module, epochs=3)
    assert [*callback.landscapes] == [4, 8, 12]
    for landscape in callback.landscapes.values():
        assert not isinstance(landscape, Path)
        assert landscape.grid.axes[0].tolist() == [-2, -1, 0, 1, 2]
        assert landscape.grid.axes[1].tolist() == [-2, 0, 2]
        assert landscape.recipe.ranges["x"].reason == TEN_TIMES
        assert landscape.recipe.ranges["x"].samples == 16  # two batches of 8
        assert landscape.loss[0, 1] == pytest.approx(1 + 2 * 4)
    assert caplog.text.count("x runs from -2 to 2: there the loss has risen to 10 times") == 1
    file = load(tmp_path / "landscape" / "step=000008" / "landscape.h5")
    assert file.recipe.ranges == callback.landscapes[4].recipe.ranges  # type: ignore[union-attr]
    assert "x to 2: the loss has risen" in (tmp_path / "landscape" / "step=000008" / "log.txt").read_text()


def test_the_range_of_the_first_landscape_stays_where_the_loss_becomes_steeper(tmp_path: Path) -> None:
    class Steeper(Bowl):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            bowl: Tensor = super().training_step(batch, batch_idx) - self.height
            return self.height + bowl * 100**self.current_epoch

    callback = small(every_n_epochs=1)
    fit(tmp_path, callback, Steeper(), epochs=2)
    assert [found.grid.axes[0][-1] for found in callback.landscapes.values()] == [2, 2]  # type: ignore[union-attr]


def test_a_new_fit_finds_its_own_range(tmp_path: Path) -> None:
    callback = small()
    for height, end in ((1.0, 2.0), (0.01, 0.8)):  # 0.01 + 2 x² has risen by 1 at 0.71
        fit(tmp_path / str(height), callback, Bowl(height))
        assert callback.landscape is not None
        assert callback.landscape.grid.axes[0][-1] == pytest.approx(end, rel=0.16)


def test_a_curve_in_one_direction(tmp_path: Path) -> None:
    callback = small(x="auto", y=None)
    fit(tmp_path, callback)
    assert callback.landscape is not None
    assert callback.landscape.grid.shape == (51,)
    assert callback.landscape.grid.has_center
    assert callback.landscape.grid.axes[0][-1] == 2.0


def test_a_smoke_test_searches_too(tmp_path: Path) -> None:
    callback = small()
    fit(tmp_path, callback, fast_dev_run=1)
    assert callback.landscape is not None
    assert callback.landscape.grid.axes[0].tolist() == [-2, 0, 2]


def test_a_time_budget_searches_too(tmp_path: Path) -> None:
    callback = small(budget="5s")
    fit(tmp_path, callback)
    assert callback.landscape is not None
    assert callback.landscape.grid.axes[0].tolist() == [-2, -1, 0, 1, 2]
    assert callback.landscape.loss[-1, 1] == pytest.approx(9.0)


def test_a_step_that_refuses_far_weights_ends_the_range(tmp_path: Path) -> None:
    class Refuses(Bowl):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if (self.net.weight - 1).norm() > 0.3:
                raise FloatingPointError("too far")
            return super().training_step(batch, batch_idx)

    callback = small(y=None, strict=False)
    fit(tmp_path, callback, Refuses())
    assert callback.landscape is not None
    end = callback.landscape.grid.axes[0][-1]
    assert 0.1 < end < 0.4  # the edge is at 0.3 / sqrt(2) = 0.21
    assert callback.landscape.recipe.ranges["x"].reason == NOT_FINITE


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # of the checkpoints
def test_a_training_that_goes_on_from_a_checkpoint_keeps_the_range(tmp_path: Path) -> None:
    """Its own landscape would have another range: the loss is steeper by then."""

    class Steeper(Bowl):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            bowl: Tensor = super().training_step(batch, batch_idx) - self.height
            return self.height + bowl * 100**self.current_epoch

    saving = ModelCheckpoint(tmp_path / "saved", save_top_k=-1, filename="{epoch}")
    whole = small(every_n_epochs=1)
    fit(tmp_path / "whole", whole, Steeper(), epochs=2, callbacks=[saving])
    fit(tmp_path / "first", small(every_n_epochs=1, dirpath=tmp_path / "out"), Steeper())
    second = small(every_n_epochs=1, dirpath=tmp_path / "out")
    fit(
        tmp_path / "second",
        second,
        Steeper(),
        tmp_path / "saved" / "epoch=0.ckpt",
        epochs=2,
        callbacks=[ModelCheckpoint(tmp_path / "0")],
    )
    (found,) = (value for step, value in second.landscapes.items() if step == 8)
    assert found.grid == whole.landscapes[8].grid  # type: ignore[union-attr]
    assert found.grid.axes[0][-1] == 2.0  # type: ignore[union-attr]
    anew = small(dirpath=tmp_path / "other")
    fit(
        tmp_path / "third",
        anew,
        Steeper(),
        tmp_path / "saved" / "epoch=0.ckpt",
        epochs=2,
        callbacks=[ModelCheckpoint(tmp_path / "1")],
    )
    assert anew.landscape is not None
    assert anew.landscape.grid.axes[0][-1] < 1.0


def test_a_killed_pass_goes_on_with_its_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_landscape import Landscape

    class Stop(Exception):
        pass

    record, left = Landscape.record, itertools.count()

    def stopped(landscape: Landscape, *arguments: Any) -> None:
        if next(left) == 4:
            raise Stop
        record(landscape, *arguments)

    monkeypatch.setattr(Landscape, "record", stopped)
    with pytest.raises(Stop):
        fit(tmp_path, small(dirpath=tmp_path / "out"))
    measured = itertools.count()
    monkeypatch.setattr(Landscape, "record", lambda *arguments: (next(measured), record(*arguments))[1])
    fit(tmp_path, small(dirpath=tmp_path / "out"))
    assert next(measured) == 15 - 4
    assert [path.name for path in (tmp_path / "out").glob("step=*")] == ["step=000004"]


@pytest.mark.filterwarnings(r"ignore:Found 1 module\(s\) in eval mode.*")  # on purpose: its part `still`
def test_the_search_leaves_the_training_alone(tmp_path: Path) -> None:
    from ._training import differences
    from ._training import fit as train

    callback = small(every_n_epochs=2)
    without, with_it = train(tmp_path / "a", []), train(tmp_path / "b", [callback])
    assert len(callback.landscapes) == 2
    assert differences(without, with_it) == []


# Without a Trainer.


def library(tmp_path: Path) -> LossLandscape:
    """Mean of (w·x)² + 1 over 3 samples with w = (1, 1): directions of the length sqrt(2)."""
    net = Bowl().net
    return LossLandscape(
        net, [(torch.ones(1, 2), torch.ones(1))] * 3,
        lambda model, inputs, targets: 1 + (model.weight - 1).square().sum() + 0 * inputs.sum(),
        surf_file=tmp_path / "surface.h5",
    )  # fmt: skip


def test_the_library_finds_ranges(tmp_path: Path) -> None:
    landscape = library(tmp_path)
    result = landscape.compute_1d(xrange=("auto", 5))
    np.testing.assert_allclose(result["xcoordinates"], [-2, -1, 0, 1, 2])
    np.testing.assert_allclose(result["losses"], [9, 3, 1, 3, 9], rtol=1e-6)
    assert landscape.landscape.recipe.ranges["x"].reason == TEN_TIMES
    assert library(tmp_path).compute_1d("auto")["xcoordinates"].tolist() == np.linspace(-2, 2, 51).tolist()
    plane = library(tmp_path).compute_2d(xrange=(-1, 1, 3), yrange=("auto", 3))
    assert (plane["xcoordinates"].tolist(), plane["ycoordinates"].tolist()) == ([-1, 0, 1], [-2, 0, 2])
    with pytest.warns(UserWarning, match="span 2 dimensions only"):  # there are two weights
        volume = library(tmp_path).compute_3d((-1, 1, 3), (-1, 1, 3), ("auto", 3), save=False)
    assert volume["zcoordinates"].tolist() == [-2, 0, 2]
    again = library(tmp_path).compute_2d(xrange=(-1, 1, 3), yrange=("auto", 3), resume=True)
    np.testing.assert_array_equal(again["losses"], plane["losses"])


def test_a_curve_between_two_models_has_its_range(tmp_path: Path) -> None:
    net = nn.Linear(2, 1)
    landscape = LossLandscape(net, [(torch.ones(1, 2), torch.ones(1, 1))], nn.MSELoss(), surf_file=tmp_path / "a.h5")
    curve = Bezier(net.state_dict(), net.state_dict(), net.state_dict())
    with pytest.raises(ValueError, match="along a curve: it goes from 0 to 1"):
        landscape.compute_1d(curve, xrange="auto")
