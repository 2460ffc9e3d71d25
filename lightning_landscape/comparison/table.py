"""The numbers of several landscapes side by side, and tables of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..landscape import AXIS_NAMES, Landscape
from ..reading import SETTINGS, ReadingSettings
from ..trajectory import Trajectory
from .distances import center_distance, noted_distance

Table = dict[str, tuple[float, ...]]


def table_of(landscapes: Mapping[str, Landscape], metric: str, one_surface: bool = False) -> Table:
    """The numbers of each landscape by their titles, one a run; a row that no run has is left out.

    Args:
        landscapes: by the name of their run.
        metric: that is compared.
        one_surface: True if all runs lie on one measured surface: its numbers then tell no two runs apart.
    """
    rows: Table = {}
    surfaces = [] if one_surface else list(landscapes.values())
    for row in [dict(_surface_rows(landscape, metric)) for landscape in surfaces]:
        rows |= {title: () for title in row if title not in rows}
    for title in rows:
        rows[title] = tuple(dict(_surface_rows(x, metric)).get(title, math.nan) for x in surfaces)
    rows |= _distance_row(landscapes, one_surface)
    paths = [dict(_path_rows(x.trajectory, metric)) for x in landscapes.values()]
    for title in dict.fromkeys(title for path in paths for title in path):
        rows[title] = tuple(path.get(title, math.nan) for path in paths)
    return {title: row for title, row in rows.items() if not all(map(math.isnan, row))}


def _distance_row(landscapes: Mapping[str, Landscape], one_surface: bool) -> Table:
    """The distance of each run's weights from those of the first run; empty where that of no other is known."""
    (name, first), *following = landscapes.items()
    found = [
        noted_distance(x, name) if one_surface else center_distance(first, x, name)  # on one surface is one centre
        for _, x in following
    ]
    return {} if all(map(math.isnan, found)) else {f"distance to {name}": (0.0, *found)}


def _surface_rows(landscape: Landscape, metric: str) -> Iterator[tuple[str, float]]:
    """The numbers of one surface: centre, lowest and highest value, curvatures, and how far it is uphill."""
    low, place = landscape.lowest(metric)
    names = [AXIS_NAMES[i] if i < len(AXIS_NAMES) else str(i + 1) for i in range(landscape.grid.ndim)]
    yield "centre", landscape.center[metric]
    errors = landscape.standard_errors.get(metric)
    yield "standard error", float(errors[landscape.grid.center_index]) if errors is not None else math.nan
    yield "lowest on the grid", low
    yield from ((f"  at {name}", at) for name, at in zip(names, place, strict=True))
    yield "highest on the grid", low + landscape.relief(metric)
    yield from ((f"curvature {name}", bend) for name, bend in zip(names, landscape.curvature(metric), strict=True))
    if metric != landscape.main and "loss" not in metric.lower():
        return  # an accuracy is worse where it is lower
    for label, distances in landscape.uphill(metric).items():
        yield from ((f"+{label} along {name}", distance) for name, distance in zip(names, distances, strict=True))


def _path_rows(path: Trajectory | None, metric: str) -> Iterator[tuple[str, float]]:
    """The numbers of one run's path: its length, its end, and what the plane shows of it."""
    if path is None or not len(path.steps):
        return
    yield "steps", float(path.steps[-1])
    for title, column in (("distance from the start", "distance"), ("norm of the weights", "norm")):
        if len(numbers := path.history.get(column, np.empty(0))):
            yield title, float(numbers[-1])
    if len(lengths := path.history.get("step_length", np.empty(0))) and np.isfinite(lengths).any():
        yield "length of the path", float(np.nansum(lengths))
    if metric in path.losses:
        yield f"{metric} at the end", float(path.losses[metric][-1])
    if metric in path.plane_losses and path.residuals[-1] > 0:
        yield "  of the plane there", float(path.plane_losses[metric][-1])
    if path.residuals[-1] > 0:
        yield "  distance from the plane", float(path.residuals[-1])


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The rows as lines of aligned columns, the first to the left, the others to the right.

    >>> aligned([("", "a"), ("name", "1.5")])
    ['        a', 'name  1.5']
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return [line.rstrip() for line in lines]


def as_text(table: Table, names: Sequence[str], metric: str, settings: ReadingSettings = SETTINGS) -> str:
    """A table as lines of text; two runs have a column with the difference.

    >>> print(as_text({"centre": (1.0, 3.0)}, ("sgd", "adam"), "loss"))
    loss    sgd  adam  difference
    centre    1     3          +2
    """
    pair = len(names) == 2
    rows: list[tuple[str, ...]] = [(metric, *names, *(["difference"] if pair else []))]
    for title, numbers in table.items():
        cells = [_cell(title, number) for number in numbers]
        difference = f"{_change(*numbers):+.4g}" if pair and all(map(math.isfinite, numbers)) else ""
        rows.append((title, *cells, *([difference if _has_difference(title) else ""] if pair else [])))
    return "\n".join(aligned(rows))


def _cell(title: str, number: float) -> str:
    """A number in a table: ? where it is unknown, and "nowhere" for a rise that is not within the range."""
    if title.startswith("+") and math.isinf(number):
        return "nowhere"
    return "?" if math.isnan(number) else f"{number:.4g}"


def _change(first: float, second: float, rounding: float = 1e-12) -> float:
    """Second − first; 0 where they differ by rounding only."""
    return 0.0 if abs(second - first) <= rounding * max(abs(first), abs(second)) else second - first


def _has_difference(title: str) -> bool:
    """True for a number whose difference says something: places, errors and distances to the first run have none."""
    return not title.startswith(("  at", "standard error", "distance to"))
