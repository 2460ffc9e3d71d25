"""What was chosen on a few batches of one data set must hold on all that is measured, or nothing of it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape, LossLandscapeCallback, accelerations
from lightning_landscape.accelerations.trial import Choice
from lightning_landscape.evaluators import EvaluatorWrapper

X = torch.randn(24, 3, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3
AXIS = (-1, 1, 3)
QUIET: Any = {
    "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False
}  # fmt: skip


class Domains(L.LightningModule):
    """One convolution, and a norm for each of two domains: which of them follows, the loader tells."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.conv, self.head = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(80, 3)
        self.norms = nn.ModuleList(nn.BatchNorm2d(5) for _ in range(2))
        with torch.no_grad():
            for tensor in (*self.parameters(), *(n.running_mean for n in self.norms)):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / 3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._loss(batch, 0)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self._loss(batch, dataloader_idx)

    def _loss(self, batch: Any, domain: int) -> Tensor:
        hidden = self.norms[domain](self.conv(batch[0])).relu()
        return nn.functional.cross_entropy(self.head(hidden.flatten(1)), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.0)


def chosen(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """A trial that takes these."""
    monkeypatch.setattr(
        "lightning_landscape.survey.survey.fastest",
        lambda reference, *args, **options: (reference, Choice(names, dict.fromkeys(names, 2.0))),
    )


def measured(path: Path, data: Any, val: list[Any], **options: Any) -> LossLandscapeCallback:
    callback = LossLandscapeCallback(
        **{
            "x": AXIS, "y": AXIS, "data": data, "samples": 0, "plots": [], "strict": True, "every_n_epochs": None,
            "max_samples": None, **options,
        }
    )  # fmt: skip
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, callbacks=[callback], default_root_dir=path, limit_train_batches=1,
        num_sanity_val_steps=0, **QUIET,
    )  # fmt: skip
    trainer.fit(Domains(), DataLoader(TensorDataset(X, Y), 8), val)
    return callback


@pytest.mark.parametrize("budget", [None, "1min"])
@pytest.mark.parametrize("case, holds", [("two loaders", False), ("train and val", True), ("val then train", False)])
def test_a_norm_that_follows_on_one_data_set_alone_is_not_folded_for_all(
    case: str, holds: bool, budget: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = DataLoader(TensorDataset(X, Y), 8), DataLoader(TensorDataset(X[:16], Y[:16]), 8)
    options: dict[str, Any] = {"data": "val", "val": [one, other]}
    if case != "two loaders":
        options = {"data": ["train", "val"], "val": [other]}
    if case == "val then train":
        monkeypatch.setattr(Domains, "training_step", lambda self, batch, batch_idx: self._loss(batch, 1))
    plain = measured(tmp_path / "plain", accelerate=False, **options).landscape
    chosen(monkeypatch, "folded")
    fast = measured(tmp_path / "fast", budget=budget, **options).landscape
    assert plain is not None
    assert fast is not None
    assert fast.evaluated.all()
    assert fast.report.accelerations == ({"folded": 2.0} if holds else {})
    for name, values in plain.values.items():
        np.testing.assert_allclose(fast.values[name], values, rtol=1e-6)


class OneSize(EvaluatorWrapper):
    """Like a compiler that gives up, in the middle of a point: at a batch of another size than the first."""

    def __call__(self, objective: Any, plane: Any, points: Any, batches: Any) -> Any:
        if len({batch.size for batch in batches}) > 1:
            raise RuntimeError("recompiled too often")
        yield from self.inner(objective, plane, points, batches)


class Shifted(EvaluatorWrapper):
    """Right where the trial looks, on the batches of 8 samples."""

    def __call__(self, objective: Any, plane: Any, points: Any, batches: Any) -> Any:
        for row in self.inner(objective, plane, points, batches):
            off = sum(batch.size < 8 for batch in batches) * 1e-5
            yield {name: m._replace(value=m.value * (1 + off)) for name, m in row.items()}


@pytest.mark.parametrize("wrapper", [OneSize, Shifted])
@pytest.mark.parametrize("samples", [24, 20])
def test_all_batches_are_tried(
    wrapper: Callable[..., Any], samples: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def way(evaluator: Any, batches: Any) -> Iterator[Any]:
        yield wrapper(evaluator), batches

    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 3), nn.Tanh(), nn.Linear(3, 3))
    loader = DataLoader(TensorDataset(X[:samples], Y[:samples]), 8)
    surfaces = []
    for options in ({"accelerate": False}, {}):
        landscape = LossLandscape(net, loader, nn.CrossEntropyLoss(), surf_file=tmp_path / "a.h5", **options)
        landscape.compute_2d(xrange=AXIS, yrange=AXIS)
        surfaces.append(landscape.landscape)
        chosen(monkeypatch, "compiled")
        monkeypatch.setitem(accelerations.ACCELERATIONS, "compiled", accelerations.Acceleration(way))
    plain, fast = surfaces
    assert fast.report.accelerations == ({"compiled": 2.0} if samples == 24 else {})
    for name, values in plain.values.items():
        np.testing.assert_array_equal(fast.values[name], values)
