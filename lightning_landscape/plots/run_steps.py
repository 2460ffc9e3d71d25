"""The trainings of several runs as curves against their steps: loss, distance from the start, step length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..trajectory import Trajectory
from .curves import limit_values
from .furniture import dress_axes
from .runs import LOOKS, Runs, Sheet, add_legend
from .scales import make_scale
from .settings import default_settings
from .style import STYLE

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
# Columns of a trajectory's history, by the labels of their panels.
COLUMNS = {"distance from start": "distance", "step length": "step_length", "norm of the weights": "norm"}


@default_settings()
def draw_run_steps(runs: Runs, metric: str) -> Figure:
    """A panel for each number that at least one run has recorded, with a curve a run.

    The numbers are the loss, the distance from the start, the step length and the norm of the weights.

    Args:
        runs: with trajectories.
        metric: whose values at the recorded weights are drawn where a run has no loss in its history.
    """
    width, height, left, right, gap, foot = 4.6, 1.25, 0.72, 0.14, 0.16, 0.42  # inches
    panels = run_curves(runs, metric)
    names = list(runs.landscapes)
    legend = add_legend(Sheet(width, 1).open(), Sheet(width, 1), names, 0)
    head = Sheet(width, 1).title + legend + 0.1
    sheet = Sheet(width, head + len(panels) * (height + gap) - gap + foot, footer=0.0)
    figure = sheet.open()
    add_legend(figure, sheet, names, sheet.title)
    ends = np.concatenate([steps[[0, -1]] for curves in panels.values() for steps, _ in curves.values()])
    for row, (title, curves) in enumerate(panels.items()):
        ax = sheet.add_axes(figure, left, head + row * (height + gap), width - left - right, height, label=title)
        _draw(ax, curves, names)
        ax.set_xlim(float(ends.min()), float(ends.max()))
        is_last = row == len(panels) - 1
        dress_axes(ax, "step" if is_last else "", title)
        ax.tick_params(labelbottom=is_last, labelsize=STYLE.small_size)
        sheet.fit_numbers(ax, left)
    sheet.write(figure, f"{len(names)} runs against their steps", "")
    return figure


def run_curves(runs: Runs, metric: str) -> dict[str, dict[str, Curve]]:
    """The curves of each panel, by the names of the runs that have them; panels that no run has are left out."""
    paths = {name: x.trajectory for name, x in runs.landscapes.items() if x.trajectory is not None}
    panels = {metric: _losses(paths, metric)}
    for title, column in COLUMNS.items():
        found = {name: _known(p.history["step"], p.history[column]) for name, p in paths.items() if column in p.history}
        panels[title] = {name: curve for name, curve in found.items() if len(curve[0])}
    return {title: curves for title, curves in panels.items() if curves}


def _losses(paths: Mapping[str, Trajectory], metric: str) -> dict[str, Curve]:
    """The loss of each run: that of its history, or else that of the recorded weights on the landscape's data.

    Where one run has no history, all have that of their records: curves of different data can't be compared.
    """
    logged = {n: _known(p.history["step"], p.history["loss"]) for n, p in paths.items() if "loss" in p.history}
    measured = {n: _known(p.steps, p.losses[metric]) for n, p in paths.items() if metric in p.losses}
    chosen = measured if len(measured) >= len(logged) else logged
    return {name: curve for name, curve in chosen.items() if len(curve[0])}


def _known(steps: NDArray[np.float64], values: NDArray[np.float64]) -> Curve:
    """The finite values with their steps."""
    known = np.isfinite(values)
    return steps[known], values[known]


def _draw(ax: Axes, curves: Mapping[str, Curve], names: list[str]) -> None:
    """Draws the curves of one panel, on a logarithmic axis where they span two decades."""
    values = np.concatenate([values for _, values in curves.values()])
    positive = values[values > 0]
    scale = make_scale(positive if len(positive) and positive.max() > 100 * positive.min() else values)
    limit_values(ax, scale)
    for name, (steps, column) in curves.items():
        look: dict[str, Any] = LOOKS.of(names.index(name))
        ax.plot(steps, column, linewidth=1.5, marker="." if len(steps) <= 20 else "", markersize=4, **look)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.grid(True, color=STYLE.rule, linewidth=0.5, alpha=0.6)
