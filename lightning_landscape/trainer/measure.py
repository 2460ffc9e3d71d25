"""One landscape of a module in its Trainer, point by point: from the settings of a pass to a Landscape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn
from torch.nn.parameter import is_lazy

from ..accelerations import ON_REQUEST
from ..directions import Directions, Facts, Site, facts_of, needs, stand_in
from ..distributed.one_process import OneProcessObjective, several_processes
from ..distributed.ranks import OtherRankError, Ranks, check_agreement, differing_metrics, from_first
from ..evaluators import Evaluator, Measurement, Sequential
from ..evaluators.modes import Flags, at_origin_in_train_mode, compared, normalises_by_batch, only_in_train_mode
from ..evaluators.out_of_memory import is_out_of_memory
from ..isolation.effects import effects_warning
from ..landscape import Grid, Landscape
from ..objectives.base import Batch, CannotMeasureError, LossFunction, Objective
from ..objectives.lightning_step import LoggedValues, StepObjective
from ..objectives.spread import Spread, without_spread
from ..objectives.touched import OriginalsTouchedError, Rehearsed, Touched
from ..paths.project import Recorded
from ..phases import SILENT, Phases
from ..reading import span_sentence
from ..recipe import RangeRecipe, Recipe
from ..survey.budget import Deadline, Limit, now
from ..survey.find_range import sentence
from ..survey.group import merge
from ..survey.path import missing
from ..survey.plan import Plan, PlanSettings, ladder
from ..survey.recipe import data_recipe, directions_recipe, versions
from ..survey.resume import is_finished
from ..survey.same_loss import untidy
from ..survey.survey import Surface, Survey, Tiles, all_batches, error_text, paired
from ..weights.parameters import Snapshot, checksum
from ..weights.plane import Plane
from ..weights.sharding import author_class, is_sharded
from . import compat
from .cost import Cost, measured_cost
from .frozen import FrozenData, freeze
from .lay import Training, laid_plane
from .probe import probing
from .run_state import RunState
from .saved import Saved
from .tiles import describe, tile_stream
from .undisturbed import Substitutes, substitutes_of

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


@dataclass(frozen=True)
class Settings:
    """The settings of one pass: its points, its directions, its data and its objective.

    Args:
        grid: the points.
        directions: gives the k directions of the plane.
        data: "train", "val", "test"; several share the plane.
        objective: ``(module, batch) -> tensor or mapping``, or None for the module's own step.
        seed: of the data's choice and of the random numbers that all points share.
        max_samples: a data set at most; None for all.
        max_batches: a data set at most; None for all.
        samples: how many single samples to measure too.
        accelerate: use what proves equal and faster on this module (`accelerations`); "bf16" for bfloat16, too.
        tolerance: of the losses: what can be interpolated within it, is (`refinement`); None to evaluate every point.
        mode: "eval" or "train".
        searched: the directions whose range is found (`find_range`); the grid says their number of points.
        ranges: those that were found before, by the name of the axis.
        step: of the optimiser, at which the weights were taken; None for the Trainer's.
        epoch: the number of finished epochs.
        weights: "the module's", what averaged them, or the checkpoint that they are from.
        saved: that checkpoint; None for the weights of now.
        flags: whether each part of the module, by name, is in train mode in its training (`modes.put_in_mode`).
        budget: as the user gave it; None for no limit of time.
        planned_samples: of each data set, as the time allows; None for `max_samples`.
        level: of the last subgrid that is evaluated where the time is limited; None where it is not decided yet.
        is_last: whether the landscape takes all of its time, and may be finer than those before it.
        until: when ``max_time`` ends the training, on the clock of budgets; None if nothing does.
        run_state: the decisions of the run.
        recorded: the records whose path is projected and measured, in the process of rank 0; None for none. Directions
            may be made of their weights.
        of_path: whether it is the landscape of the path, which takes the time that the last one leaves over.
    """

    grid: Grid
    directions: Directions
    data: tuple[str, ...] = ("train",)
    objective: Callable[[Any, Any], Any] | None = None
    seed: int = 42
    max_samples: int | None = 1024
    max_batches: int | None = None
    samples: int = 10
    accelerate: bool | str = True
    tolerance: float | None = None
    mode: str = "eval"
    flags: Flags = field(default_factory=dict)
    searched: tuple[int, ...] = ()
    ranges: dict[str, RangeRecipe] = field(default_factory=dict)
    step: int | None = None
    epoch: int | None = None
    weights: str = "the module's"
    budget: float | str | None = None
    planned_samples: int | None = None
    level: int | None = None
    is_last: bool = True
    until: float | None = None
    run_state: RunState = field(default_factory=RunState)
    saved: Saved | None = None
    recorded: Recorded | None = None
    of_path: bool = False


Find = Callable[[Landscape], Landscape | None]


@dataclass(frozen=True)
class Rehearsal:
    """The result of a rehearsal.

    Args:
        remarks: what there is to warn of.
        cost: of a point of the landscape; None where nothing could be measured yet.
    """

    remarks: list[str] = field(default_factory=list)
    cost: Cost | None = None


@contextmanager
def measuring(
    trainer: Trainer,
    module: nn.Module,
    settings: Settings,
    find: Find | None = None,
    tolerant: bool = False,
    seconds: float | None = None,
    phases: Phases = SILENT,
) -> Iterator[Iterator[Landscape]]:
    """A context that gives the landscape after its preparation, every point and every record: one that fills up.

    The points are taken from the centre outwards, so that a pass that is stopped has its middle. If the time is
    limited, they go from coarse to fine, and those that are left are interpolated. Of W processes each takes every W-th
    point. In the end each has the whole landscape, which may be another object. Processes that share the parameters
    (FSDP2) take all points together. A SIGTERM or Ctrl-C to any of them ends the pass.
    Enter it inside `undisturbed`; leave it to stop the pass, and call `tidy` when it is over.

    Args:
        trainer: the Trainer in the middle of its work.
        module: its LightningModule, which is only read; a sharded one is moved, and back in place at the end.
        settings: what to measure.
        find: gives an earlier part of the landscape, of which only the centre is known now. The points of that part
            are taken over; a finished landscape takes the place of the new one. All ranks call it, and get the same.
        tolerant: leave out a point at which the step raises (``report.failure`` says what), and tiles that it
            refuses (``report.no_tiles``).
        seconds: until the last point, from now; None for no limit. The coarsest level of points is evaluated in any
            case.
        phases: is told what is done.

    Raises:
        CannotMeasureError: if a loader is missing or empty, or the step neither returns a loss nor logs anything.
        ValueError: if no parameter may move.
    """
    deadline = None if seconds is None else Deadline(seconds)
    training = _training(trainer, module, settings)
    with probing(trainer, module, settings.mode, settings.flags, settings.saved) as (probe, recorder, snapshot):
        settings = replace(
            settings, accelerate=settings.accelerate if probe is not module else False
        )  # the user's own: plainly
        # Sharded processes must take the same points together.
        job = Pass(trainer, probe, recorder, snapshot, settings, tolerant and not is_sharded(probe), phases)
        job.training = training
        surfaces = job.prepare(None if seconds is None else job.reading_seconds(seconds))
        job.note_samples(surfaces)
        job.lay_plane(surfaces[0])
        job.first_centre(surfaces)
        job.search(surfaces[0])
        job.compare_modes(surfaces[0])
        tiles = job.tiles(surfaces[0])
        landscape = job.landscape(surfaces, tiles)
        earlier = None if find is None else find(landscape)
        if earlier is not None and is_finished(earlier, landscape):
            yield iter([earlier])
            return
        if earlier is not None:
            landscape.report.rounding_error = earlier.report.rounding_error
            untidy(earlier, landscape)
            merge([landscape, earlier])
        if landscape.done.all():
            yield chain([landscape], job.follow(landscape, surfaces, deadline))
            return
        limit = None if deadline is None else job.limit(deadline, surfaces)
        with job.running(landscape, surfaces, tiles, landscape.remaining, limit) as landscapes:
            settings.run_state.choice = job.known
            yield chain([landscape], landscapes)


class Pass(Survey):
    """The survey of a module in its Trainer: its own step, on the data of its loaders.

    Args:
        trainer: the Trainer in the middle of its work.
        probe: a copy of its module, which is moved.
        recorder: of what the probe logs.
        snapshot: the weights θ*.
        settings: what to measure.
        tolerant: as in `measuring`.
        phases: is told what is done.
    """

    def __init__(
        self,
        trainer: Trainer,
        probe: nn.Module,
        recorder: LoggedValues,
        snapshot: Snapshot,
        settings: Settings,
        tolerant: bool,
        phases: Phases = SILENT,
    ) -> None:
        super().__init__(
            Sequential(probe, seed=settings.seed),
            settings.grid,
            accelerate=settings.accelerate,
            tolerance=settings.tolerance,
            tolerant=tolerant,
            group=Ranks(trainer, is_sharded(probe)),
        )
        self.trainer, self.probe, self.recorder, self.snapshot = trainer, probe, recorder, snapshot
        self.settings, self.known = settings, settings.run_state.choice
        self.phases = self.evaluator.phases = phases
        has_records = settings.recorded is not None and len(settings.recorded.weights) > 0
        self.recorded = settings.recorded if has_records else None
        self._normalises_by_batch = normalises_by_batch(probe)
        self.training = Training()
        self.facts: Facts = facts_of(settings.directions)

    def is_stopped(self) -> bool:
        """True once the Trainer has received a SIGTERM, its time is over, or the user wants the pass to end."""
        is_late = self.settings.until is not None and now() > self.settings.until
        return bool(self.trainer.received_sigterm) or self.phases.must_end or is_late

    def prepare(self, seconds: float | None = None, first: int | None = None) -> list[Surface]:
        """The surfaces without their centres, of data that were read for so many seconds, or all.

        Args:
            seconds: for all data sets, but the fewest samples of a plan are read in any case; None for no limit.
            first: how many batches of each to read; None for all.
        """
        settings, trainer = self.settings, self.trainer
        least = 0 if first is not None else ladder(settings.max_samples)[0]
        max_samples = settings.max_samples if settings.planned_samples is None else settings.planned_samples
        surfaces = []
        for i, data in enumerate(settings.data):
            frozen = freeze(
                trainer,
                self.probe,
                data,
                max_samples=max_samples,
                max_batches=settings.max_batches,
                samples=settings.samples if i == 0 else 0,
                seed=settings.seed,
                deadline=None if seconds is None else Deadline(seconds / len(settings.data)),
                least=least,
                first=first,
                as_trained=settings.mode == "train",
                phases=self.phases,
            )
            surfaces.append(Surface(data, self._objective(data, frozen), frozen))
        return surfaces

    def reading_seconds(self, seconds: float) -> float | None:
        """The seconds for reading the data, of those for all; None where reading is quick, and needs no limit."""
        plan = self.settings.run_state.plan
        may_read_less = self.settings.max_samples is None if plan is None else plan.may_read_less
        if not may_read_less:
            return None
        return PlanSettings().reading * seconds

    def note_samples(self, surfaces: Sequence[Surface]) -> None:
        """Keep in the plan what could be read in time, if that is less than was planned."""
        planned, frozen = self.settings.planned_samples, [surface.frozen for surface in surfaces]
        if planned is not None and any(data.size < min(planned, data.available) for data in frozen):
            planned = max(data.size for data in frozen)
            self.settings = replace(self.settings, planned_samples=planned)
            self.settings.run_state.plan = replace(self.settings.run_state.plan or Plan(planned), samples=planned)

    def limit(self, deadline: Deadline, surfaces: Sequence[Surface]) -> Limit:
        """The limits of the points, by what a sample took in the rehearsal."""
        settings, cost = self.settings, self.settings.run_state.cost
        each = {} if cost is None else cost.seconds_per_sample
        seconds = sum(each.get(s.data, 0.0) * s.frozen.size for s in surfaces) / self.group.size
        return Limit(deadline, seconds or None, settings.level, settings.is_last)

    def follow(
        self, landscape: Landscape, surfaces: Sequence[Surface], deadline: Deadline | None = None
    ) -> Iterator[Landscape]:
        """Measure the records of the path (`Survey.follow`), and say which have no loss."""
        yield from super().follow(landscape, surfaces, deadline)
        if text := missing(landscape):
            compat.info(self.trainer, f"Landscape: {text}")

    def lay_plane(self, surface: Surface, directions: Directions | None = None) -> None:
        """Make the directions, now that it is known what is measured.

        Args:
            surface: the first one.
            directions: in place of those of the settings, for a rehearsal.

        Raises:
            ValueError: if the directions are none of this module.
        """
        chosen = self.settings.directions if directions is None else directions
        if needs(chosen):
            self.phases.tell("computing the directions")
        self.plane, self.facts = laid_plane(self.trainer, chosen, self.site(surface), self.grid.ndim)

    def site(self, surface: Surface) -> Site:
        """The centre of the landscape, and what directions may be made of."""
        training = self.training
        return Site.at(
            self.snapshot, self.probe, without_spread(surface.objective), surface.frozen.batches,
            records=training.records, optimizers=training.optimizers, original=training.original,
        )  # fmt: skip

    def _objective(self, data: str, frozen: FrozenData) -> Objective:
        """The objective that is measured on a data set."""
        given = self.settings.objective
        return Spread(chosen_objective(self.trainer, self.probe, self.recorder, data, frozen.several_loaders, given))

    def first_centre(self, surfaces: Sequence[Surface]) -> None:
        """Measure the centre with the plain evaluator.

        Raises:
            RuntimeError: of what can be measured in train mode only, and was not asked for in it; what was raised is
                in the message.
        """
        self.phases.tell("measuring the centre")
        try:
            self.centre(surfaces, self.evaluator)
        except (OtherRankError, OriginalsTouchedError):
            raise
        except Exception as error:
            if self.settings.mode == "eval" and all(self._in_train_mode(surface) for surface in surfaces):
                raise only_in_train_mode(error) from error
            raise

    def search(self, surface: Surface) -> None:
        """Find the ranges that are left to us, on the first surface; all processes take those of rank 0."""
        settings = self.settings
        if settings.searched:
            self.phases.tell("finding the range")
            ranges = self.find_ranges(
                surface, settings.searched, partial(from_first, self.trainer), reach=self.facts.reach
            )
            self.settings = replace(settings, ranges=ranges)
            compat.info(self.trainer, f"Landscape: {sentence(ranges)}")

    def compare_modes(self, surface: Surface) -> None:
        """Say where the loss that is trained, and is measured in eval mode, is another one in train mode."""
        if self.settings.mode == "train" or surface.data != "train":
            return
        main, trained = surface.main, self._in_train_mode(surface)
        line, entry = compared(main, surface.center[main], trained.get(main), self.probe, self.settings.flags)
        self.report.train_mode_loss = entry
        if line:
            compat.info(self.trainer, line)

    def _in_train_mode(self, surface: Surface) -> dict[str, Measurement]:
        """A surface's values at θ* in train mode; nothing where they can't be had, or are those of eval mode.

        Nothing of it stays: it has an objective of its own, which finds the module as it was.
        """
        synchronised = any(isinstance(part, nn.SyncBatchNorm) for part in self.probe.modules())
        if is_sharded(self.probe) or (synchronised and self.trainer.world_size > 1):
            return {}
        surface.objective.start()
        make = partial(self._objective, surface.data, surface.frozen)
        found = at_origin_in_train_mode(self.evaluator, self.settings.flags, make, self.plane, surface.frozen.batches)
        surface.objective.start()
        return found

    def centre(self, surfaces: Sequence[Surface], evaluator: Evaluator, batches: Sequence[Batch] | None = None) -> None:
        """Measure the surfaces at θ*, which tells the names of their metrics.

        Args:
            surfaces: get their centres and names.
            evaluator: measures them.
            batches: their data in the form that the evaluator likes; None for their own.

        Raises:
            CannotMeasureError: if the step neither returns a loss nor logs anything, or differs between processes.
        """
        origin = np.zeros((1, self.plane.ndim))
        measured = paired(surfaces, all_batches(surfaces) if batches is None else batches)
        for surface, (objective, data) in zip(surfaces, measured, strict=True):
            surface.center = next(iter(evaluator(objective, self.plane, origin, data)))
            if not surface.center:
                raise CannotMeasureError(
                    f"data={surface.data!r}: {compat.STEPS[surface.data]} of {author_class(self.probe).__name__} "
                    "returned no scalar loss and logged nothing. Return the loss, log it, or give "
                    "objective=function(module, batch)."
                )
        for surface in surfaces:
            elsewhere = {name for s in surfaces if s is not surface for name in s.center}
            surface.names = {n: f"{surface.data}_{n}" if n in elsewhere else n for n in surface.center}
            # A step that logs "acc" and "train_acc" may need one more word.
            taken = [name for s in surfaces for name in s.names.values()]
            surface.names = {n: f"{s}_logged" if taken.count(s) > 1 and s != n else s for n, s in surface.names.items()}
            check_agreement(self.trainer, surface.loss, surface.center[surface.main].value)
            surface.left_out = set(differing_metrics(self.trainer, {n: m.value for n, m in surface.center.items()}))
            for name in surface.left_out & surface.center.keys():
                del surface.center[name], surface.names[name]
            if surface.left_out:
                self.report.left_out = sorted(surface.left_out)

    def tiles(self, surface: Surface) -> Tiles | None:
        """The tiles of a surface; None without any, or where the step refuses them and that is tolerated.

        In train mode it is: some losses are of whole batches only.
        """
        if not surface.frozen.singles:
            return None
        if self._normalises_by_batch:
            self.report.no_tiles = "BatchNorm takes its statistics from the batch in train mode"
            return None
        objective = without_spread(surface.objective)
        self.phases.tell("measuring single samples")
        try:
            items = describe(self.evaluator, objective, surface.main, self.plane, surface.frozen.singles)
            stream = tile_stream(self.evaluator, objective, surface.main, self.plane, surface.frozen)
        except Exception as error:
            if not self.tolerant and self.settings.mode == "eval":
                raise
            self.report.no_tiles = error_text(error)
            return None
        return Tiles(items, stream)

    def landscape(self, surfaces: Sequence[Surface], tiles: Tiles | None) -> Landscape:
        """The landscape of which nothing but the centre is known, with its recipe."""
        landscape = self.begin(surfaces, tiles, self._recipe(surfaces))
        landscape.spectrum = self.facts.spectrum
        return landscape

    def _recipe(self, surfaces: Sequence[Surface]) -> Recipe:
        """The recipe of the landscape of these surfaces."""
        trainer, settings = self.trainer, self.settings
        step = compat.training_step_count(trainer) if settings.step is None else settings.step
        cost = settings.run_state.cost
        available = {} if cost is None or settings.budget is None else cost.samples
        return Recipe(
            module=author_class(self.probe).__name__,
            objective=getattr(settings.objective, "__qualname__", None) or compat.STEPS[settings.data[0]],
            mode=settings.mode,
            seed=settings.seed,
            step=step,
            epoch=settings.epoch,
            weights=settings.weights,
            weights_checksum=checksum(self.snapshot.params.values()),
            data={s.data: data_recipe(s.frozen, available.get(s.data)) for s in surfaces},
            data_of={name: s.data for s in surfaces for name in s.names.values()},
            directions=directions_recipe(self.facts, self.snapshot, self.plane),
            ranges=settings.ranges,
            precision=str(trainer.precision),
            rounding=str(settings.accelerate) if settings.accelerate in ON_REQUEST else None,
            tolerance=settings.tolerance,
            budget=settings.budget,
            max_samples=settings.max_samples,
            planned_samples=settings.planned_samples,
            tiles=0 if self.report.no_tiles else len(surfaces[0].frozen.singles),
            versions=versions(lightning=compat.version(trainer)),
        )


def chosen_objective(
    trainer: Trainer,
    probe: nn.Module,
    recorder: LoggedValues,
    data: str,
    several_loaders: bool = False,
    given: Callable[..., Any] | None = None,
) -> Objective:
    """The objective of a data set: the function that the user gives, or the probe's own step.

    Args:
        trainer, probe, recorder: as of `Pass`.
        data: "train", "val" or "test".
        several_loaders: whether the batches come from several loaders in turn.
        given: by the user; None for the step.
    """
    lent = substitutes_of(trainer)
    objective: Objective
    if given is not None:
        objective = LossFunction(given, f"{data}_loss", [probe])
    else:
        objective = StepObjective(
            probe,
            compat.STEPS[data],
            recorder,
            f"{data}_loss",
            compat.step_context(trainer, data),
            several_loaders,
            [twin for _, twin in lent.copies],
            partial(_prepare_step, lent, data),
        )
    return OneProcessObjective(objective) if several_processes() else objective


def _prepare_step(lent: Substitutes, data: str) -> None:
    """Before each point: stand-ins as they were, and the Trainer's counters as a step on these data reads them."""
    lent.stand_ins.reset()
    if lent.counters is not None:
        lent.counters.show(data)


def _training(trainer: Trainer, module: nn.Module, settings: Settings) -> Training:
    """The parts of a training that directions may be made of; outside of `probing`, which hides the optimisers."""
    is_trained = settings.saved is None and settings.weights == Settings.weights
    records = () if settings.recorded is None else settings.recorded.weights
    return Training(module, compat.optimizers(trainer) if is_trained else (), records)


def remarks(landscape: Landscape) -> list[str]:
    """The warnings to give before a landscape is measured."""
    assert landscape.recipe.directions is not None
    texts = [span_sentence(landscape.recipe.directions, landscape.grid.ndim)]
    if names := landscape.report.left_out:
        texts.append(
            f"{', '.join(names)} differs between the processes on the same data, and gets no landscape. "
            "Ignore this if it is meant to differ."
        )
    return [text for text in texts if text]


def rehearse(trainer: Trainer, module: nn.Module, settings: Settings) -> Rehearsal:
    """Measure the centre on one batch of each data set: what can't work is found before the training.

    Call it inside `undisturbed`. Errors as `measuring`, and whatever the step itself raises. A lazy module that
    has seen no batch yet has no weights to rehearse with.

    Args:
        trainer, module, settings: as in `measuring`.
    """
    if any(is_lazy(parameter) for parameter in module.parameters()):
        return Rehearsal()
    training = _training(trainer, module, settings)
    with ExitStack() as until_the_end:
        try:
            modes = settings.mode, settings.flags
            probe, recorder, snapshot = until_the_end.enter_context(probing(trainer, module, *modes))
            small = replace(settings, samples=0, recorded=None)
        except ValueError as error:
            raise CannotMeasureError(str(error)) from error
        job = Pass(trainer, probe, recorder, snapshot, small, tolerant=False)
        job.training = training
        began = now()
        surfaces = job.prepare(None if settings.budget is None else 0.0, first=1)
        reading = now() - began
        try:
            job.lay_plane(surfaces[0], stand_in(settings.directions))
        except (ValueError, OSError) as error:
            raise CannotMeasureError(str(error)) from error
        watched: list[tuple[Rehearsed, str]] = []
        if not is_sharded(probe):  # which has no copy
            for surface in surfaces:
                step = author_class(probe).__name__ + "." + compat.STEPS[surface.data]
                surface.objective = rehearsed = Rehearsed(
                    surface.objective,
                    Touched(snapshot.params, {}),
                    f"data={surface.data!r}: {settings.objective or step} computes with {{}} of the module that is "
                    "trained, which does not move: the landscape moves a copy. It reaches the module through a global, "
                    "a list, another object or the Trainer. Take self instead, or a copy (copy.deepcopy) of weights "
                    "that are meant to stay fixed.",
                )
                watched.append((rehearsed, compat.STEPS[surface.data]))
        with _refused(settings.objective):
            job.first_centre(surfaces)
        first = surfaces[0]
        if first.main == f"{first.data}_loss":  # a returned loss; an accuracy may well stay the same
            _check_feels_its_weights(job.evaluator, first, job.plane)
        if (try_out := getattr(settings.directions, "rehearse", None)) is not None:
            try_out(job.site(first))
        times = f"on every batch at each of {settings.grid.size:,} points"
        advice = "Do it only where self.trainer.training is true: it is false then."
        noticed = [effects_warning(rehearsed.noticed, step, times, advice) for rehearsed, step in watched]
        texts = [*filter(None, noticed), *remarks(job.landscape(surfaces, None))]
        cost = measured_cost(job.evaluator, surfaces, job.plane, settings.max_samples, reading, job.group.size)
        return Rehearsal(texts, from_first(trainer, cost))


@contextmanager
def _refused(objective: Callable[..., Any] | None) -> Iterator[None]:
    """A context in which an error of the user's objective is one of the set-up; a step's may pass with the weights.

    Raises:
        CannotMeasureError: for what the objective raises, unless the memory is too small for it.
    """
    try:
        yield
    except (CannotMeasureError, OtherRankError, OriginalsTouchedError):
        raise
    except Exception as error:
        if objective is None or is_out_of_memory(error):
            raise
        name = getattr(objective, "__qualname__", type(objective).__name__)
        raise CannotMeasureError(
            f"objective={name} fails on the first batch ({error_text(error)}). It is called as objective(module, "
            "batch), with a copy of the module and a batch of the loader, and returns a tensor or a mapping of names "
            "to tensors."
        ) from error


def _check_feels_its_weights(evaluator: Sequential, surface: Surface, plane: Plane) -> None:
    """Raises CannotMeasureError if the loss stays the same when every weight that moves becomes NaN."""
    nowhere = np.full((1, plane.ndim), np.nan)
    try:
        measured = next(iter(evaluator(surface.objective, plane, nowhere, surface.frozen.batches)))
    except OtherRankError:
        raise
    except Exception:  # noqa: BLE001  # whoever refuses NaN has seen it
        return
    loss = measured.get(surface.main)
    if loss is not None and loss.value == surface.center[surface.main].value:
        raise CannotMeasureError(
            f"data={surface.data!r}: the loss does not depend on the weights that the directions move. Let the step "
            "use the modules of self, or let ignore= leave weights that the loss uses."
        )
