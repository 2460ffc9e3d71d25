"""Finer surfaces: cubic splines through the values of a grid."""

from __future__ import annotations

import numpy as np

from ..interpolation.splines import along_axes, spline_matrix
from ..landscape import Grid, Landscape


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
        raise ValueError(f"interp={points} is too few: give the points along each direction, at least 2, e.g. 200.")
    values = landscape.values[metric]
    whole = landscape.done & np.isfinite(values)
    if not whole.all():
        raise ValueError(
            f"interp={points} needs a finite value at every point, {(~whole).sum()} have none: leave interp out."
        )
    axes = [np.linspace(axis[0], axis[-1], points) for axis in landscape.grid.axes]
    values = along_axes([spline_matrix(old, new) for old, new in zip(landscape.grid.axes, axes, strict=True)], values)
    size = " × ".join(map(str, landscape.grid.shape))
    meta = {**landscape.meta, "interpolated": f"cubic splines through {size} points"}
    center = {metric: landscape.center[metric]}
    path = landscape.trajectory
    return Landscape(Grid(tuple(axes)), {metric: values}, metric, center=center, meta=meta, trajectory=path)
