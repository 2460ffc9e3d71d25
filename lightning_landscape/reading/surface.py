"""One metric of a landscape, as a reading takes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..recipe import Recipe
from ..report import Report
from ..spectrum import Spectrum

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Surface:
    """One metric of a landscape, as `read` takes it.

    Args:
        name: of the metric.
        axes: coordinates of the grid, one array a direction.
        values: shape of the grid; NaN and inf are losses like others.
        errors: standard errors, shape of the grid; NaN where unknown.
        done: bool, shape of the grid: the points that have values.
        interpolated: bool, shape of the grid: those of them that were not evaluated.
        center: the loss at the origin; NaN where unknown.
        is_main: True for the landscape's main loss.
        recipe: how it was made.
        report: what its pass took.
        colors: the lowest and the highest colour of its pictures; None where they are unknown.
        spectrum: of the Hessian of the main loss at the origin; None where it is unknown.
        curvatures: of each slice, for a distance of 1 between weights; NaN where unknown.
        learning_rate: of the training at these weights; None where it is unknown.
    """

    name: str
    axes: tuple[Array, ...]
    values: Array
    errors: Array
    done: Mask
    interpolated: Mask
    center: float
    is_main: bool
    recipe: Recipe
    report: Report
    colors: tuple[float, float] | None = None
    spectrum: Spectrum | None = None
    curvatures: tuple[float, ...] = ()
    learning_rate: float | None = None

    @property
    def kind(self) -> str | None:
        """The kind of directions; None where it is unknown."""
        return self.recipe.directions.kind if self.recipe.directions else None

    @property
    def finite(self) -> Mask:
        """The points done whose loss is finite."""
        return self.done & np.isfinite(self.values)

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest finite loss; NaN without any."""
        known = self.values[self.finite]
        return (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)

    @property
    def relief(self) -> float:
        """Highest minus lowest finite loss."""
        low, high = self.ends
        return high - low

    @property
    def error(self) -> float:
        """The (lower) median of the known standard errors; NaN without any."""
        known = np.sort(self.errors[self.finite & np.isfinite(self.errors)])
        return float(known[(len(known) - 1) // 2]) if len(known) else math.nan

    @property
    def middle(self) -> tuple[int, ...]:
        """The indices of the point nearest to the origin."""
        return tuple(int(np.abs(axis).argmin()) for axis in self.axes)

    @property
    def holds_center(self) -> bool:
        """True if the origin is a point of the grid."""
        return all(axis[i] == 0 for axis, i in zip(self.axes, self.middle, strict=True))

    @property
    def origin(self) -> float:
        """The loss at the origin: as it was given, else that of the grid's point; NaN where neither is known."""
        on_grid = self.holds_center and bool(self.done[self.middle])
        return float(self.values[self.middle]) if math.isnan(self.center) and on_grid else self.center

    @property
    def lowest(self) -> tuple[int, ...]:
        """The indices of the lowest finite point that was evaluated: an interpolated one may be lower by its error."""
        evaluated = self.finite & ~self.interpolated
        flat = int(np.where(evaluated if evaluated.any() else self.finite, self.values, np.inf).argmin())
        return tuple(int(i) for i in np.unravel_index(flat, self.values.shape))

    @property
    def error_at_center(self) -> float:
        """The standard error at the origin; NaN where it is unknown."""
        return float(self.errors[self.middle]) if self.holds_center else math.nan

    @property
    def error_of_difference(self) -> float:
        """The larger of the standard errors at the middle and at the lowest point; NaN where both are unknown."""
        errors = [float(self.errors[self.middle]), float(self.errors[self.lowest])]
        return max((error for error in errors if math.isfinite(error)), default=math.nan)

    def is_through_center(self, direction: int) -> bool:
        """True if the slice along a direction goes through the origin, within the range."""
        elsewhere = [axis[i] for j, (axis, i) in enumerate(zip(self.axes, self.middle, strict=True)) if j != direction]
        axis = self.axes[direction]
        return not any(elsewhere) and bool(axis[0] <= 0 <= axis[-1])
