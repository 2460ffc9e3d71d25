"""The reading of a landscape: plain sentences on what it says, what it can't say, and what to change."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .recipe import Recipe
from .report import Report

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Directions that lead to other weights: their range is the way there, and their loss need not rise.
PATHS = ("between", "bezier", "joined")
# Criteria whose unit is the nat, as a recipe names them.
IN_NATS = ("CrossEntropyLoss", "cross_entropy")


@dataclass(frozen=True)
class ReadingSettings:
    """The thresholds of a reading, each with its reason.

    Args:
        rise_share: the rise, as a share of the loss at the centre, that counts as one. Smaller ones are lost in a
            picture of 30 colours.
        rise: the rise in units of the loss. For a cross-entropy it is a nat: the right class is e times less likely.
        rounding: the largest share of the centre that is no difference. Faster evaluators agree to it.
        clear_errors: the standard errors from which on a lower point counts as lower. Two cover 95 %.
        flat_errors: the standard errors below which a relief counts as flat. The highest of many points is often two
            above the mean by chance.
        noisy_share: the share of the relief that a standard error may be. Beyond it one of ten colours is noise.
        far_multiple: the multiple of the loss at the centre beyond which a point is far. Li et al.'s figures of
            minima reach some tens.
        far_least: the loss up to which no point is far. A classifier that guesses among 20,000 classes has about 10.
        far_share: the share of far points from which on a range is too large. The picture is then mostly rim.
        zoom: the factor by which a range is to be widened or narrowed. It keeps the centre a point of the grid.
    """

    rise_share: float = 0.1
    rise: float = 1.0
    rounding: float = 1e-6
    clear_errors: float = 2.0
    flat_errors: float = 3.0
    noisy_share: float = 0.1
    far_multiple: float = 100.0
    far_least: float = 10.0
    far_share: float = 0.5
    zoom: float = 2.0


SETTINGS = ReadingSettings()


@dataclass(frozen=True)
class Reading:
    """Sentences on one metric of a landscape; as text, a list in lines of at most 80 characters.

    Args:
        sentences: in the order in which they are read.

    >>> print(Reading(("The loss rises by 10 % at -0.5 and 0.5.", "See x=(-2, 2, 51).")))
    - The loss rises by 10 % at -0.5 and 0.5.
    - See x=(-2, 2, 51).
    """

    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return self.wrapped()

    def wrapped(self, width: int = 80) -> str:
        """The sentences as a list in lines of at most `width` characters; coordinates stay on one line."""
        lines = []
        for sentence in self.sentences:
            joined = re.sub(r"(?<=\d), (?=-?\d)|(?<=\d) (?=%)", lambda gap: gap[0].replace(" ", "\u00a0"), sentence)
            lines += textwrap.wrap(joined, width, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
        return "\n".join(lines).replace("\u00a0", " ")


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

    def is_through_center(self, direction: int) -> bool:
        """True if the slice along a direction goes through the origin, within the range."""
        elsewhere = [axis[i] for j, (axis, i) in enumerate(zip(self.axes, self.middle, strict=True)) if j != direction]
        axis = self.axes[direction]
        return not any(elsewhere) and bool(axis[0] <= 0 <= axis[-1])


def read(surface: Surface, settings: ReadingSettings = SETTINGS) -> Reading:
    """The sentences on one metric, a loss: lower is better.

    >>> x = np.linspace(-1, 1, 5)
    >>> none = np.zeros(5, bool)
    >>> bowl = Surface("loss", (x,), 1 + 2 * x**2, np.full(5, 0.1), ~none, none, 1.0, True, Recipe(), Report())
    >>> print(read(bowl).sentences[0])
    No point of the grid is lower than the centre, where loss is 1 (standard error 0.1).
    """
    if not surface.done.any():
        return Reading(("No point is done yet: there is nothing to read.",))
    return Reading(
        (
            _center(surface, settings),
            *_rises(surface, settings),
            *_range(surface, settings),
            *_noise(surface, settings),
            *_points(surface),
            *_directions(surface),
            *_train_mode(surface),
            _slice(surface),
        )
    )


def number(value: float) -> str:
    """A number in three digits, without a minus before zero.

    >>> number(-0.0), number(0.12345), number(1234.5)
    ('0', '0.123', '1.23e+03')
    """
    return f"{value + 0.0:.3g}"


def percent(share: float, least: float = 1e-4) -> str:
    """A share in percent; below `least`, which is too little to see, a bound.

    >>> percent(0.0123), percent(1), percent(12.3456), percent(1e-99)
    ('1.23 %', '100 %', '1,235 %', 'less than 0.01 %')
    """
    if 0 < share < least:
        return f"less than {percent(least)}"
    return f"{100 * share:,.0f} %" if share >= 1 else f"{100 * share:.3g} %"


def axis_name(direction: int) -> str:
    """The name of an axis: x, y, z, and from there on its number."""
    return "xyz"[direction] if direction < 3 else f"direction {direction + 1}"


# the centre


def _center(surface: Surface, settings: ReadingSettings) -> str:
    """The sentence on the centre against the lowest point."""
    name, center, low = surface.name, surface.origin, surface.ends[0]
    if math.isnan(low):
        return f"{name} is finite nowhere: check the weights, the data and the loss before the range."
    place = _place(surface)
    if not math.isfinite(center):
        return f"{name} {_no_center(surface)}. The lowest point is {number(low)} at {place}."
    error = _error_at(surface, surface.middle) if surface.holds_center else math.nan
    if center - low <= settings.rounding * abs(center):
        return f"No point of the grid is lower than the centre, where {name} is {number(center)}{_with_error(error)}."
    return (
        f"{name} is {number(center)}{_with_error(error)} at the centre and lower elsewhere: {number(low)} at {place}. "
        + _difference(surface, center - low, settings)
    )


def _difference(surface: Surface, difference: float, settings: ReadingSettings) -> str:
    """The difference to the lowest point against the standard error, and what to do."""
    errors = [_error_at(surface, surface.middle), _error_at(surface, _lowest(surface))]
    error = max((e for e in errors if math.isfinite(e)), default=math.nan)
    text = f"The difference of {number(difference)}"
    if math.isnan(error):
        return f"{text} can't be judged: no standard error is known."
    text = f"{text} is {f'{difference / error:.2g}' if error else 'many'} standard errors"
    if difference < settings.clear_errors * error:
        return f"{text}, which may be chance: measure more samples (max_samples) to know."
    if surface.kind in PATHS:
        return f"{text}."
    if surface.recipe.data_name(surface.name) in ("val", "test"):
        return f"{text}. That is usual on data that the training has not seen."
    return f"{text}: no minimum yet along these directions. Train longer, or with a smaller learning rate at the end."


def _no_center(surface: Surface) -> str:
    """The reason why nothing can be compared with the centre, and what to do."""
    if not surface.holds_center:
        return "is not known at the centre: let the range hold 0"
    if not surface.done[surface.middle]:
        return "is not known at the centre: that point is not done"
    return f"is {surface.origin} at the centre: check the weights and the data"


def _lowest(surface: Surface) -> tuple[int, ...]:
    """The indices of the lowest finite point."""
    flat = int(np.where(surface.finite, surface.values, np.inf).argmin())
    return tuple(int(i) for i in np.unravel_index(flat, surface.values.shape))


def _place(surface: Surface) -> str:
    """The coordinates of the lowest point, such as (0.5, -1), or x = 0.5 on a line."""
    at = [number(axis[i]) for axis, i in zip(surface.axes, _lowest(surface), strict=True)]
    return f"x = {at[0]}" if len(at) == 1 else f"({', '.join(at)})"


def _error_at(surface: Surface, index: tuple[int, ...]) -> float:
    return float(surface.errors[index])


def _with_error(error: float) -> str:
    return f" (standard error {number(error)})" if math.isfinite(error) else ""


# how far it is uphill


def _rises(surface: Surface, settings: ReadingSettings) -> Iterator[str]:
    """A sentence for each direction: how far it is to a higher loss, on both sides."""
    center = surface.origin
    if not math.isfinite(center) or not surface.finite.any():
        return
    unit = " nat" if surface.is_main and surface.recipe.objective in IN_NATS else ""
    rises = {percent(settings.rise_share): settings.rise_share * center, f"{settings.rise:g}{unit}": settings.rise}
    # Ten percent of a loss of zero or less say nothing, and a float may be too coarse for a rise of 1.
    targets = {label: center + rise for label, rise in rises.items() if center + rise > center}
    for direction in range(len(surface.axes)):
        if targets and surface.is_through_center(direction):
            yield _uphill(surface, direction, targets)


def _uphill(surface: Surface, direction: int, targets: dict[str, float]) -> str:
    """The sentence on one direction, with a part for each rise."""
    axis, name = surface.axes[direction], axis_name(direction)
    index: list[int | slice] = list(surface.middle)
    index[direction] = slice(None)
    values, done = surface.values[tuple(index)], surface.done[tuple(index)]
    sides = {"below": axis < 0, "above": axis > 0}
    parts = {
        label: _reached(
            {
                side: first_reached(axis[mask], values[mask], done[mask], surface.origin, target)
                for side, mask in sides.items()
                if mask.any()
            }
        )
        for label, target in targets.items()
    }
    if not any(parts.values()):
        return f"Along {name} the loss rises nowhere by {' or '.join(parts)} within the range."
    reached = "; ".join(f"by {label} {part or 'nowhere within the range'}" for label, part in parts.items())
    return f"Along {name} the loss has risen {reached}."


def _reached(places: dict[str, str]) -> str:
    """The places on both sides, and the side that has none; empty if neither has one.

    >>> _reached({"below": "at -1", "above": "at 2"}), _reached({"below": "", "above": "at 2"})
    ('at -1 and 2', 'at 2, but not within the range below 0')
    """
    missing = [f", but not within the range {side} 0" for side, place in places.items() if not place]
    text = " and ".join(place for place in places.values() if place)
    if "between" in text:
        text += ", where it is not finite"
    elif text.startswith("at"):
        text = text.replace(" and at ", " and ")
    return text + (missing[0] if text and missing else "")


def first_reached(positions: Array, values: Array, done: Mask, center: float, target: float) -> str:
    """The place on one side of 0 where the loss first reaches `target`, in words; empty if it never does.

    Linear interpolation between neighbours, the first of them 0 itself. Within the first step it is rough, since the
    loss is no line there.

    >>> x, done = np.array([1.0, 2.0]), np.array([True, True])
    >>> first_reached(x, np.array([0.5, 2.5]), done, 0.0, 1.5), first_reached(x, np.array([2.0, 2.5]), done, 0.0, 1.5)
    ('at 1.5', 'at about 0.75')
    >>> first_reached(-x, np.array([0.0, np.inf]), done, 0.0, 1.5)
    'between -1 and -2'
    """
    before, low = 0.0, center
    for i in np.argsort(np.abs(positions)):
        position, value = float(positions[i]), float(values[i])
        if not done[i]:
            return f"beyond {number(before)}, where points are not done"
        if not math.isfinite(value):
            return f"between {number(before)} and {number(position)}"
        if value >= target:
            scale = max(abs(low), abs(value))  # the difference of two huge numbers would overflow
            share = (target / scale - low / scale) / (value / scale - low / scale)
            place = before + share * (position - before)
            return f"at {number(place)}" if before or value == target else f"at about {place:.2g}"
        before, low = position, value
    return ""


# the range, the noise


def _range(surface: Surface, settings: ReadingSettings) -> Iterator[str]:
    """The sentence on a range that is too small, too large, or neither."""
    center, (low, high) = surface.origin, surface.ends
    if not math.isfinite(center) or math.isnan(low):
        return
    limit = max(settings.far_multiple * center, settings.far_least)
    times = f", {settings.far_multiple:g} times the centre" if limit > settings.far_least else ""
    far = ~np.isfinite(surface.values) | (surface.values > limit)
    share = float(far[surface.done].mean())
    change = max(high - center, center - low)
    all_finite = bool(surface.finite[surface.done].all())
    if share > settings.far_share:
        yield (
            f"The range is too large: {percent(share)} of the points are not finite or above {number(limit)}{times}. "
            f"Narrow it{_range_advice(surface, 1 / settings.zoom)}."
        )
    elif all_finite and not change:
        yield f"Flat in this range: all values are {number(low)}. {_widen(surface, settings)}"
    elif all_finite and is_lost_in_noise(surface, settings):
        yield (
            f"Flat in this range: the relief of {number(surface.relief)} is less than {settings.flat_errors:g} "
            f"standard errors of {number(surface.error)}. {_widen(surface, settings)} Or measure more samples "
            "(max_samples)."
        )
    elif all_finite and change < settings.rise_share * center:
        why = f"the largest change of the loss is {percent(change / center)}"
        yield f"Flat in this range: {why}. {_widen(surface, settings)}"
    else:
        yield f"The range is neither too small nor too large: the loss goes from {number(low)} to {number(high)}."


def is_lost_in_noise(surface: Surface, settings: ReadingSettings = SETTINGS) -> bool:
    """True if the relief is less than a few standard errors; False where these are unknown."""
    return surface.relief < settings.flat_errors * surface.error


def _widen(surface: Surface, settings: ReadingSettings) -> str:
    if surface.kind in PATHS:
        return "Along a path between weights that is a result."
    return f"Widen it{_range_advice(surface, settings.zoom)}."


def _range_advice(surface: Surface, factor: float) -> str:
    """The range of each axis, times a factor, as an argument; empty where the range doesn't hold 0."""
    ranges = [(factor * float(axis[0]), factor * float(axis[-1]), len(axis)) for axis in surface.axes]
    if len(ranges) > 3 or not all(low <= 0 <= high and math.isfinite(high - low) for low, high, _ in ranges):
        return ""
    texts = [f"{axis_name(i)}=({low + 0.0:g}, {high:g}, {count})" for i, (low, high, count) in enumerate(ranges)]
    return f", e.g. {', '.join(texts)}"


def _noise(surface: Surface, settings: ReadingSettings) -> Iterator[str]:
    """The sentence on the standard error beside the relief."""
    error, relief = surface.error, surface.relief
    if not surface.finite.any():
        return
    if math.isnan(error):
        yield (
            "No standard error is known, so that noise can't be told from shape: measure more than one batch, or "
            "give an objective with one value a sample."
        )
    elif relief > 0 and not is_lost_in_noise(surface, settings):  # else the sentence on the range has said it
        share = error / relief
        text = f"The median standard error of {number(error)} is {percent(share)} of the relief of {number(relief)}"
        noisy = share > settings.noisy_share
        yield f"{text}: noisy. Measure more samples (max_samples)." if noisy else f"{text}: small beside the shape."


# what was measured


def _points(surface: Surface) -> Iterator[str]:
    """A sentence each on points that are missing, not finite or interpolated."""
    total, done = surface.done.size, int(surface.done.sum())
    infinite, interpolated = done - int(surface.finite.sum()), int(surface.interpolated.sum())
    if done < total:
        why = ": a step failed there, log.txt has the first error" if surface.report.failure else ""
        advice = "" if why else ". The same run, started again, goes on with them"
        yield f"{_part(total - done, total)} are not done{why}{advice}."
    if infinite:
        yield f"{_part(infinite, done)} are NaN or infinite. They are losses, not gaps: a narrower range has fewer."
    if interpolated:
        interpolation = surface.report.interpolation
        error = interpolation.errors.get(surface.name, math.nan) if interpolation else math.nan
        known = f"to within {percent(error)} of the range" if math.isfinite(error) else "how well is not known"
        yield f"{_part(interpolated, done)} are interpolated, {known}. tolerance=None, budget=None evaluates all."


def _part(count: int, total: int) -> str:
    return f"{count:,} of {total:,} points ({percent(count / total)})"


def _directions(surface: Surface) -> Iterator[str]:
    """A sentence each on directions that are one, and on filters that rest."""
    recipe, k = surface.recipe.directions, len(surface.axes)
    if recipe is None:
        return
    if recipe.span is not None and recipe.span < k:
        which = "Both directions are one" if k == 2 else f"Of {k} directions only {recipe.span} differ"
        yield (
            f"{which} (cosine {recipe.cosine:.3f}): the picture has fewer dimensions than axes. Make them orthogonal "
            "(orthogonalize=True), or let more weights move (ignore=None)."
        )
    if recipe.dead_filters and recipe.normalize == "filter":
        one = recipe.dead_filters == 1
        yield (
            f"{recipe.dead_filters:,} filter{' is' * one}{'s are' * (not one)} zero and rest{'s' * one} everywhere, "
            "since a direction has the length of its filter: normalize='layer' moves them."
        )


def _train_mode(surface: Surface) -> Iterator[str]:
    """The sentence on a loss that is another in train mode."""
    loss = surface.report.train_mode_loss
    if loss is not None and surface.is_main:
        yield (
            f"In train mode the loss at the centre is {number(loss.value)} instead of {number(surface.origin)}: this "
            "is the landscape of eval mode. mode='train' measures the other."
        )


def _slice(surface: Surface) -> str:
    """The sentence on what a slice can't tell."""
    recipe, k = surface.recipe.directions, len(surface.axes)
    moved = recipe.moved_parameters if recipe else None
    if moved is not None and moved <= k:
        return "These directions span all weights that may move. Nothing is shown of those at rest."
    random = "random " if surface.kind == "random" else ""
    of = f" in the space of {moved:,} weights" if moved is not None else ""
    return (
        f"{k} {random}direction{'s' * (k > 1)}{of} can't show the steepest one: flat here is no proof of a flat "
        "minimum, and no promise for new data."
    )
