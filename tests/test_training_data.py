"""The frozen data are what the training sees, however they come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import lightning_landscape as ll

from ._formula import callback, plain_surface, train
from ._limits import HANG
from ._steps import Automatic, X, Y

BATCH = 16


class Recurrent(L.LightningModule):
    """Works on whole batches only."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(6, 8), nn.Linear(8, 3)
        self.register_buffer("state", torch.zeros(BATCH, 8))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.head(self.cell(batch[0], self.state)).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


@pytest.mark.parametrize("max_samples, expected", [(None, 48), (1024, 48), (40, 32), (5, 16)])
def test_a_loader_that_drops_its_last_batch_gives_whole_ones(
    tmp_path: Path, max_samples: int | None, expected: int
) -> None:
    data = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    landscapes = callback(max_samples=max_samples)
    train(Recurrent(), [DataLoader(TensorDataset(data), BATCH, shuffle=True, drop_last=True)], [landscapes], tmp_path)
    assert landscapes.landscape is not None
    assert landscapes.landscape.recipe.samples == expected


def test_a_part_of_sorted_data_is_in_random_order(tmp_path: Path) -> None:
    """Else each batch is of one class, and what is of the batch differs from the training."""

    class Watched(Automatic):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("classes", float(len(batch[1].unique())))
            return self.loss(batch)

    sorted_ = TensorDataset(X, Y.sort().values)
    landscapes = callback(max_samples=32)
    train(Watched(), [DataLoader(sorted_, 16, shuffle=True)], [landscapes], tmp_path)
    assert landscapes.landscape is not None
    assert (landscapes.landscape.values["classes"] == 2).all()


class Stream(IterableDataset[Any]):
    """Without an end, or a length."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __iter__(self) -> Iterator[Any]:
        for i in range(10**6):
            time.sleep(self.seconds)
            yield X[i % len(X)], Y[i % len(X)]


def test_an_endless_stream_needs_a_limit(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match=r"may never end. Give max_samples, max_batches or a budget"):
        train(Automatic(), [DataLoader(Stream(), 8)], [callback(budget=None)], tmp_path, max_steps=3, max_epochs=-1)
    for limit in ({"max_samples": 24}, {"max_batches": 3}):
        landscapes = callback(every_n_epochs=None, **limit)
        train(Automatic(), [DataLoader(Stream(), 8)], [landscapes], tmp_path, max_steps=3, max_epochs=-1)
        assert landscapes.landscape is not None
        assert landscapes.landscape.recipe.samples == 24
    with pytest.raises(ValueError, match=r"may never end: give max_batches"):
        ll.LossLandscape(nn.Linear(6, 2), DataLoader(Stream(), 8)).compute_1d(save=False)


def test_a_budget_is_asked_after_every_batch(tmp_path: Path) -> None:
    """All its batches would take 2500 s."""
    landscapes = callback(every_n_epochs=None, budget="2s", max_samples=200_000)
    began = time.monotonic()
    train(Automatic(), [DataLoader(Stream(0.0125), 8)], [landscapes], tmp_path, max_steps=3, max_epochs=-1)
    assert time.monotonic() - began < HANG
    assert landscapes.landscape is not None
    assert landscapes.landscape.done.any()
    assert 8 <= landscapes.landscape.recipe.samples < 4000


@pytest.mark.filterwarnings("ignore:You are using the `dataloader_iter` step flavor")
def test_a_step_that_draws_its_own_batches_is_refused(tmp_path: Path) -> None:
    class Draws(Automatic):
        def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
            batch, _, _ = next(dataloader_iter)
            return self.loss(batch)

    with pytest.raises(MisconfigurationException, match="dataloader_iter"):
        train(Draws(), [DataLoader(TensorDataset(X, Y), 16)], [callback()], tmp_path)


class Cell:
    """A cell that knows its neighbours."""

    def __init__(self) -> None:
        self.near: list[Cell] = []


class Maps(Dataset[Any]):
    """Each item has a map of cells that know each other: as many paths as there are walks on it."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Any:
        cells = [[Cell() for _ in range(6)] for _ in range(6)]
        for i in range(6):
            for j in range(6):
                near = ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1))
                cells[i][j].near += [cells[a][b] for a, b in near if 0 <= a < 6 and 0 <= b < 6]
        return X[index], Y[index], cells[0][0]


def collated(items: Any) -> Any:
    x, y, cells = zip(*items, strict=True)
    return torch.stack(x), torch.stack(y), list(cells)


def test_objects_that_know_each_other(tmp_path: Path) -> None:
    module, landscapes = Automatic(), callback()
    train(module, [DataLoader(Maps(), 4, collate_fn=collated)], [landscapes], tmp_path)
    result = landscapes.landscape
    assert result is not None
    expected = plain_surface(module, result, 4, lambda: module.loss((X[:16], Y[:16])))
    np.testing.assert_allclose(result.loss, expected, rtol=2e-6)


class Sequences(Dataset[Any]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        generator = torch.Generator().manual_seed(index)
        return torch.randn(2 + index % 5, 6, generator=generator), index % 2


def as_lists(items: Any) -> Any:
    return [x for x, _ in items], torch.tensor([y for _, y in items])


def test_lists_of_sequences_are_weighed_by_their_number() -> None:
    """Not by the length of the first one: the last batch has two."""
    torch.manual_seed(0)
    net = nn.Linear(6, 2).double()

    def criterion(model: nn.Module, inputs: Any, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(torch.stack([model(x.double()).sum(0) for x in inputs]), targets)

    landscape = ll.LossLandscape(net, DataLoader(Sequences(), 6, collate_fn=as_lists), criterion, seed=4)
    values = landscape.compute_1d(xrange=(-1, 1, 3), save=False)["losses"]
    with torch.no_grad():
        everything = criterion(net, *as_lists([Sequences()[i] for i in range(20)]))
    assert values[1] == pytest.approx(float(everything), rel=1e-12)
