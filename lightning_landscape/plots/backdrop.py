"""The plane behind the colours of a 2-D plot: axes, star, and the looks of the points without a colour."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ..landscape import Grid, Landscape
from .furniture import COLORMAP, FAINT, RULE, axis_label, dress, foot, head, say, star
from .scales import Scale

BROKEN = "#b4b4b4"


def furnish(ax: Axes, landscape: Landscape, metric: str, scale: Scale, cells: bool = False) -> None:
    """Title, labels, footer, star, message, and the backdrop, for axes that hold the drawn surface.

    Args:
        ax: where the surface is drawn already.
        landscape: what is drawn.
        metric: its name.
        scale: its colours.
        cells: whether each point is drawn as a cell around it, else as a corner of its neighbour cells.
    """
    head(ax, landscape, metric, scale.note())
    lay_plane(ax, landscape.grid, scale, cells)
    star(ax, 0.0, 0.0)
    if scale.message is not None:
        say(ax, scale.message)
    ax.set_xlabel(axis_label(0))
    ax.set_ylabel(axis_label(1))
    dress(ax)
    foot(ax, landscape, metric)


def lay_plane(ax: Axes, grid: Grid, scale: Scale, cells: bool = False) -> None:
    """Limits of the grid, equal lengths where its shape allows it, and the looks of undrawn points."""
    look: Any
    bounds = [edges(axis) if cells else axis for axis in grid.axes]
    x, y = bounds
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    if 0.6 < (y[-1] - y[0]) / (x[-1] - x[0]) < 1.6:
        ax.set_aspect("equal")
    if scale.missing.any():
        look = {"facecolor": "white", "edgecolor": RULE, "hatch": "////", "linewidth": 0, "zorder": 0.1}
        ax.add_patch(Rectangle((x[0], y[0]), x[-1] - x[0], y[-1] - y[0], **look))
    if np.ma.getmaskarray(scale.shown).any():
        masks = [m if cells else corner(m) for m in (scale.missing, scale.broken, scale.hidden)]
        # 0: drawn, or blank; 1: not finite; masked: the hatching shines through.
        codes = np.ma.masked_array(np.where(masks[1], 1, 0), masks[0] & ~masks[1] & ~masks[2])
        look = {"cmap": ListedColormap(["white", BROKEN]), "norm": BoundaryNorm([-0.5, 0.5, 1.5], 2)}
        ax.pcolormesh(x, y, codes.T, zorder=0.2, gid="backdrop", **look)
        if not cells:
            _lone_points(ax, grid, scale)


def edges(axis: NDArray[np.float64]) -> NDArray[np.float64]:
    """The borders of the cells around the points of an axis: midway, shape (points + 1,).

    >>> edges(np.array([0.0, 1.0, 4.0])).tolist()
    [-0.5, 0.5, 2.5, 5.5]
    """
    middle = 0.5 * (axis[1:] + axis[:-1])
    return np.concatenate([[2 * axis[0] - middle[0]], middle, [2 * axis[-1] - middle[-1]]])


def corner(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The cells between four points with one of `mask` at a corner: bool, shape (nx - 1, ny - 1)."""
    return mask[1:, 1:] | mask[1:, :-1] | mask[:-1, 1:] | mask[:-1, :-1]


def lone(scale: Scale) -> NDArray[np.bool_]:
    """The visible values that touch no drawn cell, as a mask.

    A cell is drawn if at least three of its corners are visible. A value without a drawn cell needs a dot to be
    seen at all.
    """
    visible = ~np.ma.getmaskarray(scale.shown)
    corners = (slice(None, -1), slice(1, None))
    cells = [(i, j) for i in corners for j in corners]
    drawn = sum(visible[cell].astype(int) for cell in cells) >= 3
    touched = np.zeros(visible.shape, bool)
    for cell in cells:
        touched[cell] |= drawn
    return visible & ~touched


def _lone_points(ax: Axes, grid: Grid, scale: Scale) -> None:
    mask = lone(scale)
    if mask.any():
        x, y = grid.points[mask.reshape(-1)].T
        look: dict[str, Any] = {"cmap": COLORMAP, "norm": scale.norm, "edgecolors": FAINT, "linewidths": 0.4}
        ax.scatter(x, y, s=26, c=scale.shown[mask], zorder=3, clip_on=False, **look)
