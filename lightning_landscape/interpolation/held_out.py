"""Smooth corrections of an interpolation, from the points at which it was tested."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def correction(
    axes: Sequence[Array],
    knots: Sequence[NDArray[np.intp]],
    held_out: NDArray[np.intp],
    residuals: Array,
    reach: float = 1.5,
    limit: int = 1000,
) -> Array:
    """The residuals at held-out points, spread smoothly over the cells around them; 0 at the knots.

    An interpolation that passes by a measured point leaves a dimple there. Added to the interpolation, the correction
    passes through every held-out point. It is a sum of radial functions (Wendland 1995, C2) around the points. A
    factor makes it vanish at the knots.

    Args:
        axes: the coordinates of the grid, one array a direction.
        knots: the indices of the knots along each axis.
        held_out: the indices of n points that are no knots, shape (n, k).
        residuals: value minus interpolation at these points, shape (n,); a point that is not finite is passed over.
        reach: the radius of the functions, in cells: half of the next cell belongs to a point in the middle of one.
        limit: the largest number of points. With more of them the cells are small, and so are the residuals.

    Returns:
        The correction at every point of the grid.

    >>> axis, middle = np.arange(5.0), np.array([[2]])
    >>> correction([axis], [np.array([0, 4])], middle, np.array([3.0])).round(2).tolist()
    [0.0, 1.21, 3.0, 1.21, 0.0]
    """
    shape = tuple(map(len, axes))
    finite = np.isfinite(residuals)
    held_out, residuals = held_out[finite], residuals[finite]
    if not 0 < len(residuals) <= limit:
        return np.zeros(shape)
    cells = [np.interp(axis, axis[at], np.arange(len(at))) for axis, at in zip(axes, knots, strict=True)]
    everywhere = np.stack(np.meshgrid(*cells, indexing="ij"), axis=-1).reshape(-1, len(axes))
    centers = everywhere[np.ravel_multi_index(tuple(held_out.T), shape)]
    heights = np.linalg.lstsq(_wendland(centers, centers, reach), residuals / _between_knots(centers), rcond=None)[0]
    result: Array = _between_knots(everywhere) * (_wendland(everywhere, centers, reach) @ heights)
    return result.reshape(shape)


def _between_knots(cells: Array) -> Array:
    """A factor of 0 at the knots and 1 in the middle of cells and their edges, shape (n,)."""
    factor: Array = 1 - np.prod(np.cos(np.pi * cells) ** 2, axis=1)
    return factor


def _wendland(a: Array, b: Array, reach: float) -> Array:
    """Wendland's function of the distances between two sets of points, shape (len(a), len(b))."""
    r = np.sqrt(((a[:, None] - b) ** 2).sum(axis=-1)) / reach
    value: Array = np.clip(1 - r, 0, None) ** 4 * (4 * r + 1)
    return value
