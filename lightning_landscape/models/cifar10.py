"""CIFAR-10 and a convolutional network small enough for landscapes on a laptop."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Classifier
from .images import ByteImages, DownloadedImages, explain_missing

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


class CIFAR10DataModule(DownloadedImages):
    """CIFAR-10 by torchvision: normalised float images of shape (3, 32, 32), downloaded when missing.

    There is no augmentation: a surface is of one function, of fixed images.
    Of the 50,000 training images, `val_samples` are held out for validation.
    `data_dir` holds, or will hold, the folder cifar-10-batches-py. See `DownloadedImages` for the arguments.
    """

    def read(self, *, train: bool, download: bool = False) -> ByteImages:
        """See `DownloadedImages`."""
        from torchvision.datasets import CIFAR10

        with explain_missing("CIFAR-10", self.data_dir, EXPECTED_FILES):
            dataset = CIFAR10(self.data_dir, train=train, download=download)
        images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
        return ByteImages(images, torch.tensor(dataset.targets), MEAN, STD)
