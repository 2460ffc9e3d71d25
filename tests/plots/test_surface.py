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
    assert 70 * 70 < len(corners) < 90 * 90
    x, y, z = np.moveaxis(corners, -1, 0)
    np.testing.assert_allclose(z, 10 * x + y, atol=1e-9)
    assert (x.min(), x.max(), y.min(), y.max()) == (-3, 3, -2, 2)


@pytest.mark.parametrize("shape", [(9, 7), (8, 8)])
def test_few_points_of_a_paraboloid_are_a_smooth_one(make, shape):
    """A cubic spline is exact for it; facets would be off by h²/8 and more."""
    x, y, z = np.moveaxis(sheet(draw_surface(make(lambda x, y: x**2 + y**2, nx=shape[0], ny=shape[1]))), -1, 0)
    lowest = sum(np.abs(np.linspace(-end, end, n)).min() ** 2 for end, n in zip((3, 2), shape, strict=True))
    np.testing.assert_allclose(z, np.maximum(x**2 + y**2, lowest), atol=1e-9)


def test_a_step_has_no_heights_that_no_point_has(make):
    z = sheet(draw_surface(make(lambda x, y: np.where(x > 0.5, 1.0, 0.0), nx=9)))[..., 2]
    assert (z.min(), z.max()) == (0, 1)


def test_holes_keep_their_borders(make):
    """Cells with four corners and halves of those with three are drawn, others are not."""
    corners = sheet(draw_surface(make(lambda x, y: np.where(x > 0.5, np.nan, x + y))))
    x, y, z = np.moveaxis(corners, -1, 0)
    assert (x.min(), x.max(), y.min(), y.max()) == (-3, 0, -2, 2)
    np.testing.assert_allclose(z, x + y, atol=1e-9)


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
