"""The curvature along the gradient."""

from __future__ import annotations

from .neighbourhood import Neighbourhood


def along_gradient(around: Neighbourhood) -> float:
    """gᵀHg / gᵀg, the curvature that a step of gradient descent meets.

    Unit: loss by squared weight. Cost: a gradient and a product.
    """
    return around.spectrum.curvature_along_gradient
