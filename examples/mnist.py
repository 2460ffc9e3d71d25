"""Trains a linear model of MNIST and shows its loss landscape in TensorBoard."""

from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from collections.abc import Sequence

import lightning.pytorch as L
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_landscape import LossLandscapeCallback
from lightning_landscape.models import LinearMNIST, MNISTDataModule


def main(argv: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data-dir", default="data", help="where MNIST is, or is downloaded to")
    parser.add_argument("--log-dir", default="lightning_logs", help="where the pictures go")
    parser.add_argument("--epochs", type=int, default=10, help="epochs to train")
    parser.add_argument("--every", type=int, default=5, help="epochs between two landscapes")
    parser.add_argument("--points", type=int, default=51, help="points along each side of a landscape")
    parser.add_argument("--max-samples", type=int, default=1024, help="images to measure a landscape on")
    parser.add_argument("--seed", type=int, default=0, help="of the weights, the batches and the directions")
    args = parser.parse_args(argv)

    L.seed_everything(args.seed)
    landscape = LossLandscapeCallback(
        every_n_epochs=args.every,
        max_samples=args.max_samples,
        x=(-1, 1, args.points),
        y=(-1, 1, args.points),
        seed=args.seed,
    )
    logger = TensorBoardLogger(args.log_dir, name="mnist")
    trainer = L.Trainer(max_epochs=args.epochs, logger=logger, callbacks=[landscape])
    trainer.fit(LinearMNIST(), datamodule=MNISTDataModule(args.data_dir))
    print(f"The pictures are in {logger.log_dir}; to see them: tensorboard --logdir {args.log_dir}")


if __name__ == "__main__":
    main()
