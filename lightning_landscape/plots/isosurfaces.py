"""Nested surfaces of equal value in a 3-D landscape, cut open towards the viewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]
from mpl_toolkits.mplot3d.axes3d import Axes3D  # type: ignore[import-untyped]
from numpy.typing import ArrayLike, NDArray

from ..landscape import Grid, Landscape
from .backdrop import touched_cells
from .furniture import GREEK, add_message, describe_landscape, require_ndim, root
from .levels import labels, round_levels, short
from .scales import MaskedValues, Scale, scale_of
from .settings import default_settings
from .space import add_space_star, dress_space, lamp_light, open_space, space_bar
from .style import STYLE

BOX = np.array([1.0, 1.0, 0.9])  # the relative lengths of the axes


@default_settings()
def draw_isosurfaces(
    landscape: Landscape,
    metric: str | None = None,
    *,
    ax: Axes | None = None,
    color_scale: str = "global",
    vmin: float | None = None,
    vmax: float | None = None,
    levels: ArrayLike | None = None,
) -> Figure:
    """Surfaces at some round values, without the quarter of the grid that would hide the inner ones.

    Args:
        landscape: 3-D.
        metric: the name of the values to draw; None for the main loss.
        ax: where to draw; axes that are not 3-D are replaced. None for a new figure.
        color_scale: one of COLOR_SCALES; the surfaces keep to its range.
        vmin, vmax: the ends of the values; None for those of `color_scale`.
        levels: the values of the surfaces; None for at most 5 round ones.

    Returns:
        The figure that holds the axes.

    Raises:
        ImportError: if scikit-image is not installed.
        ValueError: if the landscape is not 3-D, the metric or the colour scale is unknown, or the levels do
            not increase.
    """
    require_ndim(landscape, "isosurfaces")
    name = landscape.metric(metric)
    scale = scale_of(landscape, name, color_scale, vmin=vmin, vmax=vmax, levels=levels)
    require_marching_cubes()
    axes, grid = open_space(ax, BOX, zoom=0.97, elev=26, azim=-48), landscape.grid
    axes.set(**{f"{letter}lim": axis[[0, -1]] for letter, axis in zip("xyz", grid.axes, strict=True)})
    # Each axis is cut at the centre if that lies inside, else at the middle.
    cut = tuple(i if 0 < i < n - 1 else n // 2 for i, n in zip(grid.center_index, grid.shape, strict=True))
    surfaces = _choose_levels(scale)
    if len(surfaces):
        _draw_surfaces(axes, grid, scale, surfaces, cut)
        _add_bar(axes, scale, surfaces)
    else:
        add_message(axes, scale.message or "no surface: all levels lie beyond the values")
    add_space_star(axes, grid, 0)
    dress_space(axes, 3)
    describe_landscape(axes, landscape, name, _note(scale, grid, cut))
    return root(axes)


def _surface_colors(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """One colour a surface, shape (levels, 4), without the bright end."""
    return STYLE.colormap(np.linspace(0.0, 0.92, len(levels)))


def _add_bar(axes: Axes3D, scale: Scale, levels: NDArray[np.float64]) -> None:
    """Adds a colour bar with one step a surface."""
    steps = BoundaryNorm(np.arange(len(levels) + 1) - 0.5, len(levels))
    bar = space_bar(axes, scale, ScalarMappable(steps, ListedColormap(_surface_colors(levels))))
    bar.set_ticks(range(len(levels)), labels=labels(levels))
    bar.ax.set_ylim(-0.5, len(levels) - 0.5)  # ticks of the values before have stretched it


def _note(scale: Scale, grid: Grid, cut: tuple[int, ...]) -> str:
    """The note on what the surfaces leave out, and on where they are cut open."""
    text = scale.note(broken="hole", missing="hole", hidden="hole")
    text = text.replace("logarithmic colours", "logarithmic").replace("colours", "values")
    if min(grid.shape[:2]) < 3:
        return text
    first, second = (short(float(axis[i]), 3) for axis, i in zip(grid.axes[:2], cut[:2], strict=True))
    opening = f"cut open at {GREEK[0]} > {first}, {GREEK[1]} < {second}".replace(" ", "\u00a0")  # on one line
    return f"{text} · {opening}"


def _choose_levels(scale: Scale, enclosed: tuple[float, ...] = (0.015, 0.065, 0.18, 0.38, 0.7)) -> NDArray[np.float64]:
    """The values of the surfaces: those asked for, or round ones that enclose about these shares of the points.

    In a bowl, the surfaces are balls of 0.3, 0.5, 0.7, 0.9 and 1.15 times half the grid.
    """
    if scale.message is not None:
        return np.zeros(0)
    values = np.sort(scale.values.compressed())
    if scale.custom_levels:
        levels = scale.levels
    else:
        targets = np.clip(np.quantile(values, enclosed), scale.low, scale.high)
        low, high = float(targets[0]), float(targets[-1])
        if not low < high:  # nearly all values are one
            low, high = scale.low, scale.high
        candidates, _ = round_levels(low, high, 18, scale.log)
        levels = np.unique([candidates[np.argmin(np.abs(candidates - value))] for value in targets])
    return levels[(levels > values[0]) & (levels < values[-1])]


def _draw_surfaces(axes: Axes3D, grid: Grid, scale: Scale, levels: NDArray[np.float64], cut: tuple[int, ...]) -> None:
    """Draws all surfaces as one collection, so that near faces hide far ones across surfaces."""
    indices = [_thin_out(len(axis), i) for axis, i in zip(grid.axes, cut, strict=True)]
    points = [axis[index] for axis, index in zip(grid.axes, indices, strict=True)]
    values = scale.values[np.ix_(*indices)]
    first, second = (int(np.searchsorted(index, i)) for index, i in zip(indices[:2], cut[:2], strict=True))
    spans = np.array([axis[-1] - axis[0] for axis in points]) / BOX
    faces, shades = [np.zeros((0, 3, 3))], [np.zeros((0, 4))]
    for x, y in ((slice(0, first + 1), slice(None)), (slice(first, None), slice(second, None))):
        if min(values[x, y].shape) < 2:
            continue
        for level, color in zip(levels, _surface_colors(levels), strict=True):
            triangles = isosurface((points[0][x], points[1][y], points[2]), values[x, y], float(level), scale.log)
            shaded = np.tile(color, (len(triangles), 1))
            shaded[:, :3] *= (0.55 + 0.45 * np.abs(lamp_light(triangles, spans)))[:, None]  # both sides are lit
            faces.append(triangles)
            shades.append(shaded)
    drawn = np.concatenate(shades)
    if len(drawn):
        look: Any = {"facecolors": drawn, "edgecolors": drawn, "linewidths": 0.4, "zorder": 2}
        axes.add_collection3d(Poly3DCollection(np.concatenate(faces), **look))


def _thin_out(count: int, cut: int, max_count: int = 40) -> NDArray[np.intp]:
    """At most about `max_count` of `count` indices, the ends and `cut` among them: more take seconds to draw."""
    if count <= max_count:
        return np.arange(count)
    below = np.linspace(0, cut, max(2, round(max_count * cut / count)))
    above = np.linspace(cut, count - 1, max(2, round(max_count * (count - cut) / count)))
    return np.unique(np.round(np.concatenate([below, above])).astype(np.intp))


def isosurface(
    axes: Sequence[NDArray[np.float64]], values: MaskedValues, level: float, log: bool = False
) -> NDArray[np.float64]:
    """The triangles on which the values are `level`, shape (triangles, 3, 3), in the coordinates of the axes.

    By marching cubes (Lewiner et al. 2003): between points the values, or their logarithms, are linear. A
    cell with a corner that is masked holds no triangle.
    """
    from skimage.measure import marching_cubes

    heights = np.ma.filled(values, level)
    heights = np.log10(heights / level) if log else heights - level
    heights = heights / max(float(np.abs(heights).max()), 1e-300)  # the library works in float32
    if heights.min() >= 0 or heights.max() <= 0:
        return np.zeros((0, 3, 3))
    corners, faces, _, _ = marching_cubes(heights, 0.0)
    triangles = corners[faces].astype(np.float64)
    holes = touched_cells(np.ma.getmaskarray(values))
    cells = np.minimum(np.floor(triangles.mean(axis=1)).astype(int), np.array(holes.shape) - 1)
    triangles = triangles[~holes[tuple(cells.T)]]
    places = [np.interp(triangles[..., d], np.arange(len(axis)), axis) for d, axis in enumerate(axes)]
    return np.stack(places, axis=-1)


def require_marching_cubes() -> None:
    """Raises ImportError if scikit-image is not installed."""
    try:
        import skimage.measure  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'isosurfaces needs scikit-image: pip install "lightning-landscape[volume]" (sections needs nothing more).'
        ) from error
