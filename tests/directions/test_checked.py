"""Directions of a user's callable: what spans no plane is refused in words, before the first point."""

from __future__ import annotations

import re

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape, LossLandscapeCallback
from lightning_landscape.directions import checked_directions
from lightning_landscape.reading import span_sentence
from lightning_landscape.survey.recipe import directions_recipe
from lightning_landscape.weights.parameters import FilterLayout, Snapshot
from lightning_landscape.weights.plane import Plane

X, Y = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2


def ones(snapshot: Snapshot, **changed) -> dict[str, Tensor]:
    return {name: changed.get(name, torch.ones_like(p)) for name, p in snapshot.params.items()}


def second(**changed):
    """A callable whose second direction differs from ones in some parameters."""
    return lambda snapshot, k: (ones(snapshot), ones(snapshot, **changed))


WRONG = {
    "single": (lambda s, k: ones(s), r"gave a single dict, and 2 are needed: return a tuple of 2 mappings"),
    "a tensor": (lambda s, k: torch.ones(2, 3), r"gave a single Tensor, and 2 are needed"),
    "nothing": (lambda s, k: None, r"gave a single NoneType"),
    "one of two": (lambda s, k: (ones(s),), r"directions gave 1, and 2 are needed"),
    "three": (lambda s, k: [ones(s)] * 3, r"directions gave 3, and 2 are needed"),
    "tensors": (lambda s, k: list(s.params.values()), r"Direction 0 is of type Tensor: return a tuple"),
    "a name too few": (lambda s, k: ({"weight": s.params["weight"]},) * 2, r"Direction 0 has nothing for 'bias'"),
    "a name too many": (lambda s, k: ({**ones(s), "odd": Y},) * 2, r"names 'odd', which is no trained parameter"),
    "a number": (second(bias=1.0), r"Direction 1 has float for 'bias': give a tensor"),
    "shape": (second(weight=torch.ones(3)), r"Direction 1 has shape \(3,\) for 'weight', .* \(2, 3\)"),
    "device": (second(bias=torch.ones(2, device="meta")), r"has device meta for 'bias', the parameter has cpu"),
    "dtype": (second(bias=torch.ones(2).double()), r"has dtype torch.float64 for 'bias', .* torch.float32"),
    "whole numbers": (second(bias=torch.ones(2).long()), r"has dtype torch.int64 for 'bias'"),
    "nan": (second(weight=torch.full((2, 3), torch.nan)), r"Direction 1 is NaN or infinite in 'weight'"),
    "infinite": (second(bias=torch.tensor([1.0, torch.inf])), r"Direction 1 is NaN or infinite in 'bias'"),
    "zero": (lambda s, k: ({n: 0 * p for n, p in s.params.items()},) * k, r"Direction 0 is zero: it moves nothing"),
}
wrong = pytest.mark.parametrize("directions, said", WRONG.values(), ids=WRONG)


@wrong
def test_what_spans_no_plane_is_refused(directions, said):
    with pytest.raises(ValueError, match=said):
        checked_directions(directions, Snapshot.of(nn.Linear(3, 2)), 2)


@wrong
def test_loss_landscape_measures_no_point(directions, said, tmp_path):
    calls = []

    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        return nn.functional.cross_entropy(outputs, targets)

    loader = DataLoader(TensorDataset(X, Y), 6)
    landscape = LossLandscape(nn.Linear(3, 2), loader, criterion, surf_file=tmp_path / "a.npz")
    with pytest.raises(ValueError, match=said):
        landscape.compute_2d((-1, 1, 3), (-1, 1, 3), directions=directions)
    assert not calls


class Classifier(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(2))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(nn.functional.linear(batch[0], self.weight, self.bias), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(directions, folder, **options):
    callback = LossLandscapeCallback(
        x=(-1, 1, 3), y=(-1, 1, 3), plots=[], samples=0, formats=["npz"], directions=directions, **options
    )
    L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, callbacks=[callback], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    ).fit(Classifier(), DataLoader(TensorDataset(X, Y), 6))  # fmt: skip
    return callback.landscape


@pytest.mark.parametrize("kind", ["single", "nan", "zero", "shape"])
def test_the_callback_says_so_before_the_training(kind, tmp_path):
    directions, said = WRONG[kind]
    with pytest.raises(MisconfigurationException, match=said):
        fit(directions, tmp_path)


def test_lists_and_low_precision_are_fine():
    snapshot = Snapshot({"w": torch.ones(2, dtype=torch.bfloat16)})
    single, double = {"w": torch.ones(2, dtype=torch.bfloat16)}, {"w": torch.ones(2)}
    assert checked_directions(lambda snapshot, k: [single, double], snapshot, 2) == (single, double)


def recipe(*vectors: list[float]) -> dict:
    directions = tuple({"w": torch.tensor(v)} for v in vectors)
    plane = Plane({"w": torch.ones(len(vectors[0]))}, directions)
    return directions_recipe(lambda snapshot, k: directions, Snapshot(plane.origin, {"w": FilterLayout()}), plane)


@pytest.mark.parametrize(
    "vectors, said",
    [
        (([1.0, 0.0], [0.0, 1.0]), ""),
        (([1.0, 0.0], [1.0, 0.2]), ""),  # cosine 0.981
        (([1.0, 0.0], [1.0, 0.1]), r"Both directions are parallel \(cosine 0\.995\).*that of a line\. Make them"),
        (([1.0], [-2.0]), r"Both directions are parallel \(cosine -1\.000\).*Only 1 number may move.*ignore=None"),
        (([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]), r"The 3 directions span 2 dimensions only .* a plane"),
        (([3.0],), ""),
    ],
)  # fmt: skip
def test_directions_that_are_one_are_told(vectors, said):
    text = span_sentence(recipe(*vectors), len(vectors))
    assert re.search(said, text) if said else not text


def one(snapshot: Snapshot, k: int) -> list[dict[str, Tensor]]:
    """Directions that differ by a thousandth."""
    return [ones(snapshot), ones(snapshot, bias=torch.tensor([1.0, 1.05]))]


def test_the_callback_warns_once_of_directions_that_are_one_and_the_file_tells(tmp_path):
    with pytest.warns(UserWarning, match=r"Both directions are parallel \(cosine 1\.000\)") as caught:
        landscape = fit(one, tmp_path, every_n_epochs=1)
    assert sum("directions are parallel" in str(warning.message) for warning in caught) == 1
    assert landscape.recipe.directions.span == 1


def test_loss_landscape_warns_of_directions_that_are_one(tmp_path):
    landscape = LossLandscape(nn.Linear(3, 2), DataLoader(TensorDataset(X, Y), 6), surf_file=tmp_path / "a.npz")
    with pytest.warns(UserWarning, match=r"Both directions are parallel") as caught:
        landscape.compute_2d((-1, 1, 3), (-1, 1, 3), directions=one)
    assert [warning.filename for warning in caught] == [__file__]


class Line(L.LightningModule):
    """y = w x + b, before it has learnt y = 2x + 1."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    validation_step = training_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("bias", [-0.5, 0.0])
def test_a_line_has_its_surface_over_slope_and_intercept(bias, tmp_path):
    x = torch.linspace(-1, 1, 20)[:, None]
    module = Line()
    module.net.weight.data.fill_(-3.0)
    module.net.bias.data.fill_(bias)
    callback = LossLandscapeCallback(
        x=(-1, 1, 5), y=(-2, 2, 3), plots=[], samples=0, formats=["npz"], ignore=None, every_n_epochs=None
    )
    trainer = L.Trainer(
        accelerator="cpu", logger=False, callbacks=[callback], enable_progress_bar=False, default_root_dir=tmp_path
    )
    trainer.validate(module, DataLoader(TensorDataset(x, 2 * x + 1), 10), verbose=False)
    along_w, along_b = 3.0, abs(bias) or 1.0
    a, b = np.meshgrid(-3.0 + along_w * np.linspace(-1, 1, 5), bias + along_b * np.linspace(-2, 2, 3), indexing="ij")
    expected = (a - 2) ** 2 * (x.numpy() ** 2).mean() + (b - 1) ** 2  # the mean of x is 0
    np.testing.assert_allclose(callback.landscape.loss, expected, rtol=1e-5)
