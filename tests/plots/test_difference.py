import numpy as np
import pytest

from lightning_landscape import compare
from lightning_landscape.plots import to_image
from lightning_landscape.plots.difference import difference
from lightning_landscape.recipe import DataRecipe, DirectionsRecipe, Recipe
from tests.plots.artists import assert_bands_hold, contours


def draw_comparison(a, b, metric=None, names=("A", "B")):
    return compare(dict(zip(names, (a, b), strict=True))).plot("difference", metric)


def test_both_share_the_colours_and_the_difference_has_its_own_around_zero(make, texts):
    figure = draw_comparison(make(), make(lambda x, y: 12 * x + 1), names=("sgd", "adam"))
    a, b, change = figure.axes[:3]
    assert (contours(a).levels[0], contours(a).levels[-1]) == (-35, 37)  # 12·(-3) + 1 and 12·3 + 1
    assert contours(a).norm is contours(b).norm
    # 2 x - y + 1 on x = -3 … 3, y = -2 … 2 runs from -7 to 9
    assert (contours(change).norm.vmin, contours(change).norm.vmax) == (-9, 9)
    assert_bands_hold(lambda x, y: 2 * x - y + 1, change)
    assert [ax.get_title(loc="left") for ax in (a, b, change)] == ["sgd", "adam", "adam − sgd"]
    assert "adam is lower at 40% of 35 points" in texts(figure)  # 2 + 2 x < y in 14 points


def test_red_is_higher_and_blue_is_lower(make):
    drawn = contours(draw_comparison(make(), make(lambda x, y: 11 * x + y)).axes[2])
    red, _, blue, _ = np.moveaxis(drawn.cmap([0.0, 1.0]), -1, 0)
    assert red[1] > blue[1]
    assert blue[0] > red[0]


def test_only_points_that_both_have_are_compared(make, texts):
    done = np.ones((7, 5), bool)
    done[0] = False
    other = make(lambda x, y: np.where(x == 3, np.inf, 0 * x), done=done)
    change = difference(make(), other, "loss")
    assert change.mask.sum() == 10
    np.testing.assert_allclose(change[1:6].data, -make().loss[1:6])
    figure = draw_comparison(make(), other)
    assert "of 25 points" in texts(figure)
    assert any(p.get_hatch() for p in figure.axes[2].patches)


def test_one_wild_point_leaves_the_difference_readable(make, texts):
    other = make(lambda x, y: np.where((x == 3) & (y == 2), 1e6, 10 * x + y + np.sin(x)), nx=31, ny=31)
    figure = draw_comparison(make(nx=31, ny=31), other)
    assert contours(figure.axes[2]).norm.vmax <= 1
    assert "1 point beyond (up to ±1e6)" in texts(figure)


def test_curves_have_their_errors_and_the_difference_theirs(make, texts):
    pair = [make(f, ny=0, standard_errors={"loss": np.full(7, e)}) for f, e in ((lambda x: x, 0.3), (abs, 0.4))]
    top, bottom = draw_comparison(*pair).axes
    a, b = (line for line in top.get_lines() if ":" in line.get_label())
    np.testing.assert_allclose([a.get_ydata(), b.get_ydata()], [np.arange(-3.0, 4), np.abs(np.arange(-3.0, 4))])
    np.testing.assert_allclose(bottom.get_lines()[1].get_ydata(), [6, 4, 2, 0, 0, 0, 0])
    x, y = bottom.collections[0].get_paths()[0].vertices.T
    np.testing.assert_allclose(np.abs(y - np.where(x < 0, -2 * x, 0)), 2 * 0.5)  # 3, 4, 5


@pytest.mark.parametrize("ny", [0, 5])
@pytest.mark.parametrize(
    "function, message",
    [
        (lambda x, y=0: x * np.nan, "no finite value"),
        (lambda x, y=0: 0 * x + 2, ""),
        (lambda x, y=0: np.exp(9 * x**2), ""),
    ],
)
def test_odd_values_are_drawn_without_a_warning(make, ny, function, message, texts):
    image = to_image(draw_comparison(make(function, ny=ny), make(function, ny=ny)), dpi=50)
    assert image.min() < 128
    figure = draw_comparison(make(function, ny=ny), make(ny=ny) if ny else make(lambda x: x, ny=0))
    to_image(figure, dpi=50)
    assert message in texts(draw_comparison(make(function, ny=ny), make(function, ny=ny)))


@pytest.mark.parametrize("ny", [0, 5])
def test_nothing_written_leaves_the_picture(make, ny):
    directions = DirectionsRecipe("random")
    recipe = Recipe(step=120000, epoch=30, data={"train": DataRecipe(1024)}, seed=7, directions=directions)
    function = lambda x, y=0: np.where(x < -1, np.nan, np.exp(12 * x**2))  # noqa: E731
    figure = draw_comparison(
        make(function, ny=ny, recipe=recipe), make(abs if not ny else np.hypot, ny=ny, recipe=recipe)
    )
    pixels = to_image(figure)
    frame = [pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]]
    assert all((edge == 255).all() for edge in frame)


def test_equal_landscapes_have_no_difference(make, texts):
    assert "no difference anywhere" in texts(draw_comparison(make(), make()))


def test_other_grids_have_no_difference_and_both_are_named(make):
    comparison = compare({"A": make(), "B": make(ny=4)})
    assert comparison.kinds == ("panels", "curves")
    with pytest.raises(ValueError, match=r"'difference' needs two runs .* on equal grids .*choices .* panels, curves"):
        comparison.plot("difference")
    assert "The grids differ: 7 points in [-3, 3] × 5 points in [-2, 2] (A), 7 points in [-3, 3] × 4" in str(comparison)


def test_a_metric_that_one_does_not_have(make):
    other = make()
    other.values["acc"] = other.loss
    with pytest.raises(ValueError, match=r"metric='acc' is not in adam; all runs have: loss"):
        draw_comparison(other, make(), "acc", names=("sgd", "adam"))
