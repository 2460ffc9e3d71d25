"""Fewer evaluations: the stated error against whole surfaces, known in closed form or measured at every point."""

import math
from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest

from lightning_landscape.interpolation.refinement import check_tolerance, least, levels, probes, refine
from lightning_landscape.landscape import Grid, Landscape, Sample, Samples
from lightning_landscape.survey.group import merge


def swept(function, grid, tolerance, landscape=None, errors=None, skip=()):
    """The landscape of a function of points (n, k), and how many of them were asked for."""
    truth = np.asarray(function(grid.points), dtype=float).reshape(grid.shape)
    landscape = landscape or Landscape.empty(grid, ["loss"], "loss")
    asked = []
    for order in refine(landscape, ["loss"], tolerance):
        for flat in order:
            asked.append(int(flat))
            index = np.unravel_index(flat, grid.shape)
            if int(flat) not in skip:
                error = 0.0 if errors is None else errors[index]
                landscape.record(index, {"loss": (float(truth[index]), error)})
    assert len(set(asked)) == len(asked)
    assert np.array_equal(landscape.loss[landscape.evaluated], truth[landscape.evaluated], equal_nan=True)
    return landscape, truth, asked


def share(landscape, truth):
    """The largest error as a share of the range."""
    truth, got = truth[landscape.done], landscape.loss[landscape.done]
    finite = np.isfinite(truth)
    assert np.array_equal(finite, np.isfinite(got))
    truth, got = truth[finite], got[finite]
    return abs(got - truth).max() / np.ptp(truth)


def log_share(landscape, truth):
    """The largest error of the logarithms as a share of their range."""
    return abs(np.log(landscape.loss) - np.log(truth)).max() / np.ptp(np.log(truth))


def stated(landscape):
    return landscape.report.interpolation.errors["loss"]


def box(*shape):
    return Grid.from_ranges(*[(-1, 1, n) for n in shape])


# the order


@pytest.mark.parametrize("shape", [(2,), (7, 5), (9, 9), (10, 2), (51, 51), (50, 33), (101,), (21, 20, 13), (1000,)])
def test_each_level_holds_the_one_before_and_the_last_is_all(shape):
    before = [set()] * len(shape)
    for level in levels(shape):
        for n, own, earlier in zip(shape, level, before, strict=True):
            assert own[0] == 0
            assert own[-1] == n - 1
            assert (np.diff(own) > 0).all()
            assert np.ptp(np.diff(own)) <= 1
            assert earlier <= set(own.tolist())
        before = [set(own.tolist()) for own in level]
    assert [len(own) for own in before] == list(shape)


def test_probes_are_points_between_the_knots_all_over_the_grid():
    knots = levels((51, 51))[0]
    mask = probes((51, 51), knots)
    mask[np.ix_(*knots)] = False
    places = np.argwhere(mask)
    assert 30 < len(places) < 60
    for edge in (0, 50):
        assert (places == edge).any(axis=0).all()
    assert {tuple(np.minimum(p // 13, 3)) for p in places} == {(i, j) for i in range(4) for j in range(4)}


def test_a_stage_goes_from_the_centre_outwards():
    grid = box(17, 33)
    first = next(refine(Landscape.empty(grid, ["loss"], "loss"), ["loss"], 1e-3))
    distances = abs(grid.points[first]).max(axis=1)
    assert (np.diff(distances) >= 0).all()
    assert distances[0] == 0


# closed forms


def test_a_quadratic_needs_few_points_and_is_exact():
    landscape, truth, asked = swept(
        lambda p: 1 + p[:, 0] ** 2 + 4 * p[:, 1] ** 2 + p[:, 0] * p[:, 1], box(51, 51), 1e-3
    )
    assert len(asked) < 180
    assert len(asked) == landscape.evaluated.sum()
    assert landscape.done.all()
    assert share(landscape, truth) < 1e-12
    assert share(landscape, truth) <= stated(landscape) < 1e-10
    assert landscape.report.interpolation.methods == {"loss": "cubic"}
    assert landscape.report.interpolation.log_errors == {}  # it spans less than two decades


def test_a_surface_over_decades_is_interpolated_in_its_logarithms():
    landscape, truth, asked = swept(lambda p: np.exp(5 * (p**2).sum(axis=1)), box(51, 51), 1e-3)
    assert landscape.report.interpolation.methods == {"loss": "cubic of logarithms"}
    assert len(asked) < 180
    np.testing.assert_allclose(landscape.loss, truth, rtol=1e-9)  # its logarithm is a parabola


def test_a_spline_that_dips_below_zero_makes_no_negative_loss():
    landscape, truth, _ = swept(lambda p: 1e-9 + np.maximum(np.abs(p[:, 0]) - 0.3, 0) ** 1.5, box(101), 5e-2)
    assert landscape.interpolated.any()
    assert share(landscape, truth) <= stated(landscape)
    assert landscape.loss.min() == 1e-9


def test_where_a_surface_spans_decades_the_error_of_its_logarithms_is_stated_too():
    """A thousandth of the range is a hundred times this minimum."""
    landscape, truth, _ = swept(lambda p: 1e-2 + 300 * (p**2).sum(axis=1) ** 1.5, box(51, 51), 1e-3)
    assert landscape.interpolated.any()
    logs = landscape.report.interpolation.log_errors["loss"]
    assert share(landscape, truth) <= stated(landscape) <= 1e-3 < logs
    assert log_share(landscape, truth) <= logs
    assert landscape.loss.min() >= 1e-2  # a spline may dip below zero, a loss does not


@pytest.mark.parametrize("shape", [(51, 51), (50, 33), (101,), (17, 17, 17)])
@pytest.mark.parametrize("tolerance", [0.3, 1e-2, 1e-4])
def test_noise_is_never_taken_for_smooth(shape, tolerance):
    noise = np.random.default_rng(0).normal(size=math.prod(shape))
    landscape, _, asked = swept(lambda p: noise, box(*shape), tolerance)
    assert len(asked) == landscape.grid.size
    assert not landscape.interpolated.any()
    assert landscape.report.interpolation.errors == {}


@pytest.mark.parametrize("shape", [(7, 5), (2,), (2, 2), (9, 9), (5, 4, 3)])
def test_a_small_grid_is_evaluated_whole(shape):
    landscape, _, asked = swept(lambda p: (p**2).sum(axis=1), box(*shape), 0.5)
    assert len(asked) == landscape.grid.size == least(shape)
    assert not landscape.interpolated.any()


@pytest.mark.parametrize("shape", [(101,), (50, 33), (7, 65), (21, 21, 21)])
def test_any_number_of_directions(shape):
    landscape, truth, asked = swept(lambda p: np.cos(p).sum(axis=1), box(*shape), 1e-2)
    assert len(asked) < 0.5 * landscape.grid.size
    assert share(landscape, truth) <= stated(landscape) <= 1e-2
    assert least(shape) <= len(asked) <= least(shape) + 30


def test_the_axes_need_not_be_even():
    grid = Grid((np.sinh(np.linspace(-2, 2, 51)), np.linspace(0.5, 9, 40)))
    landscape, truth, asked = swept(lambda p: np.sin(p[:, 0] / 3) * p[:, 1], grid, 1e-2)
    assert len(asked) < 0.5 * grid.size
    assert share(landscape, truth) <= stated(landscape) <= 1e-2


@pytest.mark.parametrize("value", [0.0, 3.7, -1e-300, 1e300])
def test_a_flat_surface_stays_flat_to_the_bit(value):
    landscape, truth, asked = swept(lambda p: np.full(len(p), value), box(33, 33), 1e-3)
    assert np.array_equal(landscape.loss, truth)
    assert len(asked) < 180


def test_numbers_at_the_end_of_float64_are_no_promise():
    landscape, truth, _ = swept(lambda p: p[:, 0] * 1.7e308, box(33, 33), 1e-3)  # the range is infinite
    assert np.array_equal(landscape.loss, truth)
    assert not landscape.interpolated.any()


# holes


def outside(p):
    """A bowl that ends in NaN and inf beyond a circle."""
    r = (p**2).sum(axis=1)
    return np.where(r < 0.9, 1 + r + 0.1 * np.sin(3 * p[:, 0]), np.where(p[:, 0] > 0, np.nan, np.inf))


def test_holes_and_what_lies_around_them_are_evaluated():
    landscape, truth, asked = swept(outside, box(101, 101), 1e-2)
    assert np.array_equal(landscape.loss[~np.isfinite(truth)], truth[~np.isfinite(truth)], equal_nan=True)
    assert landscape.interpolated.any()
    assert len(asked) < 0.9 * landscape.grid.size
    assert np.isfinite(landscape.loss[landscape.interpolated]).all()
    assert share(landscape, truth) <= stated(landscape) <= 1e-2


def test_scattered_holes_leave_nothing_to_interpolate():
    generator = np.random.default_rng(1)
    holes = generator.random(51 * 51) < 0.05
    landscape, truth, _ = swept(lambda p: np.where(holes, np.nan, (p**2).sum(axis=1)), box(51, 51), 1e-2)
    assert np.array_equal(landscape.loss, truth, equal_nan=True)


def test_nothing_but_nan():
    landscape, _, asked = swept(lambda p: np.full(len(p), np.nan), box(33, 17), 1e-2)
    assert len(asked) == landscape.grid.size
    assert not landscape.interpolated.any()


def test_points_that_are_left_out_stay_out():
    """A step that raises at some points: they are asked for once, and get no value."""
    grid = box(51, 51)
    refused = np.flatnonzero(grid.points[:, 0] > 0.85)
    landscape, truth, _ = swept(lambda p: np.cos(p).sum(axis=1), grid, 1e-2, skip=set(refused.tolist()))
    assert landscape.interpolated.any()
    assert not landscape.done.reshape(-1)[refused].any()
    assert landscape.done.sum() == grid.size - len(refused)
    assert share(landscape, truth) <= stated(landscape) <= 1e-2


# other arrays


def test_curvature_is_measured():
    for shape in [(51, 50), (64,), (33, 2)]:
        landscape, truth, _ = swept(lambda p: np.cos(2 * p).sum(axis=1), box(*shape), 1e-2)
        whole = Landscape(landscape.grid, {"loss": truth}, "loss")
        np.testing.assert_array_equal(landscape.curvature(), whole.curvature())


def test_every_metric_and_every_sample_is_interpolated_and_has_its_error():
    grid = box(51, 33)
    x, y = (c.reshape(grid.shape) for c in grid.points.T)
    truth = {"loss": x**2 + y**2, "acc": np.clip(np.floor(20 * (1.2 - x**2 - y**2)) / 20, 0, 1)}
    tiles = np.stack([np.exp(3 * x), np.sin(9 * x * y)])
    error = 0.1 + 0.01 * x
    landscape = Landscape.empty(grid, truth, "loss")
    landscape.samples = Samples(np.full((2, *grid.shape), np.nan), (Sample(0, 1.0), Sample(1, 0.0)))
    for order in refine(landscape, ["loss"], 1e-3):
        for flat in order:
            index = np.unravel_index(flat, grid.shape)
            landscape.record(index, {name: (v[index], error[index]) for name, v in truth.items()})
            landscape.samples.values[(slice(None), *index)] = tiles[(slice(None), *index)]
    said = landscape.report.interpolation
    assert landscape.interpolated.sum() > 0.8 * grid.size
    assert said.judged == ["loss"]
    assert said.tolerance == 1e-3
    assert said.errors["acc"] > 0.01 > said.errors["loss"]  # an accuracy has steps, and does not stop the rest
    assert abs(landscape.values["acc"] - truth["acc"]).max() <= said.errors["acc"]
    assert 0 <= landscape.values["acc"].min() <= landscape.values["acc"].max() <= 1
    for got, whole, stated_error in zip(landscape.samples.values, tiles, said.tiles, strict=True):
        assert abs(got - whole).max() <= stated_error * np.ptp(whole)
    np.testing.assert_allclose(landscape.standard_errors["loss"], error, rtol=1e-12)  # linear, as they are interpolated


def test_all_judged_metrics_must_be_within_the_tolerance():
    grid = box(51)
    easy, hard = grid.axes[0] ** 2, np.sin(20 * grid.axes[0])
    for judged, whole in ((["a"], False), (["a", "b"], True)):
        landscape = Landscape.empty(grid, ["a", "b"], "a")
        for order in refine(landscape, judged, 1e-4):
            for i in order:
                landscape.record((int(i),), {"a": (easy[i], 0.0), "b": (hard[i], 0.0)})
        assert landscape.evaluated.all() == whole


def test_standard_errors_of_interpolated_points_lie_between_their_neighbours():
    grid = box(51, 51)
    errors = np.random.default_rng(5).uniform(0.1, 0.2, grid.shape)
    landscape, _, _ = swept(lambda p: (p**2).sum(axis=1), grid, 1e-3, errors=errors)
    given = landscape.standard_errors["loss"]
    assert 0.1 <= given.min() <= given.max() <= 0.2
    assert np.array_equal(given[landscape.evaluated], errors[landscape.evaluated], equal_nan=True)


# a pass that was stopped


@pytest.mark.parametrize("count", [1, 60, 150, 330, -1])
def test_a_stopped_pass_goes_on_to_the_same_surface(count):
    def rough(p):
        return np.sin(6 * p).sum(axis=1)

    grid = box(51, 33)
    whole, truth, asked = swept(rough, grid, 1e-2)
    part = Landscape.empty(grid, ["loss"], "loss")
    for flat in asked[:count]:
        index = np.unravel_index(flat, grid.shape)
        part.record(index, {"loss": (truth[index], 0.0)})
    again, _, rest = swept(rough, grid, 1e-2, part)
    assert asked[count:] == rest
    np.testing.assert_array_equal(again.loss, whole.loss)
    np.testing.assert_array_equal(again.interpolated, whole.interpolated)


def test_a_finished_pass_can_be_made_finer():
    def smooth(p):
        return np.cos(4 * p).sum(axis=1)

    coarse, truth, asked = swept(smooth, box(51, 51), 3e-2)
    fine, _, more = swept(smooth, coarse.grid, 1e-3, coarse.without_interpolated())
    assert not set(asked) & set(more)
    assert share(fine, truth) <= stated(fine) <= 1e-3
    assert len(asked) < fine.evaluated.sum() < fine.grid.size


def test_an_evaluated_point_takes_the_place_of_an_interpolated_one():
    grid = box(3)
    a, b = (Landscape.empty(grid, ["loss"], "loss") for _ in range(2))
    a.record((0,), {"loss": (1.0, 0.1)})
    b.record((0,), {"loss": (9.0, 0.1)})
    b.record((1,), {"loss": (2.0, 0.1)})
    b.record((2,), {"loss": (3.0, 0.1)})
    a.done[1] = a.interpolated[1] = b.interpolated[0] = b.interpolated[2] = True
    whole = merge([a, b])
    assert whole.loss.tolist() == [1, 2, 3]
    assert whole.interpolated.tolist() == [False, False, True]


@pytest.mark.parametrize("tolerance", [0, 1, -1e-3, 1.5, float("nan"), float("inf"), True, "1e-3"])
def test_a_tolerance_is_a_share(tolerance):
    with pytest.raises(ValueError, match=r"tolerance=.*: give the largest error as a share of the range, e.g. 1e-3"):
        check_tolerance(tolerance)


# a pass whose time is over


def stopped(truth, grid, count, tolerance=0.0):
    """The landscape of these values, stopped after so many evaluations."""
    landscape, done = Landscape.empty(grid, ["loss"], "loss"), []
    points, tried = refine(landscape, ["loss"], tolerance, lambda: len(done) >= count), None
    with suppress(StopIteration):
        while True:
            tried = points.send(tried)[: count - len(done)]
            for flat in tried:
                index = np.unravel_index(flat, grid.shape)
                landscape.record(index, {"loss": (float(truth[index]), 0.0)})
                done.append(flat)
    assert landscape.evaluated.sum() == len(done) <= count
    assert np.array_equal(landscape.loss[landscape.evaluated], truth[landscape.evaluated])
    return landscape


def smooth(grid):
    return np.cos(2 * grid.points).sum(axis=1).reshape(grid.shape) + (grid.points**3).sum(axis=1).reshape(grid.shape)


@pytest.mark.parametrize("shape, coarsest", [((51, 51), 85), ((50, 33), 85), ((101,), 11), ((17, 17, 17), 735)])
def test_a_pass_may_be_over_at_any_moment(shape, coarsest):
    grid, errors = box(*shape), []
    truth = smooth(grid)
    for count in (*range(1, coarsest + 3, 7), coarsest - 1, coarsest, 170, 250, 400, 1000, grid.size):
        landscape = stopped(truth, grid, count)
        assert landscape.done.all() == (count >= coarsest), "the coarsest knots, and those of the curvature"
        if landscape.interpolated.any():
            errors.append(share(landscape, truth))
    assert errors[0] < 1e-3
    assert all(later < 1.5 * earlier for earlier, later in pairwise(errors))
    assert stopped(truth, grid, grid.size).report.interpolation is None


def test_lines_that_are_complete_are_knots():
    """A parabola in y times what is rough in x: each new line in x helps at once."""
    grid = box(51, 51)
    truth = (np.sin(5 * grid.points[:, 0]) * (1 + grid.points[:, 1] ** 2)).reshape(grid.shape)
    errors = [np.mean(abs(stopped(truth, grid, count).loss - truth)) for count in (200, 240, 280, 320)]
    assert errors[3] < 0.8 * errors[2] < 0.7 * errors[1] < 0.6 * errors[0]


def test_how_well_is_unknown_until_nine_points_an_axis_have_been_tried():
    grid = box(51, 51)
    for count, known in ((85, False), (100, False), (185, True), (1000, True)):
        landscape = stopped(smooth(grid), grid, count)
        assert np.isfinite(stated(landscape)) == known
        assert landscape.report.interpolation.tolerance is None


def test_within_a_tolerance_a_pass_ends_before_its_time():
    grid = box(51, 51)
    truth = (grid.points**2).sum(axis=1).reshape(grid.shape)
    landscape = stopped(truth, grid, 2000, tolerance=1e-3)
    assert 81 < landscape.evaluated.sum() < 220, "nine points an axis and their probes, no fewer"
    np.testing.assert_allclose(landscape.loss, truth, atol=1e-12)
    assert stopped(truth, grid, 2000).evaluated.sum() == 2000


# the promise: the true error is below the estimate


def bumps(p, g):
    centers, widths, heights = g.uniform(-1, 1, (4, p.shape[1])), g.uniform(0.12, 0.8, 4), g.normal(size=4)
    bowl = 3 * g.random() * (p**2).sum(axis=1)
    return bowl + sum(
        h * np.exp(-((p - c) ** 2).sum(1) / 2 / w**2) for c, w, h in zip(centers, widths, heights, strict=True)
    )


def kinks(p, g):
    weights, count = g.normal(size=(p.shape[1], 100)), int(g.integers(5, 100))
    return (np.maximum(p @ weights + g.normal(size=100) / 2, 0) * abs(g.normal(size=100)))[:, :count].sum(axis=1)


def explosion(p, g):
    r = ((p - 0.2 * g.normal(size=p.shape[1])) ** 2).sum(axis=1)
    return np.exp(g.uniform(1, 6) * r) * (1 + 0.1 * np.sin(g.uniform(1, 6) * p.sum(axis=1)))


def waves(p, g):
    angles = p @ g.normal(size=(p.shape[1], 4)) * g.uniform(0.5, 5, 4) + g.uniform(0, 6, 4)
    return np.sin(angles) @ g.normal(size=4) + p[:, 0] ** 2


def deep(p, g):
    """A trained net: nearly nothing at the centre, decades around it."""
    return (
        10 ** g.uniform(-6, -1)
        + g.uniform(1, 10) * (p**2).sum(axis=1)
        + 0.05 * np.cos(g.uniform(1, 5) * p.sum(axis=1)) ** 2
    )


def with_noise(p, g):
    """As single precision rounds it, and worse."""
    return (p**2).sum(axis=1) + 10 ** g.uniform(-8, -3) * g.normal(size=len(p))


FAMILIES = [bumps, kinks, explosion, waves, deep, with_noise]


@pytest.mark.parametrize("shape, cases", [((51, 51), 20), ((50, 33), 20), ((101,), 20), ((19, 17, 18), 4)])
def test_the_true_error_is_below_the_estimate_in_95_of_100_cases(shape, cases):
    grid, right, right_in_logs, spared = box(*shape), [], [], 0
    for family in FAMILIES:
        for seed in range(cases):
            tolerance = (3e-2, 1e-2, 1e-3, 1e-4)[seed % 4]
            g = np.random.default_rng([seed, *shape])
            landscape, truth, asked = swept(lambda p, f=family, g=g: f(p, g), grid, tolerance)
            assert landscape.done.all()
            if landscape.interpolated.any():
                assert stated(landscape) <= tolerance
                right.append(share(landscape, truth) <= stated(landscape))
                if logs := landscape.report.interpolation.log_errors:
                    right_in_logs.append(log_share(landscape, truth) <= logs["loss"])
                spared += grid.size - len(asked)
    assert len(right) >= 0.3 * cases * len(FAMILIES)  # else it promised nothing
    assert np.mean(right) >= 0.95
    assert np.mean(right_in_logs) >= 0.95
    assert len(right_in_logs) >= 0.1 * len(right)
    assert spared >= 0.2 * cases * len(FAMILIES) * grid.size


@pytest.mark.parametrize("shape", [(51, 51), (50, 33), (101,)])
def test_the_estimate_of_a_pass_that_was_stopped_holds_in_95_of_100_cases(shape):
    grid, right, right_in_logs = box(*shape), [], []
    for family in FAMILIES:
        for seed in range(8):
            truth = family(grid.points, np.random.default_rng([seed, *shape])).reshape(shape)
            for count in (70, 95) if len(shape) == 1 else (175, 260, 400, 900, 1300):
                landscape = stopped(truth, grid, count)
                if np.isfinite(stated(landscape)):
                    right.append(share(landscape, truth) <= stated(landscape))
                    if logs := landscape.report.interpolation.log_errors:
                        right_in_logs.append(log_share(landscape, truth) <= logs["loss"])
    assert len(right) >= 48
    assert np.mean(right) >= 0.95
    assert np.mean(right_in_logs) >= 0.95


def net_surface(seed):
    """The loss of a small net, trained or not, on two random directions: a function of points, by plain NumPy."""
    g = np.random.default_rng(seed)
    act = (np.tanh, lambda z: np.maximum(z, 0))[seed % 2]
    x = g.normal(size=(30, 4))
    y = (x @ g.normal(size=4) > 0).astype(float)
    weights = [g.normal(size=(4, 8)) / 2, g.normal(size=(8, 1)) / 3]
    for _ in range((0, 300)[seed // 2 % 2]):  # gradient steps of the last layer
        hidden = act(x @ weights[0])
        chance = 1 / (1 + np.exp(-(hidden @ weights[1])[:, 0]))
        weights[1] -= 0.5 * (hidden.T @ (chance - y)[:, None]) / len(x)
    directions = [
        [d / np.linalg.norm(d, axis=0) * np.linalg.norm(w, axis=0) for w in weights for d in [g.normal(size=w.shape)]]
        for _ in range(2)
    ]  # filter-normalised

    def loss(points):
        result = []
        for a, b in points:
            first, last = (w + a * d + b * e for w, d, e in zip(weights, *directions, strict=True))
            z = (act(x @ first) @ last)[:, 0]
            result.append(np.mean(np.logaddexp(0, z) - y * z))
        return np.array(result)

    return loss


def test_the_true_error_of_nets_is_below_the_estimate_in_95_of_100_cases():
    grid, right, spared = box(31, 29), [], 0
    for seed in range(24):
        surface = net_surface(seed)(grid.points)
        for tolerance in (1e-1, 1e-2, 1e-3):
            landscape, truth, asked = swept(lambda p, s=surface: s, grid, tolerance)
            spared += grid.size - len(asked)
            if landscape.interpolated.any():
                right.append(share(landscape, truth) <= stated(landscape) <= tolerance)
    assert len(right) >= 36
    assert np.mean(right) >= 0.95
    assert spared > 0.3 * 72 * grid.size
