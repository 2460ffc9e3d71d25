"""The moments of a training at which a landscape is due."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class Schedule:
    """Landscapes after every n epochs, after every m steps of the optimisers, or both; each moment is due once.

    Steps are counted as by ``ModelCheckpoint(every_n_train_steps=m)``, in ``trainer.global_step``. Batches whose
    gradients accumulate are no steps; each optimiser of a manual optimisation has its own.

    Args:
        every_n_epochs: n, or None.
        every_n_train_steps: m, or None.

    >>> from types import SimpleNamespace
    >>> schedule = Schedule(None, 2)
    >>> moments = [SimpleNamespace(current_epoch=0, global_step=step) for step in (0, 1, 2, 2, 3, 4)]
    >>> [schedule.is_due(moment) for moment in moments]
    [False, False, True, False, False, True]
    """

    def __init__(self, every_n_epochs: int | None, every_n_train_steps: int | None) -> None:
        self.every_n_epochs, self.every_n_train_steps = every_n_epochs, every_n_train_steps
        self._step = 0  # when a landscape was due last; none is of weights that were never trained

    def is_due(self, trainer: Trainer, *, epoch_over: bool = False) -> bool:
        """True if a landscape is to be measured now.

        Ask between two steps, when all that follows a step is over. At the start of the next batch it is.

        Args:
            trainer: in the middle of its training.
            epoch_over: True between two epochs, or at the end.
        """
        epoch, step = trainer.current_epoch, trainer.global_step
        by_epoch = epoch_over and bool(self.every_n_epochs and epoch and epoch % self.every_n_epochs == 0)
        by_step = bool(self.every_n_train_steps and step != self._step and step % self.every_n_train_steps == 0)
        if by_step:
            self._step = step
        return by_epoch or by_step
