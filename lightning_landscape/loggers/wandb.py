"""Weights & Biases: pictures and numbers in the run's workspace."""

from __future__ import annotations

from typing import Any

from .base import Shown, has_class


def matches(logger: object) -> bool:
    """True if the logger is Lightning's WandbLogger."""
    return has_class(logger, "WandbLogger")


def log(logger: Any, shown: Shown, step: int) -> None:
    """Everything in one call.

    Each call advances the run's own step, which Lightning does not pass; several would drift from the user's.
    """
    import wandb

    if shown.images or shown.scalars:
        logger.log_metrics({**{t: wandb.Image(image) for t, image in shown.images.items()}, **shown.scalars}, step=step)
