"""Sentences on what two landscapes of a comparison do not share beside their planes: data, mode, samples, range."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from ..landscape import Landscape


def remarks_of(landscapes: Mapping[str, Landscape], metric: str) -> list[str]:
    """A sentence on each fact of a metric's measurement that differs between the landscapes.

    Args:
        landscapes: by the name of their run.
        metric: that is compared.
    """
    data = {name: x.recipe.data.get(x.recipe.data_name(metric) or "") for name, x in landscapes.items()}
    sentences = []
    if _differ({name: d.checksum if d else None for name, d in data.items()}):
        counts = ", ".join(f"{d.samples:,} ({name})" for name, d in data.items() if d)
        sentences.append(f"The runs are measured on different samples: {counts}. Only large differences count.")
    for title, values in (
        ("mode", {name: x.recipe.mode for name, x in landscapes.items()}),
        ("objective", {name: x.recipe.objective for name, x in landscapes.items()}),
        ("model", {name: x.recipe.module for name, x in landscapes.items()}),
        ("number type", {name: x.recipe.precision for name, x in landscapes.items()}),
    ):
        if _differ(values):
            sentences.append(f"The {title} differs: {', '.join(f'{v} ({name})' for name, v in values.items())}.")
    if any(x.grid != next(iter(landscapes.values())).grid for x in landscapes.values()):
        ranges = ", ".join(f"{_grid(x)} ({name})" for name, x in landscapes.items())
        sentences.append(f"The grids differ: {ranges}. Lowest and highest values depend on the range.")
    return sentences


def _differ(values: Mapping[str, Hashable]) -> bool:
    """True if two known values are not the same."""
    return len({value for value in values.values() if value is not None}) > 1


def _grid(landscape: Landscape) -> str:
    """The points and the range of each axis."""
    return " × ".join(f"{len(axis)} points in [{axis[0]:g}, {axis[-1]:g}]" for axis in landscape.grid.axes)
