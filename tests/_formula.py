"""The plain formula of a surface: displaced weights, eval mode, one loss after the other; and a fit to compare with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch

from lightning_landscape import LossLandscapeCallback, Plane, Random, Snapshot


def plain_surface(module: Any, landscape: Any, seed: int, loss: Callable[[], Any]) -> np.ndarray:
    """``loss()`` with the module's weights at every point of a landscape's grid; then everything is put back."""
    snapshot = Snapshot.view(module)
    origin = {name: tensor.clone() for name, tensor in snapshot.params.items()}
    plane = Plane(origin, Random(seed=seed)(Snapshot(origin, snapshot.filters, snapshot.normalization), 2))
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    flags = {part: part.training for part in module.modules()}
    module.eval()
    result = []
    with torch.no_grad():
        for point in landscape.grid.points:
            for name, value in plane.at(point).items():
                snapshot.params[name].copy_(value)
            result.append(float(loss()))
            module.load_state_dict(state)
    for part, training in flags.items():
        part.training = training
    return np.reshape(result, landscape.grid.shape)


def callback(**options: Any) -> LossLandscapeCallback:
    """A small one, whose passes must all succeed."""
    return LossLandscapeCallback(
        **{
            "every_n_epochs": 1, "x": (-1, 1, 3), "y": (-0.5, 0.5, 2), "samples": 0, "max_samples": None,
            "plots": [], "formats": ["h5"], "strict": True, "seed": 4,
            "trajectory": False, **options,
        }
    )  # fmt: skip


def train(module: Any, data: Any, callbacks: list[Any], path: Path, *, ckpt_path: Any = None, **options: Any) -> Any:
    """Fit from a fixed seed; gives the Trainer and all that came of it, as plain values to compare."""
    L.seed_everything(2)
    trainer = L.Trainer(
        **{
            "max_epochs": 2, "accelerator": "cpu", "logger": False, "callbacks": callbacks, "default_root_dir": path,
            "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False, **options,
        }
    )  # fmt: skip
    arguments = {"datamodule": data} if isinstance(data, L.LightningDataModule) else {}
    trainer.fit(module, *(() if arguments else data), **arguments, ckpt_path=ckpt_path)
    return trainer, {
        "weights": copy.deepcopy(module.state_dict()),
        "metrics": dict(trainer.callback_metrics),
        "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "progress": (trainer.global_step, trainer.current_epoch, trainer.fit_loop.state_dict()),
        "random": torch.get_rng_state(),
    }


def rounds_products() -> bool:
    """Whether products of medium precision are rounded on this machine."""
    x, precision = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)), torch.get_float32_matmul_precision()
    exact = x.double() @ x.double()
    try:
        torch.set_float32_matmul_precision("medium")
        return not torch.allclose((x @ x).double(), exact, rtol=1e-4, atol=1e-4)
    finally:
        torch.set_float32_matmul_precision(precision)
