"""Tiny MNIST and CIFAR-10 folders in their published formats, which torchvision's own code reads."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

# The tensors here are tiny: threads only wait for each other, and for whatever else runs on the machine.
torch.set_num_threads(1)

collect_ignore_glob = ["_[a-z]*.py"]  # programs that tests start, and what they share

CIFAR10_LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_idx(path: Path, array: np.ndarray) -> None:
    """Writes bytes as IDX: two zeros, the type (8: unsigned byte), the rank, big-endian sizes, the data."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist_dir(tmp_path: Path) -> Path:
    """A data_dir with 80 training and 20 test images; the row 2·label of an image is white."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 80), ("t10k", 20)):
        labels = np.arange(count) % 10
        images = np.zeros((count, 28, 28))
        images[np.arange(count), 2 * labels] = 255
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", labels)
    return tmp_path / "data"


@pytest.fixture
def cifar10_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data_dir with 100 training and 20 test images; row 3·label of the green channel is white."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def write(name: str, content: dict) -> str:
        data = pickle.dumps(content, protocol=2)
        (folder / name).write_bytes(data)
        return hashlib.md5(data, usedforsecurity=False).hexdigest()

    def write_batch(name: str) -> list[str]:
        labels = np.arange(20) % 10
        images = np.zeros((20, 3, 32, 32), np.uint8)
        images[np.arange(20), 1, 3 * labels] = 255
        return [name, write(name, {"data": images.reshape(20, 3072), "labels": labels.tolist()})]

    monkeypatch.setattr(CIFAR10, "train_list", [write_batch(f"data_batch_{i}") for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [write_batch("test_batch")])
    meta_md5 = write("batches.meta", {"label_names": CIFAR10_LABELS})
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": meta_md5})
    return tmp_path / "data"


@pytest.fixture
def student() -> Callable[[int], float]:
    """Student's t of n observations, at the level of 2 standard deviations, over 2."""
    level = stats.norm.cdf(2)
    return lambda n: float(stats.t.ppf(level, n - 1) / 2)
