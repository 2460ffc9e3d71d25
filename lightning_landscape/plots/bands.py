"""Bands of colour: a plane of values in the steps of its scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.contour import ContourSet
from numpy.typing import NDArray

from ..landscape import Grid
from .scales import Scale
from .style import STYLE


def fill_bands(
    ax: Axes, grid: Grid, scale: Scale, cmap: Colormap = STYLE.colormap, boundaries: NDArray[np.float64] | None = None
) -> ContourSet | None:
    """The bands of colour alone, or None if there is nothing to draw.

    Args:
        ax: where to draw.
        grid: 2-D.
        scale: the range of the colours, and the values to draw.
        cmap: the colours.
        boundaries: of the bands, from end to end of the scale; None for those of the scale.
    """
    if scale.empty:
        return None
    look: Any = {
        "levels": scale.levels if boundaries is None else boundaries,
        "norm": scale.norm,
        "cmap": cmap,
        "extend": scale.extend,
    }
    x, y = grid.axes
    return ax.contourf(x, y, scale.values.T, **look)  # rows are y for matplotlib
