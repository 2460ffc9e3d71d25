"""MNIST and the smallest model of it, a linear one, whose loss is convex: no landscape is easier to read."""

from pathlib import Path

import torch
from torch import Tensor, nn

from .classifier import Classifier
from .images import ByteImages, ImageDataModule, Splits, explain_missing, hold_out

# Of the 60,000 training images, in a scale where white is 1.
MEAN, STD = (0.1307,), (0.3081,)

EXPECTED_FILES = (
    "MNIST/raw/ with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte (or the same four with .gz, as published)"
)


class LinearMNIST(Classifier):
    """Multinomial logistic regression with plain SGD; the recipe is batches of 64 and 10 epochs.

    The parameters have the names of f_landscape's, whose checkpoints it reads.

    Args:
        lr: step size of SGD.

    >>> sum(parameter.numel() for parameter in LinearMNIST().parameters())
    7850
    """

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr
        self.fc = nn.Linear(28 * 28, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (B, 10) of images of shape (B, 1, 28, 28)."""
        return self.fc(images.reshape(-1, 28 * 28))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with a constant step size and no momentum."""
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class MNISTDataModule(ImageDataModule):
    """MNIST by torchvision: normalised float images of shape (1, 28, 28), downloaded when missing.

    Of the 60,000 training images, `val_samples` are held out for validation.

    Args:
        data_dir: folder that holds, or will hold, the folder MNIST/raw.
        batch_size: samples in a batch, B.
        num_workers: processes that load data; 0 loads in the process that trains.
        val_samples: training images held out; never more than half of them.
        seed: of the hold-out; the same seed gives the same parts.
    """

    def __init__(
        self,
        data_dir: str | Path = "data",
        batch_size: int = 64,
        num_workers: int = 0,
        val_samples: int = 5000,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        self.data_dir = str(data_dir)
        self.val_samples = val_samples
        self.seed = seed

    def prepare_data(self) -> None:
        """Downloads what `data_dir` lacks.

        Raises:
            FileNotFoundError: the files are missing and could not be downloaded.
        """
        self._read(train=True, download=True)

    def load(self) -> Splits:
        """The three parts of MNIST; the test part is the published one, 10,000 images.

        Raises:
            FileNotFoundError: the files are missing.
        """
        train, val = hold_out(self._read(train=True), self.val_samples, self.seed)
        return Splits(train, val, self._read(train=False))

    def _read(self, *, train: bool, download: bool = False) -> ByteImages:
        from torchvision.datasets import MNIST

        with explain_missing("MNIST", self.data_dir, EXPECTED_FILES):
            dataset = MNIST(self.data_dir, train=train, download=download)
        return ByteImages(dataset.data.unsqueeze(1), dataset.targets, MEAN, STD)
