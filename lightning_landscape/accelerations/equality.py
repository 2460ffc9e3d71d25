"""When two ways to measure are taken for equal, and where they are compared."""

from __future__ import annotations

import numpy as np

from ..evaluators import Measurement
from ..weights.plane import Plane

EQUAL = 1e-6  # relative, of every metric


def equal(a: dict[str, Measurement], b: dict[str, Measurement]) -> bool:
    """Whether two ways give the same metrics, to EQUAL of their values."""
    return a.keys() == b.keys() and all(
        np.isclose(a[name].value, b[name].value, rtol=EQUAL, atol=0, equal_nan=True) for name in a
    )


def off_axes(plane: Plane, count: int) -> np.ndarray:
    """A point that is special to no direction, `count` times, shape (count, k)."""
    return np.tile([0.37 - 0.2 * i for i in range(plane.ndim)], (count, 1))
