"""The sentences on how a landscape differs from an earlier one of the same training."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .settings import ReadingSettings
from .surface import Surface
from .text import axis_name, number
from .uphill import Reach, nearest, rises, slices


def moment(surface: Surface) -> str:
    """The step of a surface in words, or "before" where it is unknown."""
    step = surface.recipe.step
    return "before" if step is None else f"at step {step:,}"


def change_sentences(surface: Surface, before: Surface, settings: ReadingSettings) -> Iterator[str]:
    """A sentence on the loss at the centre, and one for each direction on how far it is uphill.

    Standard errors of the two losses are added, since nobody knows how far the two errors are alike.
    """
    yield from _center_sentence(surface, before, settings)
    if not have_same_directions(surface, before):
        yield f"Distances are not compared with those {moment(before)}: the directions are of another kind."
        return
    for direction in slices(surface):
        pair = compared_rise(surface, before, direction, settings)
        if pair is not None:
            label, now, then = pair
            yield (
                f"Along {axis_name(direction)} it is {_far(now)} to a rise by {label}, and it was {_far(then)} "
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


def compared_rise(
    surface: Surface, before: Surface, direction: int, settings: ReadingSettings
) -> tuple[str, Reach | None, Reach | None] | None:
    """The words for a rise, and the place of each surface that has risen by it; None if neither has.

    The rise in units of the loss comes first: 10 % of another loss are another rise.
    """
    if direction not in slices(before):
        return None
    targets, earlier = rises(surface, settings), rises(before, settings)
    shared = [label for label in reversed(targets) if label in earlier]
    pairs = [
        (label, nearest(surface, direction, targets[label]), nearest(before, direction, earlier[label]))
        for label in shared
    ]
    both = [pair for pair in pairs if pair[1] is not None and pair[2] is not None]
    one = [pair for pair in pairs if pair[1] is not None or pair[2] is not None]
    return next(iter([*both, *one]), None)


def _far(reach: Reach | None) -> str:
    return "beyond the range" if reach is None else reach.in_words


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
