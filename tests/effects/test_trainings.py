"""A step that writes in every way people do: with a landscape, there is what there is without one."""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter
from tqdm.auto import tqdm

from lightning_landscape import LossLandscapeCallback

X, Y = torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3
STEPS = 3  # of 8 samples
OUT = sys.stdout  # as code keeps it that is imported early

# What code keeps in globals; `outside` fills it.
WRITER: Any = None
FILE: Any = None
COUNT = 0
ROWS: list[float] = []
CACHE: dict[str, Any] = {}
SINGLE: Any = None
TRACKER = types.ModuleType("tracker_of_nobody")
TRACKER.rows = []  # type: ignore[attr-defined]
TRACKER.log = lambda row: TRACKER.rows.append(row)  # type: ignore[attr-defined]
LOG = logging.getLogger("of the user")


def helper(value: float) -> None:
    """Global state of a function that the step calls."""
    global COUNT, SINGLE
    COUNT += 1
    SINGLE = SINGLE or object()
    CACHE.setdefault("made", []).append(value)


class Writes(L.LightningModule):
    calls = 0
    history: list[float] = []  # noqa: RUF012  # as users do

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.net, self.folder = nn.Linear(4, 3), folder
        self.writer = SummaryWriter(str(folder / "own"))
        self.file = (folder / "file.txt").open("w")
        self.table = (folder / "table.csv").open("w", newline="")
        self.rows = csv.writer(self.table)
        self.dicts = {"deep": [csv.DictWriter(self.table, ["loss"])]}
        self.packed = gzip.open(folder / "packed.gz", "wt")  # noqa: SIM115
        self.memory = io.StringIO()
        self.out = sys.stdout

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        print("transfer")
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        value, folder = float(loss), self.folder
        self.writer.add_scalar("loss", value, self.global_step)
        WRITER.add_scalar("loss", value, self.global_step)
        self.logger.experiment.add_scalar("loss", value, self.global_step)
        for file in (self.file, FILE, self.packed, self.memory):
            file.write(f"{value}\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.rows.writerow([value])
        self.dicts["deep"][0].writerow({"loss": value})
        with open(folder / "open.txt", "a") as file:
            file.write(f"{value}\n")
        with (folder / "path.txt").open("a") as file:
            file.write(f"{value}\n")
        place = folder / f"step {self.trainer.fit_loop.total_batch_idx if self.training else 99}"
        place.mkdir()
        (place / "written.txt").write_text("1")
        (place / "bytes").write_bytes(b"1")
        (place / "touched").touch()
        np.save(place / "numpy.npy", np.zeros(1))
        np.savetxt(place / "numpy.txt", np.zeros(1))
        torch.save(loss, place / "torch.pt")
        (place / "torch.pt").rename(place / "renamed.pt")
        (place / "touched").unlink()
        with open(place / "table.json", "w") as file:
            json.dump([value], file)
        print("print", value)
        print("print to a stream", value, file=self.out)
        OUT.write("an early stream\n")
        sys.stderr.write("stderr\n")
        sys.stdout.writelines(["several\n", "lines\n"])
        os.write(1, b"descriptor\n")
        self.print("self.print")
        tqdm.write("tqdm.write")
        LOG.warning("logged")
        warnings.warn("a warning", stacklevel=1)
        TRACKER.log(value)
        ROWS.append(value)
        helper(value)
        Writes.calls += 1
        self.history.append(value)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)

    def close(self) -> None:
        for file in (self.file, self.table, self.packed, self.writer):
            file.close()


def events(folder: Path) -> int:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return len(found.Scalars("loss"))


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


@pytest.fixture
def outside() -> Callable[..., dict[str, Any]]:
    """Trains, and counts what there is then, in a folder and in globals."""

    def train(callbacks: list[Any], folder: Path) -> dict[str, Any]:
        global WRITER, FILE, COUNT, SINGLE
        folder.mkdir()
        WRITER, FILE, COUNT, SINGLE = SummaryWriter(str(folder / "global")), (folder / "global.txt").open("w"), 0, None
        for container in (ROWS, CACHE, TRACKER.rows, Writes.history):
            container.clear()
        Writes.calls = 0
        handler = logging.FileHandler(folder / "log.txt")
        LOG.addHandler(handler)
        torch.manual_seed(0)
        module = Writes(folder)
        logger = TensorBoardLogger(folder, name="", version="")
        L.Trainer(
            max_epochs=1, accelerator="cpu", logger=logger, callbacks=callbacks, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder / "trainer",
            log_every_n_steps=1,
        ).fit(module, DataLoader(TensorDataset(X, Y), 8))  # fmt: skip
        module.close()
        for file in (WRITER, FILE, handler):
            file.close()
        LOG.removeHandler(handler)
        logger.finalize("success")
        names = ("file.txt", "global.txt", "table.csv", "open.txt", "path.txt", "log.txt")
        return {
            "weights": [p.tolist() for p in module.parameters()],
            **{name: lines(folder / name) for name in names},
            **{name: events(folder / name) for name in ("own", "global")},
            "experiment": events(folder),
            "packed": len(gzip.open(folder / "packed.gz", "rt").readlines()),
            "memory": len(module.memory.getvalue().splitlines()),
            "steps": sorted(path.relative_to(folder).as_posix() for path in folder.glob("step*/*")),
            "state": (COUNT, len(ROWS), len(CACHE["made"]), len(TRACKER.rows), Writes.calls, len(Writes.history)),
        }

    return train


def test_all_of_it(outside: Any, tmp_path: Path, capfd: Any) -> None:
    """One training without and one with two landscapes of 9 points."""
    callback = LossLandscapeCallback(
        x=(-1, 1, 3), y=(-1, 1, 3), plots=["heat"], samples=2, formats=["npz"], strict=True, every_n_epochs=1,
        dirpath=tmp_path / "landscape",
    )  # fmt: skip
    found, printed, warned = [], [], []
    for callbacks, name in (([], "without"), ([callback], "with")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found.append(outside(callbacks, tmp_path / name))
        prefixes = (
            "print",
            "an early",
            "stderr",
            "several",
            "lines",
            "descriptor",
            "self.print",
            "tqdm",
            "logged",
            "transfer",
        )
        out, err = capfd.readouterr()
        printed.append(sorted(line.split(" 0")[0] for line in (out + err).splitlines() if line.startswith(prefixes)))
        warned.append(sum("a warning" in str(warning.message) for warning in caught))
    assert callback.landscape is not None
    assert callback.landscape.done.all()
    assert found[1] == found[0]
    assert found[0]["file.txt"] == found[0]["own"] == found[0]["state"][0] == STEPS
    assert found[0]["table.csv"] == 2 * STEPS
    assert len(found[0]["steps"]) == 6 * STEPS
    assert printed[1] == printed[0] != []
    assert warned == [STEPS, STEPS + 1]  # it is shown where it is measured, once


class Starts(L.LightningModule):
    """Does what can't be held back."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        for _ in range(2):
            subprocess.run([sys.executable, "-c", ""], check=True)
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    configure_optimizers = Writes.configure_optimizers


def test_what_cannot_be_held_back_is_named_once_before_the_training(tmp_path: Path) -> None:
    callback = LossLandscapeCallback(x=(-1, 1, 2), y=None, plots=[], samples=0, formats=["npz"], max_batches=1)
    message = r"training_step starts .*python.* \(2×\), which can't be held back .*on every batch at each of 2 points"
    with pytest.warns(UserWarning, match=message) as caught:
        L.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, callbacks=[callback], enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        ).fit(Starts(), DataLoader(TensorDataset(X[:8], Y[:8]), 8))  # fmt: skip
    assert sum("can't be held back" in str(warning.message) for warning in caught) == 1
