"""The landscape of a small classifier of handwritten digits, on data that needs no download."""

import argparse

import lightning.pytorch as L
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_landscape import LossLandscapeCallback
from lightning_landscape.models import DigitsCNN, DigitsDataModule, DigitsMLP


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", choices=["cnn", "mlp"], default="cnn")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--every", type=int, default=5, help="epochs between two landscapes")
    parser.add_argument("--points", type=int, default=51, help="grid points along each direction")
    parser.add_argument("--log-dir", default="lightning_logs")
    arguments = parser.parse_args(argv)

    L.seed_everything(0)
    landscape = LossLandscapeCallback(
        every_n_epochs=arguments.every,
        x=(-1, 1, arguments.points),
        y=(-1, 1, arguments.points),
        data=["train", "val"],  # two surfaces on one plane: what is learned, and what generalises
    )
    trainer = L.Trainer(
        max_epochs=arguments.epochs,
        logger=TensorBoardLogger(arguments.log_dir, name="digits"),
        callbacks=[landscape],
    )
    trainer.fit(DigitsCNN() if arguments.model == "cnn" else DigitsMLP(), datamodule=DigitsDataModule())
    print(f"Pictures: {trainer.log_dir}/landscape")
    print(f"Look:     tensorboard --logdir {arguments.log_dir}")


if __name__ == "__main__":
    main()
