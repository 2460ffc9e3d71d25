"""The ranges that a caller asks for, in every kind that takes them."""

import numpy as np
import pytest

from lightning_landscape.plots import PLOTS, to_image
from lightning_landscape.plots.ranges import check_range, checked_levels, thin
from lightning_landscape.plots.scales import make_scale
from tests.plots.artists import all_contours, bar_of, contours
from tests.plots.test_surface import sheet


def test_lines_and_bands_lie_on_the_levels(make, texts):
    figure = PLOTS["contour"].draw(make(), levels=np.arange(-25, 26, 10))
    for drawn in all_contours(figure.axes[0])[:2]:
        assert drawn.levels.tolist() == [-25, -15, -5, 5, 15, 25]
    # 10 x + y on x = -3 … 3, y = -2 … 2: all of x = -3 and x = 3 is beyond
    assert "colours −25 … 25, 5 points below (min −32), 5 points above (max 32)" in texts(figure)


def test_bands_beyond_the_levels_have_arrows(make):
    for levels, extend in (([-40, 0, 40], "neither"), ([-40, 0, 10], "max"), ([-10, 0, 40], "min"), ([0, 1], "both")):
        assert contours(PLOTS["contour"].draw(make(), levels=levels).axes[0]).extend == extend


def test_few_levels_are_the_ticks_of_the_colour_bar(make):
    bar = bar_of(PLOTS["contour"].draw(make(), levels=[1, 2, 5, 10, 20]))
    assert [t.get_text() for t in bar.get_yticklabels()] == ["1", "2", "5", "10", "20"]


@pytest.mark.parametrize("kind", ["contour", "surface"])
@pytest.mark.parametrize("levels", [[100, 200], [-200, -100]])
def test_levels_that_no_value_reaches_are_drawn_without_a_warning(make, kind, levels):
    to_image(PLOTS[kind].draw(make(), levels=levels), dpi=50)


@pytest.mark.parametrize("kind", ["heat", "surface"])
def test_colours_end_where_asked(make, kind, texts):
    figure = PLOTS[kind].draw(make(), vmin=-10, vmax=20)
    assert bar_of(figure).get_ylim() == (-10, 20)
    assert "colours −10 … 20, 12 points below (min −32), 7 points above (max 32)" in texts(figure)


def test_heights_end_where_asked(make):
    z = sheet(PLOTS["surface"].draw(make(), vmin=-10, vmax=20))[..., 2]
    assert (z.min(), z.max()) == (-10, 20)


def test_one_end_leaves_the_other_to_the_values():
    assert (make_scale([0.0, 4.0], vmax=3).low, make_scale([0.0, 4.0], vmin=1).high) == (0, 4)
    quantiles = make_scale(np.arange(101.0), "quantile", vmax=50)
    assert (quantiles.low, quantiles.high) == (5, 50)


def test_an_end_that_is_asked_for_keeps_exploding_values_linear():
    values = np.geomspace(0.1, 1e6, 500)
    assert make_scale(values).log
    scale = make_scale(values, vmax=10)
    assert (scale.log, scale.low, scale.high, scale.extend) == (False, 0.1, 10, "max")
    assert make_scale(values, "log", vmax=10).log


def test_a_flat_surface_takes_its_colour_in_the_range():
    scale = make_scale([1.0, 1.0], vmin=0, vmax=4)
    assert scale.message is None
    assert scale.norm(scale.values).tolist() == [0.25, 0.25]


def test_slices_keep_to_xlim_and_vmax(make, texts):
    figure = PLOTS["slices"].draw(make(lambda x: x**2, nx=7, ny=0), xlim=(-0.5, 1.5), vmax=3)
    ax = figure.axes[0]
    assert ax.get_xlim() == (-0.5, 1.5)
    assert ax.get_ylim()[1] == pytest.approx(3 + 0.06 * 3)
    line = next(line for line in ax.get_lines() if ":" in line.get_label())
    assert line.get_xdata().tolist() == [-1, 0, 1, 2]  # one beyond each end, so that the curve reaches the frame
    assert "y axis 0 … 3, 1 point above (max 4)" in texts(figure)


def test_slices_take_the_part_of_errors_and_marks_too(make):
    errors = np.linspace(0.1, 0.7, 7)
    landscape = make(lambda x: np.where(x == 1, np.nan, 0 * x), ny=0, standard_errors={"loss": errors})
    figure = PLOTS["slices"].draw(landscape, xlim=(0, 3))
    (band,) = [c for c in figure.axes[0].collections if len(c.get_paths())]
    edges = np.concatenate([p.vertices for p in band.get_paths()])
    at_two = edges[edges[:, 0] == 2]
    np.testing.assert_allclose(np.abs(at_two[:, 1]), 2 * 0.6)
    marks = {line.get_marker(): list(line.get_xdata()) for line in figure.axes[0].get_lines()}
    assert marks["x"] == [1]


def test_slices_are_logarithmic_where_asked(make):
    assert PLOTS["slices"].draw(make(lambda x: x + 4, ny=0), color_scale="log").axes[0].get_yscale() == "log"


def test_an_xlim_without_points_names_the_grid(make):
    with pytest.raises(ValueError, match=r"xlim=\(5, 6\) holds no point: the grid runs from −3 to 3 and from −2 to 2"):
        PLOTS["slices"].draw(make(), xlim=(5, 6))


@pytest.mark.parametrize(
    "low, high, log, message",
    [
        (2, 1, False, "reversed or empty"),
        (1, 1, False, "reversed or empty"),
        (float("nan"), 1, False, "not finite"),
        (None, float("inf"), False, "not finite"),
        (0, 1, True, "is not positive"),
    ],
)
def test_ranges_that_are_none(low, high, log, message):
    with pytest.raises(ValueError, match=message):
        check_range(low, high, log)


def test_a_range_without_values_says_where_they_are():
    with pytest.raises(ValueError, match="the range from 5 to 4 is empty: the values run from 0 to 4"):
        make_scale([0.0, 4.0], vmin=5)


@pytest.mark.parametrize("levels", [[1], [[1, 2]], [1, 1], [2, 1], [0, float("nan")], []])
def test_levels_that_are_none(levels):
    with pytest.raises(ValueError, match="must be at least two finite, increasing numbers"):
        checked_levels(levels)


def test_thin_keeps_the_first_and_at_most_that_many():
    for count in range(1, 40):
        remaining = list(range(count))[thin(count, 9)]
        assert remaining[0] == 0
        assert len(remaining) <= 9
        assert len(remaining) * 2 > min(count, 8)


def test_two_heaps_of_values_far_apart_keep_the_whole_range():
    """Each end alone would leave out the other heap, and the ends would change places."""
    near = 1 + 1e-8 * np.arange(81.0)
    scale = make_scale(np.stack([near, 2 * near]))
    assert (scale.low, scale.high) == (1, 2 * near[-1])
