"""SAM sharpness: the rise of the loss within a ball, to first order."""

from __future__ import annotations

import math

from .neighbourhood import Neighbourhood


def sam(around: Neighbourhood, radius: float = 0.05) -> float:
    """L(θ + ρ g / ‖g‖) − L(θ) (Foret et al. 2021, equation 2).

    Unit: loss. Cost: a gradient and a forward pass.

    Args:
        around: the loss around the weights.
        radius: ρ, in units of the weights; 0.05 is the paper's default.

    Returns:
        The rise; NaN where the gradient is 0.
    """
    length = float(around.gradient.norm())
    if length == 0:
        return math.nan
    return around.losses(around.gradient, [radius / length])[0] - around.loss
