"""The sentences on how far it is uphill, and the distances in them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .settings import GREEK, IN_NATS, ReadingSettings
from .surface import Array, Mask, Surface
from .text import axis_name, number, percent


@dataclass(frozen=True)
class Reach:
    """The place on one side of 0 where the loss first reaches a target.

    Args:
        kind: "value" where the loss is known; "rough" within the first step, where it is no line; "infinite" where
            it is not finite before it is seen to be that high; "missing" where a point is not done.
        place: the coordinate; of the last two kinds that of the last point before.
        beyond: the coordinate of the next point of the grid.

    >>> str(Reach("value", 1.5, 2.0)), str(Reach("rough", 0.75, 1.0)), str(Reach("infinite", -1.0, -2.0))
    ('at 1.5', 'at about 0.75', 'between -1 and -2')
    """

    kind: Literal["value", "rough", "infinite", "missing"]
    place: float
    beyond: float

    def __str__(self) -> str:
        return {
            "value": f"at {number(self.place)}",
            "rough": f"at about {self.place:.2g}",
            "infinite": f"between {number(self.place)} and {number(self.beyond)}",
            "missing": f"beyond {number(self.place)}, where points are not done",
        }[self.kind]

    @property
    def distance(self) -> float:
        """The distance from 0; an upper bound for "infinite", a lower one for "missing"."""
        return abs(self.beyond if self.kind == "infinite" else self.place)

    @property
    def is_known(self) -> bool:
        """True if the distance is a value, and not a bound."""
        return self.kind in ("value", "rough")

    @property
    def in_words(self) -> str:
        """The distance in words.

        >>> Reach("value", -1.5, -2.0).in_words, Reach("infinite", -1.0, -2.0).in_words
        ('1.5', 'less than 2')
        """
        bound = {"infinite": "less than ", "missing": "more than "}.get(self.kind, "")
        digits = f"{self.distance:.2g}" if self.kind == "rough" else number(self.distance)
        return f"{bound}{digits}"


def first_reach(positions: Array, values: Array, done: Mask, center: float, target: float) -> Reach | None:
    """The place on one side of 0 where the loss first reaches `target`; None if it never does.

    Linear interpolation between neighbours, the first of them 0 itself.

    >>> x, done = np.array([1.0, 2.0]), np.array([True, True])
    >>> str(first_reach(x, np.array([0.5, 2.5]), done, 0.0, 1.5)), first_reach(x, np.array([0.5, 1]), done, 0.0, 1.5)
    ('at 1.5', None)
    """
    before, low = 0.0, center
    for i in np.argsort(np.abs(positions)):
        position, value = float(positions[i]), float(values[i])
        if not done[i]:
            return Reach("missing", before, position)
        if not math.isfinite(value):
            return Reach("infinite", before, position)
        if value >= target:
            scale = max(abs(low), abs(value))  # the difference of two huge numbers would overflow
            share = (target / scale - low / scale) / (value / scale - low / scale)
            place = before + share * (position - before)
            return Reach("value" if before or value == target else "rough", place, position)
        before, low = position, value
    return None


def rises(surface: Surface, settings: ReadingSettings) -> dict[str, float]:
    """The losses that are looked for by the words for their rise above the centre; empty where there are none."""
    center = surface.origin
    if not math.isfinite(center) or not surface.finite.any():
        return {}
    heights = {percent(settings.rise_share): settings.rise_share * center, rise_label(surface, settings): settings.rise}
    # Ten percent of a loss of zero or less say nothing, and a float may be too coarse for a rise of 1.
    return {label: center + height for label, height in heights.items() if center + height > center}


def rise_label(surface: Surface, settings: ReadingSettings) -> str:
    """The rise in units of the loss in words, such as "1 nat"."""
    unit = " nat" if surface.is_main and surface.recipe.objective in IN_NATS else ""
    return f"{settings.rise:g}{unit}"


def reaches(surface: Surface, direction: int, target: float) -> dict[str, Reach | None]:
    """The place on each side of 0, "below" and "above", where the slice along a direction first reaches a target."""
    axis = surface.axes[direction]
    index: list[int | slice] = list(surface.middle)
    index[direction] = slice(None)
    values, done = surface.values[tuple(index)], surface.done[tuple(index)]
    sides = {"below": axis < 0, "above": axis > 0}
    return {
        side: first_reach(axis[mask], values[mask], done[mask], surface.origin, target)
        for side, mask in sides.items()
        if mask.any()
    }


def nearest(surface: Surface, direction: int, target: float) -> Reach | None:
    """The nearer of the two places along a direction where the loss reaches a target; None if it never does."""
    found = [reach for reach in reaches(surface, direction, target).values() if reach is not None]
    return min(found, key=lambda reach: reach.distance) if found else None


def uphill_distances(surface: Surface, settings: ReadingSettings) -> dict[str, tuple[float, ...]]:
    """The distance from the origin to each rise, one a direction, by the words for the rise.

    It is infinite where the loss rises nowhere so high. It is NaN where only a bound is known, or no slice goes
    through the origin.
    """

    def distance(direction: int, target: float) -> float:
        if direction not in slices(surface):
            return math.nan
        place = nearest(surface, direction, target)
        return math.inf if place is None else place.distance if place.is_known else math.nan

    targets, directions = rises(surface, settings), range(len(surface.axes))
    return {label: tuple(distance(i, target) for i in directions) for label, target in targets.items()}


def slices(surface: Surface) -> list[int]:
    """The directions whose slice goes through the origin."""
    return [direction for direction in range(len(surface.axes)) if surface.is_through_center(direction)]


def uphill_sentences(surface: Surface, settings: ReadingSettings) -> Iterator[str]:
    """A sentence for each direction: how far it is to a higher loss, on both sides. One more where noise is larger."""
    targets = rises(surface, settings)
    for direction in slices(surface) if targets else ():
        letter = f" ({GREEK[direction]})" if direction < len(GREEK) else ""
        name = f"{axis_name(direction)}{letter}"
        parts = {label: _reached(reaches(surface, direction, target)) for label, target in targets.items()}
        if any(parts.values()):
            reached = "; ".join(f"by {label} {part or 'nowhere within the range'}" for label, part in parts.items())
            yield f"Along {name} the loss has risen {reached}."
        else:
            yield f"Along {name} the loss rises nowhere by {' or '.join(parts)} within the range."
    if targets and slices(surface) and 0 < settings.rise_share * surface.origin < surface.error_at_center:
        yield (
            f"{percent(settings.rise_share)} of the centre's loss is less than its standard error: these places may be "
            "others on other samples."
        )


def _reached(places: dict[str, Reach | None]) -> str:
    """The places on both sides, and the side that has none; empty if neither has one.

    >>> near, far = Reach("value", -1.0, -2.0), Reach("value", 2.0, 3.0)
    >>> _reached({"below": near, "above": far}), _reached({"below": None, "above": far})
    ('at -1 and 2', 'at 2, but not within the range below 0')
    """
    missing = [f", but not within the range {side} 0" for side, place in places.items() if place is None]
    text = " and ".join(str(place) for place in places.values() if place is not None)
    if "between" in text:
        text += ", where it is not finite"
    elif text.startswith("at"):
        text = text.replace(" and at ", " and ")
    return text + (missing[0] if text and missing else "")
