"""The test that two ways to measure are equal, and the point at which they are compared."""

from __future__ import annotations

import numpy as np

from ..evaluators import Measurement
from ..weights.plane import Plane

EQUAL = 1e-6  # relative, of every metric


def equal(a: dict[str, Measurement], b: dict[str, Measurement]) -> bool:
    """True if two ways give the same metrics, within a relative difference of EQUAL."""
    return a.keys() == b.keys() and all(
        np.isclose(a[name].value, b[name].value, rtol=EQUAL, atol=0, equal_nan=True) for name in a
    )


def off_axes(plane: Plane, count: int) -> np.ndarray:
    """A point that is special to no direction, `count` times, shape (count, k)."""
    return np.tile([0.37 - 0.2 * i for i in range(plane.ndim)], (count, 1))
