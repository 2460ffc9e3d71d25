"""The plane of a 2-D plot: its axes, its star, and the looks of points without a colour."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..landscape import Grid, Landscape
from .furniture import add_message, add_star, axis_label, dress_axes
from .scales import Scale
from .style import STYLE


def dress_plane(ax: Axes, landscape: Landscape, scale: Scale, cells: bool = False) -> None:
    """Adds backdrop, star, message and labels to axes that hold a surface; arguments as for `add_backdrop`."""
    add_backdrop(ax, landscape.grid, scale, cells)
    add_star(ax, 0.0, 0.0)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    add_message(ax, scale.notice)
    dress_axes(ax, axis_label(landscape, 0), axis_label(landscape, 1))


def add_backdrop(ax: Axes, grid: Grid, scale: Scale, cells: bool = False) -> None:
    """Sets the limits of the grid, equal lengths where its shape allows it, and the looks of undrawn points.

    Args:
        ax: the axes of the surface.
        grid: 2-D.
        scale: the colours of the surface.
        cells: True if each point is drawn as a cell around it; else it is a corner of its neighbour cells.
    """
    look: Any
    x, y = (cell_edges(axis) if cells else axis for axis in grid.axes)
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    if 0.6 < (y[-1] - y[0]) / (x[-1] - x[0]) < 1.6:
        ax.set_aspect("equal")
    if scale.missing.any():
        look = {"facecolor": "white", "edgecolor": STYLE.rule, "hatch": "////", "linewidth": 0, "zorder": 0.1}
        ax.add_patch(Rectangle((x[0], y[0]), x[-1] - x[0], y[-1] - y[0], **look))
    if np.ma.getmaskarray(scale.values).any():
        missing, broken, hidden = (
            m if cells else touched_cells(m) for m in (scale.missing, scale.broken, scale.hidden)
        )
        # 0: drawn, or blank; 1: not finite; masked: the hatching shines through.
        codes = np.ma.masked_array(np.where(broken, 1, 0), missing & ~broken & ~hidden)
        look = {"cmap": ListedColormap(["white", STYLE.broken]), "norm": BoundaryNorm([-0.5, 0.5, 1.5], 2)}
        ax.pcolormesh(x, y, codes.T, zorder=0.2, gid="backdrop", **look)
        if not cells:
            _add_dots(ax, grid, scale)


def cell_edges(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """The borders of the cells around the points of an axis: midway, shape (points + 1,).

    >>> cell_edges(np.array([0.0, 1.0, 4.0])).tolist()
    [-0.5, 0.5, 2.5, 5.5]
    """
    middle = 0.5 * (axis[1:] + axis[:-1])
    return np.concatenate([[2 * axis[0] - middle[0]], middle, [2 * axis[-1] - middle[-1]]])


def touched_cells(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The cells between points that have one of `mask` at a corner: bool, one fewer along each axis."""
    for axis in range(mask.ndim):
        mask = np.delete(mask, 0, axis) | np.delete(mask, -1, axis)
    return mask


def isolated_points(scale: Scale) -> NDArray[np.bool_]:
    """The visible values that touch no drawn cell, as a mask.

    A cell is drawn if at least three of its corners are visible. A value without a drawn cell needs a dot to be
    seen at all.
    """
    visible = ~np.ma.getmaskarray(scale.values)
    corners = (slice(None, -1), slice(1, None))
    cells = [(i, j) for i in corners for j in corners]
    drawn = sum(visible[cell].astype(int) for cell in cells) >= 3
    touched = np.zeros(visible.shape, bool)
    for cell in cells:
        touched[cell] |= drawn
    return visible & ~touched


def _add_dots(ax: Axes, grid: Grid, scale: Scale) -> None:
    """Draws the values that no cell shows."""
    mask = isolated_points(scale)
    if mask.any():
        x, y = grid.points[mask.reshape(-1)].T
        look: Any = {"cmap": STYLE.colormap, "norm": scale.norm, "edgecolors": STYLE.faint, "linewidths": 0.4}
        ax.scatter(x, y, s=26, c=scale.values[mask], zorder=3, clip_on=False, **look)
