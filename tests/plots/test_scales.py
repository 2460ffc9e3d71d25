import numpy as np
import pytest
from matplotlib.colors import LogNorm

from lightning_landscape.plots.ranges import ScaleSettings
from lightning_landscape.plots.scales import COLOR_SCALES, make_scale


def test_global_runs_from_the_lowest_to_the_highest_value():
    scale = make_scale([[0.0, 1.0], [2.0, 3.0]])
    assert len(scale.levels) == 30
    np.testing.assert_allclose(scale.levels, np.linspace(0, 3, 30))
    assert (scale.norm.vmin, scale.norm.vmax, scale.extend, scale.log) == (0, 3, "neither", False)
    assert scale.note() == "colours 0 … 3"


def test_quantile_clips_five_percent_at_both_ends_and_says_how_many():
    scale = make_scale(np.arange(101.0), "quantile")
    assert (scale.low, scale.high, scale.extend) == (5, 95, "both")
    assert scale.note() == "colours 5–95 %: 5 … 95, 5 points below (min 0), 5 points above (max 100)"


def test_the_note_names_the_quantiles_of_the_settings():
    scale = make_scale(np.arange(101.0), "quantile", settings=ScaleSettings(levels=5, quantiles=(0.1, 0.8)))
    assert scale.levels.tolist() == [10, 27.5, 45, 62.5, 80]
    assert scale.note().startswith("colours 10–80 %: 10 … 80, 10 points below")


def test_quantile_of_a_plateau_falls_back_to_all_values():
    values = np.ones(100)
    values[0] = 7
    scale = make_scale(values, "quantile")
    assert (scale.low, scale.high) == (1, 7)
    assert "the 5 % and 95 % quantiles are equal" in scale.note()


def test_log_hides_values_that_are_not_positive_and_says_so():
    scale = make_scale([-1.0, 0.0, 1.0, 100.0], "log")
    assert isinstance(scale.norm, LogNorm)
    np.testing.assert_allclose(scale.levels, np.geomspace(1, 100, 30))
    assert scale.values.mask.tolist() == [True, True, False, False]
    assert scale.note() == "logarithmic colours 1 … 100 · 2 of 4 points ≤ 0 hidden (blank)"


@pytest.mark.parametrize("color_scale", COLOR_SCALES)
def test_the_ends_of_the_levels_are_exact(color_scale):
    values = np.random.default_rng(0).lognormal(size=400)
    scale = make_scale(values, color_scale)
    assert (scale.low, scale.high) == (scale.norm.vmin, scale.norm.vmax)
    assert (np.diff(scale.levels) > 0).all()


def test_not_finite_and_not_evaluated_are_counted_apart():
    values = np.array([1.0, 2.0, np.nan, np.inf, -np.inf, np.nan])
    done = np.array([True, True, True, True, True, False])
    scale = make_scale(values, done=done)
    assert (scale.low, scale.high) == (1, 2)
    assert scale.broken.tolist() == [False, False, True, True, True, False]
    assert scale.note() == ("colours 1 … 2 · 3 of 6 points not finite (grey) · 1 of 6 points not evaluated (hatched)")


def test_values_of_points_that_were_not_evaluated_do_not_count():
    scale = make_scale([1.0, 2.0, 1e9], done=[True, True, False])
    assert (scale.low, scale.high) == (1, 2)


def rim(center, edge, n=51):
    """A surface that grows exponentially from `center` to `edge` at the corners."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, n)] * 2)
    return center * (edge / center) ** ((x**2 + y**2) / 2)


def test_an_exploding_positive_surface_turns_logarithmic():
    scale = make_scale(rim(0.1, 1e6))
    assert scale.log
    assert (scale.low, scale.high) == pytest.approx((0.1, 1e6))
    assert scale.note() == "logarithmic colours 0.1 … 1e6"


def test_an_exploding_surface_with_negative_values_is_clipped_at_the_top():
    scale = make_scale(rim(0.1, 1e6) - 1)
    assert not scale.log
    assert scale.extend == "max"
    colors = scale.norm(scale.values[20:31, 20:31].compressed())
    assert scale.high < 1e3
    assert "clipped to be readable" in scale.note()
    assert "points above (max 1e6)" in scale.note()
    assert colors.max() < 0.5


@pytest.mark.parametrize("sign", [1, -1])
def test_one_wild_value_leaves_the_others_readable(sign):
    values = np.linspace(1, 2, 200)
    values[0] = sign * 1e9
    scale = make_scale(values)
    colors = scale.norm(np.sort(values)[5:-5])
    assert colors.max() - colors.min() > 0.5
    assert f"1 point {'above' if sign > 0 else 'below'}" in scale.note() or scale.log


def test_a_sharp_minimum_is_not_clipped_away():
    values = np.full((51, 51), 2.3) + np.linspace(0, 0.02, 51)
    values[25, 25] = 0.01
    assert make_scale(values).low == 0.01


@pytest.mark.parametrize(
    "lowest, log",
    [(1.0, True), (1.01 * 6 / 99, False), (0.99 * 6 / 99, True), (0.0, False), (-1e-9, False)],
)
def test_a_relief_of_more_than_two_decades_is_logarithmic(lowest, log):
    """A paraboloid from `lowest` to 6 above: a hundred times as much where `lowest` is 6/99; with 1, to 120 above."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, 51)] * 2)
    scale = make_scale(lowest + (x**2 + 5 * y**2) * (20 if lowest == 1 else 1))
    assert (scale.log, scale.extend) == (log, "neither")


def test_a_metric_whose_centre_is_high_stays_linear():
    """The logarithm of an accuracy would show its worst points."""
    accuracy = np.concatenate([np.linspace(0.4, 100, 50), [98.0]])
    assert not make_scale(accuracy, center=98.0).log
    assert make_scale(accuracy, center=0.9).log
    assert make_scale(accuracy).log


def test_values_below_a_low_end_that_is_asked_for_take_its_colour_also_without_a_logarithm():
    scale = make_scale([-1.0, 0.0, 0.05, 1.0, 10.0], "log", vmin=0.1)
    assert not scale.values.mask.any()
    assert scale.norm(scale.values).tolist() == pytest.approx([-0.5, -0.5, np.log10(0.5) / 2, 0.5, 1.0])
    assert scale.note() == "logarithmic colours 0.1 … 10, 3 points below (min −1)"


@pytest.mark.parametrize("value", [0.1234, 0.0, -3.0, 1e-30, 1e30])
def test_flat_says_so_in_the_picture(value):
    scale = make_scale(np.full((3, 3), value))
    assert scale.message.startswith("flat: all values")
    assert scale.low < value < scale.high


def test_float64_rounding_is_flat_and_float32_rounding_is_named():
    assert "flat: all values 0.1" in make_scale([0.1, np.nextafter(0.1, 1)]).message
    scale = make_scale([1.0, 1.0 + 1e-7])
    assert scale.message is None
    assert "may be float32 rounding" in scale.note()


def test_nothing_to_draw_says_why():
    assert make_scale([np.nan, np.inf]).message == "no finite value"
    assert make_scale([1.0], done=[False]).message == "no point evaluated yet"
    assert make_scale([-1.0, 0.0], "log").message.startswith("no positive value")
    assert make_scale([np.nan]).empty


def test_values_near_the_end_of_float64_do_not_overflow():
    scale = make_scale([-1.7e308, 0.0, 1.7e308])
    assert np.isfinite(scale.levels).all()


def test_unknown_color_scale_lists_the_choices():
    with pytest.raises(ValueError, match=r"color_scale='linear' is unknown: choose one of global, quantile, log"):
        make_scale([1.0], "linear")


def test_part_is_one_surface_in_the_colours_of_all():
    scale = make_scale(np.arange(6.0).reshape(2, 3)).part(0)
    assert scale.values.tolist() == [0, 1, 2]
    assert scale.high == 5


def test_zeros_keep_the_colours_linear():
    """The losses of a margin are zero: their logarithm would show the rounding at its border."""
    assert not make_scale(np.concatenate([np.zeros(5), np.geomspace(1e-12, 40.0, 95)])).log
