"""The examples run as they stand, on tiny data."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightning_landscape import load

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = ["--epochs", "1", "--every", "1", "--points", "3"]


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10"])
def test_help(name: str) -> None:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--help"]
    assert "--points" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_digits(tmp_path: Path, model: str) -> None:
    example("digits").main([*TINY, "--model", model, "--log-dir", str(tmp_path)])
    file, of_path = sorted(tmp_path.glob("digits/version_0/landscape/*/landscape.h5"))
    assert of_path.parent.name == f"{file.parent.name}-path"
    assert {"train_loss", "val_loss", "train_acc", "val_acc"} == set(load(file).values)


def test_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example("compare").main([*TINY, "--every", "10", "--out", str(tmp_path)])
    table = capsys.readouterr().out
    assert "distance to SGD with momentum" in table
    assert "train_loss at the end" in table
    for run in ("SGD with momentum", "Adam"):
        assert load(tmp_path / run / "landscape.h5").grid.shape == (3, 3)
    assert (tmp_path / "paths.png").read_bytes().startswith(b"\x89PNG")


def test_mnist(tmp_path: Path, mnist_dir: Path) -> None:
    example("mnist").main([*TINY, "--data-dir", str(mnist_dir), "--log-dir", str(tmp_path)])
    (file,) = tmp_path.glob("mnist/version_0/landscape/*/landscape.h5")
    assert load(file).recipe.directions.moved_parameters == 7840  # the weights; the 10 biases rest


def test_cifar10(tmp_path: Path, cifar10_dir: Path) -> None:
    example("cifar10").main([*TINY, "--data-dir", str(cifar10_dir), "--log-dir", str(tmp_path)])
    (file,) = tmp_path.glob("cifar10/version_0/landscape/*/landscape.h5")
    samples = load(file).samples
    assert samples is not None
    thumbnail = samples.items[0].thumbnail
    assert thumbnail is not None
    assert thumbnail.shape == (32, 32, 3)


def test_burgers(tmp_path: Path) -> None:
    example("burgers").main(["--steps", "20", "--points", "3", "--out", str(tmp_path)])
    landscape = load(tmp_path / "burgers.h5")
    assert landscape.loss[1, 1] == landscape.loss.min() == landscape.center["train_loss"]
    assert {"burgers_train_loss_2dcontour.pdf", "burgers_train_loss_3dsurface.pdf"} <= {
        p.name for p in tmp_path.iterdir()
    }


def test_edge_of_stability(tmp_path: Path) -> None:
    """Gradient descent rises to 2/η, and stays there though it has 200 steps to leave it (Cohen et al. 2021)."""
    short = ["--steps", "500", "--every", "20", "--samples", "256", "--out", str(tmp_path)]
    history = example("edge_of_stability").main(short).history
    assert (tmp_path / "sharpness.png").read_bytes().startswith(b"\x89PNG")
    limit = 2 / 0.2
    assert history["limit"].tolist() == pytest.approx([limit] * 25)
    assert history["lambda_max"][0] < 0.9 * limit
    late = history["step"] > 300
    assert (abs(history["lambda_max"][late] / limit - 1) < 0.15).all()
    assert (abs(history["critical"][late] / limit - 1) < 0.15).all()


@pytest.mark.filterwarnings("ignore")  # LightningCLI and jsonargparse warn of their own versions
def test_lightning_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = str(EXAMPLES / "lightning_cli.yaml")
    options = ["--trainer.max_epochs=1", "--trainer.callbacks.init_args.x=[-1.0, 1.0, 3]"]
    cli = example("lightning_cli").main(["fit", "--config", config, *options])
    (callback,) = [c for c in cli.trainer.callbacks if hasattr(c, "landscapes")]
    assert callback.landscape.grid.shape == (3, 21)
    assert callback.landscape.main == "val_loss"
    assert callback.look.color_scale == "log"
    assert len(callback.landscape.samples.items) == 6
    assert list(tmp_path.glob("lightning_logs/digits_cli/version_0/landscape/step=*/landscape.h5"))
