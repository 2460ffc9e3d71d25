"""TensorBoard: pictures in the Images tab, numbers in the Scalars tab."""

from __future__ import annotations

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
    writer.flush()  # else the writer may keep a finished picture back for two minutes
