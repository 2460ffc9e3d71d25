"""The command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lightning_landscape import load
from lightning_landscape.cli import main


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--epochs", "2", "--every", "1", "--points", "3", "--max-samples", "32", "--dir", str(tmp_path)]
    assert main(["demo", *arguments]) == 0
    text = capsys.readouterr().out
    folder = tmp_path / "digits" / "version_0" / "landscape"
    assert str(folder) in text
    assert f"tensorboard --logdir {tmp_path}" in text
    for step in (20, 40):
        landscape = load(folder / f"step={step:06d}" / "landscape.h5")
        assert f"train_loss {landscape.center['train_loss']:.4f} at the centre" in text
        assert (folder / f"step={step:06d}" / "train_loss_3dsurface.png").exists()


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from lightning_landscape.cli import main\n"
        "try: main(['demo', '--help'])\n"
        "except SystemExit as e: assert e.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tensorboard" not in result.stderr
    assert "--epochs" in result.stdout


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--points", "1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("lightning-landscape: x=(-1, 1, 1) has 1 points")
    assert error.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        main(["dome"])
