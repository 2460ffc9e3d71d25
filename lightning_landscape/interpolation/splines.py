"""Interpolation along the axes of a grid: matrices that map the values at knots to those at other points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..landscape import Array


def along_axes(matrices: Sequence[Array], values: Array) -> Array:
    """One matrix an axis, each of shape (points, knots), applied to values of shape (knots, knots, …).

    >>> along_axes([np.array([[0.5, 0.5]]), np.eye(2)], np.array([[0.0, 1.0], [2.0, 5.0]]))
    array([[1., 3.]])
    """
    for i, matrix in enumerate(matrices):
        values = np.moveaxis(np.tensordot(matrix, values, axes=(1, i)), 0, i)
    return values


def local_matrix(knots: Array, points: Array, width: int) -> Array:
    """The matrix from values at the knots to values of local polynomials at the points, shape (points, knots).

    Each polynomial runs through the nearest `width` knots. Width 2 gives straight lines, width 4 cubics (Lagrange).
    A value reaches no further than its neighbours.

    Args:
        knots: increasing, at least 2.
        points: where to evaluate.
        width: an even number; fewer knots than that give one polynomial through them all.

    >>> local_matrix(np.array([0.0, 1.0, 2.0]), np.array([0.5, 1.75]), 2).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]]
    """
    n = len(knots)
    width = min(width, n)
    place = np.clip(np.searchsorted(knots, points, side="right") - 1, 0, n - 2)
    columns = np.clip(place - (width // 2 - 1), 0, n - width)[:, None] + np.arange(width)
    near = knots[columns]
    result = np.zeros((len(points), n))
    for i in range(width):
        remaining = np.delete(near, i, axis=1)
        weights = np.prod((points[:, None] - remaining) / (near[:, i : i + 1] - remaining), axis=1)
        result[np.arange(len(points)), columns[:, i]] = weights
    return result


def spline_matrix(knots: Array, points: Array) -> Array:
    """The matrix from values at the knots to values of their cubic spline at the points, shape (points, knots).

    The third derivative is continuous at the second knot and the last but one (not-a-knot: de Boor, *A
    Practical Guide to Splines*, chapter IV); through three knots runs a parabola, through two a line.

    Args:
        knots: increasing, at least 2.
        points: where to evaluate.
    """
    n = len(knots)
    if n < 4:  # the polynomial of Lagrange
        return local_matrix(knots, points, n)
    h = np.diff(knots)
    slopes = (np.eye(n)[1:] - np.eye(n)[:-1]) / h[:, None]  # of the chords, as maps of the values
    system, right = np.zeros((n, n)), np.zeros((n, n))
    for i in range(1, n - 1):  # the first derivative is continuous
        system[i, i - 1 : i + 2] = h[i - 1], 2 * (h[i - 1] + h[i]), h[i]
        right[i] = 6 * (slopes[i] - slopes[i - 1])
    system[0, :3] = h[1], -h[0] - h[1], h[0]
    system[-1, -3:] = h[-1], -h[-2] - h[-1], h[-2]
    bends = np.linalg.solve(system, right)  # second derivatives at the knots
    place = np.clip(np.searchsorted(knots, points, side="right") - 1, 0, n - 2)
    t, width = (points - knots[place])[:, None], h[place][:, None]
    steepness = slopes[place] - width * (2 * bends[place] + bends[place + 1]) / 6
    return np.eye(n)[place] + t * (
        steepness + t * (bends[place] / 2 + t * (bends[place + 1] - bends[place]) / (6 * width))
    )
