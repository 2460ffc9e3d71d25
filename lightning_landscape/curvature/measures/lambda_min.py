"""λ_min, the most negative curvature."""

from __future__ import annotations

from .neighbourhood import Neighbourhood


def lambda_min(around: Neighbourhood) -> float:
    """The smallest eigenvalue of the Hessian by algebraic value, min vᵀHv over ‖v‖ = 1.

    Below 0 the loss bends down in some direction. Unit: loss by squared weight. Cost: about 35 gradients.
    """
    return around.spectrum.lowest
