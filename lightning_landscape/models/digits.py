"""The 1,797 handwritten digits that ship with scikit-learn, and two small models of them: no download."""

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from .classifier import Classifier
from .images import ImageDataModule, Splits

HELD_OUT_SAMPLES = 270  # 15 % of 1,797, for validation and as many for the test


class _DigitsClassifier(Classifier):
    """A network of images of shape (B, 1, 8, 8), trained by Adam with a constant step size."""

    def __init__(self, net: nn.Module, lr: float) -> None:
        super().__init__()
        self.lr, self.net = lr, net

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (B, 10) of images of shape (B, 1, 8, 8)."""
        return self.net(images)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with a constant step size."""
        return torch.optim.Adam(self.parameters(), lr=self.lr)


class DigitsMLP(_DigitsClassifier):
    """A perceptron with one hidden layer: about 97 % of the test digits right after 20 epochs.

    Args:
        hidden: units of the hidden layer.
        lr: step size of Adam.

    >>> DigitsMLP()(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(self, hidden: int = 128, lr: float = 0.005) -> None:
        super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10)), lr)


class DigitsCNN(_DigitsClassifier):
    """Two convolutions and a linear layer: about 98 % of the test digits right after 15 epochs.

    Args:
        channels: of the first convolution; the second has twice as many.
        lr: step size of Adam.

    >>> DigitsCNN()(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(self, channels: int = 16, lr: float = 0.01) -> None:
        net = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * channels * 2 * 2, 10),
        )
        super().__init__(net, lr)


class DigitsDataModule(ImageDataModule):
    """1,257 training, 270 validation and 270 test digits, float images of shape (1, 8, 8) in [0, 1].

    The split is stratified: every digit has nearly the same share of each part. The data are the test
    part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998).

    Args:
        batch_size: samples in a batch, B.
        seed: of the split; the same seed gives the same parts.
        num_workers: processes that load data; 0 loads in the process that trains.

    Raises:
        ImportError: scikit-learn is not installed.

    >>> [len(part) for part in DigitsDataModule().splits]
    [1257, 270, 270]
    """

    def __init__(self, batch_size: int = 64, seed: int = 0, num_workers: int = 0) -> None:
        super().__init__(batch_size, num_workers)
        self.seed = seed
        try:
            import sklearn.datasets  # noqa: F401  (fails here, not minutes later in a Trainer)
        except ImportError as error:
            raise ImportError(
                'DigitsDataModule needs scikit-learn, whose digits it reads: pip install "lightning-landscape[demo]"'
            ) from error

    def load(self) -> Splits:
        """The three parts of the digits, stratified by label."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        labels = digits.target
        remaining, test = train_test_split(
            range(len(labels)), test_size=HELD_OUT_SAMPLES, stratify=labels, random_state=self.seed
        )
        train, val = train_test_split(
            remaining, test_size=HELD_OUT_SAMPLES, stratify=labels[remaining], random_state=self.seed
        )
        images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16  # ink counts of 4×4 pixels: 0 to 16
        targets = torch.from_numpy(labels).long()
        return Splits(*(TensorDataset(images[part], targets[part]) for part in (train, val, test)))
