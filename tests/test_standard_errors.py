"""Standard errors that hold: the full data lie within two of them about as often as a normal error would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape

from ._formula import callback, plain_surface, train

FEATURES, CLASSES, SIZE = 6, 4, 640
Y = torch.arange(SIZE) * CLASSES // SIZE  # sorted by class, as folders of pictures are
X = torch.randn(SIZE, FEATURES, generator=torch.Generator().manual_seed(0)) + 1.5 * nn.functional.one_hot(Y, FEATURES)


def by_hand(logits: Tensor, target: Tensor) -> Tensor:
    return -logits.log_softmax(1).gather(1, target[:, None]).mean()


def of_the_batch(logits: Tensor, target: Tensor) -> Tensor:
    """A sum over the batch that no function's mean tells of."""
    return -logits.log_softmax(1)[range(len(target)), target].sum() / len(target)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "loss function": cross_entropy, "mean by hand": by_hand, "of the batch": of_the_batch,
}  # fmt: skip


class Classifier(L.LightningModule):
    def __init__(self, loss: str) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, CLASSES))
        self.loss = LOSSES[loss]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.0)  # the same weights, whatever the batches


def measured(path: Path, loss: str, batch: int, samples: int | None, seed: int) -> tuple[Any, np.ndarray]:
    """A landscape on some of the samples, and the losses of all of them at its points."""
    torch.manual_seed(seed)
    module, landscapes = (
        Classifier(loss),
        callback(every_n_epochs=None, x=(-1, 1, 5), y=(-1, 1, 4), max_samples=samples, seed=seed, accelerate=False),
    )
    train(module, [DataLoader(TensorDataset(X, Y), batch, shuffle=True)], [landscapes], path, max_epochs=1)
    result = landscapes.landscape
    assert result is not None
    return result, plain_surface(module, result, seed, lambda: cross_entropy(module.net(X), Y))


@pytest.mark.parametrize("batches", [2, 8])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_full_data_lie_within_two_standard_errors(tmp_path: Path, loss: str, batches: int) -> None:
    inside = []
    for seed in range(8):
        result, full = measured(tmp_path, loss, 64 // batches, 64, seed)
        errors = result.standard_errors["train_loss"]
        assert np.isfinite(errors).all()
        inside.append(np.abs(result.loss - full) <= 2 * errors)
        assert loss == "of the batch" or np.median(errors) < np.ptp(full)  # they say something
    assert np.mean(inside) >= (0.9 if batches == 2 else 0.92)


@pytest.mark.parametrize("batches", [2, 8])
@pytest.mark.parametrize("loss", ["loss function", "of the batch"])
def test_they_are_neither_too_narrow_nor_too_wide(loss: str, batches: int) -> None:
    """Over many draws of the data the share within two errors is that of a normal number, 95.45 %."""
    torch.manual_seed(0)
    net = Classifier(loss).net
    inside = []
    for seed in range(120):
        loader = DataLoader(TensorDataset(X, Y), 64 // batches, shuffle=True)
        line = LossLandscape(net, loader, LOSSES[loss], seed=seed, max_batches=batches, accelerate=False)
        line.compute_1d(xrange=(-1, 1, 2), save=False)
        assert line.plane is not None
        with torch.no_grad():
            weights = [line.plane.at([x]) for x in (-1.0, 1.0)]
            full = [float(cross_entropy(torch.func.functional_call(net, own, (X,)), Y)) for own in weights]
        landscape = line.landscape
        errors = next(iter(landscape.standard_errors.values()))
        inside.append(np.abs(landscape.loss - full) <= 2 * errors)
    assert 0.93 <= np.mean(inside) <= 0.98


@pytest.mark.parametrize("loss", ["loss function", "mean by hand"])
def test_errors_do_not_depend_on_the_batches(tmp_path: Path, loss: str) -> None:
    errors = [measured(tmp_path, loss, batch, 128, 3)[0].standard_errors["train_loss"] for batch in (8, 32, 128)]
    for other in errors[1:]:
        np.testing.assert_allclose(other, errors[0], rtol=0.1)


def test_errors_are_those_of_single_samples(tmp_path: Path) -> None:
    """With the correction for a part of a finite population, and Student's quantile: 2.0 of it cover 95.45 %."""
    result, _ = measured(tmp_path, "loss function", 32, 480, 0)
    everything, _ = measured(tmp_path, "loss function", 32, None, 0)
    assert result.recipe.samples == 480
    assert everything.recipe.samples == SIZE
    ratio = result.standard_errors["train_loss"] / everything.standard_errors["train_loss"]
    # √(4/3) times the error for three quarters of the samples, and √(1 − 3/4) of it: the others are the rest of all.
    np.testing.assert_allclose(ratio, (4 / 3) ** 0.5 * 0.25**0.5, rtol=0.25)
