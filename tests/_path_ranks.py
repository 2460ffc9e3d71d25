"""Run by test_path_landscape.py as a program: one fit under DDP, and the landscape of its path as a file a rank."""

from __future__ import annotations

import os
import pickle
import sys
from datetime import timedelta
from pathlib import Path

import lightning.pytorch as L
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader

from lightning_landscape import LossLandscapeCallback

from ._directions import Net
from ._two_processes import leave, numbers  # noqa: F401  # at the exit


def main(out: Path) -> None:
    callback = LossLandscapeCallback(
        x=(-1, 1, 3), y=(-1, 1, 3), samples=0, plots=[], formats=["h5"], strict=True, budget=None, dirpath=out / "files"
    )
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", devices=2, logger=False, callbacks=[callback], enable_checkpointing=False,
        strategy=DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=60)), default_root_dir=out,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Net(), DataLoader(numbers(80), 8))
    landscape = callback.path_landscape
    assert landscape is not None
    assert landscape.trajectory is not None
    result = {"loss": landscape.loss, "points": landscape.trajectory.points, "records": len(callback.records)}
    (out / f"rank{os.environ.get('LOCAL_RANK', '0')}.pickle").write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
