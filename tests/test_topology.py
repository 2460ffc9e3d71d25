"""Minima, basins and passes against gudhi's cubical persistence, a flood by brute force, and wells known in advance."""

from __future__ import annotations

import math
import warnings
from itertools import product

import numpy as np
import pytest

from lightning_landscape import Grid, Landscape, Recipe, Report
from lightning_landscape.recipe import DirectionsRecipe
from lightning_landscape.report import Interpolation
from lightning_landscape.topology import Heights, find_minima


def landscape_of(values: np.ndarray, **fields: object) -> Landscape:
    grid = Grid(tuple(np.arange(float(size)) for size in values.shape))
    return Landscape(grid, {"loss": values}, "loss", **fields)


def heights_of(values: np.ndarray, done: np.ndarray | None = None) -> Heights:
    axes = tuple(np.arange(float(size)) for size in values.shape)
    given = np.ones(values.shape, bool) if done is None else done
    return Heights(axes, values, np.full(values.shape, np.nan), given)


def waves(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A smooth surface with some hills, and noise."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(0, 1, size) for size in shape), indexing="ij")
    hills = sum(np.sin(rng.uniform(3, 9) * axis + rng.uniform(0, 6)) for axis in axes)
    return hills + 0.2 * rng.normal(size=shape)


SURFACES = {
    "noise": np.random.default_rng(0).normal(size=(13, 8)),
    "waves": waves((21, 17), 1),
    "line": waves((40,), 2),
    "volume": waves((7, 6, 5), 3),
    "plateaus": np.random.default_rng(4).integers(0, 4, (12, 9)).astype(float),
    "bowl": np.add.outer(np.linspace(-1, 1, 9) ** 2, np.linspace(-1, 1, 7) ** 2),
}


@pytest.mark.parametrize("values", SURFACES.values(), ids=SURFACES)
def test_minima_are_those_of_gudhi(values: np.ndarray) -> None:
    gudhi = pytest.importorskip("gudhi", reason="gudhi is not installed: pip install gudhi")
    complexes = gudhi.CubicalComplex(top_dimensional_cells=values)
    complexes.compute_persistence()
    expected = sorted((b, d - b) for b, d in complexes.persistence_intervals_in_dimension(0).tolist())
    found = sorted((minimum.value, minimum.persistence) for minimum in find_minima(heights_of(values))[0])
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_walls_are_those_of_gudhi() -> None:
    gudhi = pytest.importorskip("gudhi", reason="gudhi is not installed: pip install gudhi")
    values = waves((14, 11), 5)
    values[6] = np.inf  # two halves
    values[2, 3], values[9, 4] = np.nan, np.inf
    done = np.random.default_rng(6).random(values.shape) > 0.1
    cells = np.where(done & np.isfinite(values), values, np.inf)
    complexes = gudhi.CubicalComplex(top_dimensional_cells=cells)
    complexes.compute_persistence()
    expected = sorted((b, d - b) for b, d in complexes.persistence_intervals_in_dimension(0).tolist() if b < np.inf)
    found = sorted((m.value, m.persistence) for m in find_minima(heights_of(values, done))[0])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert sum(math.isinf(persistence) for _, persistence in found) >= 2


def neighbours(values: np.ndarray, index: tuple[int, ...]) -> list[tuple[int, ...]]:
    steps = [step for step in product((-1, 0, 1), repeat=values.ndim) if any(step)]
    near = [tuple(i + d for i, d in zip(index, step, strict=True)) for step in steps]
    return [n for n in near if all(0 <= i < size for i, size in zip(n, values.shape, strict=True))]


def lowest_level(values: np.ndarray, p: tuple[int, ...], q: tuple[int, ...]) -> float | None:
    """The lowest level at which the points below it connect p and q: each level is flooded anew."""
    for level in np.unique(values[np.isfinite(values)]):
        if level < max(values[p], values[q]):
            continue
        reached, waiting = {p}, [p]
        while waiting:
            for n in neighbours(values, waiting.pop()):
                if n not in reached and values[n] <= level:
                    reached.add(n)
                    waiting.append(n)
        if q in reached:
            return float(level)
    return None


@pytest.mark.parametrize("shape", [(9, 6), (23,), (4, 5, 3)])
def test_a_pass_is_the_lowest_level_that_connects(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(7).integers(0, 12, shape).astype(float)
    values[tuple(size // 2 for size in shape)] = np.nan
    landscape = landscape_of(values)
    rng = np.random.default_rng(8)
    for _ in range(12):
        p, q = (tuple(int(rng.integers(size)) for size in shape) for _ in range(2))
        if not np.isfinite([values[p], values[q]]).all():
            continue
        found, expected = landscape.pass_between(p, q), lowest_level(values, p, q)
        assert (found and found.value) == expected
        if found is not None:
            assert values[found.index] == found.value
            assert found.rise == found.value - max(values[p], values[q])


def test_walls_may_separate_points() -> None:
    values = np.zeros((5, 3))
    values[2] = np.inf
    assert landscape_of(values).pass_between((0, 0), (4, 1)) is None
    done = np.ones((5, 3), bool)
    done[2] = False
    assert landscape_of(np.zeros((5, 3)), done=done).pass_between((0, 0), (4, 1)) is None


def two_wells(errors: float) -> Landscape:
    """f(x, y) = (x² − 1)² + y² + x / 10: minima near (∓1, 0), and the pass near (0, 0)."""
    grid = Grid.from_ranges((-1.5, 1.5, 31), (-1, 1, 11))
    x, y = grid.points.T
    values = ((x**2 - 1) ** 2 + y**2 + 0.1 * x).reshape(grid.shape)
    recipe = Recipe(directions=DirectionsRecipe("between", {"targets": 2}))
    return Landscape(grid, {"loss": values}, "loss", {"loss": np.full(grid.shape, errors)}, recipe=recipe)


def test_two_wells_have_their_minima_basins_and_pass() -> None:
    landscape = two_wells(0.1)
    first, second = landscape.minima()
    np.testing.assert_allclose(first.point, (-1, 0), atol=1e-12)
    np.testing.assert_allclose(second.point, (1, 0), atol=1e-12)
    np.testing.assert_allclose((first.value, second.value), (-0.1, 0.1))
    between = landscape.pass_between(first, second)
    assert between == second.exit
    np.testing.assert_allclose(between.point, (0, 0), atol=1e-12)
    assert between.value == pytest.approx(1)
    assert (between.rise, between.noise) == pytest.approx((0.9, 2 * math.hypot(0.1, 0.1)))
    assert between.standard_error == 0.1
    x = landscape.grid.axes[0]
    assert np.array_equal(landscape.basins()[x < -0.05], np.zeros((15, 11)))
    assert np.array_equal(landscape.basins()[x > 0.05], np.ones((15, 11)))


@pytest.mark.parametrize("error, count", [(0.3, 2), (0.33, 1)])  # 0.9 = 2 √2 · 0.318
def test_a_rise_within_the_noise_is_none(error: float, count: int) -> None:
    landscape = two_wells(error)
    assert len(landscape.minima()) == count
    assert len(np.unique(landscape.basins())) == count


def test_the_error_of_interpolation_counts() -> None:
    landscape = two_wells(0.1)
    landscape.interpolated = np.ones(landscape.grid.shape, bool)
    landscape.report = Report(interpolation=Interpolation(errors={"loss": 0.5 / landscape.relief()}))
    (only,) = landscape.minima()
    assert only.standard_error == pytest.approx(math.hypot(0.1, 0.5))


def test_basins_cover_the_values_alone_and_lead_downhill() -> None:
    values = waves((15, 12), 9)
    values[3, 4:8] = np.nan
    landscape = landscape_of(values)
    minima, basins = landscape.minima(), landscape.basins()
    assert np.array_equal(basins < 0, np.isnan(values))
    assert set(np.unique(basins)) - {-1} == set(range(len(minima)))
    for index in zip(*np.nonzero(basins >= 0), strict=True):
        at = tuple(int(i) for i in index)
        while lower := [n for n in neighbours(values, at) if values[n] < values[at]]:
            at = min(lower, key=lambda n: values[n])
        assert minima[basins[index]].index == at


def test_plateaus_are_the_same_each_time_and_have_one_minimum() -> None:
    values = np.full((6, 5), 2.0)
    values[1:3, 1:4] = 1.0
    (minimum,) = landscape_of(values).minima()
    assert minimum.index == (1, 1)
    assert not landscape_of(values).basins().any()
    horseshoe = np.full((3, 5), 1.0)
    horseshoe[0, 2] = horseshoe[1, 2] = 3.0  # one plateau, reached from both of its arms
    assert len(landscape_of(horseshoe).minima()) == 1


def test_a_minimum_at_the_border_says_so() -> None:
    slope = landscape_of(np.add.outer(np.arange(4.0), np.arange(3.0)))
    (lowest,) = slope.minima()
    assert lowest.at_border
    assert lowest.exit is None
    assert not two_wells(0.1).minima()[0].at_border


def test_no_value_is_no_minimum() -> None:
    landscape = landscape_of(np.full((3, 4), np.nan))
    assert landscape.minima() == ()
    assert (landscape.basins() == -1).all()


def test_errors_name_the_argument() -> None:
    landscape = two_wells(0.1)
    with pytest.raises(ValueError, match=r"p=\(2\.0, 0\.0\) is no point of this landscape: give 2 coordinates, within"):
        landscape.pass_between((2, 0), (0, 0))
    with pytest.raises(ValueError, match=r"q=\(0\.0,\) is no point of this landscape: give 2 coordinates"):
        landscape.pass_between((0, 0), (0,))
    landscape.values["loss"][15, 5] = np.nan
    with pytest.raises(ValueError, match=r"q=\(0\.0, 0\.0\) has no finite value here: give a point with one"):
        landscape.pass_between((1, 0), (0, 0))
    with pytest.raises(ValueError, match="metric='acc' is not in this landscape"):
        landscape.minima("acc")


# pictures


def marks(landscape: Landscape) -> dict[str, list[tuple[float, float]]]:
    (ax,) = [a for a in landscape.plot("contour").axes if a.get_xlabel()]
    return {
        line.get_gid(): list(zip(*line.get_data(), strict=True))
        for line in ax.get_lines()
        if line.get_gid() in ("models", "minima", "passes")
    }


def test_a_plane_between_models_shows_models_minima_and_passes() -> None:
    found = marks(two_wells(0.1))
    assert found["models"] == [(1, 0), (0, 1)]
    np.testing.assert_allclose(sorted(found["minima"]), [(-1, 0), (1, 0)], atol=1e-12)
    np.testing.assert_allclose(found["passes"], [(0, 0)], atol=1e-12)


def test_what_is_not_significant_is_not_drawn() -> None:
    assert marks(two_wells(0.4)).keys() == {"models"}


def test_other_planes_stay_clean() -> None:
    landscape = two_wells(0.1)
    for kind, settings in {"random": {}, "joined": {"parts": [{"kind": "random"}, {"kind": "pca"}]}}.items():
        landscape.recipe = Recipe(directions=DirectionsRecipe(kind, settings))
        with warnings.catch_warnings():
            assert marks(landscape) == {}


def test_one_target_beside_a_random_direction_is_marked() -> None:
    landscape = two_wells(0.1)
    parts = [{"kind": "random"}, {"kind": "between", "targets": 1}]
    landscape.recipe = Recipe(directions=DirectionsRecipe("joined", {"parts": parts}))
    assert marks(landscape)["models"] == [(0, 1)]
