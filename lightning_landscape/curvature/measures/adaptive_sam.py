"""Adaptive SAM sharpness: as SAM's, in units of each weight's size."""

from __future__ import annotations

import math

from .neighbourhood import Neighbourhood


def adaptive_sam(around: Neighbourhood, radius: float = 0.5) -> float:
    """L(θ + ρ T²g / ‖Tg‖) − L(θ) with T = diag |θ| (Kwon et al. 2021, equation 8).

    It does not change where the scale of one layer is moved into another. Unit: loss. Cost: a gradient and a forward
    pass.

    Args:
        around: the loss around the weights.
        radius: ρ, a share of the weights; 0.5 is the paper's default.

    Returns:
        The rise; NaN where Tg is 0.
    """
    scaled = around.weights.abs() * around.gradient
    length = float(scaled.norm())
    if length == 0:
        return math.nan
    return around.losses(around.weights.abs() * scaled, [radius / length])[0] - around.loss
