"""CIFAR-10 and a convolutional network small enough for landscapes on a laptop."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Classifier
from .images import ByteImages, ImageDataModule, Splits, explain_missing, hold_out

# Of the 50,000 training images, red, green and blue, in a scale where white is 1.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

EXPECTED_FILES = (
    "cifar-10-batches-py/ with data_batch_1 to data_batch_5, test_batch and batches.meta "
    "(or the archive cifar-10-python.tar.gz, as published)"
)


class TinyCNN(Classifier):
    """Three convolutions and a linear layer, 19,466 parameters; the recipe is 50 epochs.

    Each convolution (3×3, 3 → 16 → 32 → 32 channels) is followed by ReLU and a max-pool that halves
    the image: 32 → 16 → 8 → 4 pixels. The parameters have the names of f_landscape's, whose checkpoints it reads.

    Args:
        lr: step size of SGD until the first milestone.
        momentum: of SGD.
        milestones: epochs after which the step size falls to a tenth.

    >>> sum(parameter.numel() for parameter in TinyCNN().parameters())
    19466
    """

    def __init__(self, lr: float = 0.01, momentum: float = 0.9, milestones: tuple[int, ...] = (25, 40)) -> None:
        super().__init__()
        self.lr = lr
        self.momentum = momentum
        self.milestones = milestones
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
        self.fc = nn.Linear(32 * 4 * 4, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (B, 10) of images of shape (B, 3, 32, 32)."""
        for conv in (self.conv1, self.conv2, self.conv3):
            images = F.max_pool2d(conv(images).relu(), 2)
        return self.fc(images.flatten(1))

    def configure_optimizers(
        self,
    ) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LRScheduler]]:
        """SGD with momentum, whose step size falls to a tenth at each milestone."""
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=self.momentum)
        return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, list(self.milestones))]


class CIFAR10DataModule(ImageDataModule):
    """CIFAR-10 by torchvision: normalised float images of shape (3, 32, 32), downloaded when missing.

    No augmentation: a surface is of one function, so its images have to stay what they are.
    Of the 50,000 training images, `val_samples` are held out for validation.

    Args:
        data_dir: folder that holds, or will hold, the folder cifar-10-batches-py.
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
        """The three parts of CIFAR-10; the test part is the published one, 10,000 images.

        Raises:
            FileNotFoundError: the files are missing.
        """
        train, val = hold_out(self._read(train=True), self.val_samples, self.seed)
        return Splits(train, val, self._read(train=False))

    def _read(self, *, train: bool, download: bool = False) -> ByteImages:
        from torchvision.datasets import CIFAR10

        with explain_missing("CIFAR-10", self.data_dir, EXPECTED_FILES):
            dataset = CIFAR10(self.data_dir, train=train, download=download)
        images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
        return ByteImages(images, torch.tensor(dataset.targets), MEAN, STD)
