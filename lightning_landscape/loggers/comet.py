"""Comet: pictures in the Graphics tab, numbers among the metrics, sentences in the Text tab."""

from __future__ import annotations

from typing import Any

from .base import Shown, has_class


def matches(logger: object) -> bool:
    """True if the logger is Lightning's CometLogger."""
    return has_class(logger, "CometLogger")


def log(logger: Any, shown: Shown, step: int) -> None:
    """One picture and one text a tag, all numbers in one call."""
    experiment = logger.experiment
    for tag, image in shown.images.items():
        # Without the range Comet stretches the contrast of every array, bytes too, from its min to its max.
        experiment.log_image(image, name=tag, step=step, image_minmax=(0, 255))
    if shown.scalars:
        experiment.log_metrics(dict(shown.scalars), step=step)
    for tag, text in shown.text.items():
        experiment.log_text(text, step=step, metadata={"name": tag})
