"""Colour scales and pictures of drawn landscapes: no exception, no warning, nothing blank, honest notes."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lightning_landscape.landscape import Grid, Landscape
from lightning_landscape.output import Files, Look, put_out
from lightning_landscape.plots import COLOR_SCALES, PLOTS, to_image
from lightning_landscape.plots.scales import HUGE, TINY, make_scale
from lightning_landscape.scalars import scalars
from lightning_landscape.summary import summary
from lightning_landscape.trajectory import Trajectory

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
NAMES = st.text("ab/_$^{}\\%#& .-+θ<>\"'精🙂א\t", min_size=1, max_size=60)


@st.composite
def landscapes(draw: Any, ndim: int) -> Landscape:
    """Any landscape of one metric with samples."""
    grid = draw(grids((ndim,)))
    name, values = draw(NAMES), draw(surfaces(grid.shape))
    errors = {name: np.abs(draw(surfaces(grid.shape)))} if draw(st.booleans()) else {}
    center = {name: draw(st.floats())} if draw(st.booleans()) else {}
    done = draw(masks(grid.shape))
    tiles = draw(samples(grid.shape, least=1))
    return Landscape(
        grid, {name: values}, name, errors, done, center, tiles, draw(META), trajectory=draw(paths(ndim, name))
    )


@st.composite
def paths(draw: Any, ndim: int, name: str) -> Trajectory:
    """Any path: coordinates, distances, losses and learning rates of any size, also NaN."""
    count, many = draw(st.integers(1, 5)), draw(st.integers(1, 9))

    def column(length: int, least: float | None = None) -> Any:
        return np.array(draw(st.lists(st.floats(min_value=least), min_size=length, max_size=length)))

    return Trajectory(
        np.arange(float(count)),
        np.stack([column(count) for _ in range(ndim)], axis=1),
        column(count, 0.0),
        column(count, 0.0),
        losses={name: column(count)},
        plane_losses={name: column(count)},
        history={"step": np.arange(float(many)), "learning_rate": column(many), "cosine": column(many)},
    )


@pytest.mark.parametrize("kind, ndim", ROWS)
@settings(max_examples=8, phases=[Phase.explicit, Phase.generate])  # to shrink pictures takes minutes
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
    figure = PLOTS[kind].draw(landscape, color_scale=color_scale, **options)
    image = to_image(figure, dpi=50)
    assert image.min() < 128, "not a dark pixel: no text, no line"
    scale = make_scale(landscape.loss, color_scale, landscape.done)
    if kind in ("heat", "surface", "contour") and scale.message is None:
        box, (height, width, _) = figure.axes[0].get_position(), image.shape  # without the colour bar
        inside = image[
            int((1 - box.y1) * height) : int((1 - box.y0) * height), int(box.x0 * width) : int(box.x1 * width)
        ]
        assert (np.ptp(inside.astype(int), axis=2) > 40).sum() >= 5, "no colour"


def test_standard_errors_near_the_end_of_float64_are_drawn() -> None:
    grid = Grid.from_ranges((-1, 1, 3))
    landscape = Landscape(grid, {"loss": np.arange(3.0)}, "loss", {"loss": np.full(3, 1.7e308)})
    assert to_image(PLOTS["slices"].draw(landscape), dpi=50).min() < 128


@settings(max_examples=150)
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
    assert scale.values.count() == len(body)


@settings(max_examples=100)
@given(landscapes(2) | landscapes(1))
def test_the_page_for_people_tells_of_evaluated_points_only(landscape: Landscape) -> None:
    known = landscape.loss[landscape.done]
    finite = known[np.isfinite(known)]
    rows = dict(re.findall(r"^(\S+(?: \S+)?)  +(.*)$", summary(landscape), re.MULTILINE))
    assert rows["range"] == (f"{finite.min():.6g} to {finite.max():.6g}" if len(finite) else "no finite value")
    assert rows["not finite"] == str(len(known) - len(finite))
    assert rows["done"].startswith(f"{len(known)} of {landscape.grid.size} points (")
    assert len(scalars(landscape)) == 2 + landscape.grid.ndim
    assert summary(landscape).startswith(f"{landscape.reading()}\n\nloss  ")


METRICS = st.lists(
    st.text("ab_/. 精", min_size=1, max_size=3) | st.text("a精🙂", min_size=240, max_size=250),
    min_size=1,
    max_size=3,
    unique=True,
)


@settings(max_examples=5, phases=[Phase.explicit, Phase.generate])
@given(METRICS)
def test_every_picture_has_a_file_of_its_own(names: list[str]) -> None:
    grid = Grid.from_ranges((-1, 1, 3))
    landscape = Landscape(grid, {name: np.arange(3.0) for name in names}, names[0])
    with TemporaryDirectory() as folder:
        files = Files(Path(folder))
        output = put_out(landscape, Look(plots=("slices",), formats=("png",)), files.write)
        assert len(output.for_loggers.images) == len(names)
        assert files.failures == []
        assert len([*Path(folder).glob("*.png")]) == len(names)


def told(note: str, pattern: str) -> int:
    """The count that a note tells, 0 where it is silent."""
    found = re.search(pattern, note)
    return int(found[1].replace(",", "")) if found else 0
