"""Critical sharpness, along the optimiser's own update."""

from __future__ import annotations

import math
from collections.abc import Callable

from .neighbourhood import Neighbourhood


def critical(around: Neighbourhood, precision: float = 1e-2, doublings: int = 20) -> float:
    """λ_c = 2 / η_c, with η_c the smallest step along the update at which the loss rises (Kalra et al. 2026).

    For gradient descent on a quadratic it is gᵀHg / gᵀg. The training is stable while λ_c < 2/η, for each optimiser by
    its own update. Unit: one by learning rate. Cost: about 6 forward passes, without a derivative: it works with fused
    kernels, in bfloat16 and with parameters that are divided among processes.

    Args:
        around: with update and learning rate.
        precision: the largest relative error of η_c.
        doublings: the most doublings or halvings from the learning rate.

    Returns:
        λ_c; 0 where the loss does not rise within the doublings, NaN where it rises at once.

    Raises:
        CannotMeasureError: if no update is known.
    """
    update, learning_rate = around.next_update()

    def slope(multiple: float) -> float:
        """The mean slope of the loss to a multiple of the update, which is linear in it for a quadratic."""
        value = (around.losses(update, [multiple])[0] - around.loss) / multiple
        return value if math.isfinite(value) else math.inf

    low = high = 1.0
    at_low = at_high = slope(1.0)
    for _ in range(doublings):
        if at_low < 0 <= at_high:
            break
        if at_low < 0:
            low, at_low, high = high, at_high, 2 * high
            at_high = slope(high)
        else:
            high, at_high, low = low, at_low, low / 2
            at_low = slope(low)
    if not at_low < 0 <= at_high:
        return 0.0 if at_low < 0 else math.nan
    return 2 / (learning_rate * _root(slope, (low, at_low), (high, at_high), precision))


def _root(
    slope: Callable[[float], float],
    left: tuple[float, float],
    right: tuple[float, float],
    precision: float,
    most_steps: int = 12,
) -> float:
    """The zero of a slope between two points, by regula falsi with halving (Illinois); exact for a straight line."""
    (low, at_low), (high, at_high) = left, right
    steepest = abs(at_low)
    middle = high
    for _ in range(most_steps):
        middle = (low + high) / 2 if math.isinf(at_high) else low - at_low * (high - low) / (at_high - at_low)
        at_middle = slope(middle)
        if abs(at_middle) <= precision * steepest / 10 or high - low <= precision * low:
            return middle
        if at_middle < 0:
            low, at_low, at_high = middle, at_middle, at_high / 2
        else:
            high, at_high, at_low = middle, at_middle, at_low / 2
    return middle
