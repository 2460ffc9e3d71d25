import numpy as np
import pytest
from matplotlib.contour import ContourSet

from lightning_landscape.plots.filled import draw_filled


def bands(axes) -> ContourSet:
    return next(c for c in axes.collections if isinstance(c, ContourSet))


@pytest.mark.parametrize("shape", [(7, 5), (6, 6)])
def test_every_band_holds_its_values(make, shape):
    drawn = bands(draw_filled(make(nx=shape[0], ny=shape[1])).axes[0])
    np.testing.assert_allclose(drawn.levels, np.linspace(-32, 32, 30))
    for low, high, path in zip(drawn.levels[:-1], drawn.levels[1:], drawn.get_paths(), strict=True):
        x, y = path.vertices.T
        assert len(x) > 2
        assert (10 * x + y >= low - 1e-9).all()
        assert (10 * x + y <= high + 1e-9).all()


def test_values_beyond_the_quantiles_are_coloured_too(make):
    figure = draw_filled(make(), color_scale="quantile")
    assert bands(figure.axes[0]).extend == "both"
    assert figure.axes[1].get_ylabel() == "loss"


def test_lone_points_are_dots(make):
    done = np.zeros((7, 5), bool)
    done[::2, ::2] = True
    figure = draw_filled(make(done=done))
    dots = figure.axes[0].collections[-1]
    x, y = np.asarray(dots.get_offsets()).T
    assert len(x) == 12
    np.testing.assert_allclose(dots.get_array(), 10 * x + y)
