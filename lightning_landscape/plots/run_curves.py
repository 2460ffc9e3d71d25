"""The slices of several runs through their centres: one panel a direction, a curve a run, one y axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..landscape import Landscape
from .curves import draw_band, limit_values
from .furniture import add_message, axis_label, dress_axes, join_parts
from .levels import short
from .ranges import LINEAR
from .runs import LOOKS, Runs, Sheet, add_legend
from .scales import Scale, make_scale
from .settings import default_settings
from .style import STYLE


@default_settings()
def draw_run_curves(runs: Runs, metric: str) -> Figure:
    """The values along each direction, the other coordinates nearest to 0, with bands of ± 2 standard errors.

    Args:
        runs: of any number of directions, each drawn from its own centre.
        metric: the name of the values.
    """
    side, height, left, right, gap, foot = 2.5, 2.3, 0.62, 0.2, 0.4, 0.42  # inches
    width = left + runs.ndim * (side + gap) - gap + right
    names = [_name(name, landscape, metric) for name, landscape in runs.landscapes.items()]
    sheet = Sheet(max(width, 4.2), 0)
    probe = sheet.open()
    legend = add_legend(probe, Sheet(sheet.width, 1), names, 0)
    sheet = Sheet(sheet.width, sheet.title + legend + 0.1 + height + foot + sheet.footer)
    side += (sheet.width - width) / runs.ndim
    figure = sheet.open()
    add_legend(figure, sheet, names, sheet.title)
    scale = _scale(runs, metric)
    for direction in range(runs.ndim):
        place = (left + direction * (side + gap), sheet.title + legend + 0.1, side, height)
        ax = sheet.add_axes(figure, *place, label=f"direction {direction + 1}")
        limit_values(ax, scale)
        for i, landscape in enumerate(runs.landscapes.values()):
            axis, look = landscape.grid.axes[direction], LOOKS.of(i)
            values = np.where(np.isfinite(v := landscape.slice_values(direction, metric)), v, np.nan)
            ax.plot(axis, values, linewidth=1.6, zorder=3, **look)
            errors = landscape.slice_errors(direction, metric)
            draw_band(ax, axis, values, errors, look["color"], None, floor=ax.get_ylim()[0])
        ends = [landscape.grid.axes[direction][[0, -1]] for landscape in runs.landscapes.values()]
        ax.set_xlim(float(np.min(ends)), float(np.max(ends)))
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        ax.grid(True, color=STYLE.rule, linewidth=0.5, alpha=0.6)
        ax.axvline(0, color=STYLE.rule, linewidth=0.8)
        dress_axes(ax, axis_label(runs.first, direction), "" if direction else metric)
        ax.tick_params(labelleft=not direction)
        if not direction:
            sheet.fit_numbers(ax, left)
        add_message(ax, scale.message)
    notes = join_parts("bands: ± 2 standard errors", scale.note("gap", "gap", "gap").replace("colours", "y axis"))
    sheet.write(figure, f"{metric} through each centre", f"{runs.note}\n{notes}")
    return figure


def _name(name: str, landscape: Landscape, metric: str) -> str:
    """The name of a run and its value at the centre."""
    center = landscape.center.get(metric, np.nan)
    return f"{name}: {short(center, 3)}" if np.isfinite(center) else name


def _scale(runs: Runs, metric: str) -> Scale:
    """The y axis that all slices share."""
    curves = [x.slice_values(i, metric) for x in runs.landscapes.values() for i in range(runs.ndim)]
    done = [x.done for x in runs.landscapes.values()]
    masks = [
        _slice(mask, x, i) for mask, x in zip(done, runs.landscapes.values(), strict=True) for i in range(runs.ndim)
    ]
    wholes = [make_scale(x.values[metric], done=x.done, center=x.center[metric]) for x in runs.landscapes.values()]
    log = all(whole.log for whole in wholes if not whole.empty)
    options: dict[str, Any] = {"color_scale": "log"} if log else {"settings": LINEAR}
    return make_scale(np.concatenate(curves), done=np.concatenate(masks), **options)


def _slice(mask: np.ndarray, landscape: Landscape, direction: int) -> np.ndarray:
    index: list[Any] = list(landscape.grid.center_index)
    index[direction] = slice(None)
    return mask[tuple(index)]
