from urllib.error import URLError

import lightning.pytorch as L
import pytest
import torch

from lightning_landscape.models import LinearMNIST, MNISTDataModule

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),  # Lightning's, under newer torch
]


def no_network(*args, **kwargs):
    raise URLError("no route to host")


def test_linear_mnist_has_7850_parameters():
    assert sum(parameter.numel() for parameter in LinearMNIST().parameters()) == 28 * 28 * 10 + 10 == 7850


def test_the_recipe_is_plain_sgd():
    optimizer = LinearMNIST().configure_optimizers()
    assert type(optimizer) is torch.optim.SGD
    assert {name: optimizer.defaults[name] for name in ("lr", "momentum", "weight_decay")} == {
        "lr": 0.01,
        "momentum": 0,
        "weight_decay": 0,
    }
    assert MNISTDataModule().batch_size == 64


def test_the_files_become_normalised_images_and_their_labels(mnist_dir):
    data = MNISTDataModule(data_dir=mnist_dir, val_samples=30)
    data.prepare_data()
    assert [len(part) for part in data.splits] == [50, 30, 20]
    for part in data.splits:
        for image, label in part:
            expected = torch.full((1, 28, 28), -0.1307 / 0.3081)
            expected[0, 2 * label] = (1 - 0.1307) / 0.3081
            torch.testing.assert_close(image, expected)


def test_a_fit_and_a_test_on_the_files(mnist_dir, quiet_trainer):
    L.seed_everything(0)
    data = MNISTDataModule(str(mnist_dir), batch_size=8)
    trainer = quiet_trainer(max_epochs=20)
    trainer.fit(LinearMNIST(), datamodule=data)
    assert trainer.test(trainer.model, datamodule=data, verbose=False)[0]["test_acc"] == 1


def test_without_network_the_error_says_where_the_files_belong(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", no_network)
    data_dir = str(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte.*DigitsDataModule") as caught:
        MNISTDataModule(data_dir).prepare_data()
    assert f"data_dir={data_dir!r}" in str(caught.value)
    assert any(reason in str(caught.value.__cause__) for reason in ("no route to host", "Error downloading train"))


def test_reading_what_was_never_prepared_says_the_same(tmp_path):
    with pytest.raises(FileNotFoundError, match="MNIST could be neither read from data_dir="):
        MNISTDataModule(tmp_path).train_dataloader()
