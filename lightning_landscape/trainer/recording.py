"""The recorder of a training: which hook copies and writes the weights, and what is said where that can't be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..paths.logbook import Logbook, State
from ..paths.project import Recorded
from ..paths.recording import Form, Recording
from ..paths.records import Records
from ..weights.sharding import is_sharded
from . import compat

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

Choice = Literal["auto"] | bool | Recording
KEY = "lightning_landscape"  # of the state in a checkpoint


def checked_choice(choice: Choice) -> Choice:
    """The setting `trajectory` itself.

    Raises:
        ValueError: if it is none of the choices.
    """
    if choice != "auto" and not isinstance(choice, bool | Recording):
        raise ValueError(
            f'trajectory={choice!r} is unknown; the choices are "auto", True, False, '
            "Recording(every_n_steps=1, keep=64, max_bytes='256MiB')."
        )
    return choice


class PathRecorder:
    """The recorder of the weights of a training; the first process alone has one that writes.

    It counts the batches in which an optimiser has stepped. A record is made when such a batch ends, before
    checkpoints are saved. Nothing that goes wrong here ends the training: one warning says what it was.

    Args:
        choice: the setting of the callback.

    Attributes:
        choice: the same.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice = checked_choice(choice)
        self.forget()

    def forget(self) -> None:
        """Nothing was recorded yet, and no checkpoint loaded."""
        self._logbook: Logbook | None = None
        self._loaded: State | None = None
        self._root: Path | None = None
        self._is_off, self._has_warned = True, False
        self._stepped = 0  # the Trainer's count of steps before this batch
        self._numbers: dict[str, float] = {}  # learning rate and loss of this batch's step, where they may be needed

    @property
    def history(self) -> dict[str, NDArray[np.float64]]:
        """The numbers of all records by column, each of shape (N,); nothing where nothing was recorded."""
        return {} if self._logbook is None else self._logbook.history.columns

    def records(self, module: nn.Module | None = None) -> Records:
        """The weights that are kept, those of a `module` of now as the last."""
        if self._logbook is None:
            return Records({})
        with suppress(OSError):  # what can't be written is not there
            self._logbook.flush()
        return self._logbook.records(module)

    def recorded(self, module: nn.Module) -> Recorded | None:
        """The records so far, and the weights of now as the last; None where nothing is recorded of this module."""
        logbook = self._logbook
        if logbook is None or logbook.is_empty or not logbook.flat.fits(module):
            return None
        records = self.records(module)
        return Recorded(records.steps, records, history=self.history, checkpoints=logbook.checkpoints)

    def begin(self, trainer: Trainer, module: nn.Module, root: Path | None, is_first: bool) -> None:
        """A training begins, or goes on.

        Args:
            trainer: at the start of its training.
            module: that it trains.
            root: in which the folder of the records is made; None for no files, and no records.
            is_first: whether it is the first recorder of this Trainer. With "auto" only that one records.
        """
        self._logbook, self._root, self._has_warned = None, root, False
        choice = self.choice
        if isinstance(choice, Recording) and choice.folder is not None:
            self._root = Path(choice.folder)
        is_wanted = choice is not False and root is not None and trainer.is_global_zero
        self._is_off = not is_wanted or (choice == "auto" and not is_first)
        if not self._is_off and is_sharded(module):
            self._is_off = True
            compat.info(trainer, "The path of the training is not recorded: its parameters are sharded over processes.")

    def before_step(self, trainer: Trainer, module: LightningModule, batch_idx: int) -> None:
        """Copy the weights that a record after the next steps is compared with; make the first record."""
        self._stepped, self._numbers = trainer.global_step, {}
        if self._is_off:
            return
        try:
            logbook = self._opened(trainer, module)
            if logbook is None:
                return
            if logbook.is_empty:
                logbook.record(module, _learning_rate(trainer))
            ahead = logbook.lookback
            if logbook.is_due_within(ahead) or _may_end(trainer, batch_idx, self._stepped, ahead):
                logbook.copy(module)
                self._numbers["learning_rate"] = _learning_rate(trainer)
        except Exception as error:  # noqa: BLE001  # the training goes on, whatever a disk or a module raises
            self._failed(trainer, error)

    def after_step(self, trainer: Trainer, module: LightningModule, outputs: object, batch_idx: int) -> None:
        """Count a batch in which an optimiser has stepped, and record the weights if it is time."""
        if self._is_off or (step := trainer.global_step) == self._stepped:
            return
        try:
            logbook = self._logbook
            if logbook is None:  # a lazy module has weights from now on
                return
            logbook.count += 1
            is_due = logbook.is_due
            if not is_due and not _may_end(trainer, batch_idx, step, 1):
                return
            self._numbers["loss"] = _loss(outputs)
            if not logbook.flat.fits(module):
                self._begin_anew(trainer, module, logbook)
            elif is_due:
                logbook.record(module, **self._numbers)
            else:
                logbook.copy(module)
        except Exception as error:  # noqa: BLE001  # as above
            self._failed(trainer, error)

    def end(self, trainer: Trainer, module: LightningModule) -> None:
        """Record the weights after the last step.

        Weights that were averaged for the end of the training are not on its path: those before are recorded.
        """
        try:
            is_finished = self._loaded is not None and not self._is_off  # a checkpoint left nothing to train
            logbook = self._opened(trainer, module) if is_finished else self._logbook
            if logbook is not None and not self._is_off and not logbook.is_empty:
                if not logbook.has_file:
                    logbook.record(module, **self._numbers)
                logbook.flush()
        except Exception as error:  # noqa: BLE001  # as above
            self._failed(trainer, error)

    def save(self, trainer: Trainer, checkpoint: dict[str, Any], tag: str) -> None:
        """Put names and numbers into a checkpoint, which is noted; no weights."""
        if self._logbook is not None:
            try:
                self._logbook.flush()
            except OSError as error:
                self._failed(trainer, error)
            self._logbook.note_checkpoint()
            checkpoint.setdefault(KEY, {})[tag] = dict(self._logbook.state())

    def load(self, checkpoint: Mapping[str, Any], tag: str) -> None:
        """Take what `save` has put into a checkpoint."""
        if self.choice is not False:
            self._loaded = cast("State | None", checkpoint.get(KEY, {}).get(tag))

    def opens(self, trainer: Trainer, module: LightningModule) -> bool:
        """True if this training is recorded here, as far as that is known before its first step."""
        try:
            return not self._is_off and self._opened(trainer, module) is not None
        except Exception:  # noqa: BLE001  # the first step will say it
            return False

    def _opened(self, trainer: Trainer, module: LightningModule) -> Logbook | None:
        """The logbook, which is opened by the first call; None where there is none."""
        if self._logbook is not None or any(map(is_lazy, module.parameters())):
            return self._logbook
        recording = self.choice if isinstance(self.choice, Recording) else Recording()
        start = trainer.global_step if module.automatic_optimization else compat.training_step_count(trainer)
        logbook = Logbook(module, recording, self._root, start)
        if self.choice == "auto" and (line := _too_large(logbook.form, logbook.flat.size)):
            self._is_off, self._loaded = True, None
            compat.info(trainer, line)
            return None
        if self._loaded is not None:
            state, self._loaded = self._loaded, None
            lost = logbook.resume(state, _places(trainer, self._root))
            if lost is not None:
                compat.warn(trainer, f"The path of the training begins anew at step {logbook.step}: {lost}.")
        self._logbook = logbook
        return logbook

    def _begin_anew(self, trainer: Trainer, module: LightningModule, logbook: Logbook) -> None:
        """Let the path begin where other parameters are trained than before."""
        self._logbook = Logbook(module, logbook.recording, self._root, logbook.step)
        compat.info(trainer, f"The path of the training begins anew at step {logbook.step}, with other parameters.")
        self._logbook.record(module, **self._numbers)

    def _failed(self, trainer: Trainer, error: Exception) -> None:
        """Warn once; end the recording if there is nothing that it could build upon."""
        if self._logbook is None or self._logbook.is_empty:
            self._is_off = True
        if not self._has_warned:
            self._has_warned = True
            what = "is not recorded" if self._is_off else "lacks a record"
            compat.warn(
                trainer,
                f"The path of the training {what} ({type(error).__name__}: {error}). The training goes on. "
                "Give trajectory=False to record nothing.",
            )


def _too_large(form: Form, numbers: int, limit: int = 2**30) -> str | None:
    """The line that says why "auto" records nothing, where the records take more than 1 GiB; or None."""
    if form.nbytes <= limit:
        return None
    return (
        f"The path of the training is not recorded: {form.keep} records of {numbers:,} parameters take "
        f"{form.nbytes / 2**30:.1f} GiB. Give trajectory=True to record it."
    )


def _places(trainer: Trainer, root: Path | None) -> list[Path]:
    """The places of the records' folders, if they were moved: beside the checkpoint that the Trainer goes on from."""
    if trainer.ckpt_path is None or root is None:
        return []
    return [root, *(place / root.name for place in Path(trainer.ckpt_path).absolute().parents[:2])]


def _may_end(trainer: Trainer, batch_idx: int, step: int, steps: int) -> bool:
    """True if the epoch or the training may end within so many steps after `step`, this batch's among them."""
    if trainer.num_training_batches - batch_idx <= steps * trainer.accumulate_grad_batches:
        return True
    left = trainer.max_steps - step
    return left >= 0 and left <= steps * max(1, len(trainer.optimizers))


def _learning_rate(trainer: Trainer) -> float:
    """The learning rate of the first group of the first optimiser."""
    groups = trainer.optimizers[0].param_groups if trainer.optimizers else []
    return float(groups[0].get("lr", math.nan)) if groups else math.nan


def _loss(outputs: object) -> float:
    """The loss that a training step has returned."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return float(loss.detach()) if isinstance(loss, Tensor) and loss.numel() == 1 else math.nan
