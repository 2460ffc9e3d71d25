"""Grids, planes, directions and means of drawn shapes, types and batches, against numpy on flat vectors."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

from lightning_landscape.directions import NORMALIZATIONS, Random, dead_filters, ignored_names
from lightning_landscape.evaluators import evaluate, mean_and_error
from lightning_landscape.landscape import Grid, Landscape, equal
from lightning_landscape.objectives.base import Batch
from lightning_landscape.weights.parameters import FilterLayout, Snapshot
from lightning_landscape.weights.plane import Plane

from ._strategies import SEEDS, grids, masks, samples, surfaces

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex128)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)


def normal(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64, size: float = 1.0) -> Tensor:
    """Gaussian noise of the tensor's own stream."""
    drawn = torch.complex128 if dtype.is_complex else torch.float64
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=drawn)
    return (size * noise).to(dtype)


def flat(params: Any) -> np.ndarray:
    """All tensors as one real float64 vector."""
    parts = [torch.view_as_real(t) if t.is_complex() else t for t in params.values()]
    return np.concatenate([p.double().reshape(-1).numpy() for p in parts])


# Grids and landscapes ---------------------------------------------------------------------------------------------


@given(grids(ndims=(1, 2, 3), decades=300))
def test_a_grids_points_are_its_axes_in_the_order_of_its_values(grid: Grid) -> None:
    points = grid.points
    assert points.shape == (grid.size, grid.ndim)
    for i, index in enumerate(np.ndindex(*grid.shape)):
        assert points[i].tolist() == [axis[j] for axis, j in zip(grid.axes, index, strict=True)]
    nearest = points[np.ravel_multi_index(grid.center_index, grid.shape)]
    assert (np.abs(nearest) <= np.abs(points).min(axis=0)).all()
    assert grid.has_center == any((point == 0).all() for point in points)


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300), st.integers(2, 12))
def test_a_range_is_a_grid_or_a_clear_error(low: float, high: float, points: int) -> None:
    try:
        grid = Grid.from_ranges((low, high, points))
    except ValueError as error:
        message = str(error)
        assert re.search(r"reversed or empty|strictly increasing", message)
        assert not low + (points - 1) * np.spacing(max(abs(low), abs(high))) < high
        return
    ends, rounding = grid.axes[0][[0, -1]], 1e-12 * (high - low)
    np.testing.assert_allclose(ends, [low, high], rtol=0, atol=rounding)
    np.testing.assert_allclose(np.diff(grid.axes[0]), (high - low) / (points - 1), rtol=1e-3)


def test_a_range_wider_than_float64_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match=r"x=\(-1e\+308, 1e\+308, 3\)"):
        Grid.from_ranges((-1e308, 1e308, 3))


@given(st.data())
def test_numbers_of_a_landscape_are_those_of_its_evaluated_points(data: st.DataObject) -> None:
    grid = data.draw(grids())
    values, done = data.draw(surfaces(grid.shape)), data.draw(masks(grid.shape))
    tiles = data.draw(samples(grid.shape))
    landscape = Landscape(grid, {"loss": values}, "loss", done=done, samples=tiles)
    known = [v for v, d in zip(values.reshape(-1).tolist(), done.reshape(-1).tolist(), strict=True) if d]
    finite = [v for v in known if np.isfinite(v)]
    relief = max(finite) - min(finite) if finite else np.nan
    np.testing.assert_equal(landscape.relief(), relief)
    assert len(landscape.curvature()) == grid.ndim
    assert equal(landscape, landscape)
    changed = values.copy()
    changed.reshape(-1)[0] = 1.0 if np.isnan(changed.reshape(-1)[0]) else np.nan
    assert not equal(landscape, Landscape(grid, {"loss": changed}, "loss", done=done, samples=tiles))


# Planes -----------------------------------------------------------------------------------------------------------


@st.composite
def planes(draw: Any, dtypes: tuple[torch.dtype, ...] = DTYPES) -> Plane:
    """A plane of 1 to 3 directions over up to four tensors."""
    shapes = draw(st.lists(st.tuples(SHAPES, st.sampled_from(dtypes)), min_size=1, max_size=4))
    seed, k = draw(SEEDS), draw(st.integers(1, 3))
    origin = {f"p{i}": normal(shape, seed + i, dtype) for i, (shape, dtype) in enumerate(shapes)}
    directions = tuple(
        {
            n: normal(t.shape, seed + 10 * d + i, torch.promote_types(t.dtype, torch.float32))
            for i, (n, t) in enumerate(origin.items())
        }
        for d in range(1, k + 1)
    )
    return Plane(origin, directions)


COORDINATES = st.lists(st.floats(-8, 8), min_size=3, max_size=3)


@given(planes(), COORDINATES, COORDINATES)
def test_the_plane_is_affine_and_keeps_types_and_shapes(plane: Plane, a: list[float], b: list[float]) -> None:
    k = plane.ndim
    p, q = np.array(a[:k]), np.array(b[:k])
    at_p, at_q, at_both, at_zero = plane.at(p), plane.at(q), plane.at(p + q), plane.at(np.zeros(k))
    for name, tensor in plane.origin.items():
        assert at_p[name].dtype == tensor.dtype
        assert at_p[name].shape == tensor.shape
        assert torch.equal(at_zero[name], tensor)
        size = 1 + sum(
            float(v.abs().max()) for t in (at_p, at_q, at_both, at_zero) for v in [t[name]] if tensor.numel()
        )
        rest = at_p[name].to(torch.complex128) + at_q[name] - at_zero[name] - at_both[name]
        tolerance = 8 * torch.finfo(tensor.dtype).eps * (size + 8 * k * 5)
        assert not tensor.numel() or float(rest.abs().max()) <= tolerance


@given(planes((torch.float64, torch.complex128)), COORDINATES, st.lists(st.integers(-6, 6), min_size=3, max_size=3))
def test_projecting_gives_the_coordinates_back(plane: Plane, point: list[float], decades: list[int]) -> None:
    k = plane.ndim
    directions = tuple({n: t * 10.0**e for n, t in d.items()} for d, e in zip(plane.directions, decades, strict=False))
    matrix = np.stack([flat(d) for d in plane.directions], axis=1)
    assume(matrix.shape[0] >= k)
    condition = np.linalg.cond(matrix)
    assume(condition < 100)
    scaled = Plane(plane.origin, directions)
    coordinates = np.array([c / 10.0**e for c, e in zip(point[:k], decades, strict=False)])
    found = scaled.project(scaled.at(coordinates))
    lengths = 10.0 ** np.array(decades[:k])
    np.testing.assert_allclose(found * lengths, coordinates * lengths, rtol=0, atol=1e-9 * condition**2)


@given(planes((torch.float64,)), COORDINATES)
def test_a_direction_of_no_length_gets_the_coordinate_zero(plane: Plane, point: list[float]) -> None:
    zero = {name: torch.zeros_like(tensor) for name, tensor in plane.origin.items()}
    params = plane.at(point[: plane.ndim])
    found = Plane(plane.origin, (zero, *plane.directions)).project(params)
    np.testing.assert_allclose(found, [0.0, *plane.project(params)], rtol=1e-6, atol=1e-6)


# Directions -------------------------------------------------------------------------------------------------------


@st.composite
def snapshots(draw: Any, least: int = 1) -> Snapshot:
    """Weights of up to five layers of any shape, some filters dead, with the layouts of transposed convolutions."""
    params, filters = {}, {}
    for i in range(draw(st.integers(least, 5))):
        shape, layout = draw(SHAPES), FilterLayout()
        if len(shape) >= 2 and draw(st.booleans()):
            groups = draw(st.integers(1, 3))
            layout = FilterLayout(1, groups)
            shape = (groups * shape[0], *shape[1:])
        dtype = draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16]))
        weight = normal(shape, draw(SEEDS), dtype, 10.0 ** draw(st.integers(-12, 12)))
        if len(shape) >= 2 and draw(st.booleans()):
            for row in filters_of(weight, layout)[::2]:
                row.zero_()
        params[f"layer{i}.weight"], filters[f"layer{i}.weight"] = weight, layout
    return Snapshot(params, filters, frozenset(draw(st.sets(st.sampled_from([*params])))))


def filters_of(weight: Tensor, layout: FilterLayout) -> list[Tensor]:
    """Views of the filters, read off the meaning: every output channel of every group."""
    if layout.axis == 0:
        return list(weight)
    inputs = weight.shape[0] // layout.groups
    return [
        weight[g * inputs : (g + 1) * inputs, channel]
        for g in range(layout.groups)
        for channel in range(weight.shape[1])
    ]


def length(tensor: Tensor) -> float:
    """The Euclidean norm in float64, by numpy."""
    return float(np.sqrt((tensor.double().numpy() ** 2).sum()))


def drawn(random: Random, snapshot: Snapshot, k: int) -> tuple[Any, ...] | None:
    """The directions, or None where nothing can move."""
    try:
        return random(snapshot, k)
    except ValueError as error:
        message = str(error)
    assert re.search(r"leaves none of the .* parameters|is zero: every weight that may move", message)
    return None


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@given(data=st.data())
def test_every_normalisation_gives_finite_directions(normalize: str, data: st.DataObject) -> None:
    snapshot = data.draw(snapshots())
    k = data.draw(st.integers(1, 3))
    random = Random(
        normalize,
        ignore=data.draw(st.sampled_from([None, "biasbn"])),
        vectors=data.draw(st.sampled_from(["random", "copy"])),
        seed=data.draw(SEEDS),
    )
    directions = drawn(random, snapshot, k)
    if directions is None:
        scaled = normalize not in ("dfilter", "dlayer", "none") or random.vectors == "copy"
        at_rest = ignored(snapshot, random.ignore)
        moving = [t for n, t in snapshot.params.items() if n not in at_rest]
        assert not any(t.numel() for t in moving) or (scaled and not any(t.any() for t in moving))
        return
    assert len(directions) == k
    for direction in directions:
        assert list(direction) == list(snapshot.params)
        for name, tensor in direction.items():
            assert tensor.shape == snapshot.params[name].shape
            assert tensor.dtype == torch.promote_types(snapshot.params[name].dtype, torch.float32)
            assert torch.isfinite(tensor).all()


@given(snapshots(), SEEDS)
def test_filter_normalised_directions_have_the_lengths_of_the_filters(snapshot: Snapshot, seed: int) -> None:
    assume(sum(weight.numel() for weight in snapshot.params.values()) > 2)  # fewer numbers take their axes
    directions = drawn(Random("filter", ignore=None, seed=seed), snapshot, 2)
    dead = 0
    for name, weight in snapshot.params.items():
        layout = snapshot.filters[name]
        parts = [[weight], *[[d[name]] for d in directions or ()]]
        if weight.ndim > 1:
            parts = [filters_of(p, layout) for (p,) in parts]
            dead += sum(not f.any() for f in filters_of(weight, layout))
        expected, *found = [[length(f) for f in part] for part in parts]
        for lengths in found:
            np.testing.assert_allclose(lengths, expected, rtol=1e-5)
    assert dead_filters(snapshot, snapshot.params) == dead


@given(snapshots(), SEEDS, st.integers(2, 3), st.sampled_from(["none", "model"]))
def test_orthogonal_directions_are_orthogonal_or_refused(snapshot: Snapshot, seed: int, k: int, normalize: str) -> None:
    # Only where one factor rescales all: the other normalisations tilt the directions again.
    try:
        directions = Random(normalize, ignore=None, seed=seed, orthogonalize=True)(snapshot, k)
    except ValueError as error:
        message = str(error)
        assert re.search("is zero|leaves none|orthogonal", message)
        assert sum(t.numel() for t in snapshot.params.values()) < k or not any(
            t.any() for t in snapshot.params.values()
        )
        return
    plane = Plane(snapshot.params, directions)
    assert abs(plane.cosine()) < 1e-3
    assert min(plane.norms()) > 1e-6 * max(plane.norms()) or normalize == "none"


def ignored(snapshot: Snapshot, ignore: Any) -> set[str]:
    """The names at rest, read off the documentation."""
    names = set()
    for pattern in [ignore] if isinstance(ignore, str) else ignore or []:
        for name, tensor in snapshot.params.items():
            small = tensor.ndim <= 1 or name in snapshot.normalization
            if small if pattern == "biasbn" else fnmatchcase(name, pattern):
                names.add(name)
    return names


PATTERNS = st.sampled_from(["biasbn", "layer0.*", "*1*", "*.weight", "layer[23].*", "layer4.weight", "*", "nothing"])


@given(snapshots(), st.lists(PATTERNS, max_size=3) | PATTERNS | st.none())
def test_ignored_parameters_stay_at_rest_and_the_others_move(snapshot: Snapshot, ignore: Any) -> None:
    expected = ignored(snapshot, ignore)
    patterns = [ignore] if isinstance(ignore, str) else ignore or []
    strangers = [p for p in patterns if p != "biasbn" and not ignored(snapshot, p)]
    if strangers or expected == set(snapshot.params):
        with pytest.raises(ValueError, match=r"matches no trainable parameter|leaves none of the"):
            ignored_names(snapshot, ignore)
        return
    assert ignored_names(snapshot, ignore) == expected
    directions = drawn(Random("none", ignore=ignore), snapshot, 1)
    if directions is not None:
        moved = {name for name, tensor in directions[0].items() if tensor.any()}
        assert moved == {n for n, t in snapshot.params.items() if n not in expected and t.numel()}


# Means ------------------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """A line, a scalar, a tensor without elements and one that no direction moves."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal((2, 3), seed))
        self.scale = nn.Parameter(normal((), seed + 1))
        self.none = nn.Parameter(normal((0, 4), seed + 2))
        self.still = nn.Parameter(normal((2,), seed + 3))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.T).tanh() * self.scale + self.still + self.none.sum()


def sample_losses(module: Callable[..., Tensor], x: Tensor) -> Tensor:
    """One loss a sample, shape (B,)."""
    return (module(x) ** 2).sum(dim=1)


@st.composite
def partitions(draw: Any, total: int) -> list[np.ndarray]:
    """The numbers 0 … total - 1 in any order, cut anywhere."""
    order = np.random.default_rng(draw(SEEDS)).permutation(total)
    cuts = sorted(draw(st.sets(st.integers(1, total - 1), max_size=total - 1))) if total > 1 else []
    return np.split(order, cuts)


@st.composite
def measured(draw: Any) -> tuple[Small, Plane, np.ndarray, Tensor]:
    """A net, a plane through it, points of a grid, and data of which some samples explode or are odd."""
    seed, grid = draw(SEEDS), draw(grids((1, 2, 3), most=3, decades=1))
    net = Small(seed)
    origin = {n: p.detach().clone() for n, p in net.named_parameters()}
    directions = tuple({n: normal(t.shape, seed + 9 + d) for n, t in origin.items()} for d in range(grid.ndim))
    for direction in directions:
        direction["still"] = torch.zeros((), dtype=torch.float64).expand(2)
    data = normal((draw(st.integers(1, 12)), 3), seed + 20)
    odd = draw(st.sampled_from([None, None, 1e9, np.nan, np.inf]))
    if odd is not None:
        data[draw(st.integers(0, len(data) - 1)), 1] = odd
    return net, Plane(origin, directions), grid.points, data


@given(measured(), st.data())
def test_evaluating_is_the_naive_loop_however_the_samples_are_batched(
    drawn: tuple[Small, Plane, np.ndarray, Tensor], data: st.DataObject
) -> None:
    net, plane, points, x = drawn
    expected = []
    for point in points:
        params = {
            name: tensor + sum(float(c) * d[name] for c, d in zip(point, plane.directions, strict=True))
            for name, tensor in plane.origin.items()
        }
        with torch.no_grad():
            each = [
                sample_losses(partial(torch.func.functional_call, net, params), x[i : i + 1]) for i in range(len(x))
            ]
        expected.append(float(np.mean(torch.cat(each).numpy())))
    for objective in (sample_losses, lambda module, b: sample_losses(module, b).mean()):
        batches = [Batch(x[rows], len(rows), i) for i, rows in enumerate(data.draw(partitions(len(x))))]
        found = evaluate(objective, net, plane, points, batches)
        assert list(found) == ["loss"]
        np.testing.assert_allclose(found["loss"], expected, rtol=1e-12)


VALUES = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, -np.inf, 1e150, 0.0]))


@given(st.lists(st.tuples(VALUES, st.integers(1, 100)), min_size=1, max_size=20), SEEDS)
def test_the_mean_and_its_error_do_not_depend_on_the_order(
    student: Callable[[int], float], rows: list[tuple[float, int]], seed: int
) -> None:
    values, weights = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    order = np.random.default_rng(seed).permutation(len(rows))
    mean, error = mean_and_error(values, weights)
    again, error_again = mean_and_error(values[order], weights[order])
    size = np.abs(values).max()
    np.testing.assert_allclose(again, mean, rtol=1e-12, atol=1e-14 * size if np.isfinite(size) else 0)
    np.testing.assert_allclose(error_again, error, rtol=1e-9, atol=1e-14 * size if np.isfinite(size) else 0)
    if len(rows) == 1 or not np.isfinite(values).all():
        assert np.isnan(error)
    else:
        m = np.average(values, weights=weights)
        naive = np.sqrt((weights * (values - m) ** 2).sum() / (len(rows) - 1) / weights.sum())
        np.testing.assert_allclose(error, naive * student(len(rows)), rtol=1e-9, atol=1e-14 * size)
        # w equal samples are one observation of weight w: the mean does not know the difference.
        single, _ = mean_and_error(np.repeat(values, weights.astype(int)), np.ones(int(weights.sum())))
        np.testing.assert_allclose(single, mean, rtol=1e-12, atol=1e-13 * size)
