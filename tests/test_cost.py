"""The cost of a landscape, as a rehearsal measures it."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_landscape.callback import LossLandscapeCallback
from lightning_landscape.landscape import Grid
from lightning_landscape.survey.budget import parse_budget
from lightning_landscape.trainer import measure
from lightning_landscape.trainer.cost import Cost, announced

SLEEP = 0.02  # seconds of a step: sleep is never shorter


class Sleeper(L.LightningModule):
    """A module whose steps take a known time, whatever the machine does."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        time.sleep(SLEEP)
        return self.net(batch[0]).square().mean()

    validation_step = training_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def rehearsed(monkeypatch: pytest.MonkeyPatch, folder: Path, loaders: Any, **options: Any) -> Cost:
    """The cost that the rehearsal of a training measures."""
    costs = []
    plain = measure.rehearse

    def watched(*args: Any, **kwargs: Any) -> Any:
        costs.append(plain(*args, **kwargs))
        return costs[-1]

    monkeypatch.setattr("lightning_landscape.callback.rehearse", watched)
    settings: dict[str, Any] = {
        "x": (-1, 1, 2),
        "y": None,
        "at_train_end": True,
        "samples": 0,
        "plots": [],
        "strict": True,
    }
    trainer = L.Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
        callbacks=[LossLandscapeCallback(**{**settings, **options})],
    )  # fmt: skip
    trainer.fit(Sleeper(), *loaders)
    assert costs[0].cost is not None
    return costs[0].cost


def rows(size: int) -> TensorDataset:
    return TensorDataset(torch.randn(size, 2, generator=torch.Generator().manual_seed(0)))


def test_a_sample_costs_the_time_of_its_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaders = DataLoader(rows(100), 8), DataLoader(rows(40), 20)
    cost = rehearsed(monkeypatch, tmp_path, loaders, data=["train", "val"], max_samples=64)
    assert cost.samples == {"train": 64, "val": 40}
    # The least time is at least that of the sleep, and other programs make it longer, hardly tenfold.
    assert SLEEP / 8 <= cost.seconds_per_sample["train"] < 10 * SLEEP / 8
    assert SLEEP / 20 <= cost.seconds_per_sample["val"] < 10 * SLEEP / 20
    point = cost.point(most_samples=50)
    assert point == pytest.approx(50 * cost.seconds_per_sample["train"] + 40 * cost.seconds_per_sample["val"])


class Endless(IterableDataset[tuple[Tensor]]):
    def __iter__(self) -> Any:
        while True:
            yield (torch.ones(2),)


@pytest.mark.parametrize("max_samples, expected", [(24, 24), (None, None)])
def test_what_only_reading_tells_is_at_most_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, max_samples: int | None, expected: int | None
) -> None:
    cost = rehearsed(monkeypatch, tmp_path, [DataLoader(Endless(), 8)], max_samples=max_samples, max_batches=3)
    assert cost.samples == {"train": expected}
    assert (cost.point() is None) == (expected is None)


def test_a_loader_that_drops_its_last_batch_has_fewer_samples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cost = rehearsed(monkeypatch, tmp_path, [DataLoader(rows(21), 8, drop_last=True)], max_samples=None)
    assert cost.samples == {"train": 16}


@pytest.mark.parametrize(
    "options, budget, line",
    [
        # 0.001 s · 1,000 samples · 36 points = 36 s; an epoch of 60 batches of 50 takes 0.001 s · 3 · 3,000 = 9 s.
        ({}, None, "landscape: 6 × 6 points × 1,000 samples ≈ 36 s, every 5 epochs ≈ 80 % of the training"),
        ({"every": 1}, None, "landscape: 6 × 6 points × 1,000 samples ≈ 36 s, every epoch ≈ 4 times the training"),
        ({"every": None}, None, "landscape: 6 × 6 points × 1,000 samples ≈ 36 s, at the end ≈ 40 % of the training"),
        ({"every": None, "max_epochs": -1}, None, "landscape: 6 × 6 points × 1,000 samples ≈ 36 s, at the end"),
        ({"num_training_batches": float("inf")}, 0.05,
         "landscape: 6 × 6 points × 1,000 samples ≈ 36 s, every 5 epochs; limited to 5 % by budget=0.05"),
        ({}, "30s",
         "landscape: 6 × 6 points × 1,000 samples ≈ 36 s, every 5 epochs ≈ 80 % of the training; "
         "limited to 30 s each by budget='30s'"),
        ({"samples": None}, "auto",
         "landscape: 6 × 6 points, every 5 epochs; limited to 10 %, or 20 s (1 min at the end), by budget='auto'"),
    ],
)  # fmt: skip
def test_the_cost_is_said_with_the_share_of_the_training(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], budget: Any, line: str
) -> None:
    monkeypatch.setattr("lightning_landscape.trainer.compat.batch_size", lambda trainer, batch, fallback: 50)
    given = {"every": 5, "samples": 1000, **options}
    cost = Cost({"train": 0.001}, {"train": given["samples"]})
    known = {
        "max_epochs": 10,
        "accumulate_grad_batches": 1,
        "num_training_batches": 60,
        "world_size": 1,
        "lightning_module": nn.Linear(1, 1),
        **options,
    }
    trainer: Any = SimpleNamespace(**known)
    grid = Grid.from_ranges((-1, 1, 6), (-1, 1, 6))
    assert announced(trainer, cost, grid, object(), given["every"], parse_budget(budget)) == line
