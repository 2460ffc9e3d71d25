"""`lightning-landscape demo`: a first training with landscapes."""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..local_paths import local_path
from .common import Commands

if TYPE_CHECKING:
    from ..callback import LossLandscapeCallback


DIRECTIONS = (
    "random",
    "pca",
    "gradient",
    "update",
    "mixed",
    "hessian",
)  # kinds that need no other model; reading them takes torch


def add(commands: Commands) -> None:
    """Add the command and its options."""
    demo = commands.add_parser(
        "demo",
        help="train a small CNN on scikit-learn's digits and look at its landscape",
        description="Train a small CNN on scikit-learn's 1,797 digits (no download) with a landscape every few "
        "epochs and at the end; say where the pictures are. Takes under a minute on two cores.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument("--epochs", type=int, default=12, help="epochs to train")
    demo.add_argument("--every", type=int, default=4, help="epochs between two landscapes")
    demo.add_argument("--points", type=int, default=25, help="grid points along each direction")
    demo.add_argument("--directions", choices=DIRECTIONS, default="random", help="kind of the directions")
    demo.add_argument("--max-samples", type=int, default=512, help="training images in the frozen set")
    demo.add_argument("--seed", type=int, default=42, help="of weights, data and directions")
    demo.add_argument("--dir", type=Path, default=Path("landscape_demo"), help="folder of the logs")
    demo.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train, and print the results and where they are."""
    folder = local_path("--dir", arguments.dir)
    folder.mkdir(parents=True, exist_ok=True)  # an error comes before the slow imports
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")  # advice on workers and logging intervals

    from ..callback import LossLandscapeCallback

    callback = LossLandscapeCallback(
        every_n_epochs=arguments.every,
        x=(-1, 1, arguments.points),
        y=(-1, 1, arguments.points),
        directions=arguments.directions,
        max_samples=arguments.max_samples,
        seed=arguments.seed,
    )
    logs = train(callback, folder, arguments.epochs, arguments.seed)
    for step, landscape in callback.landscapes.items():
        if isinstance(landscape, Path):
            continue
        first, second = landscape.curvature()
        print(
            f"  step {step:4d}: {landscape.main} {landscape.center[landscape.main]:.4f} at the centre, relief "
            f"{landscape.relief():.2f}, curvature {first:.2f} and {second:.2f}"
        )
    print(f"\nPictures and files: {logs / 'landscape'}")
    print(f"In TensorBoard:     tensorboard --logdir {folder} --samples_per_plugin images=500")
    return 0


def train(callback: LossLandscapeCallback, folder: Path, epochs: int, seed: int) -> Path:
    """Train on the digits, on one thread, and print the accuracy; return the folder of this run's logs."""
    import lightning.pytorch as L
    import torch
    from lightning.pytorch.loggers import TensorBoardLogger

    from ..models import DigitsCNN, DigitsDataModule

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as fast for so small a net, and far faster where other programs use the cores
    started = time.perf_counter()
    L.seed_everything(seed)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=TensorBoardLogger(str(folder), name="digits"),
        callbacks=[callback],
        enable_model_summary=False,
        log_every_n_steps=5,
    )
    trainer.fit(DigitsCNN(), datamodule=DigitsDataModule())
    torch.set_num_threads(threads)
    accuracy = trainer.callback_metrics["val_acc"]
    print(f"\nTrained in {time.perf_counter() - started:.0f} s; validation accuracy {accuracy:.1%}.")
    return Path(trainer.log_dir or folder)
