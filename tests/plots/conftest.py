"""Landscapes to draw, with values known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lightning_landscape.landscape import Grid, Landscape, Sample, Samples


def slope(x, y=0.0):
    """Linear, so that interpolation is exact, and different along x and y."""
    return 10.0 * x + y


def build(function=slope, nx=7, ny=5, x=(-3, 3), y=(-2, 2), samples=0, **fields) -> Landscape:
    grid = Grid.from_ranges((*x, nx), (*y, ny)) if ny else Grid.from_ranges((*x, nx))
    with np.errstate(all="ignore"):
        values = np.asarray(function(*grid.points.T), dtype=float).reshape(grid.shape)
    if samples:
        items = tuple(Sample(b, float(b), label=1, prediction=b % 2, probability=0.5) for b in range(samples))
        fields["samples"] = Samples(np.stack([values + 100 * b for b in range(samples)]), items)
    return Landscape(grid, {"loss": values}, "loss", **fields)


@pytest.fixture
def make() -> Callable[..., Landscape]:
    return build


@pytest.fixture
def texts() -> Callable[..., str]:
    """All that is written in a figure."""

    def read(figure) -> str:
        from matplotlib.text import Text

        return "\n".join(t.get_text() for t in figure.findobj(Text) if t.get_text()).replace("\n", " ")

    return read


@pytest.fixture
def make_volume() -> Callable[..., Landscape]:
    """3-D landscapes on grids that are not cubes."""

    def build(function, shape=(7, 5, 4), ends=((-3, 3), (-2, 2), (-1, 2)), **fields) -> Landscape:
        grid = Grid.from_ranges(*[(*pair, count) for pair, count in zip(ends, shape, strict=True)])
        with np.errstate(all="ignore"):
            values = np.asarray(function(*grid.points.T), dtype=float).reshape(grid.shape)
        return Landscape(grid, {"loss": values}, "loss", **fields)

    return build
