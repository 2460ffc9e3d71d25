"""LossLandscapeCallback: when a landscape is measured during a training, and where it goes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

import numpy as np
from numpy.typing import NDArray

from .arguments import checked_words
from .directions import Between, KindName, NoPlaneError, needs
from .distributed.ranks import OtherRankError, Ranks, failing_together, from_first
from .evaluators.modes import flags_of
from .isolation.rng import preserved
from .landscape import Grid, Landscape
from .local_paths import local_path
from .objectives.base import CannotMeasureError
from .output import Look, previous
from .paths.project import Recorded
from .paths.recording import Recording
from .paths.records import Records
from .plots import Figure
from .plots.run_scale import RunScale
from .storage import load
from .survey.budget import Account, Deadline, now, parse_budget
from .survey.find_range import ranges_of
from .trainer import compat, path_landscape
from .trainer.allowance import Allowance, keep_level
from .trainer.announcements import repetition
from .trainer.checks import (
    check_moments,
    check_records,
    check_trainer,
    checked_directions,
    checked_look,
    checked_settings,
)
from .trainer.cost import announced, expected_steps
from .trainer.folders import check_folder, continuation_advice, continued_folders, root_of
from .trainer.handover import Handover
from .trainer.interrupts import PassEndedError
from .trainer.measure import Settings, rehearse
from .trainer.namespaces import join_namespaces, reduced
from .trainer.notices import Notices
from .trainer.pass_files import PassFiles
from .trainer.presenter import Presenter
from .trainer.progress import Progress, progress, say, waiting
from .trainer.rank_points import RankPoints
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
LARGE = 16 * 2**20  # bytes: a larger landscape is kept as a path


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
        directions: "random"; "pca" along the path of the training; "gradient" of the loss; "update", the optimisers'
            next; "mixed", along the path and random; "hessian", in which the loss bends most and least;
            ``Between([file, file])`` through other checkpoints; or a callable ``(site, k) -> k directions``.
        normalize: how random directions are scaled by the weights: "filter", "layer", "weight", "dfilter",
            "dlayer", "model" or "none".
        ignore: parameters that stay at rest: "biasbn" (all tensors of at most one dimension and all normalisation
            layers), name patterns such as "embedding.*", or None. An update and a checkpoint move all.
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
        plots: kinds of pictures of the main loss: "contour", "surface", "slices", "tiles"; "heat" and "path" on
            request. Every other metric has the first of them.
        dirpath: where the files go; None for ``<log_dir>/landscape``.
        formats: of the files: "h5", "npz", "json", "csv", "vtp" (ParaView, 2-D only), "png", "pdf", "svg".
            Films are "gif", "webp" and "mp4"; with pictures and none of them, "gif".
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
            settings. Each landscape has the path so far. At the end the path has a landscape of its own, 25 × 25
            points on the plane of its principal components, with a film: in a folder ``step=…-path``, and under a
            tag of its own.
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
    _path_landscape: Landscape | None = None
    _account: Account | None = None
    _counters: compat.Counters | None = None
    _tag = "landscape"  # of folders and loggers
    _fitted = False

    def __init__(
        self,
        *,
        every_n_epochs: Optional[int] = None,
        every_n_train_steps: Optional[int] = None,
        at_train_end: Union[bool, Literal["best"]] = True,
        x: Union[tuple[float, float, int], tuple[Literal["auto"], int], Literal["auto"]] = (-1.0, 1.0, 51),
        y: Optional[Union[tuple[float, float, int], tuple[Literal["auto"], int], Literal["auto"]]] = (-1.0, 1.0, 51),
        directions: Union[KindName, Between, Callable] = "random",
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
        check_moments(every_n_epochs, every_n_train_steps, at_train_end)
        grid, searched = ranges_of({name: given for name, given in (("x", x), ("y", y)) if given is not None})
        self.every_n_epochs, self.every_n_train_steps = every_n_epochs, every_n_train_steps
        self.at_train_end, self.strict, self.budget = at_train_end, strict, parse_budget(budget)
        self.dirpath = None if dirpath is None else local_path("dirpath", dirpath)
        self._path = PathRecorder(trajectory)
        self._path_directions = checked_directions("pca", normalize, ignore, orthogonalize, seed)
        self.settings = checked_settings(Settings(
            grid, checked_directions(directions, normalize, ignore, orthogonalize, seed),
            checked_words("data", (data,) if isinstance(data, str) else data, compat.DATA), objective, seed,
            max_samples, max_batches, samples, accelerate, tolerance, mode, searched=searched,
        ))  # fmt: skip
        check_records(trajectory, self.settings.directions, plots)
        scale = RunScale(color_scale, vmin, vmax, levels)
        look = Look(plots, formats, color_scale, sample_layout, share_colorbar, scale=scale)
        self.look = checked_look(look, grid.ndim, samples)
        self._set_up()

    def _set_up(self) -> None:
        """A callback of all namespaces, with which nothing was trained yet."""
        join_namespaces(self)
        self._handover = Handover()
        self._loaded: dict[str, Any] = {}  # settings of the best checkpoint or the path, while that is measured
        self._flags: dict[str, bool] = {}  # of the module's parts, when it was trained last
        self._run_state = RunState()
        self._begin()

    def _begin(self) -> None:
        """Nothing is measured in this run yet, and nothing said."""
        self._landscapes: dict[int, Landscape | Path] = {}
        self._path_landscape = None
        self._notices = Notices(self.strict)
        self._schedule = Schedule(self.every_n_epochs, self.every_n_train_steps)
        self._postponed = self._off = self._rehearsed = self._began = False

    def __reduce__(self) -> Any:
        """Pickled as the class that was written down, not the one that `__init__` may have made."""
        return reduced(self, self.__dict__)

    @property
    def landscape(self) -> Landscape | None:
        """The last landscape; that of a spawned process is loaded from its file."""
        if left := self._handover.take():
            if self._handover.of_path is not None:
                self._path_landscape = load(self._handover.of_path)
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
        """The path of the training on its own plane, else on that of the last landscape; None where there is none."""
        landscape = self.path_landscape or self.landscape
        return None if landscape is None else landscape.trajectory

    @property
    def path_landscape(self) -> Landscape | None:
        """The landscape of the path, on the plane of its principal components; None before the training's end."""
        _ = self.landscape
        return self._path_landscape

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
        if trainer.state.fn == "fit":
            self._path.forget()
        self._began = False
        self._run_state = RunState()
        check_trainer(trainer, pl_module, self._data(trainer) if self.settings.objective is None else ())
        self._account = None if self.budget is None else Account(self.budget, len(self.look.plots))
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
        """Note the records of the weights, and their numbers."""
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
                path = path_landscape.SETTINGS.grid if self._expects_path(trainer, pl_module) else None
                say(trainer, announced(trainer, self._run_state.cost, grid, batch, *moments, path))
        if self._schedule.is_due(trainer):
            self._run(trainer, pl_module, last=False)
        self._path.before_step(trainer, pl_module, batch_idx)
        if self._counters is not None:
            self._counters.record()  # those that the step reads

    def _rehearse(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure one batch, so that what can't work is known before the first step."""
        remarks: list[str] = []
        try:
            with failing_together(trainer), self._spending():
                self._check_folder(trainer)
                with (
                    waiting(trainer, "Landscape: one batch for trial"),
                    sealed(trainer, pl_module, watch=True),
                    undisturbed(trainer, self._counters),
                ):
                    rehearsal = rehearse(trainer, pl_module, self._settings(trainer))
                    self._run_state.cost, remarks = rehearsal.cost, rehearsal.remarks
        except (CannotMeasureError, OtherRankError) as error:
            raise compat.misconfiguration(trainer, f"LossLandscapeCallback: {error}") from error
        except TrainingMovedError as error:
            self._switch_off(trainer, error)
        except Exception as error:  # noqa: BLE001  # the user's own code may raise anything
            self._notices.fail(trainer, error, unchanged=True)
        self._notices.remark(trainer, remarks)

    def _switch_off(self, trainer: Trainer, error: TrainingMovedError) -> None:
        """No further landscape in this training: its step moves what can't be held back."""
        self._off = True
        self._notices.fail(trainer, error, "The loss landscape is switched off for the rest of this training")

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
        if self._has_path(trainer):
            self._run_path(trainer, pl_module)
        self._show_run(trainer)

    def _run_best(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The landscape of the best checkpoint, in a plane around its own weights."""
        try:
            with failing_together(trainer), compat.averaged(trainer, pl_module):
                saved = best_checkpoint(trainer, pl_module)
        except NoBestError as reason:
            text = f'at_train_end="best": {reason}'
            compat.info(trainer, text) if reason.is_final else self._notices.remark(trainer, [text])
        except Exception as error:  # noqa: BLE001  # the file may be damaged, or gone
            self._notices.fail(trainer, error, "The best checkpoint could not be read")
        else:
            weights = f"the best checkpoint, {saved.name}"
            self._loaded = {"step": saved.step, "epoch": saved.epoch, "weights": weights, "saved": saved}
            try:
                self._run(trainer, pl_module)
            finally:
                self._loaded = {}

    def _has_path(self, trainer: Trainer) -> bool:
        """True if the path gets a landscape at the end of this training, as far as settings decide it."""
        is_asked_for = bool(self.at_train_end) and not compat.is_smoke_test(trainer)
        return is_asked_for and path_landscape.is_wanted(self._path.choice, self._path_directions, self.settings)

    def _expects_path(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """True if that landscape can be announced: the weights are recorded, and there will be enough of them."""
        is_recorded = self._has_path(trainer) and self._path.opens(trainer, pl_module)
        return is_recorded and path_landscape.too_few(self._path.choice, expected_steps(trainer) + 1) is None

    def _run_path(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The landscape of the path on the plane of its principal components, if there is time for it."""
        count = len(self._path.records())
        is_on, reason = from_first(trainer, (count > 0, path_landscape.too_few(self._path.choice, count)))
        if not is_on or Ranks(trainer).any(self._off or bool(trainer.received_sigterm)):
            return
        if reason is not None:
            self._leave_out_path(trainer, reason)
            return
        self._loaded = path_landscape.changed_settings(self._path_directions, self._run_state)
        try:
            self._run(trainer, pl_module)
        finally:
            self._loaded = {}

    def _leave_out_path(self, trainer: Trainer, reason: str) -> None:
        """Say in a line why the path has no landscape, if there is anything to be said."""
        if reason:
            compat.info(trainer, f"The path of the training has no landscape: {reason.rstrip('.')}.")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The landscape of the final weights, if a checkpoint left nothing to train: it may be unfinished."""
        if self._began or trainer.ckpt_path is None:
            return
        if is_sharded(pl_module):
            log_.info("with sharded parameters the landscape of a training at its end is not completed")
            return
        self._landscapes.clear()
        self._path_landscape = None
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
        """The folder in which the passes make their folders; every rank must call this method."""
        return root_of(trainer, self.dirpath, self._tag)

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
            self._notices.fail(trainer, error, f"Nothing can be written to {folder} now")
        if self.dirpath is None and trainer.ckpt_path is None and (note := continuation_advice(folder)) is not None:
            compat.warn(trainer, note)

    def _spending(self) -> AbstractContextManager[None]:
        """A context whose time counts as spent on landscapes, if there is a budget."""
        return nullcontext() if self._account is None else self._account.spending()

    def _run(self, trainer: Trainer, pl_module: LightningModule, last: bool = True) -> None:
        """One pass from measuring to showing, which fails the training only if it must."""
        step = self._loaded.get("step", compat.training_step_count(trainer))
        is_there = step in self._landscapes and not self._loaded
        self._off = Ranks(trainer).any(self._off)  # what moved on one rank ends the landscapes of all
        if trainer.state.fn == "fit" and (self._off or is_there):
            return
        began, settings = now(), self._settings(trainer)
        if settings.recorded is None:
            settings = replace(settings, recorded=self._recorded(trainer, pl_module))
        later = self._seconds_of_path(trainer, settings.recorded) if last else 0.0
        allowance = Allowance.of(trainer, self._account, settings, step, last, bool(last and self.at_train_end), later)
        if allowance is None:
            if settings.of_path:
                self._leave_out_path(trainer, f"budget={settings.budget!r} leaves no time for it")
            return
        with self._spending():
            try:
                with (
                    preserved(),
                    closing(self._files(trainer, step)) as files,
                    progress(trainer, settings.grid, last, not is_sharded(pl_module)) as display,
                ):
                    deadline = allowance.deadline()
                    points = RankPoints(trainer, files, display, self._notices)
                    try:
                        landscape = points.measure(pl_module, settings, allowance, self._counters)
                    finally:
                        if points.has_any and points.landscape is not None:
                            self._take(trainer, points.landscape)
                    has_films = last and trainer.state.fn == "fit" and "records" in needs(settings.directions)
                    self._finish(trainer, landscape, step, files, display, deadline, has_films)
                    settings.run_state.seconds = now() - began
                uphill = landscape.reading(before=previous(self._landscapes, landscape)).distances
                first = path_landscape.words(landscape) if settings.of_path else uphill
                notes = filter(None, [first, repetition(landscape.recipe)])
                say(trainer, display.closing_line(landscape, step, files.folder, *notes))
            except PassEndedError:
                say(trainer, display.ended_line(step, 0))
            except TrainingMovedError as error:
                self._switch_off(trainer, error)
            except Exception as error:
                if settings.of_path and isinstance(error, NoPlaneError | OtherRankError):
                    self._leave_out_path(trainer, str(error))
                    return
                if self.strict:
                    raise
                self._notices.fail(trainer, error)

    def _recorded(self, trainer: Trainer, pl_module: LightningModule) -> Recorded | None:
        """The records of the training; after it only for directions that are made of them."""
        if trainer.state.fn == "fit" or "records" in needs(self.settings.directions):
            return self._path.recorded(pl_module)
        return None

    def _seconds_of_path(self, trainer: Trainer, recorded: Recorded | None) -> float:
        """The seconds that the last landscape leaves for that of the path, about; 0 where there will be none."""
        count = 0 if recorded is None else len(recorded.steps)
        if path_landscape.too_few(self._path.choice, count) is not None:
            return 0.0
        if self._account is None or self._loaded or trainer.state.fn != "fit" or not self._has_path(trainer):
            return 0.0
        changed = path_landscape.changed_settings(self._path_directions, self._run_state)
        settings = replace(self.settings, **changed)
        return path_landscape.needed_seconds(settings, settings.grid.shape) + self._account.showing

    def _take(self, trainer: Trainer, landscape: Landscape) -> None:
        """Make a landscape the last one, or that of the path."""
        if self._kind(trainer) == path_landscape.KIND:
            self._path_landscape = landscape
        else:
            self._landscape = landscape

    def _finish(
        self,
        trainer: Trainer,
        landscape: Landscape,
        step: int,
        files: PassFiles,
        display: Progress,
        deadline: Deadline | None,
        has_films: bool,
    ) -> None:
        """Keep a landscape that all ranks have, and show it on the first."""
        self._take(trainer, landscape)
        state, is_path = self._settings(trainer).run_state, self._kind(trainer) == path_landscape.KIND
        keep_level(trainer, landscape, state)
        state.keep_ranges(landscape)
        taken = not is_path and (trainer.state.fn == "fit" or step not in self._landscapes)
        if taken:
            self._landscapes[step] = landscape
        with failing_together(trainer):
            if trainer.is_global_zero:
                earlier = {} if is_path else self._landscapes
                presenter = replace(self._presenter(trainer), has_films=has_films)
                presenter.show(landscape, step, files, display, deadline, earlier)
        path = files.data(landscape, self.look.formats)
        if taken and path is not None and (landscape.nbytes > LARGE or compat.is_spawned(trainer)):
            self._landscapes[step] = path
        if trainer.is_global_zero and compat.is_spawned(trainer):
            paths = {s: path for s, path in self._landscapes.items() if isinstance(path, Path)}
            self._handover.leave(paths, path if is_path else None)

    def _presenter(self, trainer: Trainer) -> Presenter:
        kind, state = self._kind(trainer), self._settings(trainer).run_state
        tag, is_path = "_".join(filter(None, (self._tag, kind))), kind == path_landscape.KIND
        look = path_landscape.changed_look(self.look) if is_path else self.look
        return Presenter(trainer, look, tag, state, self._account, self._notices)

    def _files(self, trainer: Trainer, step: int) -> PassFiles:
        name = "-".join(filter(None, (f"step={step:06d}", self._kind(trainer))))
        root = self._folder(trainer)
        elsewhere = []
        if root is not None and self.dirpath is None and trainer.state.fn == "fit" and trainer.ckpt_path is not None:
            elsewhere = continued_folders(root, trainer.ckpt_path)
        twin = f"step={step:06d}" if "saved" in self._loaded else None
        return PassFiles(root, name, elsewhere, trainer.global_rank, twin)

    def _kind(self, trainer: Trainer) -> str:
        """The kind of a pass in names of folders and tags: "best", "path", "validate", "test"; "" for any other."""
        if trainer.state.fn == "fit":
            return path_landscape.KIND if "of_path" in self._loaded else "best" if "saved" in self._loaded else ""
        return compat.running_method(trainer)

    def _show_run(self, trainer: Trainer) -> None:
        """All landscapes of a training on one scale, and as films, which the first rank draws."""
        if len(self._landscapes) < 2:
            return
        try:
            with failing_together(trainer) if self.strict else nullcontext(), self._spending(), preserved():
                if trainer.is_global_zero and not trainer.received_sigterm:
                    self._presenter(trainer).redraw(self._landscapes, self._settings(trainer).grid)
        except Exception as error:  # noqa: BLE001  # raised where strict
            self._notices.fail(trainer, error, "The films of the landscapes failed")
