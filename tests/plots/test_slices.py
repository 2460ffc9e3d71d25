import numpy as np
import pytest

from lightning_landscape.plots.slices import draw_slices


def curves(figure) -> dict:
    return {line.get_label()[0]: line for line in figure.axes[0].get_lines() if line.get_label()[:1] in ("α", "β", "γ")}


@pytest.mark.parametrize("shape", [(7, 5), (7, 7)])
def test_each_curve_runs_along_its_direction(make, shape):
    drawn = curves(draw_slices(make(nx=shape[0], ny=shape[1])))
    x, fx = drawn["α"].get_data()
    y, fy = drawn["β"].get_data()
    assert (len(x), len(y)) == shape
    assert (x[0], y[0]) == (-3, -2)
    np.testing.assert_allclose(fx, 10 * np.linspace(-3, 3, shape[0]))
    np.testing.assert_allclose(fy, np.linspace(-2, 2, shape[1]))


def test_the_label_names_the_curvature_and_where_the_slice_lies(make):
    drawn = curves(draw_slices(make(lambda x, y: x**2 + 4 * y**2)))
    assert drawn["α"].get_label() == "α: curvature 2"
    assert drawn["β"].get_label() == "β: curvature 8"


def test_the_label_names_the_place_of_a_slice_that_is_not_at_the_centre(make):
    drawn = curves(draw_slices(make(x=(-2.6, 3.4))))  # x = −0.6, 0.4, …
    assert drawn["β"].get_label().startswith("β (at α = 0.4): ")
    assert drawn["α"].get_label().startswith("α: ")


@pytest.mark.parametrize("lowest, scale", [(0.01, "log"), (1.0, "linear"), (-0.01, "linear")])
def test_the_y_axis_is_logarithmic_where_the_picture_of_all_points_is(make, lowest, scale):
    """Along the axes the loss rises by 9 and 4 only; it is 100 and more at the corners."""
    landscape = make(lambda x, y: lowest + x**2 * 1e-2 + y**2 * 1e-2 + 2 * (x * y) ** 2)
    assert draw_slices(landscape).axes[0].get_yscale() == scale


def test_the_band_is_two_standard_errors_where_they_are_known(make):
    errors = np.full(7, 0.5)
    errors[0] = np.nan
    figure = draw_slices(make(lambda x: x**2, ny=0, standard_errors={"loss": errors}))
    (band,) = figure.axes[0].collections
    x, y = band.get_paths()[0].vertices.T
    assert x.min() == -2
    np.testing.assert_allclose(np.abs(y - x**2), 1.0)


def test_a_span_of_decades_gets_a_logarithmic_axis_and_says_so(make, texts):
    figure = draw_slices(make(lambda x: np.exp(3 * x**2), nx=31, ny=0))
    assert figure.axes[0].get_yscale() == "log"
    assert "logarithmic y axis 1 …" in texts(figure)


def test_gaps_are_marked_and_counted(make, texts):
    done = np.array([True] * 6 + [False])
    figure = draw_slices(make(lambda x: np.where(x == -1, np.nan, x), ny=0, done=done))
    marks = {line.get_marker(): list(line.get_xdata()) for line in figure.axes[0].get_lines()}
    assert marks["x"] == [-1]
    assert marks["o"] == [3]
    assert "1 of 7 points not finite (× above) · 1 of 7 points not evaluated (○ below)" in texts(figure)


def test_a_standard_error_near_the_end_of_float64_fills_the_axes(make):
    landscape = make(ny=0, function=lambda x: x)
    landscape.standard_errors["loss"] = np.full(7, 1.7e308)
    figure = draw_slices(landscape)
    low, high = figure.axes[0].get_ylim()
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() < low
    assert band.max() > high
    assert np.isfinite(band).all()


def test_three_directions_are_three_curves(make_volume):
    drawn = curves(draw_slices(make_volume(lambda x, y, z: x**2 + 2 * y**2 + 3 * z**2)))
    assert {letter: len(line.get_xdata()) for letter, line in drawn.items()} == {"α": 7, "β": 5, "γ": 4}
    np.testing.assert_allclose(drawn["γ"].get_ydata(), [3, 0, 3, 12])
    assert drawn["γ"].get_label() == "γ: curvature 6"
