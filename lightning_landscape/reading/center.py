"""The sentence on the centre against the lowest point."""

from __future__ import annotations

import math

from .settings import PATHS, ReadingSettings
from .surface import Surface
from .text import number


def center_sentence(surface: Surface, settings: ReadingSettings) -> str:
    """The sentence on the centre against the lowest point."""
    name, center = surface.name, surface.origin
    if not surface.finite.any():
        return f"{name} is finite nowhere: check the weights, the data and the loss before the range."
    low, place = float(surface.values[surface.lowest]), lowest_place(surface)
    if not math.isfinite(center):
        return f"{name} {no_center(surface)}. The lowest point is {number(low)} at {place}."
    error = surface.error_at_center
    if center - low <= settings.rounding * abs(center):
        return f"No point of the grid is lower than the centre, where {name} is {number(center)}{_with_error(error)}."
    return (
        f"{name} is {number(center)}{_with_error(error)} at the centre and lower elsewhere: {number(low)} at {place}. "
        + _difference(surface, center - low, settings)
    )


def _difference(surface: Surface, difference: float, settings: ReadingSettings) -> str:
    """The difference to the lowest point against the standard error, and what to do."""
    error = surface.error_of_difference
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


def no_center(surface: Surface) -> str:
    """The reason why nothing can be compared with the centre, and what to do."""
    if not surface.holds_center:
        return "is not known at the centre: let the range hold 0"
    if not surface.done[surface.middle]:
        return "is not known at the centre: that point is not done"
    return f"is {surface.origin} at the centre: check the weights and the data"


def lowest_place(surface: Surface) -> str:
    """The coordinates of the lowest point, such as (0.5, -1), or x = 0.5 on a line."""
    at = [number(axis[i]) for axis, i in zip(surface.axes, surface.lowest, strict=True)]
    return f"x = {at[0]}" if len(at) == 1 else f"({', '.join(at)})"


def _with_error(error: float) -> str:
    return f" (standard error {number(error)})" if math.isfinite(error) else ""
