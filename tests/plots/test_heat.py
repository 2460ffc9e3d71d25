import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from lightning_landscape.landscape import Grid, Landscape
from lightning_landscape.plots.heat import draw_heat


def mesh(figure) -> QuadMesh:
    return next(c for c in figure.axes[0].collections if c.get_gid() == "values")


@pytest.mark.parametrize("shape", [(7, 5), (6, 6)])
def test_each_cell_shows_the_value_at_its_centre(make, shape):
    cells = mesh(draw_heat(make(nx=shape[0], ny=shape[1])))
    corners = np.asarray(cells.get_coordinates())
    x, y = np.moveaxis((corners[:-1, :-1] + corners[1:, 1:]) / 2, -1, 0)
    np.testing.assert_allclose(cells.get_array(), 10 * x + y, atol=1e-12)


def test_cells_hold_their_points_on_uneven_axes():
    axes = (np.array([0.0, 1.0, 10.0]), np.array([-1.0, 0.0, 0.1, 5.0]))
    cells = mesh(draw_heat(Landscape(Grid(axes), {"loss": np.arange(12.0).reshape(3, 4)}, "loss")))
    corners = np.asarray(cells.get_coordinates())
    np.testing.assert_allclose(corners[0, :, 0], [-0.5, 0.5, 5.5, 14.5])
    np.testing.assert_allclose(corners[:, 0, 1], [-1.5, -0.5, 0.05, 2.55, 7.45])


def test_not_finite_cells_are_grey_and_not_evaluated_ones_hatched(make):
    done = np.ones((7, 5), bool)
    done[6] = False
    figure = draw_heat(make(lambda x, y: np.where((x == -3) & (y == 2), np.inf, x), done=done))
    axes = figure.axes[0]
    backdrop = next(c for c in axes.collections if c.get_gid() == "backdrop")
    codes = backdrop.get_array()
    assert codes[4, 0] == 1  # x first, y last
    assert codes.filled(-1)[:, 6].tolist() == [-1] * 5
    assert (codes == 1).sum() == 1
    assert [p.get_hatch() for p in axes.patches] == ["////"]
    assert mesh(figure).get_array().mask.sum() == 6
