"""No picture changes with the user's matplotlib settings, and none of these change with a picture."""

from functools import cache

import matplotlib
import numpy as np
import pytest
from matplotlib import style

from lightning_landscape.landscape import Grid, Landscape, Sample, Samples
from lightning_landscape.plots import PLOTS, draw_comparison, encode_picture, to_image
from tests.plots.walks import walk

ROWS = [(kind, ndim) for kind, plot in PLOTS.items() for ndim in plot.ndims]
USERS = {
    "tex": {"text.usetex": True, "savefig.facecolor": "red", "savefig.bbox": "tight"},  # LaTeX need not be there
    "dark": {**style.library["dark_background"], "hatch.linewidth": 9, "axes3d.grid": False, "savefig.dpi": 30},
    "text": {"font.family": "serif", "font.size": 25, "axes.titlepad": 40, "axes.unicode_minus": False},
    "lines": {"path.sketch": (1, 100, 2), "lines.linewidth": 7, "image.origin": "lower", "text.antialiased": False},
}
users = pytest.mark.parametrize("settings", USERS.values(), ids=USERS)


def landscape(ndim: int) -> Landscape:
    """Negative numbers, gaps, values that are not finite, and samples: all that a picture can show."""
    grid = Grid.from_ranges(*[(-1, 1, points) for points in (7, 5, 4)[:ndim]])
    values = (grid.points**2).sum(axis=1).reshape(grid.shape) - 1
    values[0] = np.nan
    done = np.ones(grid.shape, bool)
    done[-1] = False
    picture = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    samples = Samples(np.stack([values] * 2), (Sample(0, 0.5, 1, 1, 0.9, picture), Sample(1, 0.5, 1, 2, 0.9)))
    fields = {"samples": samples, "center": {"loss": -1.0}, "trajectory": walk(ndim)}
    return Landscape(grid, {"loss": values}, "loss", done=done, **fields)


@cache
def pixels(kind: str, ndim: int) -> np.ndarray:
    return to_image(PLOTS[kind].draw(landscape(ndim)), dpi=40)


@users
@pytest.mark.parametrize("kind, ndim", ROWS)
def test_every_kind_has_the_same_pixels(kind, ndim, settings):
    expected = pixels(kind, ndim)
    with matplotlib.rc_context(settings):
        before = dict(matplotlib.rcParams)
        np.testing.assert_array_equal(to_image(PLOTS[kind].draw(landscape(ndim)), dpi=40), expected)
        assert dict(matplotlib.rcParams) == before


@users
def test_a_comparison_has_the_same_pixels(settings):
    a, b = landscape(2), landscape(2)
    expected = to_image(draw_comparison(a, b), dpi=40)
    with matplotlib.rc_context(settings):
        np.testing.assert_array_equal(to_image(draw_comparison(a, b), dpi=40), expected)


@users
@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_file_has_the_same_bytes(suffix, settings, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    monkeypatch.setattr("uuid.uuid4", lambda: "an SVG names its parts by this")

    def encoded() -> bytes:
        figure = PLOTS["contour"].draw(landscape(2))
        return encode_picture(figure, f".{suffix}", to_image(figure))

    expected = encoded()
    with matplotlib.rc_context(settings):
        assert encoded() == expected
