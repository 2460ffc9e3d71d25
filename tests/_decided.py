"""Run by test_decided.py as a program: landscapes of which two processes (DDP, gloo) decide together, one a case."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning.pytorch as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_landscape import LossLandscapeCallback
from lightning_landscape.accelerations import proof
from lightning_landscape.accelerations.trial import Choice
from lightning_landscape.survey import budget, surface_file, survey
from lightning_landscape.trainer import measure

from ._two_processes import leave  # noqa: F401  # at the exit

torch.set_num_threads(1)
RANK = int(os.environ.get("LOCAL_RANK", "0"))
LEVELS: dict[str, Any] = {"x": (-1, 1, 25), "y": (-1, 1, 15), "samples": 2, "tolerance": 2e-2}


class Net(L.LightningModule):
    """A step that refuses weights which are too large."""

    def __init__(self, largest: float) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        self.largest = largest * float(self.net[0].weight.detach().norm())

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        if float(self.net[0].weight.detach().norm()) > self.largest:
            raise RuntimeError("too far")
        scores = self.net(batch[0])
        self.log("acc", (scores.argmax(1) == batch[1]).float().mean(), sync_dist=True)
        return nn.functional.cross_entropy(scores, batch[1])


class Numbers(Dataset[Any]):
    """Samples that are read one by one."""

    def __init__(self, size: int) -> None:
        self.x, self.y = torch.randn(size, 4, generator=torch.Generator().manual_seed(size)), torch.arange(size) % 3

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> Any:
        return self.x[index], self.y[index]


@contextmanager
def chosen(names: tuple[str, ...]) -> Iterator[None]:
    """The search for accelerations finds these, each of which makes everything twice as fast."""

    def found(reference: Any, *arguments: Any, **options: Any) -> Any:
        return reference, Choice(names, dict.fromkeys(names, 2.0), always=True)

    with patch.object(survey, "fastest", found):
        yield


@contextmanager
def at_record(count: int, act: Callable[[], None]) -> Iterator[None]:
    """Something happens at that point of this process."""
    record, records = survey.Survey._record, [0]

    def counted(self: Any, *arguments: Any) -> None:
        records[0] += 1
        if records[0] == count:
            act()
        record(self, *arguments)

    with patch.object(survey.Survey, "_record", counted):
        yield


@contextmanager
def ticking(seconds: int, reading: float = 0.0) -> Iterator[None]:
    """Budgets see a clock on which each recorded point and each sample that is read take so many seconds.

    Where reading takes time, a rehearsal reads a sample in half a second.
    """
    record, read, prepare = survey.Survey._record, Numbers.__getitem__, measure.Pass.prepare
    time, sample = [0.0], [0.0]

    def recorded(self: Any, *arguments: Any) -> None:
        record(self, *arguments)
        time[0] += seconds

    def prepared(self: Any, limit: float | None = None, first: int | None = None) -> Any:
        sample[0] = reading if first is None else min(reading, 0.5)
        return prepare(self, limit, first)

    def timed(self: Any, index: int) -> Any:
        time[0] += sample[0]
        return read(self, index)

    with (
        patch.object(survey.Survey, "_record", recorded),
        patch.object(Numbers, "__getitem__", timed),
        patch.object(measure.Pass, "prepare", prepared),
        patch.object(budget, "clock", lambda: time[0]),
    ):
        yield


def unprovable() -> Any:
    """A proof that fails in this process."""
    return patch.object(proof, "equal", lambda *_: False)


def fail() -> None:
    raise RuntimeError("in the middle of a level")


def told_to_stop(trainer: L.Trainer) -> None:
    trainer._signal_connector.received_sigterm = True


PLAIN: dict[str, Any] = {"x": (-1, 1, 5), "y": (-1, 1, 4), "samples": 0}
TIMED: dict[str, Any] = {**LEVELS, "tolerance": None}


def clocks(rank: int | None, trainer: L.Trainer) -> list[Any]:
    """A point takes a second of all processes together."""
    return [ticking(1 if rank is None else 2)]


# The options of a landscape, and what happens in which process: 0, 1, or None for one alone.
CASES: dict[str, tuple[dict[str, Any], Callable[[int | None, L.Trainer], list[Any]]]] = {
    "levels": (LEVELS, lambda rank, trainer: []),
    "refused": ({**LEVELS, "x": (0, 1, 25), "largest": 1.6}, lambda rank, trainer: []),
    "formats": (PLAIN, lambda rank, trainer: [chosen(("folded",) if rank else ("small_batches",))]),
    "unprovable": (PLAIN, lambda rank, trainer: [chosen(("small_batches",)), *([unprovable()] if rank else [])]),
    "fails": (LEVELS, lambda rank, trainer: [at_record(70, fail)] if rank else []),
    "stopped": (LEVELS, lambda rank, trainer: [at_record(60, lambda: told_to_stop(trainer))] if rank else []),
    "coarse": ({**TIMED, "budget": "10s"}, clocks),
    "late": ({**TIMED, "budget": "120s"}, clocks),
    "reading": (
        {**PLAIN, "budget": "400s", "max_samples": None, "size": 10},
        lambda rank, trainer: [ticking(1, 2.0 if rank else 1.0)],
    ),
    "enough": ({**TIMED, "x": (-1, 1, 11), "y": (-1, 1, 10), "budget": "1h"}, clocks),
}  # fmt: skip


def measured(name: str, out: Path, rank: int | None) -> dict[str, Any]:
    """The landscape of a case, measured by one process or as one of two, and how many points this one has measured."""
    options, patches = CASES[name]
    options = dict(options)
    module, size = Net(options.pop("largest", 100.0)), options.pop("size", 130)
    callback = LossLandscapeCallback(**{"budget": None, **options}, plots=[], formats=["h5"], dirpath=out / name)
    strategy = DDPStrategy(process_group_backend="gloo", timeout=timedelta(minutes=20))
    os.environ["WORLD_SIZE"] = "1" if rank is None else "2"  # the end of a run deletes it
    trainer = L.Trainer(
        accelerator="cpu", devices=1 if rank is None else 2, strategy="auto" if rank is None else strategy,
        logger=False, callbacks=[callback], enable_progress_bar=False, enable_model_summary=False, default_root_dir=out,
    )  # fmt: skip
    points = [0]

    def count(self: Any, *arguments: Any) -> None:
        points[0] += 1
        record(self, *arguments)

    record = survey.Survey._record
    with ExitStack() as stack:
        stack.enter_context(patch.object(survey.Survey, "_record", count))
        stack.enter_context(patch.object(surface_file, "SAVE_EVERY", 0.0 if name == "fails" else 1e9))
        for each in patches(rank, trainer):
            stack.enter_context(each)
        trainer.validate(module, DataLoader(Numbers(130), size), verbose=False)
    return {"landscape": callback.landscape, "points": points[0]}


def main(out: Path) -> None:
    found = {}
    for name in CASES:
        try:
            found[name] = measured(name, out, RANK)
        except Exception as error:  # noqa: BLE001  # looked at by the test
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    (out / f"rank{RANK}.pickle").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
