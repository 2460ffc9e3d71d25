"""A smooth surface in 3-D, lit from the side, above its contour lines."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]
from mpl_toolkits.mplot3d.axes3d import Axes3D  # type: ignore[import-untyped]
from numpy.typing import ArrayLike, NDArray

from ..interpolation.splines import along_axes, spline_matrix
from ..landscape import Array, Grid, Landscape
from .backdrop import isolated_points, touched_cells
from .bars import round_ticks
from .furniture import add_message, describe_landscape, require_ndim, root
from .levels import round_levels
from .scales import MaskedValues, Scale, scale_of
from .settings import default_settings
from .space import add_space_star, dress_space, lamp_light, open_space, space_bar
from .style import STYLE
from .trail import Trail, trail_of
from .trail_lines import draw_trail_in_space

BOX = np.array([1.0, 1.0, 0.52])  # the relative lengths of the axes


@default_settings()
def draw_surface(
    landscape: Landscape,
    metric: str | None = None,
    *,
    ax: Axes | None = None,
    color_scale: str = "global",
    vmin: float | None = None,
    vmax: float | None = None,
    levels: ArrayLike | None = None,
    until: float | None = None,
) -> Figure:
    """The surface in 3-D, with holes where there is no value.

    Args:
        landscape: 2-D.
        metric: the name of the values to draw; None for the main loss.
        ax: where to draw; axes that are not 3-D are replaced. None for a new figure.
        color_scale: one of COLOR_SCALES; heights are clipped or logarithmic like the colours.
        vmin, vmax: the ends of the colours; None for those of `color_scale`. Values beyond take the end colours.
        levels: the boundaries of the colours in place of both, e.g. ``np.arange(0, 10, 0.5)``; None for round ones.
        until: the step up to which the path of the training is drawn; None for all of it.

    Returns:
        The figure that holds the axes.

    Raises:
        ValueError: if the landscape is not 2-D, a name is unknown, or the range or the
            levels do not increase.
    """
    require_ndim(landscape, "surface")
    name = landscape.metric(metric)
    scale = scale_of(landscape, name, color_scale, vmin=vmin, vmax=vmax, levels=levels)
    trail = trail_of(landscape, name, until)
    axes = open_space(ax, BOX, zoom=0.95, elev=50, azim=-60, has_key=landscape.trajectory is not None)
    grid = landscape.grid
    low, high = to_heights(scale, scale.low), to_heights(scale, scale.high)
    floor = low - 0.25 * (high - low)
    axes.set(xlim=grid.axes[0][[0, -1]], ylim=grid.axes[1][[0, -1]], zlim=(floor, high + 0.02 * (high - low)))
    z = np.ma.masked_array(to_heights(scale, scale.values.data), scale.values.mask)
    _draw_floor(axes, grid, z, scale, floor)
    if not scale.empty:
        _draw_sheet(axes, grid, z, scale)
        _draw_dots(axes, grid, z, scale)
        draw_trail_in_space(axes, trail, partial(_trail_heights, landscape, name, scale, z))
        center = landscape.center.get(name, np.nan)
        if np.isfinite(center) and not (scale.log and center <= 0):
            add_space_star(axes, grid, to_heights(scale, center))
    if scale.message is None:
        space_bar(axes, scale)
    add_message(axes, scale.message)
    dress_space(axes, 2)
    ticks = round_ticks(scale, 7)[0] if scale.message is None else np.zeros(0)
    axes.set_zticks(to_heights(scale, ticks), [""] * len(ticks))  # the bar has the same numbers, and more room
    note = scale.note(broken="hole, grey floor", missing="hole, hatched floor", hidden="hole")
    describe_landscape(axes, landscape, name, note, trail.caption if trail else "")
    return root(axes)


def to_heights(scale: Scale, values: ArrayLike) -> Any:
    """The heights of values on the z axis, clipped to the range of the colours.

    The heights are logarithms if the colours are logarithmic.
    """
    clipped = np.clip(values, scale.low, scale.high)
    return np.log10(clipped) if scale.log else clipped


def _trail_heights(
    landscape: Landscape, name: str, scale: Scale, z: MaskedValues, trail: Trail, steps: Array, places: Array
) -> Array:
    """The heights of places on a path: the plane's losses at its records, and between them along the surface."""
    axes, heights = landscape.grid.axes, _without_holes(z)

    def on_surface(points: Array) -> Array:
        inside = [np.clip(column, axis[0], axis[-1]) for column, axis in zip(points.T, axes, strict=True)]
        along, across = (spline_matrix(axis, column) for axis, column in zip(axes, inside, strict=True))
        return ((along @ heights) * across).sum(axis=1)

    known = trail.plane_losses
    off = to_heights(scale, np.nan_to_num(known, nan=scale.low)) - on_surface(trail.points)
    off = np.where(np.isfinite(known) & trail.is_inside(axes), off, 0.0)
    low, high = to_heights(scale, scale.low), to_heights(scale, scale.high)
    return np.clip(on_surface(places) + np.interp(steps, trail.steps, off), low, high)


def _draw_sheet(axes: Axes3D, grid: Grid, z: MaskedValues, scale: Scale) -> None:
    """Draws the cells of the surface with at least three corners, coloured by their mean and lit by the lamp."""
    quads = np.concatenate([_smooth_cells(grid, z), _half_cells(grid, z)])
    low, high = to_heights(scale, scale.low), to_heights(scale, scale.high)
    colors = STYLE.colormap((quads[..., 2].mean(axis=1) - low) / (high - low))
    spans = np.array([*(axis[-1] - axis[0] for axis in grid.axes), high - low])
    colors[:, :3] *= (0.5 + 0.5 * np.clip(lamp_light(quads, spans / BOX), 0, 1))[:, None]
    axes.add_collection3d(Poly3DCollection(quads, facecolors=colors, edgecolors=colors, linewidths=0.25, zorder=2))


def _smooth_cells(grid: Grid, z: MaskedValues, quads: int = 80) -> NDArray[np.float64]:
    """The cells with four corners, each in finer ones along cubic splines, shape (n, 4, 3).

    Args:
        grid: of the corners.
        z: their heights.
        quads: about how many quads run along each axis; more are not told apart, and take seconds.
    """
    parts = [max(1, round(quads / (n - 1))) for n in grid.shape]
    places = [np.arange((n - 1) * m + 1) / m for n, m in zip(grid.shape, parts, strict=True)]
    fine = Grid(tuple(np.interp(p, np.arange(len(axis)), axis) for p, axis in zip(places, grid.axes, strict=True)))
    matrices = [spline_matrix(axis, points) for axis, points in zip(grid.axes, fine.axes, strict=True)]
    cells = _stack_cells(_stack_points(fine, along_axes(matrices, _without_holes(z))))
    low, high = (np.kron(limit, np.ones(parts))[..., None] for limit in _limits(z))
    cells[..., 2] = np.clip(np.clip(cells[..., 2], low, high), z.min(), z.max())
    return cells[np.isfinite(low[..., 0])]


def _limits(z: MaskedValues, share: float = 0.15) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest and highest height in each cell; NaN in those without four corners.

    They are those of its corners, and beyond them a share of the range of the cells around: splines overshoot beside
    steps. In the middle of a parabola that lies between points they need an eighth.
    """
    heights = z.filled(np.nan)
    corners = np.stack([heights[:-1, :-1], heights[1:, :-1], heights[1:, 1:], heights[:-1, 1:]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    around = share * (_spread(np.fmax, high) - _spread(np.fmin, low))
    return low - around, high + around


def _spread(pick: np.ufunc, cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lowest or highest of each cell and those around it; NaN where none has a value."""
    padded = np.pad(cells, 1, constant_values=np.nan)
    n, m = cells.shape
    return np.asarray(pick.reduce([padded[i : i + n, j : j + m] for i in range(3) for j in range(3)]))


def _without_holes(z: MaskedValues) -> NDArray[np.float64]:
    """The heights, in which each hole goes on from its neighbours along straight lines; what a spline needs."""
    heights = z.filled(np.nan)
    while np.isnan(heights).any():
        far = np.pad(heights, 2, constant_values=np.nan)
        onwards = []
        for turn in range(4):
            side = np.rot90(far, turn)
            first, second = side[1:-3, 2:-2], side[:-4, 2:-2]
            onwards.append(np.rot90(np.where(np.isnan(second), first, 2 * first - second), -turn))
        known = np.isfinite(onwards)
        mean = np.where(known, onwards, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        heights = np.where(np.isnan(heights) & known.any(axis=0), mean, heights)
    return heights


def _half_cells(grid: Grid, z: MaskedValues) -> NDArray[np.float64]:
    """The cells with three corners as triangles: quads with a corner twice, shape (n, 4, 3)."""
    quads = _stack_cells(_stack_points(grid, z.filled(np.nan))).reshape(-1, 4, 3)
    holes = np.isnan(quads[..., 2])
    quads, holes = quads[holes.sum(axis=1) == 1], holes[holes.sum(axis=1) == 1]
    for missing in range(4):
        rows = holes[:, missing]
        quads[rows, missing] = quads[rows, (missing + 1) % 4]
    return quads


def _draw_dots(axes: Axes3D, grid: Grid, z: MaskedValues, scale: Scale) -> None:
    """Draws the values that no cell shows."""
    dots = isolated_points(scale)
    if dots.any():
        x, y = grid.points[dots.reshape(-1)].T
        look = {"color": STYLE.colormap(scale.norm(scale.values[dots])), "edgecolors": STYLE.faint, "linewidths": 0.4}
        axes.scatter(x, y, z[dots], s=22, depthshade=False, **look)


def _stack_points(grid: Grid, heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points of the grid at those heights, shape (nx, ny, 3)."""
    return np.stack([*np.meshgrid(*grid.axes, indexing="ij"), heights], axis=-1)


def _stack_cells(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The four corners of each cell, shape (nx - 1, ny - 1, 4, 3)."""
    return np.stack([points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]], axis=2)


def _draw_floor(axes: Axes3D, grid: Grid, z: MaskedValues, scale: Scale, floor: float) -> None:
    """Draws contour lines on the floor, and what lies under the holes."""
    flat = _stack_points(grid, np.full(grid.shape, floor))
    quads = _stack_cells(flat)
    broken, missing = touched_cells(scale.broken), touched_cells(scale.missing)
    if missing.any():
        # One hatched sheet with the evaluated cells laid on it: to hatch cells one by one takes a second.
        whole = flat[[0, -1, -1, 0], [0, 0, -1, -1]]
        look: dict[str, Any] = {"facecolor": "white", "edgecolor": STYLE.rule, "linewidths": 0}
        axes.add_collection3d(Poly3DCollection([whole], hatch="////", zorder=0.1, **look))
        axes.add_collection3d(Poly3DCollection(quads[~missing], zorder=0.2, **look))
    if broken.any():
        look = {"facecolor": STYLE.broken, "edgecolor": STYLE.broken, "linewidths": 0.5}
        axes.add_collection3d(Poly3DCollection(quads[broken], zorder=0.3, **look))
    if scale.message is None:
        levels, _ = round_levels(scale.low, scale.high, 14, scale.log)
        levels = levels[(levels > scale.values.min()) & (levels < scale.values.max())]
        if len(levels):
            look = {"cmap": STYLE.colormap, "linewidths": 0.8, "alpha": 0.8, "zorder": 1}
            axes.contour(flat[..., 0], flat[..., 1], z, to_heights(scale, levels), zdir="z", offset=floor, **look)
