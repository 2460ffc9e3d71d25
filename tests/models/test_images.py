import pytest
import torch

from lightning_landscape.models import ImageDataModule
from lightning_landscape.models.images import ByteImages, explain_missing, hold_out


def numbered(count: int) -> ByteImages:
    """Images whose labels are 0, 1, 2, …"""
    return ByteImages(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.arange(count), [0.5], [0.25])


def test_bytes_become_normalised_floats():
    images = torch.tensor([0, 51, 255, 255], dtype=torch.uint8).view(1, 2, 1, 2)
    image, label = ByteImages(images, torch.tensor([7]), mean=[0.5, 0.0], std=[0.25, 2.0])[0]
    torch.testing.assert_close(image, torch.tensor([[[-2.0, -1.2]], [[0.5, 0.5]]]))
    assert label == 7


@pytest.mark.parametrize("count, val_samples, held", [(60, 10, 10), (6, 5000, 3), (7, 5000, 3), (6, 0, 0)])
def test_hold_out_partitions_even_a_tiny_data_set(count, val_samples, held):
    train, val = hold_out(numbered(count), val_samples, seed=0)
    assert len(val) == held
    assert sorted(int(label) for part in (train, val) for _, label in part) == list(range(count))


def test_the_seed_alone_decides_the_hold_out():
    state = torch.random.get_rng_state()
    first, again, other = (hold_out(numbered(100), 20, seed)[1].indices for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert torch.equal(torch.random.get_rng_state(), state)


def test_other_errors_pass_through_unchanged():
    with pytest.raises(KeyError, match="mine"), explain_missing("MNIST", "data", "files"):
        raise KeyError("mine")


def test_a_data_module_without_load_says_so():
    with pytest.raises(NotImplementedError, match=r"ImageDataModule needs load\(\)"):
        ImageDataModule().train_dataloader()
