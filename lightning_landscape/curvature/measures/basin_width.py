"""Basin width: the distance at which the loss is clearly higher."""

from __future__ import annotations

import math
import statistics

import torch

from .neighbourhood import Neighbourhood


def basin_width(around: Neighbourhood, share: float = 0.1, directions: int = 5) -> float:
    """The distance from θ at which the loss is 10 % higher, as the median over random directions.

    Unit: weights. Cost: 10 to 20 forward passes a direction.

    Args:
        around: the loss around the weights.
        share: of the loss at θ; see `basin_width_of_one` for a loss near 0.
        directions: random ones of length 1.
    """
    return _median(around, share * abs(around.loss), directions)


def basin_width_of_one(around: Neighbourhood, rise: float = 1.0, directions: int = 5) -> float:
    """The distance from θ at which the loss is higher by 1 (a nat of cross-entropy); as `basin_width`."""
    return _median(around, rise, directions)


def _median(around: Neighbourhood, rise: float, directions: int) -> float:
    """The median of the distances; infinite where most directions do not rise so far."""
    if rise <= 0:
        return 0.0
    units = [around.random("basin", i) for i in range(directions)]
    return statistics.median(_distance(around, unit / unit.norm(), rise) for unit in units)


def _distance(around: Neighbourhood, unit: torch.Tensor, rise: float, doublings: int = 12, halvings: int = 7) -> float:
    """The distance along a direction to a rise: doubling from a thousandth of ‖θ‖, then bisection to 1 %."""
    low, high = 0.0, 1e-3 * (float(around.weights.norm()) or 1.0)
    for _ in range(doublings):
        if not around.losses(unit, [high])[0] - around.loss < rise:
            break
        low, high = high, 2 * high
    else:
        return math.inf
    for _ in range(halvings):
        middle = (low + high) / 2
        is_below = around.losses(unit, [middle])[0] - around.loss < rise
        low, high = (middle, high) if is_below else (low, middle)
    return (low + high) / 2
