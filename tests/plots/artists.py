"""The drawn parts of a figure, and checks of what they show."""

from __future__ import annotations

import numpy as np
from matplotlib.contour import ContourSet
from mpl_toolkits.mplot3d.art3d import Poly3DCollection


def all_contours(ax) -> list[ContourSet]:
    """The bands of some axes, then their lines in the order of drawing."""
    return [c for c in ax.collections if isinstance(c, ContourSet)]


def contours(ax) -> ContourSet:
    """The bands of some axes."""
    return all_contours(ax)[0]


def assert_bands_hold(function, ax) -> None:
    """Every band of colour holds points (x, y) with values of `function` between its two levels."""
    drawn = contours(ax)
    for low, high, path in zip(drawn.levels[:-1], drawn.levels[1:], drawn.get_paths(), strict=True):
        values = function(*path.vertices.T)
        assert ((values >= low - 1e-9) & (values <= high + 1e-9)).all()
    assert sum(len(path.vertices) for path in drawn.get_paths()) > 10


def bar_of(figure):
    """The axes of the only colour bar."""
    (bar,) = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    return bar


def faces(collection: Poly3DCollection, corners: int) -> np.ndarray:
    """The corners of faces that have so many, shape (faces, corners, 3)."""
    # matplotlib has no public way to them; before 3.11 they are columns of homogeneous coordinates
    if hasattr(collection, "_faces"):
        return np.asarray(collection._faces)
    return collection._vec[:3].T.reshape(-1, corners, 3)
