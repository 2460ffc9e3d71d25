"""Nested surfaces of equal value in a 3-D landscape, cut open towards the viewer."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]
from numpy.typing import ArrayLike, NDArray

from ..landscape import Grid, Landscape
from .furniture import COLORMAP, GREEK, INK, foot, head, require_ndim, root, say
from .levels import labels, round_levels, short
from .scales import Scale, make_scale
from .settings import default_settings
from .space import LIGHT, dress_space, normals, open_space, space_bar

# Shares of the points that the surfaces enclose: balls of 0.3, 0.5, 0.7, 0.9 and 1.15 times half the grid.
ENCLOSED = (0.015, 0.065, 0.18, 0.38, 0.7)
FINEST = 40  # points along an axis: more take seconds and show no more
BOX = np.array([1.0, 1.0, 0.9])


@default_settings()
def draw_isosurfaces(
    landscape: Landscape,
    metric: str | None = None,
    *,
    ax: Axes | None = None,
    color_scale: str = "global",
    levels: ArrayLike | None = None,
) -> Figure:
    """Surfaces at a few round values, without the quarter of the grid that would hide the inner ones.

    Args:
        landscape: 3-D.
        metric: the name of the values to draw; None for the main loss.
        ax: where to draw; axes that are not 3-D are replaced by such ones. None for a new figure.
        color_scale: one of COLOR_SCALES; the surfaces keep to its range.
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
    scale = make_scale(landscape.values[name], color_scale, landscape.done, levels=levels)
    marching_cubes = _marching_cubes()
    grid = landscape.grid
    axes = open_space(ax)
    axes.set(**{f"{letter}lim": axis[[0, -1]] for letter, axis in zip("xyz", grid.axes, strict=True)})
    axes.set_box_aspect(BOX, zoom=0.97)
    axes.view_init(elev=26, azim=-48)
    cut = tuple(_inner(i, len(axis)) for i, axis in zip(grid.center_index, grid.axes, strict=True))
    shown = _levels(scale)
    colors = COLORMAP(np.linspace(0.0, 0.92, len(shown)))
    _surfaces(axes, grid, scale, shown, colors, cut, marching_cubes)
    if len(shown):
        steps = BoundaryNorm(np.arange(len(shown) + 1) - 0.5, len(shown))
        bar = space_bar(axes, scale, name, ScalarMappable(steps, ListedColormap(colors)))
        bar.set_ticks(range(len(shown)), labels=labels(shown))
        bar.ax.set_ylim(-0.5, len(shown) - 0.5)  # ticks of the values before have stretched it
    else:
        say(axes, scale.message or "no surface: all levels lie beyond the values")
    if all(axis[0] <= 0 <= axis[-1] for axis in grid.axes):
        look: Any = {"color": "white", "markeredgecolor": INK, "markeredgewidth": 0.9, "linestyle": ""}
        axes.plot([0], [0], [0], marker="*", markersize=14, zorder=10, gid="center", **look)
    dress_space(axes, 3)
    head(axes, landscape, name, _note(scale, grid, cut))
    foot(axes, landscape, name)
    return root(axes)


def _note(scale: Scale, grid: Grid, cut: tuple[int, ...]) -> str:
    """The note on what the surfaces leave out, and on where they are cut open."""
    text = scale.note(broken="hole", missing="hole", hidden="hole")
    text = text.replace("logarithmic colours", "logarithmic").replace("colours", "values")
    if min(grid.shape[:2]) < 3:
        return text
    first, second = (short(float(axis[i]), 3) for axis, i in zip(grid.axes[:2], cut[:2], strict=True))
    opening = f"cut open at {GREEK[0]} > {first}, {GREEK[1]} < {second}".replace(" ", "\u00a0")  # on one line
    return f"{text} · {opening}"


def _inner(index: int, count: int) -> int:
    """The index at which an axis is cut: the centre if it lies inside, else the middle."""
    return index if 0 < index < count - 1 else count // 2


def _levels(scale: Scale) -> NDArray[np.float64]:
    """The values of the surfaces: round ones that enclose about ENCLOSED of the points, or those asked for."""
    if scale.message is not None:
        return np.zeros(0)
    values = np.sort(scale.shown.compressed())
    if scale.asked:
        levels = scale.levels
    else:
        wanted = np.clip(np.quantile(values, ENCLOSED), scale.low, scale.high)
        low, high = float(wanted[0]), float(wanted[-1])
        if not low < high:  # nearly all values are one
            low, high = scale.low, scale.high
        candidates, _ = round_levels(low, high, 18, scale.log)
        levels = np.unique([candidates[np.argmin(np.abs(candidates - value))] for value in wanted])
    return levels[(levels > values[0]) & (levels < values[-1])]


def _surfaces(
    axes: Any,
    grid: Grid,
    scale: Scale,
    levels: NDArray[np.float64],
    colors: NDArray[np.float64],
    cut: tuple[int, ...],
    marching_cubes: Any,
) -> None:
    """All surfaces as one collection, so that near faces hide far ones across surfaces."""
    keep = [_thinned(len(axis), i) for axis, i in zip(grid.axes, cut, strict=True)]
    fine = [axis[k] for axis, k in zip(grid.axes, keep, strict=True)]
    values = scale.shown[np.ix_(*keep)]
    first, second = (int(np.searchsorted(k, i)) for k, i in zip(keep[:2], cut[:2], strict=True))
    faces, faces_colors = [], []
    for part in ((slice(0, first + 1), slice(None)), (slice(first, None), slice(second, None))):
        if min(values[part].shape) < 2:
            continue
        corners = (fine[0][part[0]], fine[1][part[1]], fine[2])
        for level, color in zip(levels, colors, strict=True):
            triangles = isosurface(corners, values[part], float(level), marching_cubes, scale.log)
            light = np.abs(normals(triangles, np.array([axis[-1] - axis[0] for axis in fine]) / BOX) @ LIGHT)
            shaded = np.tile(color, (len(triangles), 1))
            shaded[:, :3] *= (0.55 + 0.45 * light)[:, None]
            faces.append(triangles)
            faces_colors.append(shaded)
    if sum(map(len, faces)):
        drawn = np.concatenate(faces_colors)
        look: Any = {"facecolors": drawn, "edgecolors": drawn, "linewidths": 0.4, "zorder": 2}
        axes.add_collection3d(Poly3DCollection(np.concatenate(faces), **look))


def _thinned(count: int, cut: int) -> NDArray[np.intp]:
    """At most about FINEST of `count` indices, the ends and `cut` among them."""
    if count <= FINEST:
        return np.arange(count)
    below = np.linspace(0, cut, max(2, round(FINEST * cut / count)))
    above = np.linspace(cut, count - 1, max(2, round(FINEST * (count - cut) / count)))
    return np.unique(np.round(np.concatenate([below, above])).astype(np.intp))


def isosurface(axes: Any, values: Any, level: float, marching_cubes: Any, log: bool = False) -> NDArray[np.float64]:
    """The triangles on which the values are `level`, shape (triangles, 3, 3), in the coordinates of the axes.

    By marching cubes (Lewiner et al. 2003): between points the values, or their logarithms, are linear. A
    cell with a corner that is masked holds no triangle.
    """
    blank = np.ma.getmaskarray(values)
    heights = np.ma.filled(values, level)
    heights = np.log10(heights / level) if log else heights - level
    heights = heights / max(float(np.abs(heights).max()), 1e-300)  # the library works in float32
    if heights.min() >= 0 or heights.max() <= 0:
        return np.zeros((0, 3, 3))
    corners, faces, _, _ = marching_cubes(heights, 0.0)
    triangles = corners[faces].astype(np.float64)
    holes = _touched(blank)
    cells = np.minimum(np.floor(triangles.mean(axis=1)).astype(int), np.array(holes.shape) - 1)
    triangles = triangles[~holes[tuple(cells.T)]]
    places = [np.interp(triangles[..., d], np.arange(len(axis)), axis) for d, axis in enumerate(axes)]
    return np.stack(places, axis=-1)


def _touched(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The cells between eight points that have one of `mask` at a corner."""
    for axis in range(3):
        near, far = np.delete(mask, -1, axis), np.delete(mask, 0, axis)
        mask = near | far
    return mask


def _marching_cubes() -> Any:
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise ImportError(
            'isosurfaces needs scikit-image: pip install "lightning-landscape[volume]" (sections needs nothing more).'
        ) from error
    return marching_cubes
