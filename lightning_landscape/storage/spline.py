"""Finer surfaces: cubic splines through the values of a grid."""

from __future__ import annotations

import numpy as np

from ..landscape import Array, Grid, Landscape


def refined(landscape: Landscape, metric: str, points: int) -> Landscape:
    """One metric of a landscape on a finer grid over the same ranges: cubic splines along each direction.

    Args:
        landscape: any number of directions.
        metric: the name of the values to keep.
        points: along each direction.

    Raises:
        ValueError: if a point was not evaluated or is not finite, or `points` is below 2.

    >>> grid = Grid.from_ranges((-1, 1, 5), (0, 3, 4))
    >>> x, y = grid.points.T
    >>> cubic = Landscape(grid, {"loss": (x**3 - x * y**2).reshape(grid.shape)}, "loss")
    >>> fine = refined(cubic, "loss", 9)
    >>> x, y = fine.grid.points.T
    >>> fine.grid.shape, bool(np.allclose(fine.loss.reshape(-1), x**3 - x * y**2))
    ((9, 9), True)
    """
    if points < 2:
        raise ValueError(f"interp={points} is no grid: give the points along each direction, e.g. 200.")
    values = landscape.values[metric]
    whole = landscape.done & np.isfinite(values)
    if not whole.all():
        raise ValueError(
            f"interp={points} needs a finite value at every point, {(~whole).sum()} have none: leave it out."
        )
    axes = [np.linspace(axis[0], axis[-1], points) for axis in landscape.grid.axes]
    for i, (old, new) in enumerate(zip(landscape.grid.axes, axes, strict=True)):
        values = np.moveaxis(np.tensordot(spline_matrix(old, new), values, axes=(1, i)), 0, i)
    size = " × ".join(map(str, landscape.grid.shape))
    meta = {**landscape.meta, "interpolated": f"cubic splines through {size} points"}
    center = {metric: landscape.center[metric]}
    return Landscape(Grid(tuple(axes)), {metric: values}, metric, center=center, meta=meta)


def spline_matrix(knots: Array, points: Array) -> Array:
    """What maps values at the knots to the cubic spline through them, shape (points, knots).

    The third derivative is continuous at the second knot and the last but one (not-a-knot: de Boor, *A
    Practical Guide to Splines*, chapter IV); through three knots runs a parabola, through two a line.

    Args:
        knots: increasing, at least 2.
        points: where to evaluate.
    """
    n = len(knots)
    if n < 4:  # the polynomial of Lagrange
        others = [np.delete(knots, i) for i in range(n)]
        return np.stack(
            [np.prod((points[:, None] - o) / (k - o), axis=1) for k, o in zip(knots, others, strict=True)], axis=1
        )
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
