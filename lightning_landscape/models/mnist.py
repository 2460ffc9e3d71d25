"""MNIST and a linear model of it, whose loss is convex."""

import torch
from torch import Tensor, nn

from .classifier import Classifier
from .images import ByteImages, DownloadedImages, explain_missing

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


class MNISTDataModule(DownloadedImages):
    """MNIST by torchvision: normalised float images of shape (1, 28, 28), downloaded when missing.

    Of the 60,000 training images, `val_samples` are held out for validation.
    `data_dir` holds, or will hold, the folder MNIST/raw. See `DownloadedImages` for the arguments.
    """

    def read(self, *, train: bool, download: bool = False) -> ByteImages:
        """See `DownloadedImages`."""
        from torchvision.datasets import MNIST

        with explain_missing("MNIST", self.data_dir, EXPECTED_FILES):
            dataset = MNIST(self.data_dir, train=train, download=download)
        return ByteImages(dataset.data.unsqueeze(1), dataset.targets, MEAN, STD)
