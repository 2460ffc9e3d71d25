import sys

import lightning.pytorch as L
import pytest
import torch
from sklearn.datasets import load_digits

from lightning_landscape.models import DigitsCNN, DigitsDataModule, DigitsMLP

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),  # Lightning's, under newer torch
]


@pytest.fixture(scope="module")
def digits() -> DigitsDataModule:
    return DigitsDataModule(seed=1)


def test_the_parts_are_a_partition_of_all_1797_digits(digits):
    images = torch.cat([part.tensors[0] for part in digits.splits])
    assert images.shape == (1797, 1, 8, 8)
    # The 1,797 images differ from each other, so their sorted bytes stand for the whole data set.
    reference = sorted((image.reshape(-1) / 16).astype("float32").tobytes() for image in load_digits().images)
    assert len(set(reference)) == 1797
    assert sorted(image.numpy().tobytes() for image in images) == reference


def test_images_are_floats_from_0_to_1(digits):
    images, labels = digits.splits.train.tensors
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert (images.min(), images.max()) == (0, 1)


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_the_split_is_stratified(digits, part):
    labels = getattr(digits.splits, part).tensors[1]
    expected = torch.bincount(torch.from_numpy(load_digits().target)) * len(labels) / 1797
    assert (torch.bincount(labels) - expected).abs().max() <= 1  # rounding to whole samples, no more


def test_the_seed_alone_decides_the_split(digits):
    torch.manual_seed(12345)
    state = torch.random.get_rng_state()
    again, other = DigitsDataModule(seed=1), DigitsDataModule(seed=2)
    for part, same, different in zip(digits.splits, again.splits, other.splits, strict=True):
        assert torch.equal(part.tensors[0], same.tensors[0])
        assert not torch.equal(part.tensors[0], different.tensors[0])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_loaders_shuffle_training_only(digits):
    first, second = (torch.cat([labels for _, labels in digits.train_dataloader()]) for _ in range(2))
    assert not torch.equal(first, second)
    for loader, part in ((digits.val_dataloader(), "val"), (digits.test_dataloader(), "test")):
        labels = torch.cat([labels for _, labels in loader])
        assert torch.equal(labels, getattr(digits.splits, part).tensors[1])
    assert len(next(iter(digits.train_dataloader()))[0]) == 64


@pytest.mark.parametrize("model_class", [DigitsMLP, DigitsCNN])
def test_models_learn_the_digits_in_a_few_epochs(digits, model_class, quiet_trainer):
    L.seed_everything(0)
    trainer = quiet_trainer(max_epochs=8)
    trainer.fit(model_class(), datamodule=digits)
    logged = trainer.test(trainer.model, datamodule=digits, verbose=False)[0]
    assert logged["test_acc"] > 0.95


def test_missing_scikit_learn_fails_at_construction_with_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "lightning-landscape\[demo\]"'):
        DigitsDataModule()
