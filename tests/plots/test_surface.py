import numpy as np
import pytest
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from lightning_landscape.plots.surface import draw_surface
from tests.plots.artists import faces


def sheet(figure) -> np.ndarray:
    """The corners of the surface's cells, shape (cells, 4, 3)."""
    drawn = next(c for c in figure.axes[0].collections if isinstance(c, Poly3DCollection) and c.zorder == 2)
    return faces(drawn, 4)


@pytest.mark.parametrize("shape", [(7, 5), (6, 6)])
def test_every_corner_is_on_the_surface(make, shape):
    corners = sheet(draw_surface(make(nx=shape[0], ny=shape[1])))
    assert len(corners) == (shape[0] - 1) * (shape[1] - 1)
    x, y, z = np.moveaxis(corners, -1, 0)
    np.testing.assert_allclose(z, 10 * x + y, atol=1e-9)
    assert (x.min(), x.max(), y.min(), y.max()) == (-3, 3, -2, 2)


def test_nan_is_a_hole(make):
    corners = sheet(draw_surface(make(lambda x, y: np.where((x == 0) & (y == 0), np.nan, x + y))))
    assert np.isfinite(corners).all()
    assert not ((corners[..., 0] == 0) & (corners[..., 1] == 0)).any()


def test_heights_are_logarithmic_with_the_colours(make):
    corners = sheet(draw_surface(make(lambda x, y: 10.0 ** (x + y)), color_scale="log"))
    x, y, z = np.moveaxis(corners, -1, 0)
    np.testing.assert_allclose(z, x + y, atol=1e-9)


def test_heights_are_clipped_with_the_colours(make):
    figure = draw_surface(make(nx=21, ny=21), color_scale="quantile")
    low, high = np.quantile(make(nx=21, ny=21).loss, [0.05, 0.95])
    z = sheet(figure)[..., 2]
    assert (z.min(), z.max()) == pytest.approx((low, high))


def test_flat_axes_are_replaced_by_3d_ones(make):
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.subplots(1, 2)[1]
    assert draw_surface(make(), ax=ax) is figure
    assert ax not in figure.axes
    assert "3d" in {a.name for a in figure.axes}
