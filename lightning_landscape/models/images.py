"""The base classes of the bundled DataModules: loaders, normalised images, downloads with a clear error."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
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
    """A LightningDataModule that needs only `load`, which is called once.

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
    """Labelled images in bytes, normalised when they are read: (x / 255 - mean) / std.

    As floats, CIFAR-10 would take four times the memory, 614 MB.

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
    """A training and a validation part, at random.

    Args:
        dataset: the data set to divide.
        val_samples: samples of the validation part, but never more than half of the data set.
        seed: the same seed gives the same parts.
    """
    val_samples = min(val_samples, len(dataset) // 2)
    generator = torch.Generator().manual_seed(seed)
    return random_split(dataset, [len(dataset) - val_samples, val_samples], generator=generator)


class DownloadedImages(ImageDataModule):
    """A data set of torchvision, downloaded when missing; a part of its training images is held out for validation.

    Args:
        data_dir: folder of the data set's own folder, or where to make it.
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
        self.data_dir, self.val_samples, self.seed = str(data_dir), val_samples, seed

    def read(self, *, train: bool, download: bool = False) -> ByteImages:
        """The published training or test part.

        Raises:
            FileNotFoundError: if the files are missing, and could not be downloaded.
        """
        raise NotImplementedError(f"{type(self).__name__} needs read(), which returns its ByteImages.")

    def prepare_data(self) -> None:
        """Downloads what `data_dir` lacks; see `read` for errors."""
        self.read(train=True, download=True)

    def load(self) -> Splits:
        """The three parts of the data set; the test part is the published one. See `read` for errors."""
        train, val = hold_out(self.read(train=True), self.val_samples, self.seed)
        return Splits(train, val, self.read(train=False))


@contextmanager
def explain_missing(name: str, data_dir: str, expected: str) -> Iterator[None]:
    """A context for a download or a read; its error says which files belong where.

    Args:
        name: of the data set, for the message.
        data_dir: the folder that was searched, as the user gave it.
        expected: the files that belong there, in words.

    Raises:
        FileNotFoundError: in place of an error of the network or of torchvision, which it chains.
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
