"""The landscapes of several runs side by side: a panel a run, a row of panels a metric, one colour scale a metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..landscape import Grid, Landscape
from .backdrop import add_backdrop
from .bands import fill_bands
from .frames import fit, text_width
from .furniture import GREEK, add_message, add_star, axis_label, dress_axes, join_parts
from .good import good_levels
from .levels import short
from .run_scale import RunScale
from .runs import Runs, Sheet
from .scales import Scale, scale_of
from .settings import default_settings
from .style import STYLE

Ends = tuple[float, float]


@dataclass(frozen=True)
class PanelLayout:
    """The places of panels, in inches.

    Args:
        side: the width of a panel, and its height where the axes are as long as each other.
        columns: the most panels in a row.
        most_runs: the most runs in a picture.
        left, right: from the panels to the edges; on the right stands the colour bar.
        gap: between two panels of a row.
        apart: the same where each panel has an axis of its own.
        head: above each panel, for the name of the run.
        foot: below the last row, for numbers and label of the axis.
        numbers: below the other rows where each panel has an axis of its own.
    """

    side: float = 1.9
    columns: int = 4
    most_runs: int = 16
    left: float = 0.6
    right: float = 0.8
    gap: float = 0.14
    apart: float = 0.46
    head: float = 0.4
    foot: float = 0.42
    numbers: float = 0.2

    def shape(self, runs: int) -> tuple[int, int]:
        """Rows and columns of so many panels, the rows evenly filled.

        >>> [PanelLayout().shape(runs) for runs in (2, 3, 4, 5, 6, 7, 10)]
        [(1, 2), (1, 3), (2, 2), (2, 3), (2, 3), (2, 4), (3, 4)]
        """
        columns = runs if runs <= 3 else min(self.columns, -(-runs // 2))
        return -(-runs // columns), columns


@default_settings()
def draw_panels(runs: Runs, metrics: Sequence[str], layout: PanelLayout = PanelLayout()) -> Figure:
    """A panel for each run, in the same colours and on the same axes.

    Args:
        runs: 2-D.
        metrics: one or several; each has its rows of panels and its colour scale.
        layout: the places of the panels.

    Raises:
        ValueError: if there are more runs than panels.
    """
    count = len(runs.landscapes)
    if count > layout.most_runs:
        raise ValueError(
            f"{count} runs are more than the {layout.most_runs} panels of a picture: compare fewer at a time."
        )
    rows, columns = layout.shape(count)
    limits = [_limits(x.grid) for x in runs.landscapes.values()]
    if runs.share_axes:
        limits = [_union(limits)] * count
    alike = len(set(limits)) == 1  # one axis for a row and a column of panels
    gap = layout.gap if alike else layout.apart
    height = layout.side * float(np.clip(max(_aspect(ends) for ends in limits), 0.5, 1.5))
    step, line = layout.side + gap, height + layout.head + (0.0 if alike else layout.numbers)
    sheet = Sheet(0, 0)
    sheet = Sheet(
        layout.left + columns * step - gap + layout.right,
        sheet.title + len(metrics) * rows * line + layout.foot + sheet.footer,
    )
    figure, remarks = sheet.open(), []
    for block, metric in enumerate(metrics):
        scales = shared_scales(list(runs.landscapes.values()), metric)
        top = sheet.title + block * rows * line
        for i, (name, landscape) in enumerate(runs.landscapes.items()):
            row, column = divmod(i, columns)
            place = (layout.left + column * step, top + row * line + layout.head, layout.side, height)
            ax = sheet.add_axes(figure, *place, label=f"{metric} of {name}")
            _draw_panel(ax, landscape, metric, scales[i], limits[i])
            _head(ax, name, _facts(landscape, metric), layout)
            is_last = block == len(metrics) - 1 and i + columns >= count
            labels = (is_last, not column)
            _label(
                ax, runs.first, below=not alike or is_last, beside=not alike or not column, labels=labels, height=height
            )
            if not column:
                sheet.fit_numbers(ax, layout.left)
        bar = (sheet.width - layout.right + 0.08, top + layout.head, (rows - 1) * line + height)
        sheet.add_bar(figure, figure.axes[-1], scales[0], bar, metric)
        remarks.append(join_parts(metric if len(metrics) > 1 else "", _range(scales)))
    remarks.append(_red(runs, metrics))
    title = f"{', '.join(metrics)} of {count} runs"
    remarks.append(
        "blank: not in the range" if len({_limits(x.grid) for x in runs.landscapes.values()}) > alike else ""
    )
    sheet.write(figure, title, "\n".join([runs.note, join_parts(*remarks)]))
    return figure


def shared_scales(landscapes: Sequence[Landscape], metric: str) -> list[Scale]:
    """The scale of each landscape, all from the same lowest to the same highest colour."""
    whole = RunScale()
    for landscape in landscapes:
        whole = whole.widened(landscape)
    return [scale_of(x, metric, **whole.options(x, "contour", metric)) for x in landscapes]  # type: ignore[arg-type]


def _draw_panel(ax: Axes, landscape: Landscape, metric: str, scale: Scale, limits: tuple[Ends, Ends]) -> None:
    """Draws bands, thin lines between them and the line around what is as good as the centre."""
    grid = landscape.grid
    fill_bands(ax, grid, scale)
    if not scale.empty and scale.message is None:
        x, y = grid.axes
        for levels, look in _lines(landscape, metric, scale):
            ax.contour(x, y, scale.values.T, levels, **look)
    add_backdrop(ax, grid, scale)
    ax.set_aspect("auto")
    ax.set(xlim=limits[0], ylim=limits[1])
    add_star(ax, 0.0, 0.0, size=8)
    add_message(ax, scale.notice and scale.notice.replace(": ", ":\n"), size=STYLE.tick_size)


def _lines(landscape: Landscape, metric: str, scale: Scale) -> list[tuple[list[float], dict[str, Any]]]:
    """The levels of the lines that values reach, and their looks."""
    low, high = float(scale.values.min()), float(scale.values.max())
    thin = [float(level) for level in scale.levels[::3] if low < level < high]
    lines: list[tuple[list[float], dict[str, Any]]] = []
    if thin:
        lines.append((thin, {"colors": [STYLE.ink], "linewidths": 0.35, "alpha": 0.6}))
    for level, dashes in zip(good_levels(landscape, metric).values(), STYLE.good_dashes, strict=False):
        if low < level < high:  # a white rim keeps it apart from every band
            lines.append(([level], {"colors": ["white"], "linewidths": 2.0, "zorder": 4}))
            lines.append(([level], {"colors": [STYLE.good], "linewidths": 1.1, "linestyles": [dashes], "zorder": 4}))
    return lines


def _red(runs: Runs, metrics: Sequence[str]) -> str:
    """A note on the red lines; empty where no metric has them."""
    labels = next((list(good_levels(runs.first, metric)) for metric in metrics if good_levels(runs.first, metric)), [])
    looks = ("solid", "dashed")
    return f"red: {', '.join(f'{x} ({y})' for x, y in zip(labels, looks, strict=False))} above ★" if labels else ""


def _head(ax: Axes, name: str, facts: str, layout: PanelLayout) -> None:
    """Writes the name of the run above a panel, and a line of facts below it."""
    width, room = 72 * layout.side, 72 * (layout.head - 0.06)
    size, text = fit(name, width, room - 1.3 * STYLE.small_size, STYLE.label_size, bold=True)
    small, line = fit(facts, width, 1.3 * STYLE.small_size, STYLE.small_size)
    look: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "parse_math": False}
    bold: dict[str, Any] = {"fontsize": size, "fontweight": "bold", "color": STYLE.ink, "gid": "name"}
    ax.annotate(text, (0, 1), (0, 4 + 1.3 * STYLE.small_size), va="bottom", **bold, **look)
    ax.annotate(line, (0, 1), (0, 3), va="bottom", fontsize=small, color=STYLE.faint, **look)


def _facts(landscape: Landscape, metric: str) -> str:
    """The step, the loss at the centre and the curvatures."""
    step, center = landscape.recipe.step, landscape.center[metric]
    bends = ", ".join(short(bend, 3) for bend in landscape.curvature(metric) if np.isfinite(bend))
    return join_parts(
        f"step {step:,}" if step is not None else "",
        f"★ {short(center, 3)}" if np.isfinite(center) else "",
        f"curvature {bends}" if bends else "",
    )


def _label(ax: Axes, landscape: Landscape, below: bool, beside: bool, labels: tuple[bool, bool], height: float) -> None:
    """Gives a panel of that height numbers, and labels where it is at the edge; a letter where there is no room."""
    for axis in (ax.xaxis, ax.yaxis):  # a number at the end would touch that of the next panel
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], prune="both"))
    texts = [axis_label(landscape, i) if is_outer else "" for i, is_outer in enumerate(labels)]
    if texts[1] and text_width(texts[1]) * STYLE.label_size > 72 * height:
        texts[1] = GREEK[1]
    dress_axes(ax, *texts)
    ax.tick_params(labelbottom=below, labelleft=beside, labelsize=STYLE.small_size)


def _range(scales: Sequence[Scale]) -> str:
    """The range of the colours that all panels share."""
    log = "logarithmic " * scales[0].log
    beyond = sum(np.ma.count(np.ma.masked_inside(s.values, s.low, s.high)) for s in scales)
    return f"{log}colours {short(scales[0].low)} … {short(scales[0].high)}" + (
        f", {beyond:,} points beyond" * bool(beyond)
    )


def _limits(grid: Grid) -> tuple[Ends, Ends]:
    x, y = ((float(axis[0]), float(axis[-1])) for axis in grid.axes)
    return x, y


def _union(limits: Sequence[tuple[Ends, Ends]]) -> tuple[Ends, Ends]:
    """The ends that hold all grids."""
    x, y = ((min(e[i][0] for e in limits), max(e[i][1] for e in limits)) for i in range(2))
    return x, y


def _aspect(limits: tuple[Ends, Ends]) -> float:
    """The height of the axes in their width."""
    (left, right), (low, high) = limits
    return (high - low) / (right - left)
