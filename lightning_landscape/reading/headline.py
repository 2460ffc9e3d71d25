"""The reading in one sentence: is the centre the lowest point, and how far is it uphill."""

from __future__ import annotations

import math

from .center import lowest_place, no_center
from .change import compared_rise, have_same_directions, moment
from .settings import ReadingSettings
from .surface import Surface
from .text import axis_name, number
from .uphill import Reach, nearest, rises, slices


def headline(surface: Surface, before: Surface | None, settings: ReadingSettings) -> str:
    """One sentence without a full stop, such as "the centre is the lowest point of the grid; +10 % at …"."""
    return "; ".join([_center(surface, settings), *_distances(surface, settings), *_change(surface, before, settings)])


def _center(surface: Surface, settings: ReadingSettings) -> str:
    center, low = surface.origin, surface.ends[0]
    if math.isnan(low):
        return f"{surface.name} is finite nowhere"
    if not math.isfinite(center):
        return f"{surface.name} {no_center(surface).partition(':')[0]}"
    if center - low <= settings.rounding * abs(center):
        return "the centre is the lowest point of the grid"
    error = surface.error_of_difference
    doubt = ", which may be chance" if math.isfinite(error) and center - low < settings.clear_errors * error else ""
    return f"{lowest_place(surface)} is lower than the centre, by {number(center - low)}{doubt}"


def _distances(surface: Surface, settings: ReadingSettings) -> list[str]:
    """A part for each rise; one that is nowhere within the range is left out if a smaller one has said so."""
    parts: list[str] = []
    for label, target in rises(surface, settings).items():
        places = {direction: nearest(surface, direction, target) for direction in slices(surface)}
        if any(places.values()):
            distance = "at" if parts else "at a distance of"
            parts.append(f"+{label} {distance} {_along(places)}")
        elif places and not parts:
            parts.append(f"+{label} nowhere within the range")
    return parts


def _along(places: dict[int, Reach | None]) -> str:
    """The distance along each direction.

    >>> _along({0: Reach("value", -0.25, -0.5), 1: None})
    '0.25 along x, nowhere along y'
    """
    return ", ".join(
        f"{'nowhere' if place is None else place.in_words} along {axis_name(direction)}"
        for direction, place in places.items()
    )


def _change(surface: Surface, before: Surface | None, settings: ReadingSettings) -> list[str]:
    """The part on the distances of an earlier surface; empty where these can't be compared."""
    if before is None or not have_same_directions(surface, before):
        return []
    pairs = {d: compared_rise(surface, before, d, settings) for d in slices(surface)}
    labels = [pair[0] for pair in pairs.values() if pair is not None]
    places = {d: pair[2] for d, pair in pairs.items() if pair is not None and pair[0] == labels[0]}
    return [f"{moment(before)} +{labels[0]} was at {_along(places)}"] if any(places.values()) else []
