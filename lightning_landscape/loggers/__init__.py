"""Pictures and numbers of one pass to the user's own Lightning loggers, for the callback.

One file a kind of logger, one row in `LOGGERS`. A logger that is not in the table takes nothing: a CSV log
would only get columns that its reader does not expect, and the files on disk are written by others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import comet, mlflow, tensorboard, wandb
from .base import Images, LoggerKind, Scalars, has_class

LOGGERS: dict[str, LoggerKind] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
    "mlflow": mlflow,
    "comet": comet,
}

__all__ = ["LOGGERS", "Logged", "LoggerKind", "log"]


@dataclass(frozen=True)
class Logged:
    """The outcome of one pass: the loggers that took it, and those that failed.

    Args:
        taken: the kind of each logger that took it, in the loggers' order.
        failed: the kind and the exception of each logger that raised.
    """

    taken: tuple[str, ...] = ()
    failed: tuple[tuple[str, Exception], ...] = ()


def log(loggers: Iterable[Any], images: Images, scalars: Scalars, step: int) -> Logged:
    """Sends the pictures and numbers of one pass to the loggers, and gives those that took them or failed.

    A failing logger does not keep the others from logging. Loggers that we do not know, and loggers that do
    not log in this process (ranks other than 0, DummyLogger), are passed over.

    Args:
        loggers: Lightning loggers of either namespace, e.g. ``trainer.loggers``.
        images: uint8 pictures by tag, shape (height, width, 3).
        scalars: numbers by tag; NaN and inf where the logger can show them.
        step: the optimiser's step, as the user's own metrics carry it.

    Raises:
        ValueError: if a picture is not uint8 RGB; then no logger gets anything.

    >>> log([object(), None], {}, {"landscape/relief": 1.0}, step=3)
    Logged(taken=(), failed=())
    """
    for tag, image in images.items():
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"images[{tag!r}] must be uint8 of shape (height, width, 3), got {image.dtype} {image.shape}."
            )
    taken, failed = [], []
    for logger in loggers:
        kind = next((kind for kind, row in LOGGERS.items() if row.matches(logger)), None)
        if kind is None:
            continue
        try:
            if not _is_live(logger.experiment):
                continue
            LOGGERS[kind].log(logger, images, scalars, step)
        except Exception as error:  # noqa: BLE001  # the caller warns; the next logger must get its share
            failed.append((kind, error))
        else:
            taken.append(kind)
    return Logged(tuple(taken), tuple(failed))


def _is_live(experiment: Any) -> bool:
    """True if an experiment logs at all: Lightning hands out a dummy on every rank but 0."""
    return experiment is not None and not has_class(experiment, "_DummyExperiment")
