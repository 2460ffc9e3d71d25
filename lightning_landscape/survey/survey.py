"""Survey: one landscape in the making, for a Trainer's module and a plain one alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..accelerations.bf16 import control_points, control_values, errors, rounding_report
from ..accelerations.choose import fastest, report_of
from ..accelerations.proof import proved
from ..accelerations.trial import Choice
from ..evaluators import Evaluator, Measurement, Sequential
from ..interpolation.refinement import Order, Points, coarsest, least, refine
from ..landscape import Grid, Landscape, Sample, Samples
from ..objectives.base import Batch, Objective
from ..paths.project import Recorded
from ..phases import SILENT
from ..recipe import RangeRecipe, Recipe
from ..report import Report
from ..trajectory import Trajectory
from ..weights.plane import Plane
from .budget import Deadline, Limit, never
from .data import FrozenData
from .find_range import find_ranges, loss_at
from .group import Group, merge
from .path import measure_record, outline_first
from .plan import PlanSettings, affordable_level, affordable_points

Array = NDArray[np.float64]
Pair = tuple[Objective, Sequence[Batch]]  # what is measured, on its batches


@dataclass(eq=False)
class Surface:
    """One data set on the plane: what is measured, on what, and under which names it is stored.

    Args:
        data: the name of the data set.
        objective: what is measured.
        frozen: the data.
        center: the measurements at the origin, by metric.
        names: the name of each metric in the landscape.
        left_out: metrics that have no surface.
    """

    data: str
    objective: Objective
    frozen: FrozenData
    center: dict[str, Measurement] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    @property
    def main(self) -> str:
        """The measured name of the loss."""
        return self.objective.main(list(self.center))

    @property
    def loss(self) -> str:
        """The stored name of the loss."""
        return self.names[self.main]

    def recorded(self, measured: dict[str, Measurement]) -> dict[str, Measurement]:
        """The measurements of a point as they are stored: with these names, and errors against all of the data."""
        stored = {name: m for name, m in measured.items() if name not in self.left_out}
        return {self.names.get(name, name): m.corrected(self.frozen.correction) for name, m in stored.items()}


@dataclass(frozen=True, eq=False)
class Tiles:
    """The tile samples, and the objective and batches that measure them."""

    items: tuple[Sample, ...]
    measured: tuple[Objective, list[Batch]]


def all_batches(surfaces: Sequence[Surface]) -> list[Batch]:
    """The batches of all surfaces, one after the other."""
    return [batch for surface in surfaces for batch in surface.frozen.batches]


def paired(surfaces: Sequence[Surface], batches: Sequence[Batch]) -> list[tuple[Objective, list[Batch]]]:
    """The objective of each surface with its own batches.

    The given batches are those of `all_batches`, perhaps in another form.
    """
    remaining = iter(batches)
    return [(surface.objective, list(islice(remaining, len(surface.frozen.batches)))) for surface in surfaces]


class Survey:
    """The landscape of some surfaces on one plane: centre → evaluator → order of the points → values → path.

    Args:
        evaluator: the plain one, on the probe.
        grid: the points.
        accelerate: use what proves equal and faster on this module (`accelerations`); "bf16" for bfloat16, too.
        tolerance: of the losses: what can be interpolated within it, is (`refinement`); None to evaluate every point.
        tolerant: leave out a point at which the objective raises (``report.failure`` says what).
        path: gives where on the plane each point of the grid lies, of shape (n, 1) to (n, k); None: where it says.
        max_failures: at the first points; after as many, the pass fails.
        group: the processes that measure the landscape together. The first one decides which points are taken, from
            the values of all; every process has the whole landscape in the end.

    Attributes:
        plane: origin and k directions; set it before anything else.
        recorded: the records whose path is projected and measured, of the first process; None for none.
        known: accelerations that were tried on this module before, and afterwards those of this landscape.
        report: what was found on the way.
        phases: is told what is done.
    """

    plane: Plane
    recorded: Recorded | None = None
    phases = SILENT

    def __init__(
        self,
        evaluator: Sequential,
        grid: Grid,
        *,
        accelerate: bool | str = True,
        tolerance: float | None = None,
        tolerant: bool = False,
        path: Callable[[Array], Array] | None = None,
        max_failures: int = 16,
        group: Group | None = None,
    ) -> None:
        self.started = time.perf_counter()
        self.evaluator = evaluator
        self._path = path
        self.lay_grid(grid)
        self.accelerate, self.tolerance = accelerate, tolerance
        self.tolerant, self.max_failures, self._failures = tolerant, max_failures, 0
        self.group = Group() if group is None else group
        self.report = Report()
        self.known: Choice | None = None
        self._methods: tuple[Evaluator, Choice] = (evaluator, Choice())  # of the points that are measured now
        self._path_of_records: Trajectory | None = None
        self._whole: Landscape | None = None  # with the points of all processes

    def lay_grid(self, grid: Grid) -> None:
        """Take these points."""
        self.grid = grid
        self.places: Array = grid.points if self._path is None else self._path(grid.points)

    def find_ranges(
        self,
        surface: Surface,
        searched: Sequence[int],
        agree: Callable[[float], float] = float,
        reach: Sequence[float] = (),
    ) -> dict[str, RangeRecipe]:
        """Lay a grid whose range in these directions is found, and say how it was found.

        Args:
            surface: the first, with its centre.
            searched: the directions.
            agree: gives the loss that all processes take, from that of this one.
            reach: as of `find_range.find_ranges`.
        """
        if not searched:
            return {}
        batches = surface.frozen.first(2)
        loss = loss_at(self.evaluator, surface.objective, self.plane, batches, surface.main)
        samples = sum(batch.size for batch in batches)
        grid, ranges = find_ranges(self.grid, searched, lambda point: agree(loss(point)), samples, reach=reach)
        self.lay_grid(grid)
        return ranges

    def begin(self, surfaces: Sequence[Surface], tiles: Tiles | None, recipe: Recipe) -> Landscape:
        """The landscape of which nothing but the centre and the places of the path is known.

        Args:
            surfaces: with their centres and names; the first has the main loss.
            tiles: of the first of them.
            recipe: how it is made.
        """
        landscape = Landscape.empty(self.grid, [n for s in surfaces for n in s.names.values()], surfaces[0].loss)
        landscape.center = {s.names[n]: m.value for s in surfaces for n, m in s.center.items()}
        landscape.recipe, landscape.report = recipe, replace(self.report)
        if tiles is not None:
            landscape.samples = Samples(np.full((len(tiles.items), *self.grid.shape), np.nan), tiles.items)
        landscape.trajectory = self._path_of_records = self._project(landscape)
        return landscape

    def _project(self, landscape: Landscape) -> Trajectory | None:
        """The path of the records on the plane, without its losses; None in other processes than the first."""
        if self.recorded is None or not self.group.is_first:
            return None
        if self.group.in_step:
            landscape.report.no_path = "the parameters are divided among the processes"
            return None
        self.phases.tell("projecting the path")
        try:
            path = self.recorded.trajectory(self.plane)
        except Exception as error:
            if not self.tolerant:
                raise
            landscape.report.no_path = error_text(error)
            return None
        for table in (path.losses, path.plane_losses):
            table.update({name: np.full(len(path.steps), np.nan) for name in landscape.values})
        return path

    @contextmanager
    def running(
        self,
        landscape: Landscape,
        surfaces: Sequence[Surface],
        tiles: Tiles | None,
        order: NDArray[np.intp],
        limit: Limit | None = None,
    ) -> Iterator[Iterator[Landscape]]:
        """A context that gives the landscape after each of these points, and once more if points were interpolated.

        Then it gives the landscape after each record of the path.

        Args:
            landscape: takes the values.
            surfaces: on their whole data.
            tiles: of the first of them.
            order: flat indices of the points, of all processes.
            limit: of a landscape that must be there in time: its points go from coarse to fine, and the coarsest
                level is evaluated in any case. The records of the path come last.
        """
        end = None if limit is None else limit.deadline
        limit = None if limit is None else self._of_points(limit, surfaces)
        deadline = None if limit is None else limit.deadline
        evaluator: Evaluator = self.evaluator
        choice = Choice()
        if self.accelerate:
            expected = len(order) if self.tolerance is None else min(len(order), least(self.grid.shape))
            if limit is not None and limit.point is not None:
                expected = min(expected, affordable_points(limit.point, limit.deadline.left, self.grid.shape))
            evaluator, choice = self.choose(surfaces[0], surfaces[0].frozen.batches, order, expected)
        orders = at_once(order)
        if evaluator is self.evaluator and (self.tolerance is not None or limit is not None):
            losses, level = [s.loss for s in surfaces], None if limit is None else self._level(limit, choice)
            orders = refine(landscape, losses, self.tolerance or 0.0, deadline or never, level)
        with ExitStack() as accelerated:
            faster = self.faster(evaluator, choice, surfaces, tiles, self.places[order])
            fast, measured, choice = accelerated.enter_context(faster)
            landscape.report.rounding_error = self.report.rounding_error or landscape.report.rounding_error
            if deadline is not None:
                deadline.least = -(-coarsest(landscape) // self.group.size)
                deadline.start(self.group.first(deadline.left))

            def path() -> Iterator[Landscape]:
                accelerated.close()  # records are measured with the plain evaluator
                yield from self.follow(self._whole or landscape, surfaces, end)

            with closing(self.fill(landscape, surfaces, fast, measured, orders, deadline)) as landscapes:
                yield chain(landscapes, path())

    def _of_points(self, limit: Limit, surfaces: Sequence[Surface]) -> Limit:
        """The limit of the points alone, where records are to be measured after them."""
        path = self._path_of_records
        if path is None or path.measured.all():
            return limit
        left = limit.deadline.left
        needed = most = PlanSettings().path * left
        if limit.point is not None:
            rehearsals = len(surfaces) / len(all_batches(surfaces))  # of a batch each, before every evaluation
            evaluations = 2 * int((~path.measured).sum()) * (1 + rehearsals)
            needed = evaluations * limit.point * self.group.size  # the first process measures all of them
        return replace(limit, deadline=Deadline(left - min(needed, most)))

    def follow(
        self, landscape: Landscape, surfaces: Sequence[Surface], deadline: Deadline | None = None
    ) -> Iterator[Landscape]:
        """Measure the records of the path, or those before the deadline, in the first process; yield after each.

        The other processes wait, and have the whole path in the end.

        Args:
            landscape: takes the values.
            surfaces: on their whole data.
            deadline: when to stop.
        """
        mine = self._path_of_records if landscape.trajectory is self._path_of_records else None
        path: Trajectory | None = self.group.first(mine)
        if path is None:
            return
        remaining = [t for t in outline_first(len(path.steps)) if not path.measured[t]]
        if deadline is not None:
            deadline.start()
        for number, t in enumerate(remaining, 1):
            is_late = deadline is not None and self.group.is_first and deadline()
            if self.group.any(is_late or self.is_stopped()):
                landscape.report.no_path = "the time was over" if is_late else "the pass was stopped"
                break
            self.phases.tell("measuring the path", number, len(remaining))
            if self.group.is_first:
                self._measure_record(landscape, surfaces, path, t)
            if deadline is not None:
                deadline.step()
            yield landscape
        landscape.trajectory, landscape.report.no_path = self.group.first((path, landscape.report.no_path))

    def _measure_record(self, landscape: Landscape, surfaces: Sequence[Surface], path: Trajectory, t: int) -> None:
        """Measure one record; one at which the objective raises is left out where that is tolerated."""
        assert self.recorded is not None
        try:
            measure_record(self.evaluator, surfaces, self.plane, path, self.recorded.weights[t], t)
        except Exception as error:
            landscape.report.no_path = landscape.report.no_path or error_text(error)
            if not self.tolerant:
                raise
        landscape.report.seconds = round(time.perf_counter() - self.started, 3)

    def _level(self, limit: Limit, choice: Choice) -> int | None:
        """The finest level to evaluate; None for as fine as there is time for."""
        if limit.is_last or limit.level is not None or limit.point is None:
            return None if limit.is_last else limit.level
        point = limit.point / prod(choice.speedup.values())
        return affordable_level(point, limit.deadline.left, self.grid.shape)

    def choose(
        self, surface: Surface, batches: Sequence[Batch], order: NDArray[np.intp], expected: int
    ) -> tuple[Evaluator, Choice]:
        """The evaluator that measures the points, and the accelerations that it gets (`fastest`).

        Of several processes each tries them, so that none waits, under the load of the work. The first one's choice
        holds.
        """
        points, expected = self.places[order], -(-expected // self.group.size)
        find = partial(fastest, self.evaluator, surface.objective, self.plane, batches, points)
        evaluator, choice = find(
            expected, self.accelerate, known=self.known, phases=self.phases, shared=self.group.size > 1
        )
        return evaluator, self.group.first(choice)

    @contextmanager
    def faster(
        self,
        evaluator: Evaluator,
        choice: Choice,
        surfaces: Sequence[Surface],
        tiles: Tiles | None,
        points: np.ndarray,
    ) -> Iterator[tuple[Evaluator, Sequence[Pair], Choice]]:
        """A context in which the chosen accelerations work; gives evaluator, (objective, batches) pairs and choice.

        Each surface has one pair, and so have the tiles. The choice is empty if it does not prove equal (`proved`).

        Args:
            evaluator: what is made faster.
            choice: how.
            surfaces: on their whole data.
            tiles: of the first of them.
            points: which will be measured, shape (n, k); at some of them the error of bfloat16 is measured.
        """
        if choice.names:
            self.phases.tell("compiling" if "compiled" in choice.names else "proving the faster ways")
        of_tiles = [] if tiles is None else [tiles.measured]
        controls = control_points(points) if "bf16" in choice.names else None
        exact = []
        if controls is not None:
            pairs = [*paired(surfaces, all_batches(surfaces)), *of_tiles]
            exact = control_values(evaluator, self.plane, controls, pairs)

        def parts(batches: Sequence[Batch]) -> list[tuple[Objective, list[Batch]]]:
            """Each objective with its own batches."""
            return [*paired(surfaces, batches), *of_tiles]

        tried = choice
        proof = proved(choice, evaluator, self.plane, all_batches(surfaces), parts, self.group.any)
        with proof as (fast, batches, choice):
            self.known = tried if choice.names == tried.names else None
            measured: list[Pair] = [*paired(surfaces, batches), *of_tiles]
            if controls is not None:
                found = _named_errors(surfaces, exact, control_values(fast, self.plane, controls, measured))
                self.report.rounding_error = rounding_report(controls, len(measured[0][1]), found)
            self._methods = (evaluator, choice)
            yield fast, measured, choice

    def fill(
        self,
        landscape: Landscape,
        surfaces: Sequence[Surface],
        evaluator: Evaluator,
        measured: Sequence[Pair],
        orders: Points,
        deadline: Deadline | None = None,
    ) -> Generator[Landscape, None, None]:
        """Measure the points of all `orders`, or, of each, those before the deadline; yield after each.

        Where points were interpolated, or other processes have points too, it yields once more.

        Args:
            landscape: takes the values.
            surfaces: tell their names.
            evaluator: measures.
            measured: (objective, batches) of each surface, and last of the tiles if the landscape has any.
            orders: flat indices of the points; the points that were tried are sent back.
            deadline: when to stop.
        """
        tried: Order | None = None
        while (order := self._next(orders, tried)) is not None:
            mine = tried = self.group.share(order)
            streams: list[Any] = []
            try:
                for place, flat in enumerate(mine):
                    if self._is_over(deadline):
                        tried = mine[:place]
                        break
                    streams = streams or self._streams(evaluator, measured, mine[place:])
                    try:
                        results = list(map(next, streams))
                    except Exception as error:
                        streams = _closed(streams)
                        if not self._is_tolerated(error, landscape):
                            raise
                    else:
                        self._record(landscape, surfaces, flat, results)
                        landscape.report.split_batches = evaluator.parts
                    if deadline is not None:
                        deadline.step()
                    yield landscape
            finally:
                _closed(streams)
            tried = self._joined(landscape, tried, deadline)
        self._whole = whole = self.group.first(landscape)
        if whole is not landscape or whole.interpolated.any():
            yield whole

    def is_stopped(self) -> bool:
        """True once this process was told to stop: the points that are left stay empty."""
        return False

    def _next(self, orders: Points, tried: Order | None) -> Order | None:
        """The points that are taken next, as the first process decides; None at the end."""
        order = None
        if self.group.any(self.is_stopped()):
            return None
        if self.group.is_first:
            with suppress(StopIteration):
                order = orders.send(tried)
        return self.group.first(order)

    def _is_tolerated(self, error: Exception, landscape: Landscape) -> bool:
        """True if the pass goes on without the point at which this was raised."""
        self._failures += 1
        landscape.report.failure = landscape.report.failure or error_text(error)
        return self.tolerant and (self._failures != self.max_failures or bool(landscape.done.any()))

    def _is_over(self, deadline: Deadline | None) -> bool:
        """True if no further point is taken; processes that take every point together say the same."""
        over = self.is_stopped() or (deadline is not None and deadline())
        return self.group.any(over) if self.group.in_step else over

    def _joined(self, landscape: Landscape, tried: Order, deadline: Deadline | None) -> Order:
        """The points that all processes have tried; the landscape gets their values.

        What one process had no time for has stopped them all.
        """
        if deadline is not None and self.group.any(deadline()):
            deadline.stop()
        if self.group.in_step:
            return tried
        parts = self.group.gather((landscape, tried))
        merge([landscape, *(part for part, _ in parts if part is not landscape)])
        return np.concatenate([points for _, points in parts])

    def _streams(self, evaluator: Evaluator, measured: Sequence[Pair], order: NDArray[np.intp]) -> list[Any]:
        """For each surface, and the tiles, the generator of its measurements at these points."""
        points = self.places[order]
        return [evaluator(objective, self.plane, points, batches) for objective, batches in measured]

    def _record(
        self, landscape: Landscape, surfaces: Sequence[Surface], flat: np.intp, results: list[dict[str, Measurement]]
    ) -> None:
        """Take in the results at the point with this flat index."""
        index = np.unravel_index(flat, landscape.grid.shape)
        for surface, result in zip(surfaces, results, strict=False):
            landscape.record(index, surface.recorded(result))
        if landscape.samples is not None:
            for tile, (value, _) in results[-1].items():
                cell: tuple[Any, ...] = (int(tile), *index)
                landscape.samples.values[cell] = value
        landscape.report.accelerations = report_of(*self._methods)
        landscape.report.seconds = round(time.perf_counter() - self.started, 3)


def at_once(order: Order) -> Points:
    """All of these points as one order."""
    if len(order):
        yield order


def _closed(streams: list[Any]) -> list[Any]:
    """An empty list, after all streams were closed."""
    for stream in streams:
        stream.close()
    return []


def _named_errors(surfaces: Sequence[Surface], exact: list[Any], rounded: list[Any]) -> dict[str, dict[str, float]]:
    """The errors of bfloat16 by the names in the landscape; "samples" for the worst tile."""
    tables = [errors(a, b) for a, b in zip(exact, rounded, strict=True)]
    result = {s.names.get(n, n): e for s, table in zip(surfaces, tables, strict=False) for n, e in table.items()}
    for tiles in tables[len(surfaces) :]:
        result["samples"] = max(tiles.values(), key=lambda error: error["share"])
    return result


def error_text(error: Exception) -> str:
    """The class and the message of an error, for a report."""
    return f"{type(error).__name__}: {error}"
