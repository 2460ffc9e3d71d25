"""The values every floor exchanges: expected values are closed forms."""

import copy
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from lightning_landscape.landscape import Grid, Landscape, Sample, Samples, Trajectory, axis_points, equal, grid_of
from lightning_landscape.recipe import Recipe
from lightning_landscape.report import Interpolation, Report
from lightning_landscape.spectrum import Spectrum


def parabola(nx=7, ny=5, x=(-3, 3), y=(-2, 2), **fields) -> Landscape:
    """f(x, y) = 1 + 3x + x² + 4y², whose second derivatives are 2 and 8."""
    grid = Grid.from_ranges((*x, nx), (*y, ny))
    a, b = grid.points.T
    return Landscape(grid, {"loss": (1 + 3 * a + a**2 + 4 * b**2).reshape(grid.shape)}, "loss", **fields)


# axes


@pytest.mark.parametrize("low, high, points", [(-1, 1, 5), (-0.3, 0.7, 11), (2, 3, 2), (-1e-9, 1e-9, 7)])
def test_an_axis_is_equally_spaced_with_its_ends(low, high, points):
    axis = axis_points("x", (low, high, points))
    expected = [low + (high - low) * i / (points - 1) for i in range(points)]
    assert axis.dtype == np.float64
    np.testing.assert_allclose(axis, expected, rtol=1e-14, atol=1e-15 * (high - low))
    assert (axis[0], axis[-1]) == (low, high)


@pytest.mark.parametrize("points", range(3, 102, 2))
def test_a_symmetric_odd_axis_holds_the_centre_exactly(points):
    axis = axis_points("x", (-0.7, 0.7, points))
    assert axis[points // 2] == 0
    assert np.count_nonzero(axis == 0) == 1


@pytest.mark.parametrize(
    "given, message",
    [
        ((1, -1, 5), r"x=\(1, -1, 5\) is reversed or empty"),
        ((1, 1, 5), r"x=\(1, 1, 5\) is reversed or empty"),
        ((float("nan"), 1, 5), r"x=\(nan, 1, 5\) has an end that is not finite"),
        ((-1, float("inf"), 5), r"has an end that is not finite"),
        ((-1e308, 1e308, 5), r"x=\(-1e\+308, 1e\+308, 5\) is wider than float64 can hold: give ends nearer"),
        ((-1, 1, 1), r"has 1 points: give a whole number of at least 2"),
        ((-1, 1, 0), r"has 0 points: give a whole number of at least 2"),
        ((-1, 1, -3), r"has -3 points: give a whole number of at least 2"),
        ((-1, 1, 5.5), r"has 5.5 points: give a whole number of at least 2"),
        ((-1, 1, True), r"has True points: give a whole number"),
        ((-1, 1, "5"), r"has 5 points: give a whole number"),
        ((-1, 1), r"x=\(-1, 1\) is not a range: give \(low, high, points\), e.g. \(-1, 1, 51\)"),
        ((-1, 1, 5, 7), r"is not a range"),
        ((-1, 1, float("nan")), r"is not a range"),
        (("a", 1, 5), r"is not a range"),
        (None, r"x=None is not a range"),
        (51, r"x=51 is not a range"),
    ],
)
def test_a_wrong_range_says_what_to_give(given, message):
    with pytest.raises(ValueError, match=message):
        axis_points("x", given)


def test_infinitely_many_points_are_refused_like_any_other_wrong_count():
    with pytest.raises(ValueError, match="x="):
        axis_points("x", (-1, 1, float("inf")))


@pytest.mark.parametrize("counts", [(100_000, 100_000), (10**15,), (300, 300, 300), (10_000_001,), (3163, 3163)])
def test_a_grid_that_no_one_can_wait_for_is_refused_before_it_takes_memory(counts):
    total = math.prod(counts)
    with pytest.raises(ValueError, match=rf"has {total:,} points: .* days at a millisecond a point, and .* GiB a met"):
        grid_of({f"axis_{i}": (-1, 1, count) for i, count in enumerate(counts)})
    with pytest.raises(ValueError, match="Give at most 10,000,000 points in all"):
        Grid.from_ranges(*[(-1, 1, count) for count in counts])


def test_the_estimate_of_a_grid():
    """10¹⁰ ms are 115.7 days; 2 · 8 bytes each, 149 GiB."""
    with pytest.raises(ValueError, match=r"x=\(0, 1, 100000\), y=\(0, 1, 100000\) has .*: 116 days .* 149 GiB"):
        grid_of({"x": (0, 1, 100_000), "y": (0, 1, 100_000)})


def test_a_large_grid_may_be_had():
    assert grid_of({"x": (-1, 1, 3162), "y": (-1, 1, 3162)}).size < 10**7


def test_a_range_error_names_its_axis():
    with pytest.raises(ValueError, match=r"^y=\(3, 2, 5\)"):
        Grid.from_ranges((-1, 1, 3), (3, 2, 5))
    with pytest.raises(ValueError, match=r"^range 3="):
        Grid.from_ranges((-1, 1, 3), (-1, 1, 3), (-1, 1, 3), (1, -1, 3))


# grids


def test_points_run_with_the_last_axis_fastest():
    grid = Grid.from_ranges((-1, 1, 3), (0, 1, 2), (5, 8, 4))
    assert (grid.ndim, grid.shape, grid.size) == (3, (3, 2, 4), 24)
    expected = [[x, y, z] for x in (-1, 0, 1) for y in (0, 1) for z in (5, 6, 7, 8)]
    np.testing.assert_array_equal(grid.points, expected)


def test_values_reshape_to_the_grid_at_their_own_coordinates():
    grid = Grid.from_ranges((-2, 2, 5), (0, 2, 3))
    values = (10 * grid.points[:, 0] + grid.points[:, 1]).reshape(grid.shape)
    for i, x in enumerate([-2, -1, 0, 1, 2]):
        for j, y in enumerate([0, 1, 2]):
            assert values[i, j] == 10 * x + y


@pytest.mark.parametrize(
    "ranges, index, has_center",
    [
        ([(-1, 1, 5)], (2,), True),
        ([(-1, 2, 6)], (2,), False),
        ([(0, 2, 3), (-4, 1, 6)], (0, 4), True),
        ([(-1, 1, 3), (1, 2, 3)], (1, 0), False),
    ],
)
def test_the_centre_is_the_point_nearest_to_the_origin(ranges, index, has_center):
    grid = Grid.from_ranges(*ranges)
    assert (grid.center_index, grid.has_center) == (index, has_center)


@pytest.mark.parametrize(
    "axes, message",
    [
        ((), "at least one axis, got none"),
        (([0.0],), r"axes\[0\] must be 1-D with at least 2 points, got shape \(1,\)"),
        (([0.0, 1.0], [[0.0, 1.0]]), r"axes\[1\] must be 1-D with at least 2 points, got shape \(1, 2\)"),
        (([0.0, 1.0], [1.0, 0.0]), r"axes\[1\] must be finite and strictly increasing"),
        (([0.0, 0.0, 1.0],), r"axes\[0\] must be finite and strictly increasing"),
        (([0.0, np.nan],), r"axes\[0\] must be finite and strictly increasing"),
        (([0.0, np.inf],), r"axes\[0\] must be finite and strictly increasing"),
    ],
)
def test_a_grid_refuses_axes_that_are_none(axes, message):
    with pytest.raises(ValueError, match=message):
        Grid(axes)


def test_a_grid_is_a_value_of_its_own():
    mine = np.array([0.0, 1.0, 3.0])
    grid = Grid((mine,))
    mine[0] = -5
    np.testing.assert_array_equal(grid.axes[0], [0, 1, 3])
    with pytest.raises(ValueError, match="read-only"):
        grid.axes[0][0] = 7


def test_grids_are_equal_by_their_coordinates():
    assert Grid(([0, 1], [0, 1, 2])) == Grid.from_ranges((0, 1, 2), (0, 2, 3))
    assert Grid(([0, 1], [0, 1, 2])) != Grid(([0, 1, 2], [0, 1]))
    assert Grid(([0, 1],)) != Grid(([0, 2],))
    assert Grid(([0, 1],)) != Grid(([0, 1], [0, 1]))
    assert Grid(([0, 1],)) != "grid"


# landscapes


@pytest.mark.parametrize("field", ["values", "standard_errors", "done"])
def test_a_landscape_refuses_a_transposed_array(field):
    grid = Grid.from_ranges((-1, 1, 3), (-1, 1, 2))
    right, wrong = np.zeros(grid.shape), np.zeros(grid.shape[::-1])
    fields = {
        "values": {"values": {"loss": wrong}},
        "standard_errors": {"values": {"loss": right}, "standard_errors": {"loss": wrong}},
        "done": {"values": {"loss": right}, "done": wrong.astype(bool)},
    }[field]
    name = {"values": "loss", "standard_errors": "standard error of loss", "done": "done"}[field]
    with pytest.raises(ValueError, match=rf"{name} has shape \(2, 3\), the grid has \(3, 2\)"):
        Landscape(grid, main="loss", **fields)


def test_a_landscape_refuses_transposed_samples_and_a_wrong_count():
    grid = Grid.from_ranges((-1, 1, 3), (-1, 1, 2))
    items = (Sample(0, 1.0),)
    with pytest.raises(ValueError, match=r"samples have shape \(2, 3\), the grid has \(3, 2\)"):
        Landscape(grid, {"loss": np.zeros((3, 2))}, "loss", samples=Samples(np.zeros((1, 2, 3)), items))
    with pytest.raises(ValueError, match="holds 2 landscapes for 1 samples"):
        Samples(np.zeros((2, 3, 2)), items)


def test_a_landscape_needs_its_main_metric():
    grid = Grid.from_ranges((-1, 1, 3))
    with pytest.raises(ValueError, match="main='loss' is not among the metrics: accuracy, f1"):
        Landscape(grid, {"accuracy": np.zeros(3), "f1": np.zeros(3)}, "loss")
    with pytest.raises(ValueError, match="main='loss' is not among the metrics: none"):
        Landscape(grid, {}, "loss")


def test_the_centre_is_read_off_the_grid_or_unknown():
    assert parabola().center == {"loss": 1.0}
    assert np.isnan(parabola(nx=6).center["loss"])
    assert parabola(nx=6, center={"loss": 7.0}).center == {"loss": 7.0}


def test_an_empty_landscape_has_nothing_done():
    grid = Grid.from_ranges((-1, 1, 3), (-1, 1, 2))
    empty = Landscape.empty(grid, iter(["loss", "accuracy"]), "loss")
    assert list(empty.values) == list(empty.standard_errors) == ["loss", "accuracy"]
    assert not empty.done.any()
    assert all(np.isnan(v).all() for v in [*empty.values.values(), *empty.standard_errors.values()])
    assert np.isnan(empty.relief())
    empty.values["loss"][0, 0] = 1
    assert np.isnan(empty.values["accuracy"]).all()


def test_slices_go_through_the_centre_along_their_own_direction():
    landscape = parabola()
    x, y = np.linspace(-3, 3, 7), np.linspace(-2, 2, 5)
    np.testing.assert_allclose(landscape.slice_values(0), 1 + 3 * x + x**2, rtol=1e-14)
    np.testing.assert_allclose(landscape.slice_values(1), 1 + 4 * y**2, rtol=1e-14)


def test_slices_of_errors_follow_or_are_unknown():
    errors = np.arange(35.0).reshape(7, 5)
    landscape = parabola(standard_errors={"loss": errors})
    np.testing.assert_array_equal(landscape.slice_errors(0), [2, 7, 12, 17, 22, 27, 32])
    np.testing.assert_array_equal(landscape.slice_errors(1), [15, 16, 17, 18, 19])
    assert np.isnan(parabola().slice_errors(1)).all()
    assert parabola().slice_errors(1).shape == (5,)


def test_a_metric_that_is_not_there_lists_those_that_are():
    landscape = parabola()
    assert (landscape.metric(), landscape.metric("loss")) == ("loss", "loss")
    assert landscape.loss is landscape.values["loss"]
    for read in (landscape.metric, landscape.relief, landscape.curvature, lambda n: landscape.slice_values(0, n)):
        with pytest.raises(ValueError, match="metric='accuracy' is not in this landscape; it has: loss"):
            read("accuracy")


def test_relief_is_of_finite_evaluated_points():
    landscape = parabola()
    assert landscape.relief() == 1 + 9 + 9 + 16 - (1 - 3 * 1 + 1)  # f(3, ±2) − f(−1, 0), as f(−2, 0)
    landscape.values["loss"][6] = np.nan
    landscape.values["loss"][0, 0] = np.inf
    landscape.values["loss"][0, 1] = -np.inf
    assert landscape.relief() == (1 + 6 + 4 + 16) - (-1)
    landscape.done[5] = False
    assert landscape.relief() == (1 + 3 + 1 + 16) - (-1)
    landscape.done[:] = False
    assert np.isnan(landscape.relief())


def line(axis, values):
    return Landscape(Grid((axis,)), {"loss": values}, "loss")


@pytest.mark.parametrize("ends", [(0, 1, 5), (-0.5, 1.5, 41), (-0.2, 1.2, 15), (-0.3, 1.7, 21), (-1, 2, 31)])
def test_the_barrier_is_the_highest_rise_above_the_line_between_the_ends(ends):
    """Of t(1 − t) on a slope, 1/4 in the middle; what lies beyond the ends does not count."""
    t = np.linspace(*ends)
    expected = max(v * (1 - v) for v in t)
    assert line(t, t * (1 - t) + 3 * t).barrier() == pytest.approx(expected, abs=1e-12)
    assert line(t, 2 * t - t * (1 - t) + 100 * (t > 1.01)).barrier() == pytest.approx(0, abs=1e-12)


def test_a_barrier_needs_both_ends_and_one_direction():
    for axis in (np.linspace(0, 0.9, 5), np.linspace(0.1, 1, 5), np.linspace(-1, 1, 6)):
        with pytest.raises(ValueError, match=r"A barrier is of a path that holds 0 and 1; .* xrange=\(0, 1, 51\)"):
            line(axis, axis).barrier()
    grid = Grid.from_ranges((0, 1, 3), (0, 1, 3))
    with pytest.raises(ValueError, match=r"this grid has shape \(3, 3\)"):
        Landscape(grid, {"loss": np.zeros((3, 3))}, "loss").barrier()


def test_a_trajectory_has_a_row_a_step():
    fine = {"steps": np.arange(3.0), "points": np.zeros((3, 2)), "residuals": np.zeros(3), "distances": np.zeros(3)}
    Trajectory(**fine, metrics={"loss": np.zeros(3)})
    with pytest.raises(ValueError, match="points has 2 rows for 3 steps"):
        Trajectory(**{**fine, "points": np.zeros((2, 2))})
    with pytest.raises(ValueError, match="loss has 4 rows for 3 steps"):
        Trajectory(**fine, metrics={"loss": np.zeros(4)})


def test_curvature_of_a_parabola_is_exact_on_any_spacing():
    np.testing.assert_allclose(parabola().curvature(), (2, 8), rtol=1e-13)
    np.testing.assert_allclose(parabola(nx=4, x=(0.5, 9)).curvature(), (2, 8), rtol=1e-12)
    grid = Grid((np.array([-4.0, 0.0, 0.1, 5.0]), np.array([-1.0, 0.5, 0.75])))
    a, b = grid.points.T
    uneven = Landscape(grid, {"loss": (2 * a**2 - 3 * b**2 + a).reshape(grid.shape)}, "loss")
    np.testing.assert_allclose(uneven.curvature(), (4, -6), rtol=1e-11)


def test_curvature_is_at_the_point_nearest_to_the_centre():
    x = np.linspace(-3, 3, 7)
    quartic = Landscape(Grid((x,)), {"loss": x**4, "cubic": x**3}, "loss")
    assert quartic.curvature() == (2.0,)  # (1 − 0 + 1)/1², not x⁴'s 12x² elsewhere
    assert quartic.curvature("cubic") == (0.0,)


def test_curvature_is_nan_where_it_is_unknown():
    landscape = parabola(ny=2)
    assert landscape.curvature()[0] == pytest.approx(2)
    assert np.isnan(landscape.curvature()[1])
    broken = parabola()
    broken.values["loss"][2, 2] = np.nan
    assert np.isnan(broken.curvature()[0])
    assert broken.curvature()[1] == pytest.approx(8)
    broken.values["loss"][3, 1:4] = np.inf  # inf − inf must not warn
    assert np.isnan(broken.curvature()).all()


def test_nbytes_counts_every_array():
    landscape = parabola(standard_errors={"loss": np.zeros((7, 5))})
    assert landscape.nbytes == 35 * 8 + 35 * 8 + 35 + 35
    sampled = parabola(samples=Samples(np.zeros((2, 7, 5)), (Sample(0, 1.0), Sample(1, 1.0))))
    assert sampled.nbytes == 35 * 8 + 35 + 35 + 70 * 8


def test_evaluated_points_have_values_that_are_not_interpolated():
    mask = np.zeros((7, 5), dtype=bool)
    mask[1, 2] = mask[0, 0] = True
    landscape = parabola(
        interpolated=mask, meta={"seed": 1}, report=Report(1.0, interpolation=Interpolation()), samples=full().samples
    )
    landscape.done[3, 3] = False
    assert np.argwhere(~landscape.evaluated).tolist() == [[0, 0], [1, 2], [3, 3]]
    bare = landscape.without_interpolated()
    assert not bare.interpolated.any()
    assert np.array_equal(bare.done, landscape.evaluated)
    assert np.isnan(bare.loss[1, 2])
    assert np.isnan(bare.samples.values[:, 1, 2]).all()
    assert bare.loss[2, 2] == landscape.loss[2, 2]
    assert bare.meta == {"seed": 1}
    assert bare.report == Report(1.0)
    assert landscape.report.interpolation is not None
    assert landscape.loss[1, 2] == parabola().loss[1, 2]  # of which it is a copy
    landscape.record((1, 2), {"loss": (7.0, 0.1)})
    assert landscape.evaluated[1, 2]


def test_an_interpolated_point_must_be_done():
    mask = np.zeros((7, 5), dtype=bool)
    mask[:2, 0] = True
    with pytest.raises(ValueError, match="2 interpolated points are not among those done"):
        parabola(interpolated=mask, done=~mask)
    with pytest.raises(ValueError, match=r"interpolated has shape \(5, 7\), the grid has \(7, 5\)"):
        parabola(interpolated=mask.T)


def test_building_a_landscape_leaves_the_callers_centre_alone():
    center = {}
    parabola(center=center)
    assert center == {}


# equality


def full() -> Landscape:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    items = (Sample(3, 0.5, 1, 2, 0.75, picture), Sample(9, float("nan")))
    values = np.arange(70.0).reshape(2, 7, 5)
    values[1, 0, 0] = np.nan
    landscape = parabola(
        standard_errors={"loss": np.full((7, 5), 0.1)}, samples=Samples(values, items), meta={"seed": 1, "x": np.nan}
    )
    landscape.values["loss"][0, 0] = np.nan
    block = Spectrum(2, np.array([1.0]), np.zeros(1))
    landscape.spectrum = Spectrum(
        9, np.array([3.0, 1.0]), np.zeros(2), nodes=(np.ones(2),) * 2, weights=(np.ones(2),) * 2
    )
    landscape.spectrum = replace(landscape.spectrum, blocks={"0": block})
    return landscape


def respect(landscape: Landscape, **fields) -> None:
    landscape.spectrum = replace(landscape.spectrum, **fields)


def replace_item(landscape: Landscape, **fields) -> None:
    items = (replace(landscape.samples.items[0], **fields), *landscape.samples.items[1:])
    landscape.samples = Samples(landscape.samples.values, items)


CHANGES = {
    "grid": lambda a: setattr(a, "grid", Grid.from_ranges((-3, 3, 7), (-2, 2.5, 5))),
    "value": lambda a: a.values["loss"].__setitem__((1, 1), 99),
    "NaN to inf": lambda a: a.values["loss"].__setitem__((0, 0), np.inf),
    "one bit": lambda a: a.values["loss"].__setitem__((1, 1), np.nextafter(a.values["loss"][1, 1], 99)),
    "another metric": lambda a: a.values.update(f1=np.zeros((7, 5))),
    "standard error": lambda a: a.standard_errors["loss"].__setitem__((1, 1), 0.2),
    "no standard errors": lambda a: a.standard_errors.clear(),
    "done": lambda a: a.done.__setitem__((1, 1), False),
    "interpolated": lambda a: a.interpolated.__setitem__((1, 1), True),
    "center": lambda a: a.center.update(loss=2.0),
    "meta": lambda a: a.meta.update(seed=2),
    "recipe": lambda a: setattr(a, "recipe", Recipe(seed=2)),
    "report": lambda a: setattr(a.report, "failure", "ValueError: no"),
    "no samples": lambda a: setattr(a, "samples", None),
    "sample value": lambda a: a.samples.values.__setitem__((0, 1, 1), -1),
    "sample label": lambda a: replace_item(a, label=0),
    "sample picture": lambda a: replace_item(a, thumbnail=np.zeros((4, 4, 3), np.uint8)),
    "no spectrum": lambda a: setattr(a, "spectrum", None),
    "eigenvalue": lambda a: respect(a, eigenvalues=np.array([3.0, 1.5])),
    "lowest eigenvalue": lambda a: respect(a, lowest=-1.0),
    "density": lambda a: respect(a, nodes=(np.ones(2), np.zeros(2))),
    "block": lambda a: respect(a, blocks={"0": replace(a.spectrum.blocks["0"], trace=1.0)}),
    "no sample picture": lambda a: replace_item(a, thumbnail=None),
}


def test_a_landscape_equals_its_twin():
    assert equal(full(), full())
    assert equal(parabola(), parabola())


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_makes_landscapes_unequal(change):
    changed = full()
    CHANGES[change](changed)
    assert not equal(changed, full())
    assert not equal(full(), changed)


def test_another_main_metric_makes_landscapes_unequal():
    a, b = full(), full()
    for landscape in (a, b):
        landscape.values["f1"] = np.zeros((7, 5))
        landscape.center["f1"] = 0.0
    assert equal(a, b)
    b.main = "f1"
    assert not equal(a, b)


def test_axes_as_wide_as_float64_are_a_grid():
    assert Grid((np.array([-1.7e308, 1.6e308]),)).center_index == (1,)


def test_a_missing_metric_is_answered_with_those_there_are():
    landscape = parabola()
    for bare in (landscape, replace(landscape), pickle.loads(pickle.dumps(landscape)), copy.deepcopy(landscape)):
        for table in (bare.values, bare.center):
            with pytest.raises(KeyError, match="metric 'val_acc' is not in this landscape; it has: loss"):
                table["val_acc"]
            assert table.get("val_acc") is None
            assert "val_acc" not in table
    with pytest.raises(KeyError, match="metric 'loss' is not in this landscape; it has: none"):
        landscape.standard_errors["loss"]


def test_two_landscapes_of_one_table_share_it():
    """`replace` gives another view of a landscape that fills up."""
    landscape = Landscape.empty(Grid.from_ranges((0, 1, 2)), ["loss"], "loss")
    other = replace(landscape, recipe=Recipe(seed=1))
    landscape.record((0,), {"loss": (1.0, 0.1), "acc": (0.5, 0.0)})
    assert other.values["acc"][0] == 0.5
