"""Run by test_full_disk.py as a program: real trainings, each in a process of its own, on a disk with so much room.

What is heavy is imported once; each training is a fork. Prints a line of JSON for each.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscapeCallback, load
from lightning_landscape.survey import surface_file

torch.set_num_threads(1)
surface_file.SAVE_EVERY = 0.0


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(4, 3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class Pictures(TensorBoardLogger):
    """Counts the pictures that it is given, and writes nothing."""

    def __init__(self) -> None:
        super().__init__("nowhere")
        self.count = 0

    @property
    def experiment(self) -> Any:
        return self

    def add_image(self, *args: Any, **options: Any) -> None:
        self.count += 1

    def add_scalar(self, *args: Any, **options: Any) -> None:
        """Write nothing."""

    add_text = flush = log_metrics = log_hyperparams = save = finalize = add_scalar  # type: ignore[assignment]


def train(disk: Path, with_it: bool = True) -> dict[str, Any]:
    """What comes of a training that puts its landscapes on a disk."""
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(20, 4, generator=generator), torch.arange(20) % 3)
    callback = LossLandscapeCallback(
        every_n_epochs=2, at_train_end=False, x=(-1, 1, 3), y=(-1, 1, 3), samples=0, plots=["slices"],
        formats=["h5", "npz", "png"], dirpath=disk / "landscapes", trajectory=False,
    )  # fmt: skip
    logger = Pictures()
    trainer = L.Trainer(
        accelerator="cpu", logger=logger, callbacks=[callback] if with_it else [], max_epochs=3,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    module = Net()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, DataLoader(data, 10))
    files = sorted(disk.rglob("*"))
    whole = [path for path in files if path.suffix in (".h5", ".npz") and load(path) is not None]
    return {
        "epochs": trainer.current_epoch,
        "weights": hashlib.sha256(module.net.weight.detach().numpy().tobytes()).hexdigest(),
        "pictures": logger.count,
        "points": [int(x.done.sum()) for x in callback.landscapes.values() if not isinstance(x, Path)],
        "warnings": [str(w.message) for w in caught if "landscape" in str(w.message).lower()],
        "files": [path.name for path in files if path.is_file()],
        "whole": len(whole),
    }


def fork(disk: Path, limit: int | None = None, with_it: bool = True) -> dict[str, Any]:
    """What `train` gives in a process of its own, or the signal that ended it."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            os.write(write, json.dumps(train(disk, with_it)).encode())
            os._exit(0)
        except BaseException:  # noqa: BLE001
            os.write(write, json.dumps({"raised": traceback.format_exc()[-2000:]}).encode())
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    return {**json.loads(text or "{}"), "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}


def main(disk: Path, how: str, sizes: list[int]) -> None:
    print(json.dumps(fork(disk, with_it=False)), flush=True)
    for size in sizes:
        filler = disk / "filler"
        if how == "disk":
            for path in [p for p in disk.rglob("*") if p.is_file()]:
                path.unlink()
            room = os.statvfs(disk)
            filler.write_bytes(bytes(max(0, room.f_bavail * room.f_frsize - size)))
            print(json.dumps(fork(disk)), flush=True)
        else:
            print(json.dumps(fork(disk / str(size), limit=size)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], [int(size) for size in sys.argv[3].split(",")])
