"""λ_max, the curvature along the sharpest direction."""

from __future__ import annotations

from .neighbourhood import Neighbourhood


def lambda_max(around: Neighbourhood) -> float:
    """The largest eigenvalue of the Hessian, max vᵀHv over ‖v‖ = 1.

    Gradient descent is stable while it is below 2/η (Cohen et al. 2021, section 2). Unit: loss by squared weight. Cost:
    about 12 gradients, shared with `lambda_min` and `trace`.
    """
    return around.spectrum.largest
