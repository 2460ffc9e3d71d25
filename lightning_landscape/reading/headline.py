"""The reading in one sentence: is the centre the lowest point, and how far is it uphill."""

from __future__ import annotations

import math

from .center import lowest_place, no_center
from .change import compared_rise, have_same_directions, moment
from .settings import ReadingSettings
from .surface import Surface
from .text import axis_name, number
from .uphill import Reach, nearest, rise_label, rises, slices


def headline(surface: Surface, before: Surface | None, settings: ReadingSettings) -> str:
    """One sentence without a full stop, such as "the centre is the lowest point of the grid; +10 % at …"."""
    return "; ".join([_center(surface, settings), *_distances(surface, settings), *_change(surface, before, settings)])


def _center(surface: Surface, settings: ReadingSettings) -> str:
    center = surface.origin
    if not surface.finite.any():
        return f"{surface.name} is finite nowhere"
    if not math.isfinite(center):
        return f"{surface.name} {no_center(surface).partition(':')[0]}"
    low = float(surface.values[surface.lowest])
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
        if any(places.values()) or (places and not parts):
            parts.append(f"+{label} {_at(places, 'at' if parts else 'at a distance of')}")
    return parts


def _at(places: dict[int, Reach | None], at: str = "at") -> str:
    """The distance along each direction, those that are reached first.

    >>> _at({0: None, 1: Reach("value", -0.25, -0.5)}), _at({0: None})
    ('at 0.25 along y, nowhere along x', 'nowhere within the range')
    """
    if not any(places.values()):
        return "nowhere within the range"
    words = {axis_name(direction): place and place.in_words for direction, place in places.items()}
    order = sorted(words.items(), key=lambda item: item[1] is None)
    return f"{at} " + ", ".join(f"{distance or 'nowhere'} along {name}" for name, distance in order)


def _change(surface: Surface, before: Surface | None, settings: ReadingSettings) -> list[str]:
    """The parts on the distances of an earlier surface, after those of now; empty where these can't be compared."""
    if before is None or not have_same_directions(surface, before):
        return []
    rise = compared_rise(surface, before, settings)
    if rise is None:
        return []
    now = {direction: place for direction, place, _ in rise.reached}
    then = {direction: place for direction, _, place in rise.reached}
    is_said = rise.label == rise_label(surface, settings) and any(now.values())
    return [*([] if is_said else [f"+{rise.label} {_at(now)}"]), f"it was {_at(then)} {moment(before)}"]
