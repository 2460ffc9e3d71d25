import numpy as np
import pytest

from lightning_landscape.plots.filled import draw_filled
from tests.plots.artists import assert_bands_hold, contours


@pytest.mark.parametrize("shape", [(7, 5), (6, 6)])
def test_every_band_holds_its_values(make, shape):
    ax = draw_filled(make(nx=shape[0], ny=shape[1])).axes[0]
    np.testing.assert_allclose(contours(ax).levels, np.linspace(-32, 32, 30))
    assert_bands_hold(lambda x, y: 10 * x + y, ax)
    assert all(len(path.vertices) > 2 for path in contours(ax).get_paths())


def test_values_beyond_the_quantiles_are_coloured_too(make):
    figure = draw_filled(make(), color_scale="quantile")
    assert contours(figure.axes[0]).extend == "both"
    assert figure.axes[1].get_ylabel() == "loss"


def test_lone_points_are_dots(make):
    done = np.zeros((7, 5), bool)
    done[::2, ::2] = True
    figure = draw_filled(make(done=done))
    dots = figure.axes[0].collections[-1]
    x, y = np.asarray(dots.get_offsets()).T
    assert len(x) == 12
    np.testing.assert_allclose(dots.get_array(), 10 * x + y)
