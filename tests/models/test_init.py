import subprocess
import sys

import pytest

from lightning_landscape import models


def test_every_public_name_loads():
    assert models.__all__ == [
        "DigitsMLP",
        "DigitsCNN",
        "DigitsDataModule",
        "LinearMNIST",
        "MNISTDataModule",
        "TinyCNN",
        "CIFAR10DataModule",
        "Classifier",
        "ImageDataModule",
    ]
    for name in models.__all__:
        assert getattr(models, name).__name__ == name
        assert name in dir(models)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match="no attribute 'ResNet'; it has: DigitsMLP, "):
        _ = models.ResNet


def test_importing_the_package_stays_light():
    code = (
        "import sys, lightning_landscape.models; "
        "print({'torch', 'lightning', 'torchvision', 'sklearn', 'numpy'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_bases_come_from_the_namespace_that_was_imported_first():
    code = (
        "import pytorch_lightning as pl; from lightning_landscape.models import Classifier, ImageDataModule; "
        "print(issubclass(Classifier, pl.LightningModule)); "
        "print(issubclass(ImageDataModule, pl.LightningDataModule))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True\nTrue"
