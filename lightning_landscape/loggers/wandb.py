"""Weights & Biases: pictures and numbers in the run's workspace."""

from __future__ import annotations

from typing import Any

from .base import Images, Scalars, has_class


def matches(logger: Any) -> bool:
    """True if the logger is Lightning's WandbLogger."""
    return has_class(logger, "WandbLogger")


def log(logger: Any, images: Images, scalars: Scalars, step: int) -> None:
    """Everything in one call.

    Each call advances the run's own step, which Lightning does not pass; several would drift from the user's.
    """
    import wandb

    if images or scalars:
        logger.log_metrics({**{t: wandb.Image(image) for t, image in images.items()}, **scalars}, step=step)
