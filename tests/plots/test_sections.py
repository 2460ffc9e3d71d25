import numpy as np
import pytest

from lightning_landscape.plots import to_image
from lightning_landscape.plots.sections import draw_sections
from tests.plots.artists import assert_bands_hold, bar_of, contours


def plane(x, y, z):
    """Linear, so that interpolation is exact, and different along each direction."""
    return 100.0 * x + 10.0 * y + z


def panels(figure) -> list:
    return [a for a in figure.findobj(lambda artist: str(artist.get_gid()).startswith("plane "))]


def test_each_panel_holds_the_values_of_its_plane(make_volume):
    figure = draw_sections(make_volume(plane))
    assert len(panels(figure)) == 3
    for ax, (first, second) in zip(panels(figure), ((100, 10), (100, 1), (10, 1)), strict=True):
        assert_bands_hold(lambda x, y, first=first, second=second: first * x + second * y, ax)


def test_all_panels_share_the_colours_of_the_planes_alone(make_volume, texts):
    # The corners of the volume, ±322, are in no plane.
    figure = draw_sections(make_volume(plane))
    for ax in panels(figure):
        assert (contours(ax).levels[0], contours(ax).levels[-1]) == (-320, 320)
    assert "colours −320 … 320" in texts(figure)


def test_the_titles_say_where_the_planes_lie(make_volume, texts):
    figure = draw_sections(make_volume(plane, shape=(7, 4, 3), ends=((-3, 3), (-2, 2.5), (0.25, 1))))
    assert [ax.get_title() for ax in panels(figure)] == [
        "α, β  at γ = 0.25",
        "α, γ  at β = −0.5",
        "β, γ  at α = 0",
    ]
    assert [(ax.get_xlabel()[0], ax.get_ylabel()[0]) for ax in panels(figure)] == [("α", "β"), ("α", "γ"), ("β", "γ")]


def test_each_point_of_the_planes_is_counted_once(make_volume, texts):
    done = np.ones((7, 5, 4), bool)
    done[0] = False
    figure = draw_sections(make_volume(lambda x, y, z: np.where(x == 3, np.nan, x), done=done))
    # 7·5 + 7·4 + 5·4 points of the planes less their crossings, 7 + 5 + 4 - 1; at x = ±3: 5 + 4 - 1
    assert "8 of 68 points not finite (grey) · 8 of 68 points not evaluated (hatched)" in texts(figure)
    hatched = [any(p.get_hatch() for p in ax.patches) for ax in panels(figure)]
    assert hatched == [True, True, False]


def test_the_colour_bar_is_as_high_as_the_highest_panel(make_volume):
    figure = draw_sections(make_volume(plane, ends=((-1, 1), (-1, 1), (-0.5, 0.8))))
    to_image(figure)
    bar = bar_of(figure)
    boxes = [ax.get_window_extent() for ax in panels(figure)]
    assert bar.get_window_extent().y0 == pytest.approx(min(b.y0 for b in boxes), abs=1)
    assert bar.get_window_extent().y1 == pytest.approx(max(b.y1 for b in boxes), abs=1)


def test_the_star_is_where_the_volume_holds_the_centre(make_volume):
    def stars(figure):
        return [a for ax in panels(figure) for a in ax.get_lines() if a.get_gid() == "center"]

    assert len(stars(draw_sections(make_volume(plane)))) == 3
    assert not stars(draw_sections(make_volume(plane, ends=((-3, 3), (-2, 2), (1, 2)))))
