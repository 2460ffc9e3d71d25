import numpy as np
import pytest

from lightning_landscape.plots.contour import draw_contour
from tests.plots.artists import all_contours, assert_bands_hold, bar_of, contours


@pytest.mark.parametrize("shape", [(7, 5), (6, 6)])
def test_every_line_lies_on_its_level_and_every_band_between_two(make, shape):
    ax = draw_contour(make(nx=shape[0], ny=shape[1])).axes[0]
    assert_bands_hold(lambda x, y: 10 * x + y, ax)
    bands, lines, *_ = all_contours(ax)
    assert set(lines.levels) < set(bands.levels)
    assert (bands.levels[0], bands.levels[-1]) == (-32, 32)
    lengths = 0
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        x, y = path.vertices.T
        np.testing.assert_allclose(10 * x + y, level, atol=1e-9)
        lengths += len(x)
    assert lengths > 20


def test_labels_are_few_and_round(make):
    figure = draw_contour(make(lambda x, y: x**2 + y**2, nx=51, ny=51))
    lines = all_contours(figure.axes[0])[1]
    assert len(lines.levels) <= 22
    texts = {t.get_text() for t in lines.labelTexts}
    assert texts
    assert texts <= {str(n) for n in range(1, 14)}


def test_values_beyond_the_quantiles_are_coloured_too(make):
    assert contours(draw_contour(make(), color_scale="quantile").axes[0]).extend == "both"


def test_lone_points_are_dots(make):
    done = np.zeros((7, 5), bool)
    done[::2, ::2] = True
    (dots,) = [c for c in draw_contour(make(done=done)).axes[0].collections if len(c.get_offsets()) > 1]
    assert len(dots.get_offsets()) == 12


def radius(ax, level):
    """The radius of the drawn line at a level, from θ*; of the thin one over its white rim."""
    *_, line = [c for c in all_contours(ax) if c.levels.tolist() == [pytest.approx(level)]]
    return np.hypot(*line.get_paths()[0].vertices.T), line.get_edgecolor()


def test_lines_around_what_is_as_good_as_the_centre(make):
    """x² + y² + 0.5 is 0.55 on the circle of √0.05, and 1.5 on that of 1."""
    figure = draw_contour(make(lambda x, y: x**2 + y**2 + 0.5, nx=241, ny=161))
    colors = []
    for level, expected in ((0.55, 0.05**0.5), (1.5, 1.0)):
        radii, color = radius(figure.axes[0], level)
        np.testing.assert_allclose(radii, expected, atol=2e-3)
        colors.append(tuple(color[0]))
    assert colors[0] == colors[1]
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["+10 %: as good as ★", "+1"]
    assert {float(line.get_ydata()[0]) for line in bar_of(figure).get_lines()} >= {1.5}


@pytest.mark.parametrize(
    "center, labels", [(0.0, ["+1"]), (-2.0, ["+1"]), (50.0, ["+1"]), (0.01, ["+10 %: as good as ★", "+1"])]
)
def test_ten_per_cent_of_zero_or_less_and_lines_beyond_all_values_are_no_lines(make, center, labels):
    """The highest value is the centre's and 4: 50 × 1.1 is beyond."""
    figure = draw_contour(make(lambda x, y: center + (x**2 + y**2) * 4 / 13, nx=31, ny=31))
    texts = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert texts == labels


def test_what_is_no_loss_has_no_such_lines(make):
    landscape = make(lambda x, y: np.exp(-(x**2) - y**2), nx=31, ny=31)
    landscape.values["val_acc"], landscape.center["val_acc"] = 100 * landscape.loss, 100.0
    landscape.values["val_loss"], landscape.center["val_loss"] = 3 - 2 * landscape.loss, 1.0
    assert draw_contour(landscape, "val_acc").axes[0].get_legend() is None
    assert draw_contour(landscape, "val_loss").axes[0].get_legend() is not None
