"""Comet: pictures in the Graphics tab, numbers among the metrics."""

from __future__ import annotations

from typing import Any

from .base import Images, Scalars, has_class


def matches(logger: Any) -> bool:
    """True if the logger is Lightning's CometLogger."""
    return has_class(logger, "CometLogger")


def log(logger: Any, images: Images, scalars: Scalars, step: int) -> None:
    """One picture a tag, all numbers in one call."""
    experiment = logger.experiment
    for tag, image in images.items():
        # Without the range Comet stretches the contrast of every array, bytes too, from its min to its max.
        experiment.log_image(image, name=tag, step=step, image_minmax=(0, 255))
    if scalars:
        experiment.log_metrics(dict(scalars), step=step)
