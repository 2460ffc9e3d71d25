"""Hypothesis strategies that the tests of this folder share: axes, grids, arrays of odd floats, samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lightning_landscape.landscape import Grid, Sample, Samples
from lightning_landscape.trajectory import Trajectory

SEEDS = st.integers(0, 2**32 - 1)
ODD = (np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, 1e-300, 1.7e308, -1.7e308)


@st.composite
def axes(draw: Any, most: int = 8, decades: int = 9) -> np.ndarray:
    """A strictly increasing axis, its steps up to a thousandfold apart, of any size, often through zero."""
    steps = draw(st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=most - 1))
    axis = np.concatenate([[0.0], np.cumsum(steps)])
    start = draw(st.one_of(st.sampled_from(axis.tolist()), st.floats(-10.0, 10.0)))
    axis = (axis - start) * 10.0 ** draw(st.integers(-decades, decades))
    return axis if (np.diff(axis) > 0).all() else np.arange(len(axis)) - 1.0


@st.composite
def grids(draw: Any, ndims: tuple[int, ...] = (1, 2, 3), most: int = 8, decades: int = 9) -> Grid:
    """A grid of axes of unlike lengths."""
    return Grid(tuple(draw(axes(most, decades)) for _ in range(draw(st.sampled_from(ndims)))))


@st.composite
def surfaces(draw: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Values as landscapes have them and as they never should: smooth, exploding, flat, full of NaN, any bits."""
    kind = draw(st.sampled_from(["smooth", "exploding", "flat", "nearly flat", "few", "odd", "any"]))
    generator = np.random.default_rng(draw(SEEDS))
    normal = generator.normal(size=shape)
    size = draw(st.sampled_from([1e-120, 1e-30, 1e-3, 1.0, 1e6, 1e40, 1e150])) * draw(st.sampled_from([1, -1]))
    if kind == "any":
        return draw(hnp.arrays(np.float64, shape))
    if kind == "odd":
        return draw(hnp.arrays(np.float64, shape, elements=st.sampled_from(ODD)))
    values = {
        "smooth": normal + draw(st.sampled_from([0.0, 5.0, -5.0])),
        "exploding": 10.0 ** (draw(st.sampled_from([2, 6, 12])) * normal),
        "flat": np.ones(shape),
        "nearly flat": 1 + draw(st.sampled_from([1e-16, 3e-13, 1e-11, 1e-7])) * normal,
        "few": generator.integers(0, 3, shape).astype(float),
    }[kind] * size
    holes = draw(st.sampled_from([0.0, 0.0, 0.2, 0.8]))
    values[generator.random(shape) < holes] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0]))
    return values


@st.composite
def masks(draw: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Which points were evaluated: all, none, the first ones, or any."""
    kind = draw(st.sampled_from(["all", "all", "none", "first", "any"]))
    if kind == "any":
        return draw(hnp.arrays(bool, shape))
    size = int(np.prod(shape))
    count = {"all": size, "none": 0}.get(kind, draw(st.integers(0, size)))
    return (np.arange(size) < count).reshape(shape)


@st.composite
def pictures(draw: Any) -> np.ndarray | None:
    """A thumbnail of any shape, or none."""
    if draw(st.booleans()):
        return None
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return np.random.default_rng(draw(SEEDS)).integers(0, 256, (height, width, 3), dtype=np.uint8)


@st.composite
def samples(draw: Any, shape: tuple[int, ...], least: int = 0) -> Samples:
    """Up to four samples, of each of which anything may be unknown."""
    count = draw(st.integers(least, 4))
    label = st.none() | st.integers(-1, 2**40)
    item = st.builds(Sample, st.integers(0, 2**40), st.floats(), label, label, st.none() | st.floats(0, 1), pictures())
    values = [draw(surfaces(shape)) for _ in range(count)]
    return Samples(np.array(values).reshape(count, *shape), tuple(draw(item) for _ in range(count)))


@st.composite
def trajectories(draw: Any, ndim: int, names: st.SearchStrategy[str]) -> Trajectory:
    """A path of up to five records on a plane of so many directions, with columns of any names."""
    count, rows = draw(st.integers(1, 5)), draw(st.integers(0, 9))

    def table(length: int) -> dict[str, np.ndarray]:
        return {name: draw(surfaces((length,))) for name in draw(st.lists(names, max_size=3, unique=True))}

    single = [draw(surfaces((count,))), draw(surfaces((count, ndim))), *(draw(surfaces((count,))) for _ in range(2))]
    tables = [table(count), table(count), table(count), table(rows)]
    return Trajectory(*single, *tables, draw(surfaces((draw(st.integers(0, 3)),))), draw(masks((count,))))
