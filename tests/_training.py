"""A small training with everything that a landscape could disturb, and a record of all that came of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_landscape.paths.project import Recorded
from lightning_landscape.trainer.recording import KEY
from lightning_landscape.weights.parameters import Params

CLASSES, FEATURES = 3, 6


class Augmented(Dataset):
    """Items made of three random streams and of a count of its own reads."""

    def __init__(self, size: int) -> None:
        generator = torch.Generator().manual_seed(size)
        self.x = torch.randn(size, FEATURES, generator=generator)
        self.y = torch.randint(0, CLASSES, (size,), generator=generator)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.reads += 1
        noise = torch.rand(()) + np.random.rand() + random.random() + 1e-3 * self.reads  # noqa: NPY002
        return self.x[index] + 0.01 * float(noise), self.y[index]


class RowLogger(Logger):
    """Keeps every logged row."""

    name, version = "rows", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **options: Any) -> None:
        pass


class Net(L.LightningModule):
    """Dropout, BatchNorm, a frozen part, python state, and a list of the data that it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, CLASSES)
        )
        self.still = nn.BatchNorm1d(FEATURES).eval().requires_grad_(False)
        self.seen: list[float] = []
        self.steps = 0
        self.own = torch.Generator().manual_seed(5)

    def _loss(self, batch: Any, name: str) -> Tensor:
        x, y = batch
        self.steps += 1
        self.seen.append(float(x.sum()))
        logits = self.net(self.still(x) + 0.01 * torch.randn(x.shape, generator=self.own))
        loss = nn.functional.cross_entropy(logits, y)
        self.log(f"{name}_loss", loss, on_step=name == "train", on_epoch=True)
        self.log(f"{name}_acc", (logits.argmax(1) == y).float().mean(), on_epoch=True, on_step=False)
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._loss(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._loss(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._loss(batch, "test")

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=0.01)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


def loaders(
    workers: int = 0, persistent: bool = False, own_generator: bool = False, context: str | None = None
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Training and validation loader; neither size is a multiple of the batch size."""
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": persistent, "batch_size": 8}
    options["multiprocessing_context"] = context
    generator = torch.Generator().manual_seed(11) if own_generator else None
    return (
        DataLoader(Augmented(44), shuffle=True, generator=generator, **options),
        DataLoader(Augmented(21), **options),
    )


def fit(root: Path, callbacks: list[Any], *, epochs: int = 4, interrupts: Any = (), **loading: Any) -> dict[str, Any]:
    """Train from a fixed seed and give everything that came of it, as plain values to compare."""
    root = root / "run"
    L.seed_everything(3)
    train, val = loaders(**loading)
    module, logger = Net(), RowLogger()
    checkpoint = ModelCheckpoint(root, monitor="val_loss", save_top_k=-1, every_n_epochs=1)
    stopping = EarlyStopping("val_loss", patience=50)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=logger,
        log_every_n_steps=1,
        default_root_dir=root,
        callbacks=[stopping, LearningRateMonitor(), *callbacks, checkpoint],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with suppress(*interrupts):
        trainer.fit(module, train, val)
    return {
        "weights": {name: tensor.clone() for name, tensor in module.state_dict().items()},
        "training flags": {name: part.training for name, part in module.named_modules()},
        "requires_grad": {name: p.requires_grad for name, p in module.named_parameters()},
        "optimizer": trainer.optimizers[0].state_dict() if trainer.optimizers else None,
        "scheduler": [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs],
        "python state": (module.steps, module.seen),
        "own generators": (module.own.get_state(), train.generator and train.generator.get_state()),
        "rows": logger.rows,
        "callback_metrics": dict(trainer.callback_metrics),
        "loops": trainer.fit_loop.state_dict(),
        "progress": (trainer.global_step, trainer.current_epoch),
        "callbacks": (stopping.state_dict(), without_paths(checkpoint.state_dict())),
        "reads": (train.dataset.reads, val.dataset.reads),  # type: ignore[attr-defined]
        "checkpoints": {
            path.name: without_paths(without_records(torch.load(path, weights_only=False)))
            for path in sorted(root.glob("*.ckpt"))
        },
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),  # noqa: NPY002
        "python": random.getstate(),
        "log attribute": "log" in vars(module),
    }


def without_records(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint without the entry that the recorder of the weights adds."""
    return {name: value for name, value in checkpoint.items() if name != KEY}


def without_paths(value: Any) -> Any:
    """The same with paths cut to their names: two runs have two folders."""
    if isinstance(value, dict):
        return {without_paths(k): without_paths(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(v) for v in value]
    return Path(value).name if isinstance(value, str) and "/" in value else value


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """The places at which two nested values differ in a bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [f"{where}: only in one: {sorted(map(str, a.keys() ^ b.keys()))}"] if a.keys() != b.keys() else []
        return keys + [d for k in a.keys() & b.keys() for d in differences(a[k], b[k], f"{where}/{k}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return [f"{where}: {len(a)} and {len(b)} items"]
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{where}[{i}]")]
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and bool(torch.equal(a, b))
    elif isinstance(a, np.ndarray):
        same = np.array_equal(a, b)
    else:
        same = type(a) is type(b) and bool(a == b)
    return [] if same else [f"{where}: {a!r} and {b!r}"]


class Counted(Sequence[float]):
    """0, 1, … for as many records as there are by now."""

    def __init__(self, weights: Sequence[Params]) -> None:
        self.weights = weights

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, index: Any) -> Any:
        return range(len(self.weights))[index]


def recorded(weights: Sequence[Params]) -> Recorded:
    """Records of weights, one a step; the list may grow."""
    return Recorded(Counted(weights), weights)
