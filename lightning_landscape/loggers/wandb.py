"""Weights & Biases: pictures, numbers and texts in the run's workspace."""

from __future__ import annotations

from html import escape
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

    images = {tag: wandb.Image(image) for tag, image in shown.images.items()}
    # A page has a panel with a slider over the steps, as pictures have; a plain string would be a column of a table.
    texts = {tag: wandb.Html(as_page(text)) for tag, text in shown.text.items()}
    if images or shown.scalars or texts:
        logger.log_metrics({**images, **shown.scalars, **texts}, step=step)


def as_page(text: str) -> str:
    """Plain text as a page that breaks its lines.

    >>> as_page("a < b")
    '<pre style="white-space: pre-wrap">a &lt; b</pre>'
    """
    return f'<pre style="white-space: pre-wrap">{escape(text, quote=False)}</pre>'
