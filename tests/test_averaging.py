"""Callbacks that average the weights, listed before and after the landscape: it is of the averaged weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import lightning.pytorch.callbacks as callbacks
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ._formula import callback, plain_surface, train
from ._training import differences

X = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3
EPOCHS = 4


class Net(L.LightningModule):
    def __init__(self, norm: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        middle = nn.BatchNorm1d(6) if norm else nn.Identity()
        self.net = nn.Sequential(nn.Linear(4, 6), middle, nn.Tanh(), nn.Linear(6, 3))
        self.validated: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.validated.append(float(loss))
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.2, momentum=0.9)


class EveryOther(getattr(callbacks, "WeightAveraging", object)):  # type: ignore[misc]  # Lightning before 2.5.2
    """The mean of the weights after every second step, from the fourth on."""

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and step_idx >= 3 and step_idx % 2 == 1


AVERAGES: dict[str, Callable[[], Any]] = {
    "SWA": lambda: callbacks.StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=2),
    "SWA without BatchNorm": lambda: callbacks.StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=2),
    "WeightAveraging": EveryOther,
    "EMA": lambda: callbacks.EMAWeightAveraging(decay=0.8),
}


def fit(path: Path, *order: Any, norm: bool = True) -> Any:
    data = TensorDataset(X, Y)
    module = Net(norm)
    loaders = [DataLoader(data, 8, shuffle=True), DataLoader(data, 24)]
    return module, *train(module, loaders, list(order), path, max_epochs=EPOCHS)


@pytest.mark.parametrize("first", [True, False], ids=["listed first", "listed last"])
@pytest.mark.parametrize("name", AVERAGES)
def test_the_last_landscape_is_of_the_averaged_weights(tmp_path: Path, name: str, first: bool) -> None:
    if not name.startswith("SWA") and not hasattr(callbacks, "EMAWeightAveraging"):
        pytest.skip("this Lightning has no such callback")
    landscape, average, norm = callback(), AVERAGES[name](), "without" not in name
    _, _, without = fit(tmp_path, AVERAGES[name](), norm=norm)
    module, _, with_it = fit(tmp_path, *([average, landscape] if first else [landscape, average]), norm=norm)
    assert differences(without, with_it) == []
    result = landscape.landscape
    assert result is not None
    expected = plain_surface(module, result, 4, lambda: nn.functional.cross_entropy(module.net(X), Y))
    np.testing.assert_allclose(result.loss, expected, rtol=2e-6)
    raw, _, _ = fit(tmp_path, norm=norm)
    with torch.no_grad():
        assert abs(float(nn.functional.cross_entropy(raw.eval().net(X), Y)) - result.center["train_loss"]) > 1e-4


@pytest.mark.parametrize("name", ["WeightAveraging", "EMA"])
def test_those_between_are_of_what_is_validated(tmp_path: Path, name: str) -> None:
    if not hasattr(callbacks, "EMAWeightAveraging"):
        pytest.skip("this Lightning has no such callback")
    landscape, average = callback(data=["train", "val"]), AVERAGES[name]()
    module, _, _ = fit(tmp_path, average, landscape)
    passes: list[Any] = list(landscape.landscapes.values())
    said = f"averaged by {type(average).__name__}"
    # EveryOther has no average yet after the first epoch, and Lightning validates the initial weights.
    assert [x.recipe.weights for x in passes] == ["the module's" if name != "EMA" else said, said, said, said]
    start = 0 if name == "EMA" else 1
    between = [x.center["val_loss"] for x in passes[start:-1]]
    assert between == pytest.approx(module.validated[-EPOCHS + start : -1], rel=1e-6)


def test_swa_ends_with_an_epoch_that_is_not_measured_before_it_has_statistics(tmp_path: Path) -> None:
    landscape = callback(every_n_epochs=2, at_train_end=False)
    module, _, _ = fit(tmp_path, AVERAGES["SWA"](), landscape)
    assert [x.recipe.epoch for x in landscape.landscapes.values()] == [2, 5]  # type: ignore[union-attr]
    assert landscape.landscape is not None
    expected = plain_surface(module, landscape.landscape, 4, lambda: nn.functional.cross_entropy(module.net(X), Y))
    np.testing.assert_allclose(landscape.landscape.loss, expected, rtol=2e-6)
