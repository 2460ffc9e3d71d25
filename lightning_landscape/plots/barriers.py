"""The barriers between models as a matrix of numbers, before and after alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..barrier_matrix import Array, BarrierMatrix
from .bars import color_bar
from .frames import Frame, fitting_size
from .furniture import describe, open_axes, root
from .levels import short
from .scales import make_scale
from .settings import default_settings
from .style import STYLE


@default_settings()
def draw_barriers(matrix: BarrierMatrix, aligned: BarrierMatrix | None = None, *, ax: Axes | None = None) -> Figure:
    """One cell a pair with its barrier; on the diagonal the loss of each model.

    Args:
        matrix: below the diagonal, and above it too, where there is no other.
        aligned: above the diagonal, of the same models.
        ax: where to draw; None for a new figure.

    Returns:
        The figure that holds the axes.

    Raises:
        ValueError: if the two matrices are of other models or metrics.
    """
    if aligned is not None and (aligned.names, aligned.metric) != (matrix.names, matrix.metric):
        raise ValueError(
            f"aligned is of {aligned.metric} of {', '.join(aligned.names)}, matrix is of {matrix.metric} of "
            f"{', '.join(matrix.names)}: give two matrices of the same models."
        )
    above = matrix if aligned is None else aligned
    count = len(matrix.names)
    values = np.where(np.tri(count, dtype=bool), matrix.barriers, above.barriers)
    errors = np.where(np.tri(count, dtype=bool), matrix.standard_errors, above.standard_errors)
    off = ~np.eye(count, dtype=bool)
    scale = make_scale(values, done=off, vmin=0.0, vmax=max(float(np.nanmax(values[off])), np.finfo(float).tiny))
    ax = open_axes(ax, Frame())
    ax.pcolormesh(np.arange(count + 1), np.arange(count + 1), scale.values, norm=scale.norm, cmap=STYLE.colormap)
    _write_cells(ax, matrix, values, errors)
    _dress(ax, matrix.names)
    describe(ax, f"barriers of {matrix.metric}", _note(matrix, aligned), "")
    color_bar(ax, scale)
    return root(ax)


def _write_cells(ax: Axes, matrix: BarrierMatrix, values: Array, errors: Array, readable: int = 12) -> None:
    """Writes the numbers into the cells, where there are not too many to read."""
    count = len(matrix.names)
    if count > readable:
        return
    width = 72 * ax.get_position(original=True).width * root(ax).get_figwidth() / count - 4
    for i, j in np.ndindex(count, count):
        is_diagonal = i == j
        lines = [short(float(matrix.losses[i] if is_diagonal else values[i, j]), 2)]
        if is_diagonal:
            ax.add_patch(Rectangle((j, i), 1, 1, facecolor="white", edgecolor=STYLE.rule, linewidth=0.8))
        elif np.isfinite(errors[i, j]):
            lines.append(f"± {short(float(errors[i, j]), 1)}")
        dark = not is_diagonal and values[i, j] < 0.6 * np.nanmax(values)
        look: Any = {"ha": "center", "va": "center", "linespacing": 1.3, "fontsize": fitting_size(lines, width, 9.0)}
        ax.text(j + 0.5, i + 0.5, "\n".join(lines), color="white" if dark else STYLE.ink, **look)


def _dress(ax: Axes, names: tuple[str, ...]) -> None:
    places = np.arange(len(names)) + 0.5
    ax.set(xlim=(0, len(names)), ylim=(len(names), 0), aspect="equal")  # the first row on top, as in a table
    slanted = len(names) * max(map(len, names)) > 40
    ax.set_xticks(places, names, rotation=35 if slanted else 0, ha="right" if slanted else "center", parse_math=False)
    ax.set_yticks(places, names, parse_math=False)
    ax.tick_params(labelsize=STYLE.tick_size, colors=STYLE.faint, length=0)
    for spine in ax.spines.values():
        spine.set(color=STYLE.rule, linewidth=0.8)


def _note(matrix: BarrierMatrix, aligned: BarrierMatrix | None) -> str:
    """The words below: what the two triangles and the diagonal are."""
    kind = "units in the order of the row's model" if matrix.aligned else "models as they are"
    triangles = kind if aligned is None else "below the diagonal: models as they are · above: the second one aligned"
    statistics = " · BatchNorm's statistics computed anew" if matrix.recalibrated else ""
    return f"{triangles}{statistics}\non the diagonal: the loss of each model · ± 1 standard error"
