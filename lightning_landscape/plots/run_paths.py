"""The paths of several runs on the one surface that all of them lie on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..landscape import AXIS_NAMES, Landscape
from ..trajectory import Trajectory
from .backdrop import add_backdrop
from .bands import fill_bands
from .furniture import GREEK, add_message, dress_axes, join_parts
from .levels import round_levels, short
from .ranges import SETTINGS
from .runs import LOOKS, Runs, Sheet, add_legend
from .scales import scale_of
from .settings import default_settings
from .style import STYLE

OUTSIDE = "\nfaint: farther from the plane than half as far as the paths reach on it"


@default_settings()
def draw_run_paths(runs: Runs, metric: str, faint_share: float = 0.5) -> Figure:
    """The surface as bands of colour, and on it the path of each run in a colour of its own.

    ○ is the start of a run, ● its end.

    Args:
        runs: 2-D, on one surface, with a trajectory each.
        metric: the name of the values.
        faint_share: of the reach of all paths on the plane, from its centre. A path is faint where it is farther from
            the plane.
    """
    side, left, right, foot = 3.6, 0.62, 0.76, 0.42  # inches
    landscape, paths = runs.first, _paths(runs)
    x, y = landscape.grid.axes
    height = side * float(np.clip((y[-1] - y[0]) / (x[-1] - x[0]), 0.5, 1.3))
    names = [_name(name, path, metric) for name, path in paths.items()]
    width = left + side + right
    legend = add_legend(Sheet(width, 1).open(), Sheet(width, 1), names, 0)
    head = Sheet(width, 1).title + legend + 0.1
    sheet = Sheet(width, head + height + foot + Sheet(width, 1).footer)
    figure = sheet.open()
    add_legend(figure, sheet, names, sheet.title)
    ax = sheet.add_axes(figure, left, head, side, height, label="plane")
    # Paths end where the loss is low, which linear colours make one dark band.
    scale = scale_of(landscape, metric, settings=replace(SETTINGS, log_ratio=10.0))
    bands = fill_bands(ax, landscape.grid, scale)
    if bands is not None and scale.message is None:
        levels = round_levels(scale.low, scale.high, SETTINGS.lines, scale.log)[0]
        inside = levels[(levels > scale.values.min()) & (levels < scale.values.max())]
        if len(inside):
            look: dict[str, Any] = {"colors": [STYLE.ink], "linewidths": 0.35, "alpha": 0.6}
            ax.contour(x, y, scale.values.T, inside, **look)
    add_backdrop(ax, landscape.grid, scale)
    ax.set_aspect("auto")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    far = {name: path.residuals > faint_share * _reach(paths) for name, path in paths.items()}
    for place, (name, path) in enumerate(paths.items()):
        draw_path(ax, path, far[name], LOOKS.of(place))
    add_message(ax, scale.notice)
    dress_axes(ax, _label(landscape, 0), _label(landscape, 1))
    sheet.fit_numbers(ax, left)
    if bands is not None:
        sheet.add_bar(figure, ax, scale, (left + side + 0.08, head, height), "")
    notes = join_parts("○ start", "● end", scale.note())
    is_faint = any(mask.any() for mask in far.values())
    sheet.write(figure, f"{metric} and the paths of {len(paths)} runs", f"{notes}{OUTSIDE * is_faint}")
    return figure


def draw_path(ax: Axes, path: Trajectory, far: NDArray[np.bool_], look: dict[str, Any], faint: float = 0.35) -> None:
    """Draws a path with a white rim, its start and its end.

    Args:
        ax: a plane.
        path: of two coordinates a point.
        far: true where the path is far from the plane, and faint, shape (T,).
        look: "color" and "linestyle".
        faint: the opacity there.
    """
    clear = np.where(far, faint, 1.0)
    segments = list(np.stack([path.points[:-1], path.points[1:]], axis=1))
    alphas = np.minimum(clear[:-1], clear[1:])
    for width, color in ((3.2, "white"), (1.5, look["color"])):
        colors = [to_rgba(color, alpha * (0.8 if color == "white" else 1)) for alpha in alphas]
        styles: dict[str, Any] = {"linestyles": ["-" if color == "white" else look["linestyle"]], "capstyle": "round"}
        ax.add_collection(LineCollection(segments, linewidths=width, colors=colors, zorder=6, **styles), autolim=False)
    for point, fill in ((path.points[0], "white"), (path.points[-1], look["color"])):
        edge = look["color"] if fill == "white" else "white"
        marker = Line2D(
            [point[0]], [point[1]], marker="o", markersize=6, color=look["color"], markerfacecolor=fill,
            markeredgecolor=edge, markeredgewidth=1.2, zorder=8, clip_on=False, linestyle="",
        )  # fmt: skip
        (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
        if left <= point[0] <= right and low <= point[1] <= high:
            ax.add_line(marker)


def _reach(paths: Mapping[str, Trajectory]) -> float:
    """The largest distance from the centre at which a path is drawn, in the unit of the weights."""
    return max(float(np.sqrt(np.maximum(p.distances**2 - p.residuals**2, 0)).max()) for p in paths.values())


def _paths(runs: Runs) -> dict[str, Trajectory]:
    """The paths of the runs that have one."""
    return {name: x.trajectory for name, x in runs.landscapes.items() if x.trajectory is not None}


def _name(name: str, path: Trajectory, metric: str) -> str:
    """The name of a run, and the loss of its last weights themselves."""
    known = path.losses.get(metric)
    return f"{name}: ends at {short(float(known[-1]), 3)}" if known is not None and np.isfinite(known[-1]) else name


def _label(landscape: Landscape, direction: int) -> str:
    """The letter of an axis and, where the directions come from the paths, the share of the variance along it."""
    recipe = landscape.recipe.directions
    shares = None if recipe is None else recipe.settings.get("explained")
    share = f"   ({shares[direction]:.0%} of the variance)" if shares else ""
    return f"{GREEK[direction]}{share}" if direction < len(GREEK) else AXIS_NAMES[direction]
