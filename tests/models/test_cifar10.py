from urllib.error import URLError

import lightning.pytorch as L
import pytest
import torch

from lightning_landscape.models import CIFAR10DataModule, TinyCNN

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),  # Lightning's, under newer torch
]


def no_network(*args, **kwargs):
    raise URLError("no route to host")


def test_tiny_cnn_has_19466_parameters():
    by_hand = (3 * 9 * 16 + 16) + (16 * 9 * 32 + 32) + (32 * 9 * 32 + 32) + (512 * 10 + 10)
    assert sum(parameter.numel() for parameter in TinyCNN().parameters()) == by_hand == 19466


def test_tiny_cnn_gives_ten_logits():
    assert TinyCNN()(torch.zeros(5, 3, 32, 32)).shape == (5, 10)


def test_the_recipe_is_sgd_with_momentum_and_two_milestones():
    [optimizer], [scheduler] = TinyCNN().configure_optimizers()
    assert type(optimizer) is torch.optim.SGD
    assert (optimizer.defaults["lr"], optimizer.defaults["momentum"]) == (0.01, 0.9)
    rates = []
    for _ in range(50):
        rates += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.01] * 25 + [0.001] * 15 + [0.0001] * 10)


def test_the_files_become_normalised_images_and_their_labels(cifar10_dir):
    data = CIFAR10DataModule(data_dir=cifar10_dir, val_samples=30)
    data.prepare_data()
    assert [len(part) for part in data.splits] == [70, 30, 20]
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
    std = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)
    for part in data.splits:
        for image, label in part:
            white = torch.zeros(3, 32, 32)
            white[1, 3 * label] = 1
            torch.testing.assert_close(image, (white - mean) / std)


def test_a_fit_and_a_test_on_the_files(cifar10_dir, quiet_trainer):
    L.seed_everything(0)
    data = CIFAR10DataModule(str(cifar10_dir), batch_size=10)
    model = TinyCNN(milestones=(1,))
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(model, datamodule=data)
    logged = trainer.test(model, datamodule=data, verbose=False)[0]
    assert logged.keys() == {"test_loss", "test_acc"}
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.001)


def test_without_network_the_error_says_where_the_files_belong(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", no_network)
    data_dir = str(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"cifar-10-batches-py/ .*DigitsDataModule") as caught:
        CIFAR10DataModule(data_dir).prepare_data()
    assert f"data_dir={data_dir!r}" in str(caught.value)
    assert isinstance(caught.value.__cause__, URLError)


def test_reading_what_was_never_prepared_says_the_same(tmp_path):
    with pytest.raises(FileNotFoundError, match="CIFAR-10 could be neither read from data_dir="):
        CIFAR10DataModule(tmp_path).train_dataloader()
