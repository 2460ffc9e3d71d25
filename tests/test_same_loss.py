"""A loss that is returned and logged, too, has one surface; what only looks like it keeps its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import Grid, Landscape, LossLandscapeCallback, load, save
from lightning_landscape.landscape import equal
from lightning_landscape.recipe import DataRecipe, Recipe
from lightning_landscape.report import Interpolation, Report
from lightning_landscape.summary import summary
from lightning_landscape.survey.same_loss import tidy, untidy
from lightning_landscape.trajectory import Trajectory


class Net(L.LightningModule):
    """Logs its loss under several names, beside what is another value."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def log_all(self, batch: tuple[Tensor, Tensor], name: str) -> Tensor:
        logits = self.layer(batch[0])
        loss = nn.functional.cross_entropy(logits, batch[1])
        right = (logits.argmax(1) == batch[1]).float().mean()
        self.log_dict({f"{name}/loss": loss, f"loss/{name}": loss, "my_loss": loss, f"{name}_loss": loss})
        self.log_dict({f"{name}/half": loss / 2, f"{name}_acc": right, f"{name}_close": loss * (1 + 1e-5)})
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.log_all(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.log_all(batch, "val")

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def loader(seed: int) -> DataLoader:
    stream = torch.Generator().manual_seed(seed)
    inputs, targets = torch.randn(26, 4, generator=stream), torch.randint(3, (26,), generator=stream)
    return DataLoader(TensorDataset(inputs, targets), batch_size=8)


def test_a_loss_has_one_surface_under_whatever_names_it_is_logged(tmp_path: Path) -> None:
    callback = LossLandscapeCallback(
        x=(-1, 1, 4), y=(-1, 1, 3), data=["train", "val"], samples=0, plots=[], formats=["h5"], dirpath=tmp_path,
        strict=True,
    )  # fmt: skip
    L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, callbacks=[callback], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(Net(), loader(0), loader(1))  # fmt: skip
    landscape = callback.landscape
    assert landscape is not None
    metrics = {f"{name}{end}" for name in ("train", "val") for end in ("_loss", "/half", "_acc", "_close")}
    for table in (landscape.values, landscape.standard_errors, landscape.center, landscape.recipe.data_of):
        assert set(table) == metrics
    np.testing.assert_allclose(landscape.values["val/half"], landscape.values["val_loss"] / 2, rtol=1e-6)
    same = {
        f"{data}{name}": f"{data}_loss" for data in ("train", "val") for name in ("/loss", "_my_loss", "_loss_logged")
    }
    same |= {"loss/train": "train_loss", "loss/val": "val_loss"}
    assert landscape.recipe.same_as_loss == same
    (file,) = tmp_path.rglob("landscape.h5")
    assert equal(load(file), landscape)
    names = (
        "the same          loss/train is train_loss, loss/val is val_loss, train/loss is train_loss, train_my_loss is"
    )
    assert names in summary(landscape)
    assert "logged is" not in summary(landscape)


def landscape_of(loss: list[float], name: str, other: list[float], **fields: Any) -> Landscape:
    grid = Grid((np.arange(-1.0, len(loss) - 1),))
    recipe = Recipe(data={"train": DataRecipe(8)}, data_of={"train_loss": "train", name: "train"})
    values = {"train_loss": np.array(loss), name: np.array(other)}
    return Landscape(grid, values, **{"main": "train_loss", "recipe": recipe, **fields})


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "loss, other",
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [1.0, 2.0 + 1e-6, 3.0]),  # rounding
        ([1.0, 2.0, NAN, INF, 4.0], [1.0, 2.0, NAN, INF, 4.0]),
        ([-1.0, -2.0, -3.0], [-1.0, -2.0, -3.0]),
    ],
)
def test_what_is_equal_everywhere_is_the_loss(loss: list[float], other: list[float]) -> None:
    landscape = landscape_of(loss, "mine", other)
    tidy(landscape)
    assert list(landscape.values) == ["train_loss"]
    assert landscape.recipe.same_as_loss == {"mine": "train_loss"}


@pytest.mark.parametrize(
    "loss, other",
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0 + 1e-5]),  # one point is another
        ([1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]),  # a share of errors that are all or none
        ([1.0, 1.0 + 1e-9, 1.0 - 1e-9], [1.0, 1.0, 1.0]),  # constant
        ([1.0, 2.0, NAN, NAN], [1.0, 2.0, NAN, NAN]),  # two values
        ([NAN, NAN, NAN], [NAN, NAN, NAN]),
        ([1.0, 2.0, 3.0], [1.0, 2.0, NAN]),
    ],
)
def test_what_may_be_equal_by_chance_stays(loss: list[float], other: list[float]) -> None:
    landscape = landscape_of(loss, "mine", other)
    tidy(landscape)
    assert list(landscape.values) == ["train_loss", "mine"]
    assert landscape.recipe.same_as_loss == {}


def test_what_is_another_value_at_the_centre_stays() -> None:
    landscape = landscape_of([1.0, 2.0, 3.0], "mine", [1.0, 2.0, 3.0], center={"train_loss": 2.0, "mine": 2.1})
    tidy(landscape)
    assert list(landscape.values) == ["train_loss", "mine"]


def test_interpolated_points_and_those_not_done_prove_nothing() -> None:
    interpolated, done = np.arange(5) == 1, np.arange(5) != 3
    report = Report(interpolation=Interpolation(errors={"train_loss": 0.1, "mine": 0.1}))
    first, second = [1.0, 2.0, 3.0, 0.0, 5.0], [1.0, 2.5, 3.0, 9.0, 5.0]
    center = {"train_loss": 2.0, "mine": 2.0}
    landscape = landscape_of(first, "mine", second, interpolated=interpolated, done=done, report=report, center=center)
    tidy(landscape)
    assert list(landscape.values) == ["train_loss"]
    assert landscape.report.interpolation.errors == {"train_loss": 0.1}
    landscape = landscape_of(first, "mine", first, interpolated=~done | interpolated, center=center)
    landscape.interpolated[0] = True  # two points are left
    tidy(landscape)
    assert list(landscape.values) == ["train_loss", "mine"]


def test_a_metric_of_other_data_stays() -> None:
    recipe = Recipe(
        data={"train": DataRecipe(8), "val": DataRecipe(8)}, data_of={"train_loss": "train", "worst": "val"}
    )
    landscape = landscape_of([1.0, 2.0, 3.0], "worst", [1.0, 2.0, 3.0], recipe=recipe)
    tidy(landscape)
    assert list(landscape.values) == ["train_loss", "worst"]


def test_the_path_of_the_training_loses_the_second_name_and_gets_it_back() -> None:
    losses = [1.0, 2.0, 3.0]
    landscape = landscape_of(losses, "mine", losses, center={"train_loss": 2.0, "mine": 2.0})
    columns = {name: np.array([4.0, 5.0]) for name in ("train_loss", "mine")}
    path = Trajectory(np.arange(2.0), np.zeros((2, 1)), np.ones(2), np.ones(2), {**columns}, {**columns})
    landscape.trajectory = path
    tidy(landscape)
    assert [*path.losses] == [*path.plane_losses] == ["train_loss"]
    untidy(landscape, landscape_of(losses, "mine", losses))
    assert path.losses["mine"].tolist() == path.plane_losses["mine"].tolist() == [4, 5]


def test_the_main_surface_stays() -> None:
    landscape = landscape_of([1.0, 2.0, 3.0], "mine", [1.0, 2.0, 3.0], main="mine")
    tidy(landscape)
    assert list(landscape.values) == ["train_loss", "mine"]


def test_a_loss_logged_under_its_very_name_needs_no_proof_by_three_values() -> None:
    landscape = landscape_of([1.0, 1.0], "train_loss_logged", [1.0, 1.0])
    tidy(landscape)
    assert list(landscape.values) == ["train_loss"]


def test_the_other_names_of_a_loss_answer_with_its_surface(tmp_path: Path) -> None:
    loss = np.array([3.0, 1.0, 2.0])
    tables = {"train_loss": loss, "l": loss.copy()}, {"train_loss": loss / 10, "l": loss / 10}
    recipe = Recipe(data={"train": DataRecipe(8)})
    landscape = Landscape(Grid.from_ranges((-1, 1, 3)), tables[0], "train_loss", tables[1], recipe=recipe)
    tidy(landscape)
    for found in (landscape, load(save(landscape, tmp_path / "a.h5"))):
        assert list(found.values) == list(found.standard_errors) == list(found.center) == ["train_loss"]
        assert found.values["l"].tolist() == [3, 1, 2]
        assert found.standard_errors["l"].tolist() == pytest.approx([0.3, 0.1, 0.2])
        assert (found.center["l"], found.metric("l"), found.relief("l")) == (1.0, "train_loss", 2.0)
        with pytest.raises(KeyError, match="metric 'k' is not in this landscape; it has: train_loss"):
            _ = found.values["k"]
