"""The path of a training in numbers: loss, distances, step length, cosine and learning rate against the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from ..landscape import Landscape
from ..trajectory import Array, Trajectory
from .bars import round_ticks
from .curves import limit_values
from .frames import Frame, fitting_size, frame_of
from .furniture import (
    describe,
    hide_frame,
    inexact,
    join_parts,
    moment,
    open_axes,
    provenance,
    require_ndim,
    root,
)
from .marks import marks_of
from .ranges import SETTINGS, is_logarithmic
from .scales import HUGE, TINY, Scale, check_color_scale, make_scale, scale_of
from .settings import default_settings
from .style import STYLE


@dataclass(frozen=True)
class PathSettings:
    """The limits of the curves of a path.

    Args:
        points: the most that a curve has. A card is 350 pixels wide: more are not told apart.
        log_ratio: from which ratio of the highest to the lowest value a panel without a landscape is logarithmic. Step
            lengths and learning rates fall by powers of ten.
        height: of a panel with its gap, in inches.
        gap: between two panels, as a share of the height of one.
        letters: of a panel's title, which leaves room for a legend.
    """

    points: int = 300
    log_ratio: float = 20.0
    height: float = 0.95
    gap: float = 0.36
    letters: int = 24


CURVES = PathSettings()


@dataclass(frozen=True, eq=False)
class Curve:
    """One curve of a panel.

    Args:
        label: in the legend; empty for the only curve.
        steps: shape (n,).
        values: shape (n,); NaN is a gap.
        color: of the line.
        dashes: of the line.
        dots: True for a dot at each point: the records whose weights were kept are few.
    """

    label: str
    steps: Array
    values: Array
    color: str
    dashes: Any = "-"
    dots: bool = False


@default_settings()
def draw_path(
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
    """One panel below the other: what is known of the path, against the steps.

    Args:
        landscape: with a `trajectory`.
        metric: the loss in the first panel; None for the main one.
        ax: the place to draw at, filled with a column of axes; None for a new figure.
        color_scale: one of COLOR_SCALES, for the y axis of the loss.
        vmin, vmax: the ends of that axis; None for those of `color_scale`.
        levels: the ticks of that axis, and its ends in place of both; None for round ones.
        until: the step up to which curves are drawn; None for all of them. The axes are those of all.

    Returns:
        The figure that holds the panels.

    Raises:
        ValueError: if the landscape has no trajectory, the metric or the colour scale is unknown, or a range is empty.
    """
    require_ndim(landscape, "path")
    check_color_scale(color_scale)
    name = landscape.metric(metric)
    path = landscape.trajectory
    if path is None or not len(path.steps):
        raise ValueError(
            "path needs the path of a training, this landscape has none: project one with "
            "Recorder.trajectory(plane), and set it as landscape.trajectory."
        )
    panels = panels_of(path, name, name == landscape.main)
    height = 1.5 + CURVES.height * len(panels)
    frame = open_axes(ax, Frame(height=height, left=0.62, right=0.16, top=0.52, bottom=0.98, footer=0.56))
    hide_frame(frame)
    notes = []
    for number, (title, curves) in enumerate(panels.items()):
        inset = _open_panel(frame, number, len(panels), f"path {title}")
        values = np.concatenate([curve.values for curve in curves])
        scale = _scale(landscape, name, title, values, color_scale, vmin=vmin, vmax=vmax, levels=levels)
        _draw_panel(frame, inset, title, curves, scale, until)
        _draw_marks(inset, path, until)
        if title == name:
            notes.append(scale.note(broken="gap", missing="gap", hidden="gap").replace("colours", f"{title}:", 1))
    _label_steps(frame.child_axes)
    note = join_parts(*notes, _decimated(panels), _marks_words(path), inexact(landscape, name))
    describe(frame, f"path of {name}{moment(landscape)}", note, provenance(landscape, name))
    return root(frame)


def panels_of(path: Trajectory, metric: str, is_trained: bool = True) -> dict[str, list[Curve]]:
    """The curves of each panel by its title; a panel of which nothing is known is left out.

    Args:
        path: the numbers.
        metric: of the landscape.
        is_trained: True if it is the loss that was logged during the training.
    """
    blue, orange, green = STYLE.directions
    history = path.history
    steps = history.get("step", path.steps)
    records, dashes = {"dots": True}, (0, (4, 1.5))
    logged = history.get("loss", path.metrics.get("loss")) if is_trained else None
    panels = {
        metric: [
            Curve("logged", steps if "loss" in history else path.steps, logged, STYLE.faint)
            if logged is not None
            else None,
            Curve("on the plane", path.steps, path.plane_losses[metric], orange, dashes, **records)
            if metric in path.plane_losses
            else None,
            Curve("of the weights", path.steps, path.losses[metric], blue, **records)
            if metric in path.losses
            else None,
        ],
        "distance": [
            Curve("from the start", steps, history["distance"], green) if "distance" in history else None,
            Curve("from ★", path.steps, path.distances, blue, **records),
            Curve("from the plane", path.steps, path.residuals, orange, dashes, **records),
        ],
        "step length": [Curve("", steps, history["step_length"], blue) if "step_length" in history else None],
        "cosine to the last step": [Curve("", steps, history["cosine"], blue) if "cosine" in history else None],
        "learning rate": [Curve("", steps, history["learning_rate"], blue) if "learning_rate" in history else None],
    }
    known = {title: [curve for curve in curves if curve is not None] for title, curves in panels.items()}
    return {
        title: curves
        for title, curves in known.items()
        if title == "distance" or any(np.isfinite(curve.values).any() for curve in curves)
    }


def _scale(landscape: Landscape, name: str, title: str, values: Array, color_scale: str, **ends: Any) -> Scale:
    """The y axis of a panel: that of the loss is logarithmic where the landscape is, or its values ask for it."""
    if title == name:
        is_free = color_scale == "global" and not any(end is not None for end in ends.values())
        if not is_free:
            return make_scale(values, color_scale, **ends)
        return _whole_scale(values, 1.0 if scale_of(landscape, name).log else SETTINGS.log_ratio)
    if title.startswith("cosine"):
        return make_scale(values, vmin=-1.0, vmax=1.0)
    return _whole_scale(values, np.inf if title == "distance" else CURVES.log_ratio)


def _whole_scale(values: Array, log_ratio: float) -> Scale:
    """A scale from the lowest to the highest value: a curve that falls fast keeps its beginning."""
    body = np.sort(np.clip(values[np.isfinite(values)], -HUGE, HUGE))
    if not len(body) or body[0] == body[-1]:
        return make_scale(values)
    log = is_logarithmic(body, settings=replace(SETTINGS, log_ratio=log_ratio)) and body[0] >= TINY
    return make_scale(values, "log" if log else "global", vmin=float(body[0]), vmax=float(body[-1]))


def _open_panel(frame: Axes, number: int, count: int, gid: str) -> Axes:
    """The axes of one of so many panels, from above."""
    # Axes of the caller's have their texts right above and below them.
    low, high = (0.0, 1.0) if frame_of(frame) is not None else (0.08, 0.95)
    height = (high - low) / (count + (count - 1) * CURVES.gap)
    return frame.inset_axes((0, high - height - number * height * (1 + CURVES.gap), 1, height), gid=gid)


def _draw_panel(outer: Axes, inset: Axes, title: str, curves: list[Curve], scale: Scale, until: float | None) -> None:
    """Draws the curves of a panel, with its title and its legend above."""
    first = min(curve.steps[0] for curve in curves)
    last = max(curve.steps[-1] for curve in curves)
    inset.set_xlim(first, last if last > first else first + 1)
    if scale.empty or scale.message is not None:
        half = abs(scale.low) / 2 or 0.5  # around the one value
        scale = make_scale([scale.low - half, scale.low + half]) if not scale.empty else scale
    limit_values(inset, scale, 0.08)
    ticks, texts = round_ticks(scale, 4)
    inset.set_yticks(ticks, texts)
    inset.minorticks_off()
    for curve in curves:
        _draw_curve(inset, curve, until)
    look: Any = {"fontsize": STYLE.small_size, "color": STYLE.ink, "parse_math": False}
    text = title if len(title) <= CURVES.letters else f"{title[: CURVES.letters - 1]}…"  # the title has all of it
    inset.set_title(text, loc="left", y=1.0, pad=2.5, **look)
    if any(curve.label for curve in curves):
        key: Any = {"frameon": False, "borderpad": 0, "borderaxespad": 0.15, "handlelength": 1.6, "handletextpad": 0.4}
        inset.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=3, columnspacing=0.9, fontsize=STYLE.tile_size,
            labelcolor=STYLE.faint, **key,
        )  # fmt: skip
    size = STYLE.tile_size
    if (frame := frame_of(outer)) is not None:
        size = fitting_size(texts, 72 * (frame.left - frame.margin) - 6, size)
    inset.tick_params(labelsize=size, colors=STYLE.faint, length=2)
    inset.grid(True, color=STYLE.rule, linewidth=0.4, alpha=0.6)
    for spine in inset.spines.values():
        spine.set(color=STYLE.rule, linewidth=0.6)


def _draw_curve(inset: Axes, curve: Curve, until: float | None) -> None:
    """Draws a curve; of one with many points the median and the range of neighbours, so that no peak is lost."""
    steps, values = curve.steps, np.where(np.isfinite(curve.values), curve.values, np.nan)
    if until is not None:
        steps, values = steps[curve.steps <= until], values[curve.steps <= until]
    look: Any = {"color": curve.color, "linestyle": curve.dashes, "label": curve.label, "linewidth": 1.2}
    if len(steps) > CURVES.points:
        steps, low, values, high = decimated(steps, values)
        inset.fill_between(steps, low, high, color=curve.color, alpha=0.25, linewidth=0, zorder=2)
    dots: Any = {"marker": ".", "markersize": 3.5} if curve.dots and len(steps) <= CURVES.points else {}
    inset.plot(steps, values, zorder=3, **look, **dots)


def decimated(steps: Array, values: Array, count: int = CURVES.points) -> tuple[Array, Array, Array, Array]:
    """Groups of neighbours: their middle step, and their lowest, median and highest value.

    NaN is no value; a group without one is NaN.

    >>> [column.tolist() for column in decimated(np.arange(6.0), np.array([0.0, 9, 1, 5, 5, -7]), 2)]
    [[1.0, 4.0], [0.0, -7.0], [1.0, 5.0], [9.0, 5.0]]
    """
    groups = np.array_split(np.arange(len(steps)), count)
    rows = [values[group][np.isfinite(values[group])] for group in groups]
    table = [(row.min(), np.median(row), row.max()) if len(row) else (np.nan,) * 3 for row in rows]
    low, middle, high = np.array(table).T
    return np.array([steps[group].mean() for group in groups]), low, middle, high


def _draw_marks(inset: Axes, path: Trajectory, until: float | None) -> None:
    """Draws a line at each checkpoint, and at each change of the learning rate."""
    for name, steps in marks_of(path).items():
        dashes: Any = (0, (1, 1.5)) if name == "checkpoint" else (0, (4, 2))
        for step in steps[steps <= (np.inf if until is None else until)]:
            inset.axvline(step, color=STYLE.faint, linewidth=0.7, linestyle=dashes, zorder=1, gid=name)


def _marks_words(path: Trajectory) -> str:
    lines = {"checkpoint": "dotted: checkpoints", "learning rate": "dashed: changes of the learning rate"}
    return ", ".join(lines[name] for name in marks_of(path))


def _decimated(panels: dict[str, list[Curve]]) -> str:
    """A remark on how many records stand behind a line; empty where each has its point."""
    count = max(len(curve.steps) for curves in panels.values() for curve in curves)
    if count <= CURVES.points:
        return ""
    each = -(-count // CURVES.points)
    return f"{count:,} records: medians of {each}, bands from their lowest to their highest"


def _label_steps(insets: Sequence[Any]) -> None:
    """Gives the lowest panel its label; the ticks of the others have no numbers."""
    for inset in insets:
        inset.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        inset.tick_params(labelbottom=inset is insets[-1])
    insets[-1].set_xlabel("step", fontsize=STYLE.tick_size, color=STYLE.ink, labelpad=1)
