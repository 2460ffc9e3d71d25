"""TensorBoard: pictures in the Images tab, numbers in the Scalars tab, sentences in the Text tab."""

from __future__ import annotations

import re
from typing import Any

from .base import Shown, has_class


def matches(logger: object) -> bool:
    """True if the logger is Lightning's TensorBoardLogger."""
    return has_class(logger, "TensorBoardLogger")


def log(logger: Any, shown: Shown, step: int) -> None:
    """One event a tag; all of them are on disk when this returns."""
    writer = logger.experiment
    for tag, image in shown.images.items():
        writer.add_image(tag, image, step, dataformats="HWC")
    for tag, value in shown.scalars.items():
        writer.add_scalar(tag, value, step)
    for tag, text in shown.text.items():
        writer.add_text(tag, as_markdown(text), step)
    writer.flush()  # else the writer may keep a finished picture back for two minutes


def as_markdown(text: str) -> str:
    """Plain text in Markdown: its lists stay lists, and every other sign stands for itself.

    >>> print(as_markdown("- the loss a*b_c <i>"))
    - the loss a\\*b\\_c &lt;i>
    """
    return re.sub(r"([\\`*_\[\]])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")
