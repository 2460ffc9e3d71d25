"""The test that two evaluators give equal values, and the point at which they are compared."""

from __future__ import annotations

import numpy as np

from ..evaluators import Measurements
from ..weights.plane import Plane


def equal(a: Measurements, b: Measurements, tolerance: float = 1e-6) -> bool:
    """True if two evaluators give the same metrics, within a relative tolerance."""
    return a.keys() == b.keys() and all(
        np.isclose(a[name].value, b[name].value, rtol=tolerance, atol=0, equal_nan=True) for name in a
    )


def off_axes(plane: Plane, count: int) -> np.ndarray:
    """A point that is special to no direction, `count` times, shape (count, k)."""
    return np.tile([0.37 - 0.2 * i for i in range(plane.ndim)], (count, 1))
