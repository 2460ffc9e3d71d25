"""The numbers of a landscape that loggers show, one row of `SCALARS` each."""

from __future__ import annotations

from collections.abc import Callable

from .landscape import Landscape

# name: one number, or one for each direction
SCALARS: dict[str, Callable[[Landscape], float | tuple[float, ...]]] = {
    "center_loss": lambda landscape: landscape.center[landscape.main],
    "relief": Landscape.relief,
    "curvature": Landscape.curvature,
}


def scalars(landscape: Landscape) -> dict[str, float]:
    """Every number of `SCALARS`, those of the directions numbered from 1.

    >>> import numpy as np
    >>> from lightning_landscape.landscape import Grid
    >>> line = Grid.from_ranges((-1, 1, 3))
    >>> scalars(Landscape(line, {"loss": line.axes[0] ** 2}, "loss"))
    {'center_loss': 0.0, 'relief': 1.0, 'curvature_1': 2.0}
    """
    result: dict[str, float] = {}
    for name, number in SCALARS.items():
        value = number(landscape)
        if isinstance(value, tuple):
            result |= {f"{name}_{i}": part for i, part in enumerate(value, start=1)}
        else:
            result[name] = value
    return result
