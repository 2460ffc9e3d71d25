"""The parts that pictures in 3-D share: their axes, their panes, their star and their lamp."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.axes3d import Axes3D  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ..landscape import Grid
from .bars import color_bar
from .frames import Frame
from .furniture import GREEK, open_axes
from .scales import Scale
from .style import STYLE


def open_space(
    ax: Axes | None, box: NDArray[np.float64], zoom: float, elev: float, azim: float, has_key: bool = False
) -> Axes3D:
    """3-D axes in the place of `ax`, or those of a new figure; their parts are drawn in order of zorder.

    Args:
        ax: the axes to replace, unless they are 3-D; None for a new figure.
        box: the relative lengths of the axes, shape (3,).
        zoom: the size of the box in its frame.
        elev, azim: the side from which it is seen, in degrees above the horizontal and around the vertical.
        has_key: True for a room for the key of a path.
    """
    axes: Axes3D
    frame = Frame(left=0.06, right=0.84, bar=(0.2, 0.11), bottom=0.95, top=0.4, bar_height=0.62)
    axes = open_axes(ax, frame.with_key() if has_key else frame, "3d")
    axes.computed_zorder = False  # in the order given, from every side
    axes.set_box_aspect(box, zoom=zoom)
    axes.view_init(elev=elev, azim=azim)
    return axes


def space_bar(axes: Axes3D, scale: Scale, mappable: ScalarMappable | None = None) -> Colorbar:
    """The colour bar of 3-D axes."""
    return color_bar(axes, scale, mappable=mappable, shrink=0.7, pad=0.06)


def dress_space(axes: Axes3D, directions: int) -> None:
    """Gives 3-D axes quiet panes and grid lines; labels and few ticks on the axes that are directions."""
    for direction, axis in enumerate((axes.xaxis, axes.yaxis, axes.zaxis)):
        if direction < directions:
            axis.set_label_text(GREEK[direction], fontsize=STYLE.label_size, color=STYLE.ink)
            axis.set_major_locator(MaxNLocator(2))
        axis.set_pane_color("#fafafa")
        axis.line.set_color(STYLE.rule)
        axis._axinfo["grid"].update(color="#e2e2e2", linewidth=0.7)  # no public way but the global settings
        axis.set_tick_params(labelsize=STYLE.small_size, colors=STYLE.faint)
    axes.grid(True)


def add_space_star(axes: Axes3D, grid: Grid, height: float) -> None:
    """Draws the ★ at the centre, if the grid holds it, over walls that would hide it."""
    if all(axis[0] <= 0 <= axis[-1] for axis in grid.axes):
        look = {"color": "white", "markeredgecolor": STYLE.ink, "markeredgewidth": 0.9, "linestyle": ""}
        axes.plot([0], [0], [height], marker="*", markersize=11, zorder=10, gid="center", **look)


def lamp_light(corners: NDArray[np.float64], spans: NDArray[np.float64]) -> NDArray[np.float64]:
    """The light on flat faces as they look in a box, shape (faces,): 1 if a face turns to the lamp, −1 if away.

    The lamp is at the upper left. A face without area has no light.

    Args:
        corners: of the faces in data coordinates, shape (faces, 3 or 4, 3).
        spans: data units that one length of the box stands for, along each axis.

    >>> lamp_light(np.array([[[0.0, 0, 0], [2, 0, 0], [0, 2, 0]]]), np.ones(3)).round(3).tolist()
    [0.795]
    """
    box, lamp = corners / spans, np.array([-0.5, -0.35, 0.8])
    normals = np.cross(box[:, 1] - box[:, 0], box[:, 2] - box[:, 0])
    if corners.shape[1] == 4:
        normals = np.cross(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])
    lengths = np.linalg.norm(normals, axis=1)
    return normals / np.where(lengths > 0, lengths, 1)[:, None] @ (lamp / np.linalg.norm(lamp))
