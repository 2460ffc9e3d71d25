import numpy as np
import pytest

from lightning_landscape.landscape import Grid, Landscape
from lightning_landscape.storage.spline import refined


def test_a_finer_surface_runs_through_the_points(lopsided):
    lopsided.done[:] = True
    fine = refined(lopsided, "val/acc", 121)
    x, y = fine.grid.axes
    assert (x[0], x[-1], y[0], y[-1]) == (-3, 9, -2, 4)
    np.testing.assert_allclose(fine.loss, x[:, None] - 100 * y[None, :], atol=1e-10)  # f is linear
    assert list(fine.values) == ["val/acc"]
    assert fine.center == {"val/acc": 0.75}
    assert fine.meta["interpolated"] == "cubic splines through 7 × 5 points"
    assert fine.meta["seed"] == 7


@pytest.mark.parametrize("points", [-1, 0, 1])
def test_too_few_points_are_refused(lopsided, points):
    with pytest.raises(ValueError, match=f"interp={points} is too few: give the points along each direction"):
        refined(lopsided, "train_loss", points)


def test_a_hole_is_refused():
    grid = Grid.from_ranges((0, 1, 3), (0, 1, 2))
    done = np.array([[True, True], [True, False], [True, True]])
    values = np.array([[0, 1], [2, 3], [np.nan, 5.0]])
    with pytest.raises(ValueError, match="interp=9 needs a finite value at every point, 2 have none: leave interp out"):
        refined(Landscape(grid, {"loss": values}, "loss", done=done), "loss", 9)
