"""Small models with their data, for demonstrations, examples and tests: digits, MNIST, CIFAR-10.

Names are loaded on first use (PEP 562), so that importing this package imports nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    # the embedded digits: no download
    "DigitsMLP": "digits",
    "DigitsCNN": "digits",
    "DigitsDataModule": "digits",
    # MNIST and CIFAR-10: downloaded by torchvision
    "LinearMNIST": "mnist",
    "MNISTDataModule": "mnist",
    "TinyCNN": "cifar10",
    "CIFAR10DataModule": "cifar10",
    # the common bases
    "Classifier": "classifier",
    "ImageDataModule": "images",
}

__all__ = [*_HOMES]

if TYPE_CHECKING:
    from .cifar10 import CIFAR10DataModule as CIFAR10DataModule
    from .cifar10 import TinyCNN as TinyCNN
    from .classifier import Classifier as Classifier
    from .digits import DigitsCNN as DigitsCNN
    from .digits import DigitsDataModule as DigitsDataModule
    from .digits import DigitsMLP as DigitsMLP
    from .images import ImageDataModule as ImageDataModule
    from .mnist import LinearMNIST as LinearMNIST
    from .mnist import MNISTDataModule as MNISTDataModule


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has: {', '.join(__all__)}.")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
