"""A shaded surface in 3-D above its contour lines."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ..landscape import Grid, Landscape
from .backdrop import BROKEN, corner, lone
from .bars import round_ticks
from .furniture import COLORMAP, FAINT, INK, RULE, foot, head, require_ndim, root, say
from .levels import round_levels
from .scales import Scale, make_scale
from .settings import default_settings
from .space import LIGHT, dress_space, normals, open_space, space_bar

BOX = (1.0, 1.0, 0.66)


@default_settings()
def draw_surface(
    landscape: Landscape,
    metric: str | None = None,
    *,
    ax: Axes | None = None,
    color_scale: str = "global",
    vmin: float | None = None,
    vmax: float | None = None,
) -> Figure:
    """The surface in 3-D, with holes where there is no value.

    Args:
        landscape: 2-D.
        metric: the name of the values to draw; None for the main loss.
        ax: where to draw; axes that are not 3-D are replaced by such ones. None for a new figure.
        color_scale: one of COLOR_SCALES; the heights keep to it too: clipped or logarithmic like the colours.
        vmin, vmax: the ends of the colours and heights, values beyond them take the end ones; None for those of
            `color_scale`.

    Returns:
        The figure that holds the axes.

    Raises:
        ValueError: if the landscape is not 2-D, the metric or the colour scale is unknown, or the range is empty.
    """
    require_ndim(landscape, "surface")
    name = landscape.metric(metric)
    scale = make_scale(landscape.values[name], color_scale, landscape.done, vmin=vmin, vmax=vmax)
    axes = open_space(ax)
    grid = landscape.grid
    low, high = heights(scale, scale.low), heights(scale, scale.high)
    floor = low - 0.25 * (high - low)
    axes.set(xlim=grid.axes[0][[0, -1]], ylim=grid.axes[1][[0, -1]], zlim=(floor, high + 0.02 * (high - low)))
    axes.set_box_aspect(BOX, zoom=1.04)
    axes.view_init(elev=38, azim=-60)
    _floor(axes, grid, scale, floor)
    if not scale.empty:
        z = np.ma.masked_array(heights(scale, scale.shown.data), scale.shown.mask)
        axes.add_collection3d(_sheet(grid, z, scale))
        dots = lone(scale)
        if dots.any():
            x, y = grid.points[dots.reshape(-1)].T
            colors = COLORMAP(scale.norm(scale.shown[dots]))
            axes.scatter(x, y, z[dots], s=22, color=colors, edgecolors=FAINT, linewidths=0.4, depthshade=False)
        if scale.message is None:
            space_bar(axes, scale, name)
    if scale.message is not None:
        say(axes, scale.message)
    _star(axes, landscape, name, scale)
    _furnish(axes, scale)
    head(
        axes,
        landscape,
        name,
        scale.note(broken="hole, grey floor", missing="hole, hatched floor", hidden="hole"),
    )
    foot(axes, landscape, name)
    return root(axes)


def heights(scale: Scale, values: Any) -> Any:
    """The heights of values on the z axis, clipped to the range of the colours.

    The heights are logarithms if the colours are logarithmic.
    """
    clipped = np.clip(values, scale.low, scale.high)
    return np.log10(clipped) if scale.log else clipped


def _sheet(grid: Grid, z: Any, scale: Scale) -> Poly3DCollection:
    """The cells of the surface with at least three corners, coloured by their mean and shaded."""
    x, y = np.meshgrid(*grid.axes, indexing="ij")
    points = np.stack([x, y, z.filled(np.nan)], axis=-1)
    quads = np.stack([points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]], axis=2).reshape(-1, 4, 3)
    holes = np.isnan(quads[..., 2])
    quads, holes = quads[holes.sum(axis=1) <= 1], holes[holes.sum(axis=1) <= 1]
    for missing in range(4):  # a triangle is a quad with a corner twice
        rows = holes[:, missing]
        quads[rows, missing] = quads[rows, (missing + 1) % 4]
    low, high = heights(scale, scale.low), heights(scale, scale.high)
    colors = COLORMAP((quads[..., 2].mean(axis=1) - low) / (high - low))
    colors[:, :3] *= _shade(grid, quads, high - low)[:, None]
    edges = colors.copy()
    edges[:, :3] *= 0.86
    return Poly3DCollection(quads, facecolors=colors, edgecolors=edges, linewidths=0.35, zorder=2)


def _shade(grid: Grid, quads: NDArray[np.float64], relief: float) -> NDArray[np.float64]:
    """The brightness of each cell under a lamp, from the normals as they look in the box."""
    spans = np.array([*(axis[-1] - axis[0] for axis in grid.axes), relief])
    return 0.62 + 0.38 * np.clip(normals(quads, spans / BOX) @ LIGHT, 0, 1)


def _floor(axes: Any, grid: Grid, scale: Scale, floor: float) -> None:
    """Contour lines on the floor, and what lies under the holes."""
    x, y = np.meshgrid(*grid.axes, indexing="ij")
    flat = np.stack([x, y, np.full(x.shape, floor)], axis=-1)
    quads = np.stack([flat[:-1, :-1], flat[1:, :-1], flat[1:, 1:], flat[:-1, 1:]], axis=2)
    broken, missing = corner(scale.broken), corner(scale.missing)
    if missing.any():
        # One hatched sheet with the evaluated cells laid on it: to hatch cells one by one takes a second.
        whole = flat[[0, -1, -1, 0], [0, 0, -1, -1]]
        look: Any = {"facecolor": "white", "edgecolor": RULE, "linewidths": 0, "zorder": 0.1}
        axes.add_collection3d(Poly3DCollection([whole], hatch="////", **look))
        axes.add_collection3d(Poly3DCollection(quads[~missing], **(look | {"zorder": 0.2})))
    if broken.any():
        look = {"facecolor": BROKEN, "edgecolor": BROKEN, "linewidths": 0.5, "zorder": 0.3}
        axes.add_collection3d(Poly3DCollection(quads[broken], **look))
    if scale.message is None:
        levels, _ = round_levels(scale.low, scale.high, 14, scale.log)
        levels = levels[(levels > scale.shown.min()) & (levels < scale.shown.max())]
        if len(levels):
            z = np.ma.masked_array(heights(scale, scale.shown.data), scale.shown.mask)
            look = {"cmap": COLORMAP, "linewidths": 0.8, "alpha": 0.8, "zorder": 1}
            axes.contour(x, y, z, heights(scale, levels), zdir="z", offset=floor, **look)


def _star(axes: Any, landscape: Landscape, name: str, scale: Scale) -> None:
    """The ★ on the surface, drawn over walls that would hide it."""
    center = landscape.center.get(name, np.nan)
    inside = all(axis[0] <= 0 <= axis[-1] for axis in landscape.grid.axes)
    if inside and np.isfinite(center) and not (scale.log and center <= 0) and not scale.empty:
        look = {"color": "white", "markeredgecolor": INK, "markeredgewidth": 0.9, "linestyle": ""}
        axes.plot([0], [0], [heights(scale, center)], marker="*", markersize=14, zorder=10, gid="center", **look)


def _furnish(axes: Any, scale: Scale) -> None:
    dress_space(axes, 2)
    if scale.message is None:
        ticks, texts = round_ticks(scale, 7)
        axes.set_zticks(heights(scale, ticks), texts)
    else:
        axes.set_zticks([])
