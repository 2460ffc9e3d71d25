"""Colour scales and pictures of drawn landscapes: no exception, no warning, nothing blank, honest notes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_landscape.landscape import Landscape
from lightning_landscape.plots import COLOR_SCALES, PLOTS, to_image
from lightning_landscape.plots.scales import HUGE, TINY, make_scale

from ._strategies import grids, masks, samples, surfaces

ROWS = [(kind, ndim) for kind in PLOTS for ndim in PLOTS[kind].ndims]
META = st.fixed_dictionaries(
    {},
    optional={
        "epoch": st.none() | st.integers(0, 10**9),
        "step": st.none() | st.integers(0, 10**12),
        "samples": st.integers(1, 10**9),
        "seed": st.integers(0, 2**63),
        "directions": st.just({"kind": "random", "normalize": "filter"}),
    },
)
NAMES = st.text("ab/_$^{}\\%#& .-+θ<>\"'", min_size=1, max_size=60)


@st.composite
def landscapes(draw: Any, ndim: int) -> Landscape:
    """Any landscape of one metric with samples."""
    grid = draw(grids((ndim,)))
    name, values = draw(NAMES), draw(surfaces(grid.shape))
    errors = {name: np.abs(draw(surfaces(grid.shape)))} if draw(st.booleans()) else {}
    center = {name: draw(st.floats())} if draw(st.booleans()) else {}
    done = draw(masks(grid.shape))
    tiles = draw(samples(grid.shape, least=1))
    return Landscape(grid, {name: values}, name, errors, done, center, tiles, draw(META))


@pytest.mark.parametrize("kind, ndim", ROWS)
@given(data=st.data())
def test_every_kind_draws_every_landscape(kind: str, ndim: int, data: st.DataObject) -> None:
    landscape = data.draw(landscapes(ndim))
    color_scale = data.draw(st.sampled_from(COLOR_SCALES))
    options: dict[str, Any] = {}
    if kind == "tiles":
        assert landscape.samples is not None
        columns = data.draw(st.integers(1, 5))
        rows = -(-len(landscape.samples.items) // columns) + data.draw(st.integers(0, 1))
        options = {"layout": f"{rows}x{columns}", "share_colorbar": data.draw(st.booleans())}
    image = to_image(PLOTS[kind].draw(landscape, color_scale=color_scale, **options), dpi=50)
    assert image.min() < 128, "not a dark pixel: no text, no line"
    scale = make_scale(landscape.loss, color_scale, landscape.done)
    if kind in ("heat", "filled", "surface", "contour") and scale.message is None:
        saturation = np.ptp(image.astype(int), axis=2)
        assert (saturation > 40).sum() >= 5, "no colour"


@settings(max_examples=300)
@given(st.data())
def test_boundaries_increase_within_the_values_and_the_note_counts_right(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([(2,), (3, 2), (5, 4), (60,)]))
    values, done = data.draw(surfaces(shape)), data.draw(masks(shape))
    color_scale = data.draw(st.sampled_from(COLOR_SCALES))
    scale = make_scale(values, color_scale, done)

    known = [float(v) for v, d in zip(values.reshape(-1), done.reshape(-1), strict=True) if d]
    finite = [min(max(v, -HUGE), HUGE) if abs(v) >= TINY else 0.0 for v in known if np.isfinite(v)]
    body = [v for v in finite if v > 0] if color_scale == "log" else finite
    assert len(scale.levels) == 30
    assert np.isfinite(scale.levels).all()
    assert (np.diff(scale.levels) > 0).all()
    if scale.message is None:
        assert min(body) <= scale.low < scale.high <= max(body)
        below, above = sum(v < scale.low for v in body), sum(v > scale.high for v in body)
    else:
        below = above = 0
    assert scale.extend == {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[bool(below), bool(above)]
    note = scale.note()
    assert told(note, r"([\d,]+) points? below") == below
    assert told(note, r"([\d,]+) points? above") == above
    assert told(note, r"([\d,]+) of [\d,]+ points not finite") == len(known) - len(finite)
    assert told(note, r"([\d,]+) of [\d,]+ points not evaluated") == values.size - len(known)
    assert told(note, r"([\d,]+) of [\d,]+ points ≤ 0 hidden") == len(finite) - len(body)
    assert scale.shown.count() == len(body)


def told(note: str, pattern: str) -> int:
    """The count that a note tells, 0 where it is silent."""
    found = re.search(pattern, note)
    return int(found[1].replace(",", "")) if found else 0
