import sys

import numpy as np
import pytest
from mpl_toolkits.mplot3d.art3d import Poly3DCollection

from lightning_landscape.plots.isosurfaces import draw_isosurfaces, isosurface
from tests.plots.artists import bar_of, faces

pytest.importorskip("skimage.measure")


def triangles(figure) -> np.ndarray:
    """The corners of all triangles, shape (triangles, 3, 3)."""
    ax = next(a for a in figure.axes if a.name == "3d")
    drawn = [faces(c, 3) for c in ax.collections if isinstance(c, Poly3DCollection)]
    return np.concatenate(drawn) if drawn else np.zeros((0, 3, 3))


def area(corners) -> float:
    a, b, c = np.moveaxis(corners, 1, 0)
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()


def linear(x, y, z):
    return 4.0 * x + 2.0 * y + z


@pytest.mark.parametrize("shape", [(7, 5, 4), (4, 5, 7), (6, 6, 6)])
def test_every_corner_has_the_value_of_its_level(make_volume, shape):
    corners = triangles(draw_isosurfaces(make_volume(linear, shape=shape), levels=[-3, 5.5]))
    x, y, z = np.moveaxis(corners, -1, 0)
    values = linear(x, y, z)
    near = np.abs(values[..., None] - [-3, 5.5]).argmin(axis=-1)
    np.testing.assert_allclose(values, np.array([-3, 5.5])[near], atol=1e-4)  # the library works in float32
    assert set(near.ravel()) == {0, 1}


def test_axes_may_be_uneven():
    axes = (np.array([0.0, 1.0, 4.0, 5.0]), np.array([-1.0, 3.0]), np.array([0.0, 0.1, 7.0]))
    values = np.ma.masked_array(np.add.outer(np.add.outer(axes[0], axes[1]), axes[2]), False)
    x, y, z = np.moveaxis(isosurface(axes, values, 6.0), -1, 0)
    np.testing.assert_allclose(x + y + z, 6.0, atol=1e-5)


def test_a_ball_has_the_area_of_a_ball_less_the_quarter_cut_out(make_volume):
    ball = make_volume(lambda x, y, z: x**2 + y**2 + z**2, shape=(41, 31, 35), ends=((-1, 1),) * 3)
    corners = triangles(draw_isosurfaces(ball, levels=[0.36, 9]))
    assert area(corners) == pytest.approx(0.75 * 4 * np.pi * 0.36, rel=0.01)
    x, y, _ = np.moveaxis(corners, -1, 0)
    assert not ((x > 1e-6) & (y < -1e-6)).any()


def test_logarithmic_values_are_interpolated_in_their_logarithms(make_volume):
    figure = draw_isosurfaces(make_volume(lambda x, y, z: 10.0**x), color_scale="log", levels=[0.5, 20])
    x = triangles(figure)[..., 0]
    near = np.log10([0.5, 20])[(x > 0).astype(int)]
    np.testing.assert_allclose(x, near, atol=1e-5)


def test_cells_with_a_corner_without_value_hold_nothing(make_volume):
    done = np.ones((7, 5, 4), bool)
    done[:, 0] = False
    landscape = make_volume(lambda x, y, z: np.where(x == 3, np.nan, z), done=done)
    corners = triangles(draw_isosurfaces(landscape, levels=[-0.5, 0.5]))
    x, y, _ = np.moveaxis(corners, -1, 0)
    assert (x.max(), y.min()) == (2, -1)
    # Planes at both levels over x in [-3, 2] and y in [-1, 2], but for the quarter x > 0, y < 0.
    assert area(corners) == pytest.approx(2 * (5 * 3 - 2 * 1), rel=1e-4)


def test_the_levels_are_few_and_round_and_the_inner_ones_closed(make_volume):
    bowl = make_volume(lambda x, y, z: 0.2 + 4 * (x**2 + y**2 + z**2), shape=(21, 19, 17), ends=((-1, 1),) * 3)
    figure = draw_isosurfaces(bowl)
    bar = bar_of(figure)
    texts = [t.get_text() for t in bar.get_yticklabels()]
    assert 3 <= len(texts) <= 5
    assert all(float(text) == round(float(text), 1) for text in texts)
    assert sum(float(text) < 4.1 for text in texts) >= 2  # inside of the box
    assert bar.get_ylim() == (-0.5, len(texts) - 0.5)


def test_fine_grids_are_thinned_to_be_drawn_in_time(make_volume):
    fine = make_volume(lambda x, y, z: x**2 + y**2 + z**2, shape=(91, 71, 81), ends=((-1, 1),) * 3)
    corners = triangles(draw_isosurfaces(fine, levels=[0.36, 9]))
    assert len(corners) < 12000
    assert area(corners) == pytest.approx(0.75 * 4 * np.pi * 0.36, rel=0.01)


def test_levels_beyond_the_values_say_so(make_volume, texts):
    assert "no surface: all levels lie beyond the values" in texts(
        draw_isosurfaces(make_volume(linear), levels=[90, 99])
    )


def test_the_cut_is_named(make_volume, texts):
    figure = draw_isosurfaces(make_volume(linear, (7, 4, 4), ((-3, 3), (-2, 2.5), (-1, 2))))
    assert "cut open at α > 0, β < −0.5" in texts(figure).replace("\u00a0", " ")


def test_a_missing_library_is_one_line_with_the_way_to_it(make_volume, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(ImportError, match=r'pip install "lightning-landscape\[volume\]"'):
        draw_isosurfaces(make_volume(linear))
