"""The trace of the Hessian: P times the mean curvature."""

from __future__ import annotations

from .neighbourhood import Neighbourhood


def trace_of_hessian(around: Neighbourhood) -> float:
    """tr H, the sum of all eigenvalues (Hutch++, Meyer et al. 2021).

    Unit: loss by squared weight. ``around.spectrum.trace_error`` is its standard error. Cost: 8 to 100 products.
    """
    return around.spectrum.trace
