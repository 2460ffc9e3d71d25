"""SharpnessMonitor: curvature and sharpness along a training, in every logger."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

import numpy as np
from numpy.typing import NDArray
from torch.nn.parameter import is_lazy

from .arguments import check_at_least, check_word, checked_words
from .curvature.measures import MEASURES
from .curvature.stability import Stability, stability
from .distributed.ranks import OtherRankError, Ranks, failing_together, from_first
from .isolation.rng import preserved
from .local_paths import local_path
from .objectives.base import CannotMeasureError
from .plots import Figure, encode_picture
from .sharpness import SharpnessHistory
from .storage import write_whole
from .survey.budget import AUTO, Budget, now, parse_budget
from .trainer import compat
from .trainer.checks import check_trainer
from .trainer.folders import root_of
from .trainer.frozen import FrozenData
from .trainer.namespaces import join_namespaces, reduced
from .trainer.notices import Notices
from .trainer.progress import say
from .trainer.recording import KEY
from .trainer.savings import Savings
from .trainer.schedule import Schedule
from .trainer.sharpness import (
    ENDS,
    PRECONDITIONED,
    Moment,
    SharpnessSettings,
    neighbourhood,
    seconds_of_a_pass,
    take,
    trained_parameters,
)
from .trainer.unchanged import TrainingMovedError, sealed
from .trainer.undisturbed import undisturbed

if TYPE_CHECKING:
    from lightning.pytorch import Callback as _Callback
    from lightning.pytorch import LightningModule, Trainer
else:

    class _Callback(*compat.callback_bases()):
        """A callback for every Lightning namespace that is imported."""


WORDS = {
    "lambda_max": "λ_max",
    "lambda_min": "λ_min",
    "sam": "SAM",
    "lambda_max_preconditioned": "preconditioned λ_max",
}


class SharpnessMonitor(_Callback):
    """Measures of sharpness along a training: eigenvalues of the Hessian, trace, critical sharpness, and more.

    The numbers go to every logger as ``sharpness/lambda_max`` and so on, and to the log as a line. The folder
    ``<log_dir>/sharpness/`` gets a file of them, and at the end a picture with the edge of stability, 2/η for gradient
    descent. Each moment measures the same samples with the same random numbers, in eval mode. The training is bitwise
    the same as without the monitor.

    Several processes (DDP) all measure the same, without asking each other.

    Args:
        every_n_epochs: measure after every n epochs; None for not after epochs.
        every_n_train_steps: measure after every n steps of the optimisers, counted as by ModelCheckpoint.
        measures: "lambda_max", "lambda_min", "trace", "along_gradient", "critical", "sam", "adaptive_sam",
            "average_adaptive", "epsilon", "basin_width", "basin_width_of_one", "noise_scale". For Adam, AdamW and
            RMSprop "lambda_max" is also that of the preconditioned Hessian.
        top_k: how many of the largest eigenvalues "lambda_max" gives.
        spectrum: the density of all eigenvalues, too. That is 240 products of the Hessian.
        data: "train", "val" or "test": the module's step on these data.
        max_samples: how many samples, drawn at random; None for all.
        budget: the time of all measures. "auto": at most 5 % of the time trained so far. Each measure saves up an equal
            share of it, so that slow ones come at fewer moments. "2s": each moment. A number such as 0.02: that share.
            None: no limit. The picture at the end is drawn where 0.6 s are left for it.
        dirpath: where the files go; None for ``<log_dir>/sharpness``.

    Attributes:
        history: the numbers by name, an array each, with "step", "epoch", "learning_rate" and "limit". NaN where a
            measure was left out.

    Raises:
        ValueError: for an argument out of its range, before anything is trained.

    >>> SharpnessMonitor(every_n_train_steps=100, measures=("critical",)).history
    {}
    >>> SharpnessMonitor(every_n_epochs=None)
    Traceback (most recent call last):
    ValueError: every_n_epochs=None and every_n_train_steps=None measure nothing: give one of them a number.
    """

    def __init__(
        self,
        every_n_epochs: Optional[int] = 1,
        every_n_train_steps: Optional[int] = None,
        measures: Sequence[str] = ("lambda_max", "trace", "critical", "sam"),
        top_k: int = 1,
        spectrum: bool = False,
        data: Literal["train", "val", "test"] = "train",
        max_samples: Optional[int] = 256,
        budget: Optional[Union[float, str]] = "auto",
        dirpath: Optional[Union[str, os.PathLike]] = None,
    ) -> None:
        super().__init__()
        check_at_least("every_n_epochs", every_n_epochs, 1, "the epochs between two moments, or None")
        check_at_least("every_n_train_steps", every_n_train_steps, 1, "the steps between two moments, or None")
        if not every_n_epochs and not every_n_train_steps:
            raise ValueError(
                "every_n_epochs=None and every_n_train_steps=None measure nothing: give one of them a number."
            )
        check_at_least("top_k", top_k, 1, "the number of the largest eigenvalues")
        check_at_least("max_samples", max_samples, 1, "the most samples, or None for all")
        check_word("data", data, compat.DATA)
        names = checked_words("measures", measures, tuple(MEASURES))
        self.every_n_epochs, self.every_n_train_steps = every_n_epochs, every_n_train_steps
        self.settings = SharpnessSettings(names, top_k, bool(spectrum), data, max_samples)
        parsed = parse_budget(budget)
        self.budget: Budget | None = Budget("auto", share=0.05) if parsed is AUTO else parsed
        self.dirpath: Path | None = None if dirpath is None else local_path("dirpath", dirpath)
        join_namespaces(self)
        self._tag, self._loaded = "sharpness", SharpnessHistory()
        self._begin()

    def _begin(self) -> None:
        """Nothing is measured in this run yet."""
        self._table, self._loaded = self._loaded, SharpnessHistory()
        self._notices = Notices(strict=False)
        self._schedule = Schedule(self.every_n_epochs, self.every_n_train_steps)
        self._savings = Savings(self.budget, self.settings.units)
        self._frozen: FrozenData | None = None
        self._counters: compat.Counters | None = None
        self._folder: Path | None = None
        self._left_out: Counter[str] = Counter()
        self._moments, self._warned = 0, set[str]()
        self._is_off = self._is_rehearsed = False

    def __reduce__(self) -> Any:
        """Pickled as the class that was written down, without the data."""
        state = {**self.__dict__, "_frozen": None, "_counters": None}
        return reduced(self, state)

    @property
    def history(self) -> dict[str, NDArray[np.float64]]:
        """The numbers by name, one array each; NaN where a measure was left out."""
        return self._table.columns

    @property
    def sharpness(self) -> SharpnessHistory:
        """All that was measured, the spectra among it."""
        return self._table

    def plot(self, kind: str = "curves") -> Figure:
        """The picture of the "curves" or of the "spectrum" so far.

        Raises:
            ValueError: if the kind is unknown, or nothing was measured.
        """
        return self._table.plot(kind)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what can't work, and find our name among other monitors."""
        if stage != "fit":
            return
        check_trainer(trainer, pl_module, (self.settings.data,), type(self).__name__)
        mine = [callback for callback in compat.callbacks_of(trainer) if isinstance(callback, SharpnessMonitor)]
        self._tag = "sharpness" if mine[0] is self else f"sharpness_{mine.index(self) + 1}"

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """The numbers so far."""
        if self._table.rows:
            checkpoint.setdefault(KEY, {})[self._tag] = self._table.state()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """The numbers of the training that goes on."""
        state = checkpoint.get(KEY, {}).get(self._tag)
        if state is not None and trainer.state.fn == "fit":
            self._loaded = SharpnessHistory.of_state(state)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A new training, or one that goes on."""
        self._begin()
        self._counters = compat.Counters(trainer)
        try:
            self._folder = root_of(trainer, self.dirpath, self._tag if self.dirpath is None else self._folder_name())
        except CannotMeasureError as error:
            self._warn(trainer, f"There are no files ({error}).")

    def _folder_name(self) -> str:
        """The name that `root_of` gives a folder of its own below `dirpath`, where there are several monitors."""
        return "landscape" if self._tag == "sharpness" else self._tag

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Rehearse before the first step; measure after steps n, 2n, …, when all that follows a step is over."""
        if not self._is_rehearsed:
            self._is_rehearsed = True
            self._rehearse(trainer, pl_module)
        if self._schedule.is_due(trainer):
            self._run(trainer, pl_module)
        if self._counters is not None:
            self._counters.record()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure after epochs n, 2n, …, when the epoch's checkpoint is safe."""
        if self._schedule.is_due(trainer, epoch_over=True) and not compat.updates_statistics_only(trainer):
            self._run(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure after the last epoch or step, draw the pictures, and say what was left out."""
        if self._schedule.is_due(trainer, epoch_over=True):
            self._run(trainer, pl_module, last=True)
        self._frozen = None
        if trainer.is_global_zero:
            self._say_left_out(trainer)
            self._draw(trainer)

    def _rehearse(self, trainer: Trainer, module: LightningModule) -> None:
        """Read the data and measure the loss once: what can't work is known before the first step."""
        if any(map(is_lazy, module.parameters())):  # which have no weights before the first step
            return
        began = now()
        try:
            with (
                failing_together(trainer),
                sealed(trainer, module),
                undisturbed(trainer, self._counters),
                neighbourhood(trainer, module, self.settings, None) as (around, frozen, _),
            ):
                forward = seconds_of_a_pass(around)
        except (CannotMeasureError, OtherRankError) as error:
            self._switch_off(trainer, error)
        except TrainingMovedError as error:
            self._switch_off(trainer, error)
        except Exception as error:  # noqa: BLE001  # the user's own code may raise anything
            self._warn(trainer, f"The first measurement failed ({_described(error)}).")
        else:
            self._frozen = frozen
            expected = {unit: count * forward for unit, count in self.settings.passes.items()}
            self._savings.expect(expected, now() - began - forward)
        self._savings.pay({}, now() - began)

    def _run(self, trainer: Trainer, module: LightningModule, last: bool = False) -> None:
        """One moment, which never fails the training."""
        self._is_off = Ranks(trainer).any(self._is_off)  # what moved on one rank ends the moments of all
        if self._is_off:
            return
        units = from_first(trainer, self._savings.due(last))
        self._moments += 1
        self._left_out.update(name for name in self.settings.units if name not in units)
        if not units:
            return
        began, moment = now(), Moment()
        edge = stability(compat.optimizers(trainer), trained_parameters(module))
        try:
            with failing_together(trainer), preserved():
                with (
                    sealed(trainer, module),
                    undisturbed(trainer, self._counters),
                    neighbourhood(trainer, module, self.settings, self._frozen) as (around, frozen, find_update),
                ):
                    self._frozen = frozen
                    moment = take(around, find_update, self.settings, units, edge)
                self._keep(trainer, module, moment, edge)
        except TrainingMovedError as error:
            self._switch_off(trainer, error)
        except Exception as error:  # noqa: BLE001  # the training goes on, whatever the user's step raises
            self._warn(trainer, f"A measurement failed ({_described(error)}).")
        for unit, failure in moment.failures.items():
            names = ", ".join(self.settings.units[unit])
            self._warn(trainer, f"{names} could not be measured ({_described(failure)}).", names)
        self._savings.pay(moment.seconds, now() - began)

    def _keep(self, trainer: Trainer, module: LightningModule, moment: Moment, edge: Stability | None) -> None:
        """Add a moment to history, log, loggers and file."""
        if not moment.values:
            return
        step = compat.training_step_count(trainer)
        row = {"step": float(step), "epoch": float(trainer.current_epoch)}
        optimizers = compat.optimizers(trainer)
        if optimizers:
            row["learning_rate"] = float(optimizers[0].param_groups[0].get("lr", np.nan))
        if edge is not None:
            row["limit"] = edge.limit
        self._table.record({**row, **moment.values}, moment.nodes, moment.weights)
        words = ", ".join(dict.fromkeys(type(optimizer).__name__ for optimizer in optimizers))
        assert self._frozen is not None
        self._table.facts = {
            "optimizer": words,
            "formula": "unknown for this optimiser" if edge is None else edge.formula,
            "data": f"{self._frozen.size} samples of {self.settings.data}, eval mode",
        }
        if trainer.is_global_zero:
            say(trainer, f"Sharpness at step {step}: {_line(moment.values, row)}")
            self._log(trainer, {**moment.values, **{k: row[k] for k in ("limit",) if k in row}}, step)
            self._write(trainer)

    def _log(self, trainer: Trainer, values: dict[str, float], step: int) -> None:
        """Send the finite numbers to every logger."""
        numbers = {f"{self._tag}/{name}": value for name, value in values.items() if np.isfinite(value)}
        for logger in trainer.loggers:
            try:
                logger.log_metrics(numbers, step=step)
            except Exception as error:  # noqa: BLE001  # the next logger must get its share
                kind = type(logger).__name__
                self._warn(trainer, f"{kind} took no numbers ({_described(error)}).", kind)

    def _write(self, trainer: Trainer) -> None:
        """Write the file anew, whole or not at all."""
        if self._folder is None:
            return
        try:
            self._table.save(self._folder / "sharpness.h5")
        except OSError as error:
            self._warn(trainer, f"{self._folder} can't be written ({_described(error)}): give dirpath=.", "file")

    def _draw(self, trainer: Trainer) -> None:
        """Draw the pictures, where there are two moments to connect."""
        if self._folder is None or len(self._table.rows) < 2 or trainer.received_sigterm:
            return
        kinds = ["curves", *(["spectrum"] if self._table.spectra else [])]
        if self._savings.left < self._savings.picture * len(kinds):
            file = self._folder / "sharpness.h5"
            say(trainer, f"Sharpness: there is no time for a picture. load_sharpness({str(file)!r}).plot() draws it.")
            return
        try:
            with preserved():
                for kind in kinds:
                    name = "sharpness.png" if kind == "curves" else "spectrum.png"
                    write_whole(self._folder / name, encode_picture(self.plot(kind), ".png"))
        except Exception as error:  # noqa: BLE001  # a picture must not fail a training
            self._warn(trainer, f"The picture could not be made ({_described(error)}).", "picture")

    def _say_left_out(self, trainer: Trainer) -> None:
        """Say at how many moments there was no time for a measure."""
        names = {ENDS: "eigenvalues", "bulk": "trace and spectrum" if self.settings.spectrum else "trace"}
        parts = [f"{names.get(unit, unit)} at {count}" for unit, count in self._left_out.items()]
        if parts and not self._is_off:
            budget = "" if self.budget is None else f" (budget={self.budget.given!r})"
            say(
                trainer,
                f"Sharpness: of {self._moments} moments there was no time for {', '.join(parts)}{budget}. "
                "Give budget=None to measure all, or fewer measures.",
            )

    def _switch_off(self, trainer: Trainer, error: Exception) -> None:
        """No further moment in this training."""
        self._is_off = True
        self._warn(trainer, f"Nothing is measured in this training ({_described(error)}).")

    def _warn(self, trainer: Trainer, text: str, key: str = "") -> None:
        """Warn once of each text, or of each key; what was measured has moved nothing."""
        if key in self._warned:
            return
        self._warned |= {key} if key else set()
        self._notices.remark(trainer, [f"SharpnessMonitor: {text} The training goes on, unchanged."])


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().rstrip('.')}"


def _line(values: dict[str, float], row: dict[str, float]) -> str:
    """The numbers of a moment in words."""
    parts = []
    for name, value in values.items():
        if name == "loss" or name.endswith("_error"):
            continue
        error = f" ± {values[f'{name}_error']:.2g}" if f"{name}_error" in values else ""
        parts.append(f"{WORDS.get(name, name.replace('_', ' '))} {value:.4g}{error}")
    if row.get("learning_rate"):
        parts.append(f"2/η = {2 / row['learning_rate']:.4g}")
        if "lambda_max" in values and "limit" in row and not np.isclose(row["limit"], 2 / row["learning_rate"]):
            parts.append(f"limit of {'the preconditioned ' * (PRECONDITIONED in values)}λ_max {row['limit']:.4g}")
    return ", ".join(parts)
