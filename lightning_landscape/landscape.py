"""The values that every floor exchanges: a Grid of points, the Landscape measured on it, its Samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .notebook import as_html
from .reading import SETTINGS, Reading, Surface, read, uphill_distances
from .recipe import Recipe
from .report import Interpolation, Report
from .spectrum import Spectrum, equal_spectra
from .topology import Heights, Minimum, Pass, find_minima, find_pass
from .trajectory import Trajectory, equal_trajectories

if TYPE_CHECKING:
    from .plots import Figure
    from .plots.film import Film

Array = NDArray[np.float64]
Entry = TypeVar("Entry")
AXIS_NAMES = ("x", "y", "z")
MOST_POINTS = 10_000_000  # of a grid; at a millisecond each they take three hours, and are saved while they do


def axis_points(name: str, axis_range: Sequence[float]) -> Array:
    """The coordinates of one grid axis.

    Args:
        name: What the caller calls this argument; used in error messages.
        axis_range: ``(low, high, points)`` with finite ``low < high`` and an integer ``points >= 2``.

    Returns:
        ``points`` equally spaced coordinates, ends included, shape (points,). A coordinate that is zero up
        to rounding is exactly zero, so that a symmetric odd axis holds the centre.

    Raises:
        ValueError: if the range is not three numbers, not finite, reversed or empty, too wide, or has too few points.

    >>> axis_points("x", (-1, 1, 5))
    array([-1. , -0.5,  0. ,  0.5,  1. ])
    >>> axis_points("x", (1, -1, 5))
    Traceback (most recent call last):
    ValueError: x=(1, -1, 5) is reversed or empty: give (low, high, points) with low < high.
    """
    try:
        low, high, points = axis_range
        low_value, high_value, count = float(low), float(high), int(points)
        whole = count == points and not isinstance(points, bool)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name}={axis_range!r} is not a range: give (low, high, points), e.g. (-1, 1, 51).") from None
    text = f"{name}=({low}, {high}, {points})"
    if not (np.isfinite(low_value) and np.isfinite(high_value)):
        raise ValueError(f"{text} has an end that is not finite: give (low, high, points) with finite ends.")
    if not low_value < high_value:
        raise ValueError(f"{text} is reversed or empty: give (low, high, points) with low < high.")
    if not math.isfinite(high_value - low_value):
        raise ValueError(f"{text} is wider than float64 can hold: give ends nearer to each other.")
    if not whole or count < 2:
        raise ValueError(f"{text} has {points} points: give a whole number of at least 2, e.g. 51.")
    _check_count(text, count)
    coordinates = np.linspace(low_value, high_value, count)
    coordinates[np.abs(coordinates) < 1e-12 * (high_value - low_value)] = 0.0
    return coordinates


def grid_of(ranges: Mapping[str, Any]) -> Grid:
    """The grid over ranges that a user gave, by the names of the arguments.

    Raises:
        ValueError: as `axis_points`, and if there are more points than anyone can wait for.

    >>> grid_of({"x": (-1, 1, 5), "y": (0, 1, 3)}).shape
    (5, 3)
    >>> grid_of({"x": (-1, 1, 100_000), "y": (-1, 1, 100_000)})
    Traceback (most recent call last):
    ValueError: x=(-1, 1, 100000), y=(-1, 1, 100000) has 10,000,000,000 points: 116 days at a millisecond a point, and
    149 GiB a metric. Give at most 10,000,000 points in all, e.g. 51 along each direction.
    """
    axes = tuple(axis_points(name, given) for name, given in ranges.items())
    text = ", ".join(f"{name}=({given[0]}, {given[1]}, {given[2]})" for name, given in ranges.items())
    _check_count(text, math.prod(map(len, axes)))
    return Grid(axes)


def _check_count(text: str, count: int) -> None:
    """Raises ValueError with an estimate if a grid has more than MOST_POINTS."""
    if count > MOST_POINTS:
        days = count * 1e-3 / 86_400
        gib = 2 * count * np.dtype(np.float64).itemsize / 2**30  # the value and its standard error
        raise ValueError(
            f"{text} has {count:,} points: {days:,.3g} days at a millisecond a point, and {gib:,.3g} GiB a metric. "
            f"Give at most {MOST_POINTS:,} points in all, e.g. 51 along each direction."
        )


@dataclass(frozen=True, eq=False)
class Grid:
    """A rectangular grid of points in the plane of k directions.

    Args:
        axes: one strictly increasing, finite 1-D array a direction, at least 2 points each; in lengths of
            that direction.

    >>> grid = Grid.from_ranges((-1, 1, 3), (0, 1, 2))
    >>> grid.shape, grid.size
    ((3, 2), 6)
    >>> grid.points[:3].tolist()
    [[-1.0, 0.0], [-1.0, 1.0], [0.0, 0.0]]
    """

    axes: tuple[Array, ...]

    def __post_init__(self) -> None:
        axes = tuple(np.array(axis, dtype=np.float64) for axis in self.axes)
        if not axes:
            raise ValueError("A Grid needs at least one axis, got none: give one array of coordinates a direction.")
        for i, axis in enumerate(axes):
            if axis.ndim != 1 or len(axis) < 2:
                raise ValueError(f"axes[{i}] must be 1-D with at least 2 points, got shape {axis.shape}.")
            if not np.isfinite(axis).all() or not (axis[1:] > axis[:-1]).all():
                raise ValueError(f"axes[{i}] must be finite and strictly increasing, got {axis}.")
            axis.flags.writeable = False
        object.__setattr__(self, "axes", axes)

    @classmethod
    def from_ranges(cls, *ranges: tuple[float, float, int]) -> Grid:
        """The grid with one ``(low, high, points)`` range a direction (see `grid_of` for errors)."""
        names = AXIS_NAMES if len(ranges) <= len(AXIS_NAMES) else [f"range {i}" for i in range(len(ranges))]
        return grid_of(dict(zip(names, ranges, strict=False)))

    @property
    def ndim(self) -> int:
        """k, the number of directions."""
        return len(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Points along each axis."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def size(self) -> int:
        """n, the number of points."""
        return int(np.prod(self.shape))

    @property
    def points(self) -> Array:
        """All points, shape (n, k), last axis fastest: ``values.reshape(-1)`` has the same order."""
        return np.stack(np.meshgrid(*self.axes, indexing="ij"), axis=-1).reshape(-1, self.ndim)

    @property
    def outwards(self) -> NDArray[np.intp]:
        """The order in which points are measured: those nearest to the origin first, shape (n,).

        A pass that is stopped then has its middle.
        """
        return np.argsort(np.abs(self.points).max(axis=1), kind="stable")

    @property
    def center_index(self) -> tuple[int, ...]:
        """The indices of the grid point nearest to the origin θ*, one an axis."""
        return tuple(int(np.argmin(np.abs(axis))) for axis in self.axes)

    @property
    def has_center(self) -> bool:
        """True if the origin θ* is itself a point of the grid."""
        return all(axis[i] == 0 for axis, i in zip(self.axes, self.center_index, strict=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and all(
            np.array_equal(a, b) for a, b in zip(self.axes, other.axes, strict=True)
        )


@dataclass(frozen=True)
class Sample:
    """Facts about one sample beside its landscape.

    Args:
        index: its place in the data set.
        center: its own loss at the origin.
        label: its class y, where the module classifies.
        prediction: the class ŷ that the module gives it at the origin.
        probability: the probability of ŷ.
        thumbnail: uint8 picture, shape (height, width, 3), where the sample is an image.
    """

    index: int
    center: float
    label: int | None = None
    prediction: int | None = None
    probability: float | None = None
    thumbnail: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class Samples:
    """The landscapes of single samples on the plane of the whole.

    Args:
        values: shape (B, *grid.shape); ``values[b]`` is the loss of sample b alone.
        items: the B samples.
    """

    values: Array
    items: tuple[Sample, ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.items):
            raise ValueError(
                f"Samples holds {len(self.values)} landscapes for {len(self.items)} samples: give one a sample."
            )


class ByMetric(dict[str, Entry]):
    """A table of one entry a metric. Other names of a metric give its entry, and are not in the table.

    Attributes:
        other_names: the metric of each other name.

    >>> table = ByMetric(train_loss=0.3, val_loss=0.4)
    >>> table.other_names = {"train/loss": "train_loss"}
    >>> table["train/loss"], list(table)
    (0.3, ['train_loss', 'val_loss'])
    >>> table["val_acc"]
    Traceback (most recent call last):
    KeyError: "metric 'val_acc' is not in this landscape; it has: train_loss, val_loss."
    """

    other_names: Mapping[str, str] = MappingProxyType({})

    def __missing__(self, name: str) -> Entry:
        metric = self.other_names.get(name, name)
        if metric in self:
            return self[metric]
        raise KeyError(f"metric {name!r} is not in this landscape; it has: {', '.join(self) or 'none'}.")

    @classmethod
    def of(cls, table: dict[str, Entry]) -> ByMetric[Entry]:
        """The table itself if it is one, else a copy that is."""
        return table if isinstance(table, ByMetric) else cls(table)


@dataclass(eq=False)
class Landscape:
    """One or several functions measured on one grid: f(c) at θ* + Σ cᵢ dᵢ (Li et al. 2018, section 4).

    Args:
        grid: the points, in lengths of each direction.
        values: one array a metric, shape ``grid.shape``: ``values[name][i, j]`` is at (x_i, y_j). NaN and inf
            are losses like others; whether a point has a value is said by `done` alone.
        main: the name of the main loss among `values`.
        standard_errors: of the mean over the samples, one array a metric, shape ``grid.shape``; NaN where it
            is unknown (one observation, a metric of the whole set).
        done: bool, shape ``grid.shape``: the points that have values.
        center: each metric at the origin θ* itself, also where the grid does not hold it.
        samples: the landscapes of single samples, if asked for.
        meta: notes of yours, or of the program that the landscape comes from: plain JSON values.
        interpolated: bool, shape ``grid.shape``: the points of `done` that were not evaluated (`refinement`).
        recipe: how it was made.
        report: what its pass took, and what went wrong.
        trajectory: the path of the training on this plane, if it was recorded.
        spectrum: the curvature of the main loss at the origin, in all directions, if it was computed.

    >>> grid = Grid.from_ranges((-1, 1, 5), (-1, 1, 3))
    >>> x, y = grid.points.T
    >>> bowl = Landscape(grid, {"loss": (1 + x**2 + 4 * y**2).reshape(grid.shape)}, main="loss")
    >>> bowl.center["loss"], bowl.relief(), bowl.curvature()
    (1.0, 5.0, (2.0, 8.0))
    >>> bowl
    Landscape('loss', 5 × 3, 15 of 15 points, centre 1)
    """

    grid: Grid
    values: dict[str, Array]
    main: str
    standard_errors: dict[str, Array] = field(default_factory=dict)
    done: NDArray[np.bool_] = None  # type: ignore[assignment]  # filled below: all points
    center: dict[str, float] = field(default_factory=dict)
    samples: Samples | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    interpolated: NDArray[np.bool_] = None  # type: ignore[assignment]  # filled below: no point
    recipe: Recipe = field(default_factory=Recipe)
    report: Report = field(default_factory=Report)
    trajectory: Trajectory | None = None
    spectrum: Spectrum | None = None

    def __post_init__(self) -> None:
        shape = self.grid.shape
        if self.done is None:
            self.done = np.ones(shape, dtype=bool)
        if self.interpolated is None:
            self.interpolated = np.zeros(shape, dtype=bool)
        self.values, self.standard_errors = ByMetric.of(self.values), ByMetric.of(self.standard_errors)
        self.center = ByMetric(self.center)
        self.name_same_loss({})
        if self.main not in self.values:
            raise ValueError(f"main={self.main!r} is not among the metrics: {', '.join(self.values) or 'none'}.")
        arrays = {**self.values, **{f"standard error of {k}": v for k, v in self.standard_errors.items()}}
        for name, array in {**arrays, "done": self.done, "interpolated": self.interpolated}.items():
            if array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, the grid has {shape}.")
        if (self.interpolated & ~self.done).any():
            raise ValueError(
                f"{(self.interpolated & ~self.done).sum()} interpolated points are not among those done: set them "
                "in done, too."
            )
        if self.samples is not None and self.samples.values.shape[1:] != shape:
            raise ValueError(f"samples have shape {self.samples.values.shape[1:]}, the grid has {shape}.")
        for name, array in self.values.items():
            if name not in self.center:
                self.center[name] = float(array[self.grid.center_index]) if self.grid.has_center else np.nan
        if self.trajectory is not None and self.trajectory.ndim != self.grid.ndim:
            raise ValueError(
                f"trajectory has {self.trajectory.ndim} coordinates a point, the grid has {self.grid.ndim} axes: "
                "project it onto the plane of this landscape."
            )

    def name_same_loss(self, same: Mapping[str, str]) -> None:
        """Note other names of a loss in the recipe; `values`, `standard_errors` and `center` answer to them.

        Args:
            same: the loss by its other names.
        """
        names = {**self.recipe.same_as_loss, **same}
        if same:
            self.recipe = replace(self.recipe, same_as_loss=names)
        for table in (self.values, self.standard_errors, self.center):
            if isinstance(table, ByMetric):
                table.other_names = names

    def __repr__(self) -> str:
        size = " × ".join(f"{points:,}" for points in self.grid.shape)
        evaluated = f" ({self.evaluated.sum():,} evaluated)" if self.interpolated.any() else ""
        points = f"{self.done.sum():,} of {self.grid.size:,} points{evaluated}"
        return f"Landscape({self.main!r}, {size}, {points}, centre {self.center[self.main]:.3g})"

    def _repr_png_(self) -> bytes | None:
        """The usual picture of a landscape; None for more directions than pictures have."""
        from .plots import USUAL, encode_picture

        return encode_picture(self.plot(), ".png") if self.grid.ndim in USUAL else None

    def _repr_html_(self) -> str:
        """The usual picture and the reading of the main loss."""
        return as_html(repr(self), self.reading(), self._repr_png_())

    def plot(self, kind: str | None = None, metric: str | None = None, **options: Any) -> Figure:
        """The figure of one metric, which a notebook shows; ``figure.savefig("loss.pdf")`` writes it.

        Args:
            kind: "contour", "heat" or "surface" of a plane, "slices" or "tiles" of a line or a plane;
                "sections", "isosurfaces" or "slices" of a volume; "path" of a training. None for contour, slices or
                sections.
            metric: a name in `values`; None for the main loss.
            options: of that kind, e.g. ``ax``, or ``color_scale="log"``; all are in its file in `plots`.

        Raises:
            ValueError: if there is no such kind or metric, or the kind is not of so many directions.
        """
        from .plots import draw

        return draw(self, kind, metric, **options)

    def film(self, kind: str | None = None, metric: str | None = None, **options: Any) -> Film:
        """The film of the path of the training, which grows; ``film.save("path.gif")`` writes it.

        Colours, axes and camera stay. A notebook shows it.

        Args:
            kind: "contour", "heat" or "surface" of a plane, or "path"; None for contour of a plane, else path.
            metric: a name in `values`; None for the main loss.
            options: of that kind, and ``frames``: 40 if not given.

        Raises:
            ValueError: if there is no `trajectory`, no such kind or metric, or the path is a dot on this plane.
        """
        from .plots.growing import growing_film

        return growing_film(self, kind, metric, **options)

    @classmethod
    def empty(cls, grid: Grid, names: Iterable[str], main: str) -> Landscape:
        """A landscape of which no point is done yet: NaN everywhere, nothing in the mask."""
        names = list(names)
        return cls(
            grid,
            {name: np.full(grid.shape, np.nan) for name in names},
            main,
            {name: np.full(grid.shape, np.nan) for name in names},
            done=np.zeros(grid.shape, dtype=bool),
        )

    def record(self, index: tuple[Any, ...], measured: Mapping[str, tuple[float, float]]) -> None:
        """Fill in one point: value and standard error of every metric; one that is new gets arrays of its own."""
        for name, (value, error) in measured.items():
            for table, number in ((self.values, value), (self.standard_errors, error)):
                if name not in table:
                    table[name] = np.full(self.grid.shape, np.nan)
                table[name][index] = number
        self.done[index] = True
        self.interpolated[index] = False

    @property
    def evaluated(self) -> NDArray[np.bool_]:
        """The points whose values were measured, not interpolated; bool, shape ``grid.shape``."""
        return self.done & ~self.interpolated

    @property
    def remaining(self) -> NDArray[np.intp]:
        """The flat indices of the points that are not done, those nearest to the origin first."""
        outwards = self.grid.outwards
        return outwards[~self.done.reshape(-1)[outwards]]

    def without_interpolated(self) -> Landscape:
        """The evaluated points alone, as if the pass had been stopped there; arrays of its own."""

        def measured(array: Array) -> Array:
            return np.where(self.evaluated, array, np.nan)

        return replace(
            self,
            values={name: measured(array) for name, array in self.values.items()},
            standard_errors={name: measured(array) for name, array in self.standard_errors.items()},
            done=self.evaluated,
            samples=self.samples and Samples(measured(self.samples.values), self.samples.items),
            interpolated=np.zeros(self.grid.shape, dtype=bool),
            report=replace(self.report, interpolation=None),
        )

    @property
    def loss(self) -> Array:
        """The main loss, shape ``grid.shape``."""
        return self.values[self.main]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = [*self.values.values(), *self.standard_errors.values(), self.done, self.interpolated]
        parts = (self.samples.values if self.samples else None, self.trajectory)
        return sum(a.nbytes for a in arrays) + sum(part.nbytes for part in parts if part is not None)

    def metric(self, name: str | None = None) -> str:
        """`name` itself, the loss that has it as another name, or the main loss for None.

        Raises:
            ValueError: if there is no such metric.
        """
        if name is None:
            return self.main
        if name not in self.values:
            name = self.recipe.same_as_loss.get(name, name)
        if name not in self.values:
            raise ValueError(f"metric={name!r} is not in this landscape; it has: {', '.join(self.values)}.")
        return name

    def slice_values(self, direction: int, name: str | None = None) -> Array:
        """The values along one direction, the other coordinates nearest to 0; shape (points,)."""
        index: list[Any] = list(self.grid.center_index)
        index[direction] = slice(None)
        return self.values[self.metric(name)][tuple(index)]

    def slice_errors(self, direction: int, name: str | None = None) -> Array:
        """The standard errors along one direction, as `slice_values`; NaN where unknown."""
        index: list[Any] = list(self.grid.center_index)
        index[direction] = slice(None)
        errors = self.standard_errors.get(self.metric(name))
        return np.full(self.grid.shape[direction], np.nan) if errors is None else errors[tuple(index)]

    def relief(self, name: str | None = None) -> float:
        """Highest minus lowest finite value of the points done; NaN without any."""
        values = self.values[self.metric(name)][self.done]
        finite = values[np.isfinite(values)]
        with np.errstate(over="ignore"):
            return float(finite.max() - finite.min()) if len(finite) else float("nan")

    def barrier(self, name: str | None = None) -> float:
        """The highest rise of a path from 0 to 1 above the line between its ends; 0 if it nowhere rises.

        max over t in [0, 1] of L(t) − ((1 − t) L(0) + t L(1)) (Entezari et al. 2022, section 2).

        Raises:
            ValueError: if the landscape is not 1-D, or 0 or 1 is no point of its axis.

        >>> t = np.linspace(0, 1, 5)
        >>> Landscape(Grid((t,)), {"loss": t * (1 - t) + 2 * t}, main="loss").barrier()
        0.25
        """
        axis = self.grid.axes[0]
        first, last = (int(np.argmin(np.abs(axis - end))) for end in (0, 1))
        if self.grid.ndim != 1 or not np.allclose(axis[[first, last]], (0, 1), rtol=0, atol=1e-12):
            raise ValueError(
                f"A barrier is of a path that holds 0 and 1; this grid has shape {self.grid.shape}, and its first axis "
                f"runs from {axis[0]:g} to {axis[-1]:g}. Compute a line, e.g. with xrange=(0, 1, 51)."
            )
        t, values = axis[first : last + 1], self.values[self.metric(name)][first : last + 1]
        return float((values - ((1 - t) * values[0] + t * values[-1])).max())

    def lowest(self, name: str | None = None) -> tuple[float, tuple[float, ...]]:
        """The lowest finite value of the points done, and where it lies: k coordinates; NaN without any."""
        values = self.values[self.metric(name)]
        finite = np.where(self.done & np.isfinite(values), values, np.inf)
        if np.isinf(finite).all():
            return float("nan"), (float("nan"),) * self.grid.ndim
        index = np.unravel_index(int(finite.argmin()), finite.shape)
        return float(finite[index]), tuple(float(axis[i]) for axis, i in zip(self.grid.axes, index, strict=True))

    def curvature(self, name: str | None = None, *, of_weights: bool = False) -> tuple[float, ...]:
        """The second derivative of each slice at its point nearest to the centre.

        The divided difference of three neighbouring points, 2·f[x₀, x₁, x₂]: exact for a parabola, else a
        mean over the grid's spacing. NaN where an axis has fewer than 3 points.

        Args:
            name: a metric; None for the main loss.
            of_weights: for a distance of 1 between weights, as eigenvalues of the Hessian are; NaN where the lengths of
                the directions are unknown. Else for a distance of 1 on the axis.
        """
        lengths = self.recipe.directions.lengths if self.recipe.directions is not None else []
        if of_weights:
            unit = [*lengths[: self.grid.ndim], *[float("nan")] * (self.grid.ndim - len(lengths))]
            return tuple(c / d**2 for c, d in zip(self.curvature(name), unit, strict=True))
        result = []
        for direction, axis in enumerate(self.grid.axes):
            if len(axis) < 3:
                result.append(float("nan"))
                continue
            middle = min(max(self.grid.center_index[direction], 1), len(axis) - 2)
            x0, x1, x2 = axis[middle - 1 : middle + 2]
            f0, f1, f2 = self.slice_values(direction, name)[middle - 1 : middle + 2]
            with np.errstate(invalid="ignore", over="ignore"):
                result.append(float(2 * ((f2 - f1) / (x2 - x1) - (f1 - f0) / (x1 - x0)) / (x2 - x0)))
        return tuple(result)

    def minima(self, metric: str | None = None) -> tuple[Minimum, ...]:
        """The significant minima, lowest first: each way out of them rises by more than twice its standard error.

        Where standard errors are unknown, every point that is lower than all its neighbours is one. Neighbours lie
        along axes and diagonals. Points without a finite value are walls.

        Args:
            metric: a name in `values`; None for the main loss.

        >>> wells = Landscape(Grid.from_ranges((-2, 2, 5)), {"loss": np.array([3.0, 0.0, 2.0, 0.5, 4.0])}, "loss")
        >>> [(minimum.point, minimum.value, minimum.persistence) for minimum in wells.minima()]
        [((-1.0,), 0.0, inf), ((1.0,), 0.5, 1.5)]
        """
        return tuple(minimum for minimum in find_minima(self._heights(metric))[0] if minimum.significant)

    def basins(self, metric: str | None = None) -> NDArray[np.intp]:
        """For each point the minimum below it, as its number in `minima`; -1 without a finite value.

        >>> wells = Landscape(Grid.from_ranges((-2, 2, 5)), {"loss": np.array([3.0, 0.0, 2.0, 0.5, 4.0])}, "loss")
        >>> wells.basins().tolist()
        [0, 0, 0, 1, 1]
        """
        return find_minima(self._heights(metric))[1]

    def pass_between(
        self, p: Minimum | Sequence[float], q: Minimum | Sequence[float], metric: str | None = None
    ) -> Pass | None:
        """The highest point on the lowest way between two points on the grid.

        Args:
            p, q: minima, or coordinates, which stand for the nearest point.
            metric: a name in `values`; None for the main loss.

        Returns:
            The pass; None if points without a finite value separate the two.

        Raises:
            ValueError: if there is no such metric, a point lies outside the grid, or has no finite value.

        >>> wells = Landscape(Grid.from_ranges((-2, 2, 5)), {"loss": np.array([3.0, 0.0, 2.0, 0.5, 4.0])}, "loss")
        >>> wells.pass_between((-1,), (1,)).value
        2.0
        """
        heights = self._heights(metric)
        return find_pass(heights, self._place("p", p, heights), self._place("q", q, heights))

    def _heights(self, metric: str | None) -> Heights:
        """The values of a metric with their errors; of an interpolated point, with that of the interpolation."""
        name = self.metric(metric)
        errors = self.standard_errors.get(name, np.full(self.grid.shape, np.nan))
        share = (self.report.interpolation or Interpolation()).errors.get(name, 0.0)
        spared = np.hypot(np.nan_to_num(errors), share * self.relief(name))
        return Heights(self.grid.axes, self.values[name], np.where(self.interpolated, spared, errors), self.done)

    def _place(self, argument: str, point: Minimum | Sequence[float], heights: Heights) -> tuple[int, ...]:
        """The indices of the grid point nearest to a point that a user gave."""
        coordinates = tuple(float(at) for at in (point.point if isinstance(point, Minimum) else point))
        ends = ", ".join(f"{axis[0]:g} to {axis[-1]:g}" for axis in self.grid.axes)
        within = len(coordinates) == self.grid.ndim and all(
            axis[0] <= at <= axis[-1] for at, axis in zip(coordinates, self.grid.axes, strict=True)
        )
        if not within:
            raise ValueError(
                f"{argument}={coordinates} is no point of this landscape: give {self.grid.ndim} coordinates, within "
                f"{ends}."
            )
        nearest = zip(coordinates, self.grid.axes, strict=True)
        index = tuple(int(np.argmin(np.abs(axis - at))) for at, axis in nearest)
        if not (self.done[index] and np.isfinite(heights.values[index])):
            raise ValueError(f"{argument}={coordinates} has no finite value here: give a point with one.")
        return index

    def reading(self, metric: str | None = None, before: Landscape | None = None) -> Reading:
        """Sentences on a loss: its lowest point, how far it is uphill, its range, its noise, and what to change.

        Args:
            metric: a loss among `values`; None for the main one. Lower is taken for better.
            before: a landscape of an earlier step, to say how the loss has changed since.

        Raises:
            ValueError: if there is no such metric.

        >>> x = np.linspace(-1, 1, 5)
        >>> print(*Landscape(Grid((x,)), {"loss": 1 + 2 * x**2}, main="loss").reading().sentences[:2], sep="\\n")
        No point of the grid is lower than the centre, where loss is 1.
        Along x (α) the loss has risen by 10 % at about -0.1 and about 0.1; by 1 at -0.667 and 0.667.
        """
        name = self.metric(metric)
        return read(self._surface(name), None if before is None else before._surface(before.metric(name)))

    def uphill(self, metric: str | None = None) -> dict[str, tuple[float, ...]]:
        """The distances from the centre to a loss that is 10 % and 1 higher, one a direction.

        The keys are words for the rise. The unit is the length of a direction. inf: nowhere within the range; NaN: not
        known.

        Args:
            metric: a loss among `values`; None for the main one.

        Raises:
            ValueError: if there is no such metric.

        >>> x = np.linspace(-1, 1, 5)
        >>> Landscape(Grid((x,)), {"loss": 2 + 2 * np.abs(x)}, main="loss").uphill()["1"]
        (0.5,)
        """
        return uphill_distances(self._surface(self.metric(metric)), SETTINGS)

    def _surface(self, name: str) -> Surface:
        """One metric, as `read` takes it."""
        from .plots.scales import scale_of

        scale = scale_of(self, name)
        return Surface(
            name=name,
            axes=self.grid.axes,
            values=self.values[name],
            errors=self.standard_errors.get(name, np.full(self.grid.shape, np.nan)),
            done=self.done,
            interpolated=self.interpolated,
            center=self.center[name],
            is_main=name == self.main,
            recipe=self.recipe,
            report=self.report,
            colors=(scale.low, scale.high),
            spectrum=self.spectrum,
            curvatures=self.curvature(name, of_weights=True),
            learning_rate=None if self.trajectory is None else self.trajectory.learning_rate,
        )


def equal(a: Landscape, b: Landscape) -> bool:
    """True if two landscapes hold the same grid, main loss, values, errors, masks, samples, trajectory,
    spectrum, centre, recipe, report and notes.

    NaN equals NaN, and arrays must agree in every bit but the sign of zero.
    """

    def same(p: Mapping[str, Any], q: Mapping[str, Any]) -> bool:
        return p.keys() == q.keys() and all(np.array_equal(p[k], q[k], equal_nan=True) for k in p)

    return (
        a.grid == b.grid
        and a.main == b.main
        and same(a.values, b.values)
        and same(a.standard_errors, b.standard_errors)
        and same(a.center, b.center)
        and np.array_equal(a.done, b.done)
        and np.array_equal(a.interpolated, b.interpolated)
        and _equal_samples(a.samples, b.samples)
        and equal_trajectories(a.trajectory, b.trajectory)
        and equal_spectra(a.spectrum, b.spectrum)
        and repr([a.meta, a.recipe, a.report]) == repr([b.meta, b.recipe, b.report])  # == finds NaN unequal to itself
    )


def _equal_samples(a: Samples | None, b: Samples | None) -> bool:
    if a is None or b is None:
        return a is b

    def facts(sample: Sample) -> str:
        picture = sample.thumbnail
        return repr([replace(sample, thumbnail=None), None if picture is None else picture.tolist()])

    return np.array_equal(a.values, b.values, equal_nan=True) and list(map(facts, a.items)) == list(map(facts, b.items))
