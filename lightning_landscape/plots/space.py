"""The parts that pictures in 3-D share: their axes, their panes and their lamp."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from .bars import color_bar
from .furniture import FAINT, INK, LABEL_SIZE, RULE, SMALL_SIZE, axis_label, open_axes
from .scales import Scale

PLACE, BAR = (0.05, 0.09, 0.695, 0.80), (0.85, 0.2, 0.02, 0.58)  # left, bottom, width, height
LIGHT = np.array([-0.5, -0.35, 0.8]) / np.linalg.norm([-0.5, -0.35, 0.8])


def open_space(ax: Axes | None) -> Any:
    """3-D axes in the place of `ax`, or those of a new figure; their parts are drawn in order of zorder.

    A new figure has them at a fixed place: the layout engine loses the title of 3-D axes with a long note.
    """
    if ax is None:
        figure = Figure(figsize=(7.6, 6.6), dpi=100, facecolor="white")
        axes: Any = figure.add_axes(PLACE, projection="3d")
    else:
        axes = open_axes(ax, 7.6, 6.6, "3d")
    axes.computed_zorder = False  # in the order given, from every side
    axes.set_gid("own" if ax is None else "given")
    return axes


def space_bar(axes: Any, scale: Scale, label: str, mappable: Any = None) -> Any:
    """The colour bar of 3-D axes."""
    if axes.get_gid() == "own":
        return color_bar(axes, scale, label, mappable, cax=axes.figure.add_axes(BAR))
    return color_bar(axes, scale, label, mappable, shrink=0.7, pad=0.06)


def dress_space(axes: Any, directions: int) -> None:
    """Quiet panes and grid lines; labels and few ticks on the axes that are directions."""
    for direction, axis in enumerate((axes.xaxis, axes.yaxis, axes.zaxis)):
        if direction < directions:
            axis.set_label_text(axis_label(direction), fontsize=LABEL_SIZE, color=INK)
            axis.set_major_locator(MaxNLocator(4))
        axis.set_pane_color("#fafafa")
        axis.line.set_color(RULE)
        axis._axinfo["grid"].update(color="#e2e2e2", linewidth=0.7)  # no public way but the global settings
        axis.set_tick_params(labelsize=SMALL_SIZE, colors=FAINT)
    axes.grid(True)


def normals(corners: NDArray[np.float64], spans: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unit normals of flat faces as they look in a box, shape (faces, 3); zero for a face without area.

    Args:
        corners: of the faces in data coordinates, shape (faces, 3 or 4, 3).
        spans: data units that one length of the box stands for, along each axis.

    >>> normals(np.array([[[0.0, 0, 0], [2, 0, 0], [0, 2, 0]]]), np.ones(3)).tolist()
    [[0.0, 0.0, 1.0]]
    """
    seen = corners / spans
    result = np.cross(seen[:, 1] - seen[:, 0], seen[:, 2] - seen[:, 0])
    if corners.shape[1] == 4:
        result = np.cross(seen[:, 2] - seen[:, 0], seen[:, 3] - seen[:, 1])
    length = np.linalg.norm(result, axis=1)
    return result / np.where(length > 0, length, 1)[:, None]
