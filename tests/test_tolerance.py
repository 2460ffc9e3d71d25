"""`tolerance=` of the callback and of LossLandscape: fewer evaluations of real nets, and what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape, LossLandscapeCallback, load, save
from lightning_landscape.landscape import equal
from lightning_landscape.summary import summary

from ._formula import callback, train
from ._training import differences

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3
GRID = {"x": (-1, 1, 17), "y": (-0.5, 0.5, 19), "every_n_epochs": None}


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        scores = self.net(batch[0])
        loss = nn.functional.cross_entropy(scores, batch[1])
        self.log("acc", (scores.argmax(1) == batch[1]).float().mean())
        self.log("same", loss)
        return loss

    validation_step = training_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.2)


def loader(size: int = 24) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X[:size], Y[:size]), 8)


def fitted(path: Path, **options: Any) -> tuple[LossLandscapeCallback, dict[str, Any]]:
    landscapes = callback(**{**GRID, **options})
    torch.manual_seed(1)
    _, after = train(Net(), [loader(), loader(16)], [landscapes], path)
    return landscapes, after


def share(got: Any, truth: Any) -> float:
    return float(abs(got - truth).max() / np.ptp(truth))


def test_the_callback_evaluates_less_within_its_estimate_and_the_training_is_the_same(tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": ["train", "val"], "samples": 2}
    whole, after = fitted(tmp_path / "whole", **options)
    few, same = fitted(tmp_path / "few", tolerance=2e-2, **options)
    assert not differences(after, same)
    a, b = whole.landscape, few.landscape
    assert a is not None
    assert b is not None
    assert not a.interpolated.any()
    assert a.report.interpolation is None
    assert b.done.all()
    assert b.interpolated.sum() > 0.4 * b.grid.size
    for name, values in a.values.items():
        assert np.array_equal(b.values[name][b.evaluated], values[b.evaluated])
    said = b.report.interpolation
    assert said.judged == ["train_loss", "val_loss"]
    for name in said.judged:
        assert share(b.values[name], a.values[name]) <= said.errors[name] <= 2e-2
    assert "same" not in {
        *b.values,
        *said.errors,
        *said.methods,
    }  # what is logged twice is one surface, interpolated or not
    assert a.samples is not None
    assert b.samples is not None
    for got, truth, error in zip(b.samples.values, a.samples.values, said.tiles, strict=True):
        assert share(got, truth) <= error
    np.testing.assert_array_equal(a.curvature(), b.curvature())
    (path,) = (tmp_path / "few").rglob("landscape.h5")
    assert equal(load(path), b)
    assert f"evaluated         {b.evaluated.sum()} of these points, the rest interpolated; shares of" in summary(b)


def test_a_stopped_pass_goes_on(tmp_path: Path) -> None:
    whole, _ = fitted(tmp_path / "whole", tolerance=2e-2)
    first = whole.landscape
    assert first is not None
    (path,) = (tmp_path / "whole").rglob("landscape.h5")
    for name in ("stopped", "hole"):  # before it was filled in; or with a point that could not be measured
        part = Path(str(path).replace("whole", name))
        stopped = first.without_interpolated() if name == "stopped" else load(path)
        hole = tuple(np.argwhere(stopped.evaluated)[5])
        stopped.done[hole] = False
        for table in (stopped.values, stopped.standard_errors):
            for array in table.values():
                array[hole] = np.nan
        save(stopped, part)
        again, _ = fitted(tmp_path / name, tolerance=2e-2)
        second = again.landscape
        assert second is not None
        assert second.done.all()
        for metric in first.values:
            np.testing.assert_array_equal(first.values[metric], second.values[metric])
        np.testing.assert_array_equal(first.interpolated, second.interpolated)
        save(stopped, part)
        whole, _ = fitted(tmp_path / name)
        assert whole.landscape is not None
        assert whole.landscape.evaluated.all()


@pytest.mark.parametrize("tolerance", [0, 1, -1, 2.0, float("nan"), "1e-3"])
def test_a_wrong_tolerance_is_refused_before_the_training(tolerance: Any) -> None:
    with pytest.raises(ValueError, match=r"tolerance=.*: give the largest error as a share of the range"):
        LossLandscapeCallback(tolerance=tolerance)
    with pytest.raises(ValueError, match=r"tolerance=.*: give the largest error as a share of the range"):
        LossLandscape(nn.Linear(1, 1), [], tolerance=tolerance)


def test_fast_dev_run_evaluates_its_corners(tmp_path: Path) -> None:
    landscapes = callback(**GRID, tolerance=1e-2)
    train(Net(), [loader()], [landscapes], tmp_path, fast_dev_run=True)
    assert landscapes.landscape is not None
    assert landscapes.landscape.evaluated.sum() == 9


def test_a_step_that_raises_somewhere_leaves_holes_there_alone(tmp_path: Path) -> None:
    class Picky(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if float(self.net[0].weight.detach().norm()) > self.limit:
                raise RuntimeError("too far")
            return super().training_step(batch, batch_idx)

    module: Any = Picky()
    module.limit = 1e9
    landscapes = callback(**{**GRID, "x": (0, 1, 33), "y": (-0.5, 0.5, 33)}, tolerance=2e-2)
    landscapes.strict = False

    class Limit(L.Callback):
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            pl_module.limit = 1.3 * float(pl_module.net[0].weight.detach().norm())

    with pytest.warns(UserWarning, match="points of the landscape of step .* could not be measured .*too far"):
        train(module, [loader()], [Limit(), landscapes], tmp_path)
    landscape = landscapes.landscape
    assert landscape is not None
    assert 0 < (~landscape.done).sum() < 0.7 * landscape.grid.size
    assert landscape.interpolated.any()
    assert not (landscape.interpolated & ~landscape.done).any()


# plain PyTorch


def plain(tmp_path: Path, **options: Any) -> LossLandscape:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    return LossLandscape(net, loader(), nn.CrossEntropyLoss(), surf_file=tmp_path / "surface.h5", **options)


RANGES: dict[str, Any] = {"xrange": (-1, 1, 25), "yrange": (-1, 1, 18)}


def test_a_plain_net_with_and_without(tmp_path: Path) -> None:
    whole, few = plain(tmp_path / "a"), plain(tmp_path / "b", tolerance=2e-2)
    truth, got = whole.compute_2d(**RANGES)["losses"], few.compute_2d(**RANGES)["losses"]
    landscape = few.landscape
    assert landscape.interpolated.sum() > 0.4 * landscape.grid.size
    assert np.array_equal(got[landscape.evaluated], truth[landscape.evaluated])
    assert share(got, truth) <= landscape.report.interpolation.errors["train_loss"] <= 2e-2
    assert equal(load(tmp_path / "b" / "surface.h5"), landscape)
    accuracy = landscape.values["train_acc"]
    assert 0 <= accuracy.min() <= accuracy.max() <= 100


def test_lines_and_volumes(tmp_path: Path) -> None:
    few, whole = plain(tmp_path, tolerance=2e-2), plain(tmp_path)
    got, truth = (each.compute_1d(xrange=(-1, 1, 51), save=False)["losses"] for each in (few, whole))
    assert few.landscape.interpolated.sum() > 10
    assert share(got, truth) <= few.landscape.report.interpolation.errors["train_loss"] <= 2e-2
    ranges: Any = {"xrange": (-1, 1, 17), "yrange": (-1, 1, 3), "zrange": (-1, 1, 11)}
    got, truth = (each.compute_3d(**ranges, save=False)["losses"] for each in (few, whole))
    assert few.landscape.interpolated.any()
    assert share(got, truth) <= few.landscape.report.interpolation.errors["train_loss"] <= 2e-2


def test_a_file_is_made_finer_or_whole(tmp_path: Path) -> None:
    coarse = plain(tmp_path, tolerance=3e-2)
    coarse.compute_2d(**RANGES)
    evaluated = coarse.landscape.evaluated.copy()
    fine = plain(tmp_path, tolerance=2e-3)
    fine.compute_2d(**RANGES, resume=True)
    assert (fine.landscape.evaluated & evaluated).sum() == evaluated.sum() < fine.landscape.evaluated.sum()
    whole = plain(tmp_path)
    whole.compute_2d(**RANGES, resume=True)
    anew = plain(tmp_path / "anew").compute_2d(**RANGES)["losses"]
    np.testing.assert_array_equal(whole.landscape.loss, anew)
    assert not whole.landscape.interpolated.any()
    assert whole.landscape.report.interpolation is None


def test_a_pass_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = plain(tmp_path / "a", tolerance=2e-2)
    asked.compute_2d(**RANGES)
    part = plain(tmp_path / "b", tolerance=2e-2)
    follow = type(part)._follow

    def interrupted(self: Any, passes: Any, *more: Any) -> None:
        def some() -> Any:
            for count, landscape in enumerate(passes):
                if count == 120:
                    raise KeyboardInterrupt
                yield landscape

        follow(self, some(), *more)

    with monkeypatch.context() as patched:
        patched.setattr(type(part), "_follow", interrupted)
        with pytest.raises(KeyboardInterrupt):
            part.compute_2d(**RANGES)
    stopped = load(tmp_path / "b" / "surface.h5")
    assert stopped.evaluated.sum() == 120
    assert asked.landscape.evaluated.sum() > 120
    assert not stopped.interpolated.any()
    again = plain(tmp_path / "b", tolerance=2e-2)
    again.compute_2d(**RANGES, resume=True)
    np.testing.assert_array_equal(again.landscape.loss, asked.landscape.loss)
    np.testing.assert_array_equal(again.landscape.interpolated, asked.landscape.interpolated)
