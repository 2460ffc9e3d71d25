"""Drawings of a trail on flat and on 3-D axes, and its key: the colours of the steps, and the marks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d.art3d import Line3DCollection  # type: ignore[import-untyped]
from mpl_toolkits.mplot3d.axes3d import Axes3D  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ..landscape import Landscape
from ..trajectory import Array
from .frames import Frame, fitting_size, frame_of
from .levels import short
from .style import STYLE
from .trail import SETTINGS, Box, Trail, cut

Heights = Callable[[Trail, Array, Array], Array]
# The signs of what is marked, by name.
SIGNS = {"start": "o", "end": "s", "checkpoint": "^", "learning rate": "D"}


def trail_frame(landscape: Landscape, frame: Frame) -> Frame:
    """The frame of a picture of a landscape: with a room for the key of its path, if it has one."""
    return frame if landscape.trajectory is None else frame.with_key()


def draw_trail(ax: Axes, trail: Trail | None) -> None:
    """Draws a trail on flat axes, within their limits, and its key."""
    if trail is None or trail.is_dot:
        return
    steps, points, faint = trail.drawn
    box = (_ends(ax.get_xlim()), _ends(ax.get_ylim()))
    for look, pieces, colors in _strokes(trail, steps, points, faint, box):
        ax.add_collection(LineCollection(list(pieces), colors=colors, gid="path", **look), autolim=False)
    for sign, places in _signs(trail, box):
        ax.plot(*places.T, linestyle="", gid="path mark", **sign)
    add_key(ax, trail)


def draw_trail_in_space(axes: Axes3D, trail: Trail | None, heights: Heights) -> None:
    """Draws a trail on 3-D axes, over the surface, so that no hill hides it.

    Args:
        axes: with limits.
        trail: None for nothing.
        heights: a function (trail, steps, places) that gives the heights of places on the path.
    """
    if trail is None or trail.is_dot:
        return
    box = (_ends(axes.get_xlim()), _ends(axes.get_ylim()))
    steps, _, faint = trail.drawn
    fine = _between(trail, steps, box)
    faint = np.interp(fine, steps, faint) > 0 if len(steps) else faint  # as is a piece with one faint end
    points = np.column_stack([trail.places(fine), heights(trail, fine, trail.places(fine))])
    for look, pieces, colors in _strokes(trail, fine, points, faint, box):
        axes.add_collection3d(Line3DCollection(pieces, colors=colors, gid="path", **look), autolim=False)
    for sign, places in _signs(trail, box, heights):
        axes.plot(*places.T, linestyle="", gid="path mark", **sign)
    add_key(axes, trail)


def _ends(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = sorted(limits)
    return low, high


def _between(trail: Trail, steps: Array, box: Box) -> Array:
    """The steps of a path with more between them, so that its pieces are short in the picture."""
    if len(steps) < 2:
        return steps
    spans = np.array([high - low for low, high in box])
    with np.errstate(over="ignore"):
        lengths = (np.abs(np.diff(trail.places(steps), axis=0)) / spans).max(axis=1)
    counts = np.ceil(np.clip(lengths, 0, 1) * SETTINGS.pieces).astype(int).clip(1)
    parts = [np.linspace(a, b, n, endpoint=False) for a, b, n in zip(steps[:-1], steps[1:], counts, strict=True)]
    return np.append(np.concatenate(parts), steps[-1])


def colors_of(trail: Trail, steps: Array) -> NDArray[np.float64]:
    """The colours of steps, shape (n, 4): the same in all pictures of a path, whatever is drawn of it."""
    first, last = trail.steps[0], trail.steps[-1]
    return np.asarray(STYLE.path_colormap((steps - first) / (last - first or 1.0)))


def _strokes(
    trail: Trail, steps: Array, points: Array, faint: NDArray[np.bool_], box: Box
) -> list[tuple[dict[str, Any], Array, Any]]:
    """The strokes of a line, from below to above: look, pieces of shape (m, 2, d) and colours.

    A dark and a white rim keep it apart from every band of colour. A faint piece has a thin white rim alone.
    """
    if len(points) < 2:
        return []
    pieces, numbers, _ = cut(points, box)
    colors = colors_of(trail, 0.5 * (steps[:-1] + steps[1:]))[numbers]
    is_faint = (faint[:-1] | faint[1:])[numbers]
    full, pale = pieces[~is_faint], pieces[is_faint]
    wide: dict[str, Any] = {"capstyle": "round", "joinstyle": "round"}
    thin: dict[str, Any] = {"capstyle": "butt"}
    strokes = [
        ({"linewidths": 2.4, "alpha": 0.45, "zorder": 6.0, **thin}, pale, "white"),
        ({"linewidths": 1.2, "alpha": 0.75, "zorder": 6.1, **thin}, pale, colors[is_faint]),
        ({"linewidths": 3.6, "zorder": 6.2, **wide}, full, STYLE.ink),
        ({"linewidths": 2.9, "zorder": 6.3, **wide}, full, "white"),
        ({"linewidths": 1.7, "zorder": 6.4, **wide}, full, colors[~is_faint]),
    ]
    return [stroke for stroke in strokes if len(stroke[1])]


def marked_steps(trail: Trail) -> dict[str, Array]:
    """The steps of all marks by name, those after `until` left out; a film's growing end is one."""
    first, last = trail.steps[[0]], trail.steps[[-1]]
    ends = {"start": first} if trail.ends_at_star else {"start": first, "end": last}
    return {name: steps[steps <= trail.until] for name, steps in {**trail.marks, **ends}.items()}


def _signs(trail: Trail, box: Box, heights: Heights | None = None) -> list[tuple[dict[str, Any], Array]]:
    """The signs inside the box: look, and places of shape (n, d)."""
    result = []
    for name, steps in marked_steps(trail).items():
        places = trail.places(steps)
        if heights is not None and len(steps):
            places = np.column_stack([places, heights(trail, steps, places)])
        inside = np.array([all(low <= at <= high for at, (low, high) in zip(p, box, strict=False)) for p in places])
        if len(steps) and inside.any():
            result.append((sign_of(name), places[inside]))
    return result


def sign_of(name: str) -> dict[str, Any]:
    """The look of a mark."""
    size = {"start": 5.5, "end": 5.5, "checkpoint": 5.5, "learning rate": 4.4}[name]
    look: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": STYLE.ink, "markeredgewidth": 0.9}
    return {"marker": SIGNS[name], "markersize": size, "zorder": 8, **look}


def add_key(ax: Axes, trail: Trail) -> None:
    """Adds the colours of the steps and the signs above the footer; axes of the caller's have no room for them."""
    frame = frame_of(ax)
    if frame is None or not frame.key:
        return
    figure: Any = ax.figure
    bottom, height = frame.footer / frame.height, frame.key / frame.height
    ends = [f"step {short(float(trail.steps[0]))}", _count(trail)]
    size = fitting_size(ends, 50, STYLE.small_size)
    look: dict[str, Any] = {"fontsize": size, "color": STYLE.faint, "va": "center", "parse_math": False}
    middle = bottom + 0.5 * height
    left, right = 0.52 / frame.width, 1.1 / frame.width
    figure.text(left - 0.04 / frame.width, middle, ends[0], ha="right", **look)
    figure.text(right + 0.04 / frame.width, middle, ends[1], ha="left", **look)
    bar = figure.add_axes((left, bottom + 0.3 * height, right - left, 0.4 * height), label="<path key>")
    shades = np.linspace(trail.steps[0], trail.steps[-1], 64)
    colors = colors_of(trail, shades)
    colors[shades > trail.until] = 1.0
    bar.imshow(colors[None], aspect="auto", interpolation="nearest")
    bar.set_xticks([])
    bar.set_yticks([])
    for spine in bar.spines.values():
        spine.set(color=STYLE.rule, linewidth=0.6)
    _add_signs(figure, frame, trail, middle)


def _count(trail: Trail) -> str:
    """The last step, or, in a film, how far it has come."""
    return f"{trail.until:,.0f}" if float(trail.until).is_integer() else short(trail.until)


def _add_signs(figure: Any, frame: Frame, trail: Trail, middle: float) -> None:
    """Adds the signs and their names, at the right."""
    names = ["start", *([] if trail.ends_at_star else ["end"]), *trail.marks]
    handles = [Line2D([], [], linestyle="", label=name, **sign_of(name)) for name in names]
    look: dict[str, Any] = {"frameon": False, "borderpad": 0, "borderaxespad": 0, "handletextpad": 0.2}
    figure.legend(
        handles=handles,
        loc="center right",
        bbox_to_anchor=(1 - frame.margin / frame.width, middle),
        ncols=len(names),
        fontsize=STYLE.small_size,
        labelcolor=STYLE.faint,
        columnspacing=0.8,
        handlelength=1.2,
        **look,
    )
