"""The sentences on how a landscape differs from an earlier one of the same training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .settings import ReadingSettings
from .surface import Surface
from .text import axis_name, number, percent
from .uphill import Reach, nearest, rise_label, slices


def moment(surface: Surface) -> str:
    """The step of a surface in words, or "before" where it is unknown."""
    step = surface.recipe.step
    return "before" if step is None else f"at step {step:,}"


def change_sentences(surface: Surface, before: Surface, settings: ReadingSettings) -> Iterator[str]:
    """A sentence on the loss at the centre, and one for each direction on how far it is uphill.

    Standard errors of the two losses are added, since nobody knows how far the two errors are alike.
    """
    yield from _center_sentence(surface, before, settings)
    if surface.is_main and surface.spectrum is not None and before.spectrum is not None:
        largest = (number(x.spectrum.largest) for x in (surface, before) if x.spectrum is not None)
        yield f"λ_max is {', and it was '.join(largest)} {moment(before)}."
    if not have_same_directions(surface, before):
        yield f"Distances are not compared with those {moment(before)}: the directions are others."
        return
    rise = compared_rise(surface, before, settings)
    if rise is None:
        return
    for direction, now, then in rise.reached:
        yield (
            f"Along {axis_name(direction)} a rise by {rise.label} is {_far(now)}, and it was {_far(then)} "
            f"{moment(before)}{_verdict(surface, before, direction, now, then)}."
        )


def _center_sentence(surface: Surface, before: Surface, settings: ReadingSettings) -> Iterator[str]:
    now, then = surface.origin, before.origin
    if not (math.isfinite(now) and math.isfinite(then)):
        return
    error = surface.error_at_center + before.error_at_center
    text = f"{surface.name} at the centre is {number(now)}, and it was {number(then)} {moment(before)}"
    if abs(now - then) <= settings.rounding * abs(then):
        text += ": the same"
    elif math.isfinite(error) and abs(now - then) < settings.clear_errors * error:
        text += f": a difference of less than {settings.clear_errors:g} standard errors, which may be chance"
    samples = "" if _have_same_data(surface, before) else " These are other samples."
    yield f"{text}.{samples}"


def _have_same_data(surface: Surface, before: Surface) -> bool:
    """False if the two are known to be measured on other samples."""
    now, then = (s.recipe.data.get(s.recipe.data_name(s.name) or "") for s in (surface, before))
    return now is None or then is None or now.checksum == then.checksum


def have_same_directions(surface: Surface, before: Surface) -> bool:
    """True if the directions of both are of one kind, with the same settings and seed."""
    now, then = surface.recipe.directions, before.recipe.directions
    facts = [(recipe.kind, recipe.settings) if recipe else None for recipe in (now, then)]
    return facts[0] == facts[1] and len(surface.axes) == len(before.axes)


@dataclass(frozen=True)
class ComparedRise:
    """The distances to the same rise in two surfaces.

    Args:
        label: the rise in words.
        reached: direction, place in the one and in the other surface, for each direction in which one has risen so far.
    """

    label: str
    reached: list[tuple[int, Reach | None, Reach | None]]


def compared_rise(surface: Surface, before: Surface, settings: ReadingSettings) -> ComparedRise | None:
    """The rise that is compared; None if neither surface rises so far.

    Both rise by the same amount: 1 if both have risen so far somewhere, else 10 % of the larger loss at the centre.
    10 % of two losses would be two amounts.
    """
    rise, share = settings.rise, settings.rise_share * max(surface.origin, before.origin)
    candidates = {
        rise_label(surface, settings): rise,
        f"{number(share)} ({percent(settings.rise_share)} of the larger loss)": share,
    }
    found = [ComparedRise(label, _reached(surface, before, height)) for label, height in candidates.items()]
    both = [rise for rise in found if any(now and then for _, now, then in rise.reached)]
    return next(iter([*both, *(rise for rise in found if rise.reached)]), None)


def _reached(surface: Surface, before: Surface, height: float) -> list[tuple[int, Reach | None, Reach | None]]:
    """The nearest places of a rise in both surfaces, for each direction that has one."""
    targets = surface.origin + height, before.origin + height
    if not (targets[0] > surface.origin and targets[1] > before.origin):  # also where a loss is not finite
        return []
    directions = [direction for direction in slices(surface) if direction in slices(before)]
    places = [(d, nearest(surface, d, targets[0]), nearest(before, d, targets[1])) for d in directions]
    return [place for place in places if place[1] is not None or place[2] is not None]


def _far(reach: Reach | None) -> str:
    return "beyond the range" if reach is None else f"{reach.in_words} away"


def _verdict(surface: Surface, before: Surface, direction: int, now: Reach | None, then: Reach | None) -> str:
    """The comparison of two distances; empty where one of them is only a bound.

    Places less than a step of the grid apart are the same: within a step the loss is not known.
    """
    if now is None or then is None:
        reached = then if now is None else now
        unseen = surface if now is None else before
        axis = unseen.axes[direction]
        covered = min(abs(float(end)) for end in (axis[0], axis[-1]) if end)
        if reached is None or not reached.is_known or reached.distance > covered:
            return ""
        return ": wider" if now is None else ": narrower"
    if not (now.is_known and then.is_known):
        return ""
    step = max(_step(surface, direction), _step(before, direction))
    if abs(now.distance - then.distance) < step:
        return ": the same, to a step of the grid"
    return ": wider" if now.distance > then.distance else ": narrower"


def _step(surface: Surface, direction: int) -> float:
    """The widest step of an axis."""
    axis = surface.axes[direction]
    return float(np.diff(axis).max())
