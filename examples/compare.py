"""Two optimisers on handwritten digits, from the same weights: both paths on one plane. No download."""

import argparse
from pathlib import Path

import lightning.pytorch as L
import torch
from torch import nn

from lightning_landscape import LossLandscape, Recorder
from lightning_landscape.models import DigitsDataModule, DigitsMLP

OPTIMIZERS = {
    "SGD with momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.005),
}


class Run(DigitsMLP):
    def __init__(self, optimizer: str, every: int) -> None:
        super().__init__(hidden=32)
        self.optimizer, self.every, self.recorder = optimizer, every, Recorder()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return OPTIMIZERS[self.optimizer](self.parameters())

    def on_train_batch_start(self, *_: object) -> None:
        if self.global_step % self.every == 0:
            self.recorder.record(self.net, self.global_step)

    def on_train_end(self) -> None:
        self.recorder.record(self.net, self.global_step)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--every", type=int, default=8, help="steps between two records")
    parser.add_argument("--points", type=int, default=25, help="grid points along each direction")
    parser.add_argument("--out", type=Path, default=Path("compared"), help="of landscapes and pictures")
    arguments = parser.parse_args(argv)

    runs = {}
    for name in OPTIMIZERS:
        L.seed_everything(0)  # the same initial weights, and the same order of the data
        run = Run(name, arguments.every)
        trainer = L.Trainer(max_epochs=arguments.epochs, logger=False, enable_checkpointing=False, accelerator="cpu")
        trainer.fit(run, datamodule=DigitsDataModule())
        runs[name] = run.recorder
    loader, file = DigitsDataModule(256).train_dataloader(), arguments.out / "surface.h5"
    landscape = LossLandscape(run.net, loader, nn.CrossEntropyLoss(), surf_file=file)
    comparison = landscape.compute_runs(runs, points=arguments.points)
    print(comparison)
    comparison.save(arguments.out)
    for kind in comparison.kinds:
        comparison.plot(kind).savefig(arguments.out / f"{kind}.png")


if __name__ == "__main__":
    main()
