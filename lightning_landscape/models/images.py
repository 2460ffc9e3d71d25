"""The parts that the bundled DataModules share: loaders, bytes as normalised images, a clear error without data."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, random_split

if TYPE_CHECKING:
    import lightning.pytorch as L
else:
    from ..trainer.compat import lightning_pytorch  # see classifier.py

    L = lightning_pytorch()


class Splits(NamedTuple):
    """The three parts of a data set; no sample is in two of them."""

    train: Dataset[Any]
    val: Dataset[Any]
    test: Dataset[Any]


class ImageDataModule(L.LightningDataModule):
    """A LightningDataModule that needs only `load`; the data are read once, when first asked for.

    Args:
        batch_size: samples in a batch, B.
        num_workers: processes that load data; 0 loads in the process that trains.
    """

    def __init__(self, batch_size: int = 64, num_workers: int = 0) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers

    def load(self) -> Splits:
        """The three parts of the data set, the same ones at every call."""
        raise NotImplementedError(f"{type(self).__name__} needs load(), which returns its Splits.")

    @cached_property
    def splits(self) -> Splits:
        """The three parts of the data set, in memory."""
        return self.load()

    def train_dataloader(self) -> DataLoader[Any]:
        """The training part, shuffled anew in each epoch."""
        return self._loader(self.splits.train, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation part, always in the same order."""
        return self._loader(self.splits.val)

    def test_dataloader(self) -> DataLoader[Any]:
        """The test part, always in the same order."""
        return self._loader(self.splits.test)

    def _loader(self, dataset: Dataset[Any], shuffle: bool = False) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )


class ByteImages(Dataset[tuple[Tensor, Tensor]]):
    """Labelled images kept as bytes and normalised as they are read: (x / 255 - mean) / std.

    Bytes, because CIFAR-10 would take four times the memory (614 MB) as floats.

    Args:
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        mean: of each channel, in a scale where white is 1.
        std: of each channel, in the same scale.
    """

    def __init__(self, images: Tensor, labels: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
        self.images = images
        self.labels = labels
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor(std).view(-1, 1, 1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return (self.images[index] / 255 - self.mean) / self.std, self.labels[index]


def hold_out(dataset: ByteImages, val_samples: int, seed: int) -> list[Any]:
    """A training and a validation part, drawn by a generator of their own.

    Args:
        dataset: what to divide.
        val_samples: samples to hold out, but never more than half of the data set.
        seed: the same seed gives the same parts.
    """
    held = min(val_samples, len(dataset) // 2)
    generator = torch.Generator().manual_seed(seed)
    return random_split(dataset, [len(dataset) - held, held], generator=generator)


@contextmanager
def explain_missing(name: str, data_dir: str, expected: str) -> Iterator[None]:
    """A context in which a failed download or read says which files belong where.

    Args:
        name: of the data set, for the message.
        data_dir: the folder that was searched, as the user gave it.
        expected: the files that belong there, in words.

    Raises:
        FileNotFoundError: instead of the network's or torchvision's own error, which it chains.
    """
    try:
        yield
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split())  # torchvision's own message has a line for each mirror
        raise FileNotFoundError(
            f"{name} could be neither read from data_dir={data_dir!r} nor downloaded. "
            f"Expected there: {expected}. Copy these files there, or use the digits, which need no "
            "download: lightning_landscape.models.DigitsDataModule. "
            f"The reason was {type(error).__name__}: {reason}"
        ) from error
