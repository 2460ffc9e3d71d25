"""LossLandscapeCallback: when a landscape is measured during a training, and where it goes."""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional, TypeVar, Union

import numpy as np
from numpy.typing import NDArray

from .accelerations import check_accelerate
from .directions import NORMALIZATIONS, Directions, make_directions
from .distributed.ranks import OtherRankError, Ranks, from_first, raise_together
from .evaluators.modes import check_mode, flags_of
from .interpolation.refinement import check_tolerance, finest_level
from .isolation.rng import preserved
from .landscape import Grid, Landscape
from .local_paths import is_remote, local_path
from .loggers import log
from .objectives.base import CannotMeasureError
from .output import DATA_FORMATS, EXPORT_FORMATS, PICTURES, Look, Output, Write, data_file, previous, put_out
from .paths.recording import Recording
from .paths.records import Records
from .plots import COLOR_SCALES, PLOTS, Figure
from .plots.run_scale import RunScale
from .plots.tiles import parse_layout
from .redraw import Drawn, redraw
from .storage import EXPORTS, check_writable, load
from .summary import about
from .survey.budget import Account, Deadline, Grant, now, parse_budget
from .survey.find_range import ranges_of
from .survey.plan import Plan, choose_samples, least_seconds, may_be_slow
from .survey.same_loss import tidy
from .trainer import compat
from .trainer.announcements import repetition
from .trainer.cost import announced
from .trainer.handover import Handover
from .trainer.interrupts import PassEndedError
from .trainer.measure import Settings, measuring, rehearse, remarks
from .trainer.pass_files import PassFiles, check_folder, continuation_advice, continued_folders
from .trainer.progress import Count, Progress, progress, say, waiting
from .trainer.recording import PathRecorder
from .trainer.run_state import RunState
from .trainer.saved import NoBestError, best_checkpoint
from .trainer.schedule import Schedule
from .trainer.unchanged import TrainingMovedError, sealed
from .trainer.undisturbed import undisturbed
from .trajectory import Trajectory
from .weights.sharding import is_sharded

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from lightning.pytorch import Callback as _Callback
    from lightning.pytorch import LightningModule, Trainer
else:

    class _Callback(*compat.callback_bases()):
        """A callback for every Lightning namespace that is imported."""


log_ = logging.getLogger(__name__)
T = TypeVar("T")
LARGE = 16 * 2**20  # bytes: a larger landscape is kept as a path
SAVE_EVERY = 5.0  # seconds between two saves of a landscape in progress


class LossLandscapeCallback(_Callback):
    """The loss landscape around the weights, while they train.

    Measures f(α, β) = L(θ* + α·δ + β·η) with filter-normalised random directions (Li et al. 2018, section 4). Every
    point runs your module's step on the same part of your data. The loggers of the Trainer show the landscape, and
    ``<log_dir>/landscape/step=…/`` keeps it. The training is bitwise the same as without the callback.

    Args:
        every_n_epochs: a landscape after every n epochs; None for none after epochs.
        every_n_train_steps: a landscape after every n steps of the optimisers, counted as by ModelCheckpoint; None for
            none after steps.
        at_train_end: a landscape of the final weights; "best" for one of the best checkpoint, too, in a folder
            ``step=…-best`` and under a tag of its own.
        x: ``(low, high, points)`` along the first direction, in its lengths. Or "auto", or ``("auto", points)``: as far
            as the loss rises to 10 times that of the centre, by 1 at least, or is finite. The first landscape finds
            the range, at 11 points of a plane and on a few samples; all later ones of the training keep it.
        y: the same along the second direction; None gives a 1-D curve.
        directions: the kind, or a callable ``(site, k) -> k directions``.
        normalize: how random directions are scaled by the weights: "filter", "layer", "weight", "dfilter",
            "dlayer", "model" or "none".
        ignore: parameters that stay at rest: "biasbn" (all tensors of at most one dimension and all normalisation
            layers), name patterns such as "embedding.*", or None.
        orthogonalize: make the directions orthogonal.
        seed: of the directions, the choice of data, and the random numbers that all points share.
        data: "train" runs ``training_step``, "val" ``validation_step``, "test" ``test_step``, each on its loader's
            data; several share one plane.
        mode: "eval"; or "train", each part of the module as it is in the training. Dropout and noise then take random
            numbers that all points share, and BatchNorm the statistics of each batch. Parts that you froze by
            ``.eval()`` stay frozen. For losses that exist, or are minimised, in train mode only.
        objective: ``(module, batch) -> tensor or mapping of tensors`` in place of the module's step; each of
            shape () or one value a sample.
        max_samples: how many samples of each data set, drawn at random; None for all.
        max_batches: how many batches of each data set; None for all.
        samples: how many single samples get a tile of their own; 0 for none.
        sample_layout: rows × columns of the tiles.
        color_scale: "global" (lowest to highest), "quantile" (5–95 %) or "log". One scale is for all landscapes of a
            training: the first one sets it, and a later one that leaves it widens it. At the end all are drawn on it.
        vmin, vmax: the ends of the colours, heights and y axes of the main loss; None for those that the landscapes
            need. Tiles keep their own.
        levels: the contour levels of the main loss, which set its ends, too; None for levels between the ends.
        share_colorbar: one colour bar for all tiles, or one each.
        plots: kinds of pictures of the main loss: "contour", "surface", "slices", "tiles", and "heat" on request. Every
            other metric has the first of them.
        dirpath: where the files go; None for ``<log_dir>/landscape``.
        formats: of the files: "h5", "npz", "json", "csv", "vtp" (ParaView, 2-D only), "png", "pdf", "svg".
        accelerate: measure faster where a short trial on your module gives the same values, to 1e-6 relative. The trial
            compares memory formats and kernels, and compilation for long passes; the landscape's report names its
            choice. "bf16" tries bfloat16, too; report, log and pictures state its error, measured at a few points.
            Several processes use rank 0's choice of formats and kernels, if it proves equal on every rank.
        tolerance: the largest error of the loss, as a share of its range, e.g. 1e-3. Points are evaluated from coarse
            to fine until an estimate on held-out points is below it. The remaining points are interpolated, which
            ``landscape.interpolated`` marks and the pictures say. A feature narrower than an eighth of the range may
            stay unseen. None evaluates every point.
        budget: the time of the landscapes. "auto": all together at most 10 % of the time trained so far. In any case
            20 s each, and 60 s at the end. "30s", "2min" or "1h": each; what one leaves over goes to the next. A number
            such as 0.05: all together that share of the time trained. None: no limit. A plan is made once, from what
            a sample takes, and kept for all landscapes: first the samples are cut, down to 64, then the points, down
            to 9 an axis. The points go from coarse to fine, and the others are interpolated; files and pictures state
            both errors. A landscape with too little time for that waits, but the last one.
        trajectory: record the weights along the training, at 64 of its steps at most, in
            ``<log_dir>/landscape/trajectory/``. "auto" does so where they take up to 1 GiB. A `Recording` has other
            settings.
        strict: let a failing landscape fail the training; else it warns once.

    Attributes:
        landscape: the last `Landscape`, or None; ``landscape.loss`` is the array of the main loss.
        landscapes: all of this run by step, that of the best checkpoint among them; of a large one, the path of its
            file.

    Raises:
        ValueError: for an argument out of its range, before anything is trained.
        ImportError: if one of `formats` needs a library that is not installed.

    >>> callback = LossLandscapeCallback(every_n_epochs=5, x=(-1, 1, 21), y=(-1, 1, 21))
    >>> LossLandscapeCallback(normalize="filters")
    Traceback (most recent call last):
    ValueError: normalize='filters' is unknown; the choices are filter, layer, weight, dfilter, dlayer, none, model.
    """

    _landscape: Landscape | None = None
    _account: Account | None = None
    _counters: compat.Counters | None = None
    _tag = "landscape"  # of folders and loggers
    _fitted = False
    _shown: Progress  # of the pass that runs

    def __init__(
        self,
        *,
        every_n_epochs: Optional[int] = None,
        every_n_train_steps: Optional[int] = None,
        at_train_end: Union[bool, Literal["best"]] = True,
        x: Union[tuple[float, float, int], tuple[Literal["auto"], int], Literal["auto"]] = (-1.0, 1.0, 51),
        y: Optional[Union[tuple[float, float, int], tuple[Literal["auto"], int], Literal["auto"]]] = (-1.0, 1.0, 51),
        directions: Union[Literal["random"], Callable] = "random",
        normalize: Literal["filter", "layer", "weight", "dfilter", "dlayer", "model", "none"] = "filter",
        ignore: Optional[Union[str, list[str]]] = "biasbn",
        orthogonalize: bool = False,
        seed: int = 42,
        data: Union[Literal["train", "val", "test"], list[Literal["train", "val", "test"]]] = "train",
        mode: Literal["eval", "train"] = "eval",
        objective: Optional[Callable] = None,
        max_samples: Optional[int] = 1024,
        max_batches: Optional[int] = None,
        samples: int = 10,
        sample_layout: str = "2x5",
        color_scale: Literal["global", "quantile", "log"] = "global",
        vmin: Optional[float] = None,
        vmax: Optional[float] = None,
        levels: Optional[Sequence[float]] = None,
        share_colorbar: bool = True,
        plots: Sequence[str] = ("contour", "surface", "slices", "tiles"),
        dirpath: Optional[Union[str, os.PathLike]] = None,
        formats: Sequence[str] = ("h5", "png"),
        accelerate: Union[bool, Literal["bf16"]] = True,
        tolerance: Optional[float] = None,
        budget: Optional[Union[float, str]] = "auto",
        trajectory: Union[Literal["auto"], bool, Recording] = "auto",
        strict: bool = False,
    ) -> None:
        super().__init__()
        _join_namespaces(self)
        _check_moments(every_n_epochs, every_n_train_steps, at_train_end)
        grid, searched = ranges_of({name: given for name, given in (("x", x), ("y", y)) if given is not None})
        self.every_n_epochs, self.every_n_train_steps = every_n_epochs, every_n_train_steps
        self.at_train_end, self.strict, self.budget = at_train_end, strict, parse_budget(budget)
        self.dirpath = None if dirpath is None else local_path("dirpath", dirpath)
        self._path = PathRecorder(trajectory)
        self.settings = _checked(
            Settings(
                grid, _directions(directions, normalize, ignore, orthogonalize, seed),
                _choices("data", (data,) if isinstance(data, str) else data, compat.DATA),
                _callable("objective", objective), seed, max_samples, max_batches, samples, accelerate, tolerance, mode,
                searched=searched,
            )
        )  # fmt: skip
        look = Look(plots, formats, color_scale, sample_layout, share_colorbar)
        self.look = replace(_look(grid.ndim, samples, look), scale=RunScale(color_scale, vmin, vmax, levels))
        self._set_up()

    def _set_up(self) -> None:
        """Nothing was trained yet."""
        self._handover = Handover()
        self._loaded: dict[str, Any] = {}  # step and epoch of the checkpoint that is measured
        self._flags: dict[str, bool] = {}  # of the module's parts, when it was trained last
        self._run_state = RunState()
        self._begin()

    def _begin(self) -> None:
        """Nothing is measured in this run yet, and nothing said."""
        self._landscapes: dict[int, Landscape | Path] = {}
        self._warned: set[str] = set()  # kinds of failures
        self._remarked: set[str] = set()
        self._schedule = Schedule(self.every_n_epochs, self.every_n_train_steps)
        self._postponed = self._off = self._rehearsed = self._began = False

    def __reduce__(self) -> Any:
        """Pickled as the class that was written down, not the one that `__init__` may have made."""
        return _restored, (getattr(type(self), "_declared", type(self)), self.__dict__)

    @property
    def landscape(self) -> Landscape | None:
        """The last landscape; that of a spawned process is loaded from its file."""
        if left := self._handover.take():
            self._landscapes = {**left}
            self._landscape = load(list(left.values())[-1])
        return self._landscape

    @property
    def landscapes(self) -> dict[int, Landscape | Path]:
        """All of this run by step; of large ones, and of spawned processes, the paths of their files."""
        _ = self.landscape
        return self._landscapes

    @property
    def records(self) -> Records:
        """The weights along the training, oldest first; each is read from its file when it is asked for."""
        return self._path.records()

    @property
    def history(self) -> dict[str, NDArray[np.float64]]:
        """Numbers of all records by name: "step", "norm", "distance", "step_length", "cosine", "learning_rate", "loss".

        There are more of them than `records`, of which only some are kept.
        """
        return self._path.history

    @property
    def trajectory(self) -> Trajectory | None:
        """The path of the training on the plane of the last landscape; None where there is none."""
        return None if self.landscape is None else self.landscape.trajectory

    def plot(self, kind: str | None = None, metric: str | None = None, **options: Any) -> Figure:
        """The figure of the last landscape; arguments and errors as `Landscape.plot`.

        Raises:
            ValueError: if there is no landscape yet.
        """
        if self.landscape is None:
            raise ValueError(
                f"There is no landscape yet (every_n_epochs={self.every_n_epochs}, "
                f"every_n_train_steps={self.every_n_train_steps}, at_train_end={self.at_train_end}): "
                "call trainer.fit(...) with this callback first. If you did, a warning of the callback says why it "
                "has none. Landscapes in files are drawn by lightning_landscape.load(path).plot()."
            )
        return self.landscape.plot(kind, metric, **options)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what can't work, and take our place among the callbacks."""
        self._loaded = {}  # before a checkpoint is loaded
        self._path.forget()
        self._began = False
        self._run_state = RunState()
        why = compat.unsupported(trainer)
        if why is not None:
            raise compat.misconfiguration(trainer, f"LossLandscapeCallback does not support this: {why}.")
        self._account = None if self.budget is None else Account(self.budget, len(self.look.plots))
        for data in self._data(trainer) if self.settings.objective is None else ():
            step = compat.STEPS[data]
            if not compat.is_overridden(step, pl_module):
                raise compat.misconfiguration(
                    trainer,
                    f"data={data!r} needs {step}, which {type(pl_module).__name__} does not implement: implement it, "
                    "choose another data, or give objective=function(module, batch).",
                )
            if compat.takes_iterator(step, pl_module):
                raise compat.misconfiguration(
                    trainer,
                    f"data={data!r}: {step} of {type(pl_module).__name__} takes dataloader_iter and draws its batches "
                    "itself, but every point must be measured on the same ones: let it take batch and batch_idx, "
                    "choose another data, or give objective=function(module, batch).",
                )
        compat.reorder(trainer, LossLandscapeCallback)
        mine = [c for c in compat.callbacks_of(trainer) if isinstance(c, LossLandscapeCallback)]
        self._tag = "landscape" if mine[0] is self else f"landscape_{mine.index(self) + 1}"

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """`Trainer.validate` and `Trainer.test` know nothing of the training that their checkpoint is of."""
        if trainer.state.fn != "fit":
            self._loaded = compat.checkpoint_progress(checkpoint)
        else:
            self._path.load(checkpoint, self._tag)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Which records of the weights there are, and their numbers."""
        self._path.save(trainer, checkpoint, self._tag)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A new training, of which there is no landscape yet."""
        self._begin()
        self._fitted = self._began = True
        self._counters = compat.Counters(trainer)
        self._flags = flags_of(pl_module)
        self._path.begin(trainer, pl_module, self._record_root(trainer), self._tag == "landscape")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Rehearse before the first step, after the module's start hooks. The landscape after steps n, 2n, …

        All that belongs to the step before is over here: every hook, its validation, its checkpoint.
        """
        if not self._rehearsed and (self.every_n_epochs or self.every_n_train_steps or self.at_train_end):
            self._rehearsed = True
            self._flags = flags_of(pl_module)
            self._rehearse(trainer, pl_module)
            if self._run_state.cost is not None:
                grid, budget = self._settings(trainer).grid, None if self._account is None else self._account.budget
                moments = self.every_n_epochs, budget, self.every_n_train_steps
                say(trainer, announced(trainer, self._run_state.cost, grid, batch, *moments))
        if self._schedule.is_due(trainer):
            self._run(trainer, pl_module, last=False)
        self._path.before_step(trainer, pl_module, batch_idx)
        if self._counters is not None:
            self._counters.record()  # those that the step reads

    def _rehearse(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure one batch, so that what can't work is known before the first step."""
        error, remarked = None, list[str]()
        with self._spending():
            try:
                self._check_folder(trainer)
                with (
                    waiting(trainer, "Landscape: one batch for trial"),
                    sealed(trainer, pl_module, watch=True),
                    undisturbed(trainer, self._counters),
                ):
                    remarked = self._rehearsed_now(trainer, pl_module)
            except Exception as raised:  # noqa: BLE001  # raised on the next lines, on every rank
                error = raised
        try:
            raise_together(trainer, error)
        except (CannotMeasureError, OtherRankError) as error:
            raise compat.misconfiguration(trainer, f"LossLandscapeCallback: {error}") from error
        except TrainingMovedError as error:
            self._switch_off(trainer, error)
        except Exception as error:  # noqa: BLE001  # the user's own code may raise anything
            self._failed(trainer, error, unchanged=True)
        self._remark(trainer, remarked)

    def _rehearsed_now(self, trainer: Trainer, pl_module: LightningModule) -> list[str]:
        """Rehearse, inside `undisturbed`, and keep what it costs; gives the remarks."""
        found = rehearse(trainer, pl_module, self._settings(trainer))
        self._run_state.cost = found.cost
        return found.remarks

    def _switch_off(self, trainer: Trainer, error: TrainingMovedError) -> None:
        """No further landscape in this training: its step moves what can't be held back."""
        self._off = True
        self._failed(trainer, error, "The loss landscape is switched off for the rest of this training")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Record the weights; note which parts are in train mode: hooks and callbacks may change it at each batch."""
        self._path.after_step(trainer, pl_module, outputs, batch_idx)
        if self.settings.mode == "train":
            self._flags = flags_of(pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The landscape after epochs n, 2n, …: here, when the epoch's checkpoint is safe."""
        due = self._schedule.is_due(trainer, epoch_over=True)
        # An epoch that only takes BatchNorm's statistics anew starts with none: the landscape has to wait for them.
        self._postponed = due and compat.updates_statistics_only(trainer)
        if due and not self._postponed:
            self._run(trainer, pl_module, last=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The landscapes of the best checkpoint, if that is wanted, and of the final weights."""
        self._path.end(trainer, pl_module)
        due = self._schedule.is_due(trainer, epoch_over=True)
        if self.at_train_end == "best" and not self._off and not compat.is_smoke_test(trainer):
            self._run_best(trainer, pl_module)
        if self.at_train_end or due or self._postponed:
            self._run(trainer, pl_module)
        self._show_run(trainer)

    def _run_best(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The landscape of the best checkpoint, in a plane around its own weights."""
        saved, error = None, None
        try:
            with compat.averaged(trainer, pl_module):
                saved = best_checkpoint(trainer, pl_module)
        except Exception as raised:  # noqa: BLE001  # raised on the next lines, on every rank
            error = raised
        try:
            raise_together(trainer, error)
        except NoBestError as reason:
            text = f'at_train_end="best": {reason}'
            compat.info(trainer, text) if reason.is_final else self._remark(trainer, [text])
        except Exception as error:  # noqa: BLE001  # the file may be damaged, or gone
            self._failed(trainer, error, "The best checkpoint could not be read")
        if saved is not None and error is None:
            weights = f"the best checkpoint, {saved.name}"
            self._loaded = {"step": saved.step, "epoch": saved.epoch, "weights": weights, "saved": saved}
            try:
                self._run(trainer, pl_module)
            finally:
                self._loaded = {}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The landscape of the final weights, if a checkpoint left nothing to train: it may be unfinished."""
        if self._began or trainer.ckpt_path is None:
            return
        if is_sharded(pl_module):
            log_.info("with sharded parameters the landscape of a training at its end is not completed")
            return
        self._landscapes.clear()
        self._path.begin(trainer, pl_module, self._record_root(trainer), self._tag == "landscape")
        with compat.on_its_device(trainer, pl_module):
            self.on_train_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """`Trainer.validate` on its own, or after a fit if ``data`` names it: the landscape of the validation loss."""
        if trainer.state.fn == "validate" and (not self._fitted or "val" in self.settings.data):
            self._run(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """`Trainer.test` on its own, or after a fit if ``data`` names it: the landscape of the test loss."""
        if not self._fitted or "test" in self.settings.data:
            self._run(trainer, pl_module)

    def _data(self, trainer: Trainer) -> tuple[str, ...]:
        """The settings' data; in `Trainer.validate` and `Trainer.test`, what these have."""
        return {"validate": ("val",), "test": ("test",), "predict": ()}.get(
            compat.running_method(trainer), self.settings.data
        )

    def _settings(self, trainer: Trainer) -> Settings:
        settings = {**vars(self._run_state.in_them(self.settings)), "data": self._data(trainer), "flags": self._flags}
        settings |= {"epoch": trainer.current_epoch, "run_state": self._run_state, **self._loaded}
        settings["budget"] = None if self._account is None else self._account.budget.given
        if trainer.state.fn != "fit":
            given = compat.flags_before_evaluation(trainer)
            # Of a module in eval mode as a whole, as one often loads it, they tell nothing.
            settings["flags"] = given if any(given.values()) else self._flags
        if compat.is_smoke_test(trainer):  # a smoke test: everything once, on the corners and the centre
            settings["grid"] = Grid(
                tuple(axis[[0, len(axis) // 2, -1]] if len(axis) > 2 else axis for axis in settings["grid"].axes)
            )
        return Settings(**settings)

    def _folder(self, trainer: Trainer) -> Path | None:
        """The folder in which the passes make their folders; None for no files.

        Every rank must call this method, because log_dir broadcasts.
        """
        log_dir = trainer.log_dir
        if compat.is_smoke_test(trainer):
            return None
        if self.dirpath is not None:
            return self.dirpath if self._tag == "landscape" else self.dirpath / self._tag
        if not log_dir or is_remote(log_dir):
            log_dir = trainer.default_root_dir
        if is_remote(log_dir):
            raise CannotMeasureError(f"default_root_dir={str(log_dir)!r} is remote: give dirpath=, a local folder.")
        return local_path("log_dir", log_dir) / self._tag

    def _record_root(self, trainer: Trainer) -> Path | None:
        """The folder for the records of the weights; None where the rehearsal will say why there is none."""
        try:
            return self._folder(trainer)
        except CannotMeasureError:
            return None

    def _check_folder(self, trainer: Trainer) -> None:
        """Find out before the training where nothing can ever be written, and what was left there before."""
        folder = self._folder(trainer)
        if folder is None or not trainer.is_global_zero:
            return
        if (error := check_folder(folder)) is not None:
            self._failed(trainer, error, f"Nothing can be written to {folder} now")
        if self.dirpath is None and trainer.ckpt_path is None and (note := continuation_advice(folder)) is not None:
            compat.warn(trainer, note)

    def _spending(self) -> AbstractContextManager[None]:
        """A context whose time counts as spent on landscapes, if there is a budget."""
        return nullcontext() if self._account is None else self._account.spending()

    def _run(self, trainer: Trainer, pl_module: LightningModule, last: bool = True) -> None:
        """One pass from measuring to showing, which fails the training only if it must."""
        step = self._loaded.get("step", compat.training_step_count(trainer))
        is_best = "saved" in self._loaded
        self._off = Ranks(trainer).any(self._off)  # what moved on one rank ends the landscapes of all
        if trainer.state.fn == "fit" and (self._off or (step in self._landscapes and not is_best)):
            return
        left, needed = None, 0.0
        if trainer.state.fn == "fit" and not (last and self.at_train_end):
            left, needed = from_first(trainer, (compat.time_left(trainer), self._run_state.seconds))
        if left is not None and left <= needed:
            log_.info("no landscape of step %d: %.3g s of max_time are left for the training", step, max(left, 0.0))
            return
        began, until = now(), None if left is None else now() + left
        granted = self._grant(trainer, step, last, math.inf if left is None else left)
        if granted is None and self._account is not None:
            return
        part, error = None, None
        with self._spending():
            try:
                with (
                    preserved(),
                    closing(self._files(trainer, step)) as files,
                    progress(trainer, self._settings(trainer).grid, last, not is_sharded(pl_module)) as self._shown,
                ):
                    deadline = None if granted is None else Deadline(granted.total)
                    try:
                        part = self._measure(trainer, pl_module, files, last, granted, until)
                    except Exception as raised:  # noqa: BLE001  # raised below, on every rank
                        error = raised
                    landscape = self._together(trainer, files, part, error)
                    self._finish(trainer, landscape, files, step, deadline)
                    self._run_state.seconds = now() - began
                uphill = landscape.reading(before=previous(self._landscapes, landscape)).distances
                notes = filter(None, [uphill, repetition(landscape.recipe)])
                say(trainer, self._shown.closing_line(landscape, step, files.folder, *notes))
            except PassEndedError:
                say(trainer, self._shown.ended_line(step, 0))
            except TrainingMovedError as error:
                self._switch_off(trainer, error)
            except Exception as error:
                if self.strict:
                    raise
                self._failed(trainer, error)

    def _grant(self, trainer: Trainer, step: int, last: bool, left: float) -> Grant | None:
        """The seconds of the landscape of this step, so many `left` at most, by the clock of rank 0; None for none."""
        if self._account is None:
            return None
        cost, settings = self._run_state.cost, self.settings
        needed = 0.0
        if cost is not None:
            needed = least_seconds(cost.sample, cost.reading_per_sample, settings.grid.shape, cost.available)
        to_come, films = 2 if "saved" in self._loaded else 1, self._account.showing * len(self._run_state.drawn)
        granted = from_first(trainer, self._account.grant(last, needed, to_come, films))
        if granted is None:
            log_.info("the landscape of step %d is left out: the budget is saved for the next", step)
        return None if granted is None else Grant(min(granted.measuring, left), min(granted.total, left))

    def _planned(self, trainer: Trainer, files: PassFiles, settings: Settings, seconds: float) -> Settings:
        """The settings with the samples and the finest level of the run's plan, which is made if there is none."""
        state = self._run_state
        if state.plan is None and (cost := state.cost) is not None:
            shape = settings.grid.shape
            samples = choose_samples(cost.sample, cost.reading_per_sample, seconds, shape, cost.available)
            samples = files.planned_before(settings) or samples
            may_read_less = may_be_slow(samples * cost.reading_per_sample, seconds)
            state.plan = from_first(trainer, Plan(samples, may_read_less=may_read_less))
        if state.plan is None:
            return settings
        return replace(settings, planned_samples=state.plan.samples, level=state.plan.level)

    def _keep_level(self, trainer: Trainer, landscape: Landscape, step: int) -> None:
        """Keep in the plan how fine the first landscape is; say where a later one is not as fine."""
        plan, level = self._run_state.plan, finest_level(landscape)
        if plan is None or level is None:
            return
        if plan.level is None:
            self._run_state.plan = replace(plan, level=level)
        elif level < plan.level:
            compat.info(
                trainer,
                f"the landscape of step {step} has {2**level + 1} points an axis, those before it {2**plan.level + 1}: "
                f"budget={self.budget and self.budget.given!r} left less time for it.",
            )

    def _finish(
        self, trainer: Trainer, landscape: Landscape, files: PassFiles, step: int, deadline: Deadline | None
    ) -> None:
        """Keep a landscape that all ranks have, and show it on the first."""
        self._landscape = landscape
        self._keep_level(trainer, landscape, step)
        self._run_state.keep_ranges(landscape)
        taken = trainer.state.fn == "fit" or step not in self._landscapes
        if taken:
            self._landscapes[step] = landscape
        failure = None
        try:
            if trainer.is_global_zero:
                self._show(trainer, landscape, files, step, deadline)
        except Exception as raised:  # noqa: BLE001  # raised below, on every rank
            failure = raised
        raise_together(trainer, failure)
        path = files.data(landscape, self.look.formats)
        if taken and path is not None and (landscape.nbytes > LARGE or compat.is_spawned(trainer)):
            self._landscapes[step] = path
        if trainer.is_global_zero and compat.is_spawned(trainer):
            self._handover.leave({s: path for s, path in self._landscapes.items() if isinstance(path, Path)})

    def _files(self, trainer: Trainer, step: int) -> PassFiles:
        name = "-".join(filter(None, (f"step={step:06d}", self._kind(trainer))))
        root = self._folder(trainer)
        elsewhere = []
        if root is not None and self.dirpath is None and trainer.state.fn == "fit" and trainer.ckpt_path is not None:
            elsewhere = continued_folders(root, trainer.ckpt_path)
        twin = f"step={step:06d}" if "saved" in self._loaded else None
        return PassFiles(root, name, elsewhere, trainer.global_rank, twin)

    def _kind(self, trainer: Trainer) -> str:
        """The kind of a pass in names of folders and tags: "best", "validate" or "test"; "" for any other."""
        if trainer.state.fn == "fit":
            return "best" if "saved" in self._loaded else ""
        return compat.running_method(trainer)

    def _together(
        self, trainer: Trainer, files: PassFiles, part: Landscape | None, error: Exception | None
    ) -> Landscape:
        """The landscape that all ranks have measured; if one fails, all do, and keep what they have."""
        try:
            raise_together(trainer, error)
        except Exception:
            if part is not None:
                files.keep(part)
            raise
        assert part is not None
        tidy(part)
        return part

    def _measure(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        files: PassFiles,
        last: bool,
        granted: Grant | None,
        until: float | None,
    ) -> Landscape:
        """This rank's points; a pass that is stopped keeps those it has, here and on disk.

        Args:
            trainer, pl_module: to be measured.
            files: of the pass.
            last: whether it is the last landscape.
            granted: by the budget; None for no limit.
            until: when ``max_time`` ends the training; None if nothing does.
        """
        self._run_state.keep_ranges(files.earlier_ranges(trainer, self._settings(trainer), pl_module))
        settings = self._settings(trainer)
        side_by_side = is_sharded(pl_module)
        count = Count(1 if side_by_side else trainer.world_size)
        with (
            sealed(trainer, pl_module),
            undisturbed(trainer, self._counters if trainer.state.fn == "fit" else None),
            nullcontext() if settings.saved else compat.averaged(trainer, pl_module) as averaging,
        ):
            saved, landscape = time.monotonic(), None
            settings = replace(
                settings, weights=f"averaged by {averaging}" if averaging else settings.weights, until=until
            )

            seconds = None
            if granted is not None:
                began = now()
                settings = self._planned(trainer, files, settings, granted.measuring)
                settings = replace(settings, is_last=last)
                seconds = from_first(trainer, granted.measuring - (now() - began))
                self._shown.limit(seconds)
            find = partial(self._find, trainer, files)
            try:
                with measuring(trainer, pl_module, settings, find, not self.strict, seconds, self._shown) as landscapes:
                    for landscape in landscapes:
                        self._remark(trainer, remarks(landscape))
                        self._shown.points(count(int(landscape.evaluated.sum())), settings.grid.size)
                        if time.monotonic() - saved > SAVE_EVERY and (trainer.is_global_zero or not side_by_side):
                            self._keep(trainer, landscape, files)
                            saved = time.monotonic()
            except BaseException:
                if landscape is not None and landscape.done.any():
                    self._landscape = landscape
                    files.keep(landscape)
                raise
        assert landscape is not None
        return landscape

    def _find(self, trainer: Trainer, files: PassFiles, landscape: Landscape) -> Landscape | None:
        """The points of a landscape that are on disk already; says what the user should know of them."""
        earlier = files.find(trainer, landscape)
        for note in files.notes:
            compat.warn(trainer, note)
        if files.error is not None:
            self._failed(trainer, files.error, f"There is no folder for the landscape in {files.root}")
        if files.finished:
            log_.info("the landscape of %s is finished already, and is not measured again", files.folder)
        elif earlier is not None:
            points = int(earlier.evaluated.sum())
            log_.info("%d of %d points of %s are there already", points, earlier.grid.size, files.folder)
        return earlier

    def _keep(self, trainer: Trainer, landscape: Landscape, files: PassFiles) -> None:
        """A landscape in progress, on disk; what can't be written does not stop the measuring."""
        for _, error in files.keep(landscape)[:1]:
            self._failed(trainer, error, f"The landscape in progress could not be saved in {files.folder}")

    def _show(
        self, trainer: Trainer, landscape: Landscape, files: PassFiles, step: int, deadline: Deadline | None
    ) -> None:
        """Files, and the Trainer's loggers."""
        began = now()
        if trainer.received_sigterm and not landscape.done.all():
            self._keep(trainer, landscape, files)
            return  # there may be seconds left: no pictures
        missing = int((~landscape.done).sum())
        self._shown.leave_points(missing)
        if self._shown.has_ended:
            say(trainer, self._shown.ended_line(step, int(landscape.done.sum())))
        elif missing:
            what = f"{missing} of {landscape.grid.size} points of the landscape of step {step} could not be measured"
            why = "the pass was stopped" if deadline is None else "the budget was spent"
            left = compat.time_left(trainer)
            why = "max_time is over" if left is not None and left <= 0 else why
            self._failed(trainer, landscape.report.failure or why, what)
        if (deadline is not None or self._shown.has_ended) and not landscape.done.any():
            return
        if (error := landscape.report.no_tiles) is not None:
            self._tell_no_tiles(trainer, error, landscape.recipe.mode)
        tag = "_".join(filter(None, (self._tag, self._kind(trainer))))
        written = files.begin()
        self._widen_scale(trainer, landscape, step)
        if trainer.state.fn == "fit":
            self._run_state.drawn[step] = Drawn(
                files.root, files.folder, None if files.finished else self._run_state.scale
            )
        output = self._put_out(landscape, None if written is None else written.write, tag, deadline)
        output.for_loggers.text[f"{tag}/recipe"] = about(
            landscape, data_file(files.folder, landscape, self.look.formats)
        )
        for what, failure in output.failures:
            self._failed(trainer, failure, f"The picture {what} could not be drawn")
        for kind, failure in log(trainer.loggers, output.for_loggers, step).failed:
            self._failed(trainer, failure, f"The landscape of step {step} could not be shown in {kind}")
        unwritten = files.end(landscape, self.look.formats)
        if unwritten:
            names = ", ".join(name for name, _ in unwritten)
            self._failed(trainer, unwritten[0][1], f"{names} of the landscape of step {step} could not be written")
        if output.left_out:
            log_.info(
                "no time was left for the pictures %s of step %d; lightning-landscape plot draws them from the file",
                ", ".join(output.left_out), step,
            )  # fmt: skip
        if self._account is not None:
            drawn = len(output.for_loggers.images)
            self._account.record_pictures(now() - began, drawn / max(drawn + len(output.left_out), 1))

    def _tell_no_tiles(self, trainer: Trainer, error: str, mode: str | None) -> None:
        """Say why there are no tiles; in train mode that may well be so."""
        what = "Single samples could not be measured, so there are no tiles"
        if mode == "train":
            compat.info(trainer, f"{what} ({error}). Give samples=0, or mode='eval'.")
        else:
            self._failed(trainer, error, what)

    def _widen_scale(self, trainer: Trainer, landscape: Landscape, step: int) -> None:
        """Make room for a landscape on the scale of the run, and say what has changed."""
        before = self._run_state.scale or self.look.scale
        assert before is not None
        self._run_state.scale = before.widened(landscape)
        if changes := self._run_state.scale.changes(before, landscape):
            count = len(changes) - 1
            further = f", and of {count} other metric{'s' * (count > 1)}" if count else ""
            say(trainer, f"the landscape of step {step} widens the scale of the run: {changes[0]}{further}")

    def _put_out(self, landscape: Landscape, write: Write | None, tag: str, deadline: Deadline | None) -> Output:
        look, before = replace(self.look, scale=self._run_state.scale), previous(self._landscapes, landscape)
        if deadline is not None:
            deadline.start()

        def over() -> bool:
            if deadline is not None:
                deadline.step()
            return self._shown.must_end or (deadline is not None and deadline())

        return put_out(landscape, look, write, tag, over, before, self._shown)

    def _show_run(self, trainer: Trainer) -> None:
        """All landscapes of a training on one scale, and as films; every rank waits for the first, which draws."""
        failure = None
        if len(self._landscapes) < 2:
            return
        if trainer.is_global_zero and not trainer.received_sigterm:
            try:
                with self._spending(), preserved():
                    self._redraw(trainer)
            except Exception as raised:  # noqa: BLE001  # raised below, on every rank
                failure = raised
        if self.strict:
            raise_together(trainer, failure)
        elif failure is not None:
            self._failed(trainer, failure, "The films of the landscapes failed")

    def _redraw(self, trainer: Trainer) -> None:
        """Draw what the run has once more, and say where its films are."""
        drawn, look = self._run_state.drawn, replace(self.look, scale=self._run_state.scale)
        landscapes = {step: landscape for step, landscape in self._landscapes.items() if step in drawn}
        deadline = None if self._account is None else Deadline(self._account.rest())
        with progress(trainer, self._settings(trainer).grid, last=True, may_leave=False) as phases:

            def over() -> bool:
                return phases.must_end or (deadline is not None and deadline.before_step())

            result = redraw(landscapes, drawn, look, trainer.loggers, self._tag, over, phases)
        for what, failure in result.failures:
            self._failed(trainer, failure, f"{what} could not be drawn on the scale of all landscapes")
        if result.unwritten:
            name, failure = result.unwritten[0]
            further = f" and {len(result.unwritten) - 1} more files" if len(result.unwritten) > 1 else ""
            self._failed(trainer, failure, f"{name}{further} on the scale of all landscapes could not be written")
        if result.files:
            names = ", ".join(path.name for path in result.files)
            say(trainer, f"films of the {result.frames} landscapes in {result.files[0].parent}: {names}")
        if result.left_out:
            log_.info("no time was left to draw the steps %s on the scale of all", ", ".join(map(str, result.left_out)))

    def _remark(self, trainer: Trainer, texts: Sequence[str]) -> None:
        """Warn of each of them, once."""
        for text in texts:
            if text not in self._remarked:
                self._remarked.add(text)
                compat.warn(trainer, text)

    def _failed(
        self,
        trainer: Trainer,
        error: Exception | str,
        what: str = "The loss landscape failed",
        unchanged: bool = False,
    ) -> None:
        """Warn once of each kind of failure; `unchanged` is said where the seal has proved it."""
        if self.strict and isinstance(error, Exception):
            raise error
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        kind = re.sub(r"\d+", "#", f"{what} ({text}")
        if kind not in self._warned:
            self._warned.add(kind)
            goes_on = "The training goes on, unchanged." if unchanged else "The training goes on."
            compat.warn(
                trainer,
                f"{what} ({text}). {goes_on} To see the traceback, set strict=True; further failures of this kind are "
                "not reported.",
            )


def _restored(cls: type[LossLandscapeCallback], state: dict[str, Any]) -> LossLandscapeCallback:
    callback = cls.__new__(cls)
    callback.__dict__.update(state)
    return callback


def _join_namespaces(callback: LossLandscapeCallback) -> None:
    """Make a callback one of every Lightning namespace that is imported, also of those imported after this module.

    Not in `__new__`: the command line's parser would take its signature for the constructor's.
    """
    declared = type(callback)
    missing = tuple(base for base in compat.callback_bases() if not isinstance(callback, base))
    if missing:
        names = {"__module__": declared.__module__, "_declared": declared}
        callback.__class__ = type(declared.__name__, (declared, *missing), names)


def _check_moments(every_n_epochs: int | None, every_n_train_steps: int | None, at_train_end: bool | str) -> None:
    """Raises ValueError where one of them is out of its range."""
    _at_least("every_n_epochs", every_n_epochs, 1, "a landscape every so many epochs, or None")
    _at_least("every_n_train_steps", every_n_train_steps, 1, "a landscape every so many steps, or None")
    if at_train_end not in (True, False, "best"):
        raise ValueError(f'at_train_end={at_train_end!r} is unknown; the choices are True, False, "best".')


def _checked(settings: Settings) -> Settings:
    """The settings themselves.

    Raises:
        ValueError: if a number is out of its range, or a word unknown.
    """
    _at_least("max_samples", settings.max_samples, 1, "the most samples of a data set, or None for all")
    _at_least("max_batches", settings.max_batches, 1, "the most batches of a data set, or None for all")
    _at_least("samples", settings.samples, 0, "the number of tiles, 0 for none")
    check_tolerance(settings.tolerance)
    check_accelerate(settings.accelerate)
    check_mode(settings.mode)
    return settings


def _look(ndim: int, samples: int, look: Look) -> Look:
    """A look for landscapes of so many directions and tiles.

    Raises:
        ValueError: if a word in it is unknown, or the tiles do not fit.
        ImportError: if a format needs a library that is not installed.
    """
    if samples:
        rows, columns = parse_layout(look.sample_layout, "sample_layout")
        if rows * columns < samples:
            raise ValueError(
                f"sample_layout={look.sample_layout!r} has {rows * columns} tiles for samples={samples}: give a larger "
                "layout or fewer samples."
            )
    _choices("color_scale", (look.color_scale,), COLOR_SCALES)
    files = [*DATA_FORMATS, *(name for name in EXPORT_FORMATS if EXPORTS[f".{name}"].ndim == ndim)]
    formats = _choices("formats", look.formats, (*files, *PICTURES), of=f" for {ndim}-D landscapes")
    for name in formats:
        if name in EXPORT_FORMATS:
            check_writable(f".{name}", ndim)
    return replace(look, plots=_pictures(look.plots, ndim, samples), formats=formats)


def _directions(
    directions: str | Callable[..., Any], normalize: str, ignore: str | list[str] | None, orthogonalize: bool, seed: int
) -> Directions:
    _at_least("seed", seed, 0, "the seed of the random numbers")
    _choices("normalize", (normalize,), NORMALIZATIONS)
    if isinstance(directions, str):
        return make_directions(directions, normalize=normalize, ignore=ignore, orthogonalize=orthogonalize, seed=seed)
    return _callable("directions", directions)


def _callable(name: str, value: T) -> T:
    if value is not None and not callable(value):
        raise ValueError(f"{name}={value!r} is not callable: give a function, or leave it out.")
    return value


def _at_least(name: str, value: object, least: int, meaning: str) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise ValueError(f"{name}={value!r}: give {meaning}; a whole number of at least {least}.")


def _pictures(plots: Sequence[str], ndim: int, samples: int) -> tuple[str, ...]:
    """The kinds of pictures, of which at least one must be of such a landscape."""
    kinds = _choices("plots", plots, [k for k, p in PLOTS.items() if {1, 2} & set(p.ndims)], may_be_empty=True)
    drawn = [k for k, p in PLOTS.items() if ndim in p.ndims and (samples or k != "tiles")]
    if kinds and not set(kinds) & set(drawn):
        without = "" if samples else " with samples=0"
        raise ValueError(
            f"plots={list(kinds)} has no picture of a {ndim}-D landscape{without}: choose of {', '.join(drawn)}, or [] "
            "for none."
        )
    return kinds


def _choices(
    name: str, values: Sequence[str], known: Sequence[str], *, of: str = "", may_be_empty: bool = False
) -> tuple[str, ...]:
    """`values` as a tuple, each once."""
    if isinstance(values, str):
        raise ValueError(f"{name}={values!r} is one word: give a list, e.g. [{values!r}].")
    for value in values:
        if value not in known:
            raise ValueError(f"{name}={value!r} is unknown{of}; the choices are {', '.join(known)}.")
    if not values and not may_be_empty:
        raise ValueError(f"{name}={values!r} is empty; the choices are {', '.join(known)}.")
    return tuple(dict.fromkeys(values))
