"""Every option of the callback in the YAML file of a LightningCLI, in both namespaces."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightning_landscape import LossLandscapeCallback, Recording
from lightning_landscape.directions import recipe

from ._limits import HANG

OPTIONS: dict[str, Any] = {
    "every_n_epochs": 3, "every_n_train_steps": 100, "at_train_end": False, "x": [-0.5, 1.5, 7], "y": None,
    "directions": "random", "normalize": "layer", "ignore": ["net.0.*", "net.1.bias"], "orthogonalize": True, "seed": 7,
    "data": ["val", "train"], "mode": "train", "objective": None, "max_samples": None, "max_batches": 2, "samples": 3,
    "sample_layout": "1x3", "color_scale": "quantile",
    "vmin": 0.5, "vmax": 3.0, "levels": None, "share_colorbar": False, "plots": ["slices"],
    "dirpath": "somewhere", "formats": ["npz", "svg"], "accelerate": False, "tolerance": 0.01, "budget": "2min",
    "trajectory": False, "strict": True,
}  # fmt: skip


def yaml(options: dict[str, Any]) -> str:
    rows = "".join(f"          {name}: {'null' if v is None else v}\n" for name, v in options.items())
    return (
        "trainer:\n  accelerator: cpu\n  logger: false\n  callbacks:\n"
        f"    - class_path: lightning_landscape.LossLandscapeCallback\n      init_args:\n{rows}"
    )


def check(namespace: str, path: Path, given: dict[str, Any]) -> None:
    """The callback of a command line is the one made by hand."""
    cli = importlib.import_module(f"{namespace}.cli")
    boring = importlib.import_module(f"{namespace}.demos.boring_classes").BoringModel
    path.write_text(yaml(given))
    parsed = cli.LightningCLI(boring, run=False, args=["--config", str(path)])
    (callback,) = [c for c in parsed.trainer.callbacks if isinstance(c, LossLandscapeCallback)]
    recording = given.get("trajectory", "auto")
    recording = Recording(**recording) if isinstance(recording, dict) else recording
    by_hand = LossLandscapeCallback(**{**given, "trajectory": recording})
    assert callback._path.choice == by_hand._path.choice
    for name in ("every_n_epochs", "every_n_train_steps", "at_train_end", "dirpath", "strict", "look", "budget"):
        assert getattr(callback, name) == getattr(by_hand, name), name
    own, expected = vars(callback.settings).copy(), vars(by_hand.settings).copy()
    assert recipe(own.pop("directions")) == recipe(expected.pop("directions"))
    assert own == expected


@pytest.mark.filterwarnings("ignore")  # LightningCLI and jsonargparse warn of their own versions
@pytest.mark.parametrize(
    "given",
    [
        OPTIONS,
        {"seed": 1},
        {"y": [0, 1, 5], "data": "test", "ignore": "biasbn", "budget": 0.05},
        {"accelerate": "bf16", "levels": [0, 0.5, 2.5]},
        {"x": "auto", "y": ["auto", 21], "at_train_end": "best"},
        {"trajectory": {"every_n_steps": 10, "keep": 16, "max_bytes": "1GiB"}},
        {"trajectory": "auto"},
    ],
)
def test_a_config(tmp_path: Path, given: dict[str, Any]) -> None:
    check("lightning.pytorch", tmp_path / "config.yaml", given)


def test_a_config_of_the_other_namespace(tmp_path: Path) -> None:
    """In a process of its own: the classes on a command line are of the namespace that is imported first."""
    path = str(tmp_path / "config.yaml")
    program = (
        "import pathlib, pytorch_lightning\n"
        "from tests.test_lightning_cli import OPTIONS, check\n"
        f"check('pytorch_lightning', pathlib.Path({path!r}), OPTIONS)\n"
        "print('the same')\n"
    )
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=HANG, cwd=root)
    assert run.stdout.endswith("the same\n"), run.stderr[-2000:]


def test_the_options_above_are_all_of_them() -> None:
    assert list(OPTIONS) == list(inspect.signature(LossLandscapeCallback).parameters)
