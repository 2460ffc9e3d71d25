"""The range of an axis that is left to us: it ends where the loss has risen, found at few points on few samples."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluators import Evaluator
from ..landscape import Grid, axis_points, grid_of
from ..objectives.base import Batch, Objective
from ..objectives.touched import OriginalsTouchedError
from ..recipe import RangeRecipe
from ..storage.layout import axis_name
from ..weights.lockstep import OtherRankError
from ..weights.plane import Plane
from ..weights.sharding import is_sharded

Array = NDArray[np.float64]
Loss = Callable[[Array], float]  # of a point, shape (k,)
AUTO = "auto"
PATH_REASON = "the recorded path ends"


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RangeSettings:
    """The rule by which a range is found.

    Args:
        points: along an axis, if none are given: an odd number, so that the centre is one of them.
        multiple: of the loss at the centre, in size, that an end reaches. The walls of the valley are seen then, and
            so is its bottom.
        rise: the least rise of the loss. For a cross-entropy it is a nat, which pictures mark by a line. The multiple
            alone would end the range at the rounding of a loss near 0.
        first: the first distance, in lengths of the direction: for "filter", as much noise as there is weight.
        widest: the farthest distance that is tried. There the noise hides the weights.
        stride: the largest factor between two distances.
        both_ends: at how many distances both ends are measured.
        one_end: at how many more the end is measured at which the loss changed most.
        remainder: the share of the largest change that an end reaches if the loss never rises as much. Such values
            are an accuracy, or a loss that saturates.
        rounding: the largest change, as a share of the centre, that counts as none. Evaluators agree to it.
        readable: the numbers that an end may have, times a power of ten.
        margin: how far an axis reaches at least beyond a recorded path, as a factor.
    """

    points: int = 51
    multiple: float = 10.0
    rise: float = 1.0
    first: float = 1.0
    widest: float = 8.0
    stride: float = 8.0
    both_ends: int = 2
    one_end: int = 1
    remainder: float = 0.5
    rounding: float = 1e-6
    readable: tuple[float, ...] = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    margin: float = 1.1


SETTINGS = RangeSettings()


def ranges_of(given: Mapping[str, Any], settings: RangeSettings = SETTINGS) -> tuple[Grid, tuple[int, ...]]:
    """The grid over ranges that a user gave, and the directions whose range is to be found.

    Until it is found, such an axis runs from -1 to 1.

    Args:
        given: the ranges by the names of their arguments: ``(low, high, points)``, "auto" or ``("auto", points)``.
        settings: the number of points of "auto".

    Raises:
        ValueError: as `grid_of`, and for a number of points that has no middle.

    >>> grid, searched = ranges_of({"x": "auto", "y": (0, 1, 3)})
    >>> grid.shape, searched
    ((51, 3), (0,))
    >>> ranges_of({"x": ("auto", 10)})
    Traceback (most recent call last):
    ValueError: x=('auto', 10): give an odd number of at least 3 points, e.g. ("auto", 51), so that the centre is one
    of them.
    """
    searched = tuple(i for i, value in enumerate(given.values()) if _is_auto(value))
    ranges = {name: _first_range(name, value, settings) if _is_auto(value) else value for name, value in given.items()}
    for name, value in ranges.items():
        if isinstance(value, str):
            raise ValueError(f'{name}={value!r} is not a range: give (low, high, points), e.g. (-1, 1, 51), or "auto".')
    return grid_of(ranges), searched


def _is_auto(value: object) -> bool:
    return value == AUTO if isinstance(value, str) else isinstance(value, tuple | list) and tuple(value[:1]) == (AUTO,)


def _first_range(name: str, value: str | Sequence[Any], settings: RangeSettings) -> tuple[float, float, int]:
    """The range of an axis until its own is found."""
    points = settings.points if isinstance(value, str) else value[1] if len(value) == 2 else None
    if isinstance(points, bool) or not isinstance(points, int) or points < 3 or points % 2 == 0:
        raise ValueError(
            f'{name}={value!r}: give an odd number of at least 3 points, e.g. ("auto", 51), so that the centre is one '
            "of them."
        )
    return -settings.first, settings.first, points


def find_ranges(
    grid: Grid,
    searched: Sequence[int],
    loss: Loss,
    samples: int = 0,
    settings: RangeSettings = SETTINGS,
    reach: Sequence[float] = (),
) -> tuple[Grid, dict[str, RangeRecipe]]:
    """The grid with the ranges of some directions found, and how they were found, by the axis's name.

    A plane takes 11 evaluations: one of the centre and five a direction.

    Args:
        grid: its axes of these directions say their number of points, which is odd.
        searched: the directions.
        loss: gives the loss at a point, NaN where there is none.
        samples: on how many samples it does.
        settings: the rule.
        reach: the largest coordinate of a recorded path along the first directions. Their axes show all of the path.

    A bowl 1 + 4 x² has 10 at x = 1.5:

    >>> bowl, told = find_ranges(Grid.from_ranges((-1, 1, 5)), [0], lambda point: 1 + 4 * float(point[0]) ** 2)
    >>> bowl.axes[0].tolist(), told["x"].reason
    ([-1.5, -0.75, 0.0, 0.75, 1.5], 'the loss has risen to 10 times that of the centre')
    """
    axes, recipes = list(grid.axes), {}
    by_loss = [direction for direction in searched if direction >= len(reach)]
    center = loss(np.zeros(grid.ndim)) if by_loss else math.nan
    for direction in searched:
        if direction in by_loss:
            end, reason = find_end(partial(_along, loss, np.eye(grid.ndim)[direction]), center, settings)
        else:
            end, reason = end_of_path(reach[direction], settings), PATH_REASON
        axes[direction] = axis_points(axis_name(direction), (-end, end, len(grid.axes[direction])))
        recipes[axis_name(direction)] = RangeRecipe(end, reason, samples if direction in by_loss else 0)
    return Grid(tuple(axes)), recipes


def _along(loss: Loss, unit: Array, coordinate: float) -> float:
    """The loss at a coordinate of a direction."""
    return loss(coordinate * unit)


def end_of_path(reach: float, settings: RangeSettings = SETTINGS) -> float:
    """The end of an axis that shows all of a path: a readable number, a little beyond its largest coordinate.

    >>> end_of_path(12.1), end_of_path(0.0)
    (15.0, 1.0)
    """
    least = settings.margin * reach
    if least <= 0:
        return settings.first
    exponent = math.floor(math.log10(least))
    return next(end for n in settings.readable if (end := float(f"{n}e{exponent}")) >= least)


def find_end(loss: Callable[[float], float], center: float, settings: RangeSettings = SETTINGS) -> tuple[float, str]:
    """The distance at which the loss has risen as far as the settings say, and why an axis ends there.

    The distance is between two that were measured, by a power law between their changes; or beyond all of them, where
    the change is taken to grow with the square.

    Args:
        loss: gives the loss at a coordinate, NaN where there is none.
        center: the loss at 0.
        settings: the rule.

    >>> find_end(lambda c: 1 + c * c, 1.0)
    (3.0, 'the loss has risen to 10 times that of the centre')
    >>> find_end(lambda c: 1e-6 + c * c, 1e-6)
    (1.0, 'the loss has risen by 1')
    """
    if not math.isfinite(center):
        return settings.first, "the loss at the centre is not finite, so that nothing says how far"
    search = _Search(center, settings)
    distance = settings.first
    for turn in range(settings.both_ends + settings.one_end):
        sides = [1.0, -1.0] if turn < settings.both_ends else [search.side]
        search.record(distance, {side: loss(side * distance) for side in sides})
        distance = search.estimate()
        if distance in search.changes:
            break
    if search.largest <= settings.rounding * abs(center):
        return settings.first, f"the loss stays the same within {max(search.changes):g}, so that nothing says how far"
    return readable(search.estimate(), settings), search.reason()


class _Search:
    """The changes of the loss at the distances that were measured.

    Args:
        center: the loss at 0.
        settings: the rule.

    Attributes:
        changes: the largest change at either end, by the distance; infinite where there is no finite loss.
        side: +1 or -1: the end at which the loss changed most.
    """

    def __init__(self, center: float, settings: RangeSettings) -> None:
        self.center, self.settings = center, settings
        self.changes: dict[float, float] = {}
        self.side = 1.0

    def record(self, distance: float, losses: Mapping[float, float]) -> None:
        """Take in the losses at the ends of this distance."""
        changes = {side: abs(loss - self.center) if math.isfinite(loss) else math.inf for side, loss in losses.items()}
        self.side = max(changes, key=lambda side: changes[side])
        self.changes[distance] = changes[self.side]

    @property
    def largest(self) -> float:
        """The largest change."""
        return max(self.changes.values())

    @property
    def wanted(self) -> float:
        """The change that an end should have."""
        return max((self.settings.multiple - 1) * abs(self.center), self.settings.rise)

    @property
    def target(self) -> float:
        """The change that an end will have: less than is wanted if all that is tried has less."""
        is_out_of_reach = self.largest < self.wanted and self.settings.widest in self.changes
        return self.settings.remainder * self.largest if is_out_of_reach else self.wanted

    def bracket(self) -> tuple[float | None, float | None]:
        """The nearest distance with the target's change, and the farthest before it with less."""
        beyond = min((d for d, change in self.changes.items() if change >= self.target), default=None)
        within = [d for d, change in self.changes.items() if change < self.target and (beyond is None or d < beyond)]
        return max(within, default=None), beyond

    def estimate(self) -> float:
        """The distance at which the change is the target, as far as is known."""
        low, high = self.bracket()
        if low is None or high is None:
            return self._beyond_all(low or high or self.settings.first)
        low_change, high_change = self.changes[low], self.changes[high]
        share = 0.5  # in the middle, where no power law leads from one to the other
        if low_change > 0 and math.isfinite(high_change):
            share = math.log(self.target / low_change) / math.log(high_change / low_change)
        return low * (high / low) ** share

    def _beyond_all(self, distance: float) -> float:
        """The same, if there is but this distance to tell from."""
        stride, change = self.settings.stride, self.changes[distance]
        factor = math.sqrt(self.target / change) if change > 0 else stride
        return min(distance * min(max(factor, 1 / stride), stride), self.settings.widest)

    def reason(self) -> str:
        """Why the axis ends at the estimate."""
        high = self.bracket()[1]
        if high is not None and not math.isfinite(self.changes[high]):
            return "the loss is not finite farther out"
        if self.target < self.wanted:
            share = f"{self.settings.remainder:.0%}".replace("%", " %")
            return f"the loss has changed by {share} of its largest change within {self.settings.widest:g}"
        if self.wanted > self.settings.rise:
            return f"the loss has risen to {self.settings.multiple:g} times that of the centre"
        return f"the loss has risen by {self.settings.rise:g}"


def readable(value: float, settings: RangeSettings = SETTINGS) -> float:
    """The nearest number that is easy to read, by their ratio.

    >>> readable(0.77), readable(0.097), readable(2.2)
    (0.8, 0.1, 2.0)
    """
    exponent = math.floor(math.log10(value))
    candidates = [float(f"{number}e{exponent}") for number in settings.readable]
    return min(candidates, key=lambda number: abs(math.log(number / value)))


def loss_at(evaluator: Evaluator, objective: Objective, plane: Plane, batches: Sequence[Batch], main: str) -> Loss:
    """A function that gives the loss at a point: NaN where the objective refuses it.

    Args:
        evaluator, objective, plane, batches: that measure it.
        main: the name of the loss.
    """

    def loss(point: Array) -> float:
        try:
            measured = next(iter(evaluator(objective, plane, point[None], batches)))
        except (OtherRankError, OriginalsTouchedError):
            raise
        except Exception as error:  # an objective may refuse weights so far away
            if is_sharded(evaluator.module):  # the other processes wait
                raise
            log.debug("no loss at %s: %s: %s", point, type(error).__name__, error)
            return math.nan
        return measured[main].value if main in measured else math.nan

    return loss


def sentence(ranges: Mapping[str, RangeRecipe]) -> str:
    """The ranges that were found, in words.

    >>> sentence({"x": RangeRecipe(0.8, "the loss has risen by 1", 256)})
    'x runs from -0.8 to 0.8: there the loss has risen by 1 (found on 256 samples).'
    """
    texts = [f"{name} runs from {-r.end:g} to {r.end:g}: there {r.reason}" for name, r in ranges.items()]
    samples = max(r.samples for r in ranges.values())
    return f"{'; '.join(texts)}{f' (found on {samples} samples)' if samples else ''}."
