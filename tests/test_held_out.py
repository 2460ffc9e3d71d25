"""The correction that leads an interpolation through the points at which it was tested."""

import numpy as np
import pytest

from lightning_landscape.interpolation.held_out import correction
from lightning_landscape.interpolation.refinement import refine
from lightning_landscape.landscape import Grid, Landscape


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_it_has_the_residuals_at_the_held_out_points_and_is_zero_at_the_knots(ndim):
    generator = np.random.default_rng(0)
    axes, knots = [np.linspace(-1, 1, 13 + i) for i in range(ndim)], [np.array([0, 4, 8, 12 + i]) for i in range(ndim)]
    is_knot = np.zeros(tuple(map(len, axes)), dtype=bool)
    is_knot[np.ix_(*knots)] = True
    held_out = generator.permutation(np.argwhere(~is_knot))[:9]
    residuals = generator.normal(size=9)
    found = correction(axes, knots, held_out, residuals)
    np.testing.assert_allclose(found[tuple(held_out.T)], residuals, atol=1e-9)
    np.testing.assert_allclose(found[is_knot], 0, atol=1e-12)


def test_without_a_finite_residual_there_is_none():
    axes, knots = [np.linspace(0, 1, 9)], [np.array([0, 4, 8])]
    assert not correction(axes, knots, np.array([[2]]), np.array([np.inf])).any()
    assert not correction(axes, knots, np.empty((0, 1), dtype=int), np.empty(0)).any()


@pytest.mark.parametrize("scale", [1.0, 20.0], ids=["values", "logarithms"])
def test_a_pass_that_ends_among_the_held_out_points_leaves_no_dimple(scale):
    """Values from a closed form with waves that nine points an axis miss."""
    grid = Grid.from_ranges((-1, 1, 51), (-1, 1, 51))
    x, y = grid.points.T.reshape(2, *grid.shape)
    truth = np.exp(scale * (x**2 + y**2) / 4 + 0.2 * np.sin(9 * x) * np.cos(8 * y))
    landscape = Landscape.empty(grid, ["loss"], "loss")
    counted = 0

    def over() -> bool:
        return counted >= 160

    orders, tried = refine(landscape, ["loss"], over=over), None
    while True:
        try:
            order = orders.send(tried)
        except StopIteration:
            break
        tried = order[: 160 - counted]
        for flat in tried:
            index = np.unravel_index(flat, grid.shape)
            landscape.record(index, {"loss": (truth[index], 0.0)})
        counted += len(tried)
    assert landscape.done.all()
    inside = (slice(1, -1), slice(1, -1))

    def depths(values: np.ndarray) -> np.ndarray:
        """The distance of the logarithm from the mean of the four neighbours, inside the grid."""
        logs = np.log(values)
        return np.abs(logs[inside] - (logs[:-2, 1:-1] + logs[2:, 1:-1] + logs[1:-1, :-2] + logs[1:-1, 2:]) / 4)

    measured = landscape.evaluated[inside]
    measured[22:27, 22:27] = False  # the neighbours of the centre are measured as well
    assert depths(landscape.loss)[measured].max() < 4 * depths(truth)[measured].max()
