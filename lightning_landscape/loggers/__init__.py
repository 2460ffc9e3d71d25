"""Pictures and numbers of one pass to the user's own Lightning loggers, for the callback.

One file a kind of logger, one row in `LOGGERS`. A logger that is not in the table takes nothing. A CSV log, for
example, would only get columns that its reader does not expect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from . import comet, mlflow, tensorboard, wandb
from .base import LoggerKind, Shown, has_class

LOGGERS: dict[str, LoggerKind] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
    "mlflow": mlflow,
    "comet": comet,
}

__all__ = ["LOGGERS", "Logged", "LoggerKind", "Shown", "log"]


@dataclass(frozen=True)
class Logged:
    """The outcome of one pass: the loggers that took it, and those that failed.

    Args:
        taken: the kind of each logger that took it, in the loggers' order.
        failed: the kind and the exception of each logger that raised.
    """

    taken: tuple[str, ...] = ()
    failed: tuple[tuple[str, Exception], ...] = ()


def log(loggers: Iterable[object], shown: Shown, step: int) -> Logged:
    """Sends the pictures and numbers of one pass to the loggers, and gives those that took them or failed.

    A failing logger does not keep the others from logging. Loggers of other kinds are passed over. So are loggers
    that do not log in this process: on ranks other than 0, or a DummyLogger.

    Args:
        loggers: Lightning loggers of either namespace, e.g. ``trainer.loggers``.
        shown: what they get.
        step: the optimiser's step, as the user's own metrics carry it.
    """
    taken, failed = [], []
    for logger in loggers:
        kind = next((kind for kind, row in LOGGERS.items() if row.matches(logger)), None)
        if kind is None:
            continue
        try:
            if not _is_live(logger.experiment):  # type: ignore[attr-defined]
                continue
            LOGGERS[kind].log(logger, shown, step)
        except Exception as error:  # noqa: BLE001  # the caller warns; the next logger must get its share
            failed.append((kind, error))
        else:
            taken.append(kind)
    return Logged(tuple(taken), tuple(failed))


def _is_live(experiment: object) -> bool:
    """True if an experiment logs at all: Lightning hands out a dummy on every rank but 0."""
    return experiment is not None and not has_class(experiment, "_DummyExperiment")
