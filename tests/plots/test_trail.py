"""The path on pictures of a plane: where it runs, what of it is faint, and what is said of the rest."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from lightning_landscape.plots import PLOTS, to_image
from lightning_landscape.plots.style import STYLE
from lightning_landscape.plots.trail import cut, trail_of
from tests.plots.walks import walk

FLAT = ["contour", "heat"]


def strokes(figure) -> list:
    """The strokes of the path, from below to above."""
    return sorted(figure.findobj(lambda artist: artist.get_gid() == "path"), key=lambda stroke: stroke.get_zorder())


def pieces(stroke) -> np.ndarray:
    """The ends of the pieces of a stroke, shape (pieces, 2, 2 or 3)."""
    if hasattr(stroke, "_segments3d"):  # matplotlib has no public way to them
        return np.array(stroke._segments3d)
    return np.array(stroke.get_segments())


def places(figure, marker: str) -> list:
    """The places of the signs of one kind."""
    found = figure.findobj(lambda artist: artist.get_gid() == "path mark" and artist.get_marker() == marker)
    return [np.round(np.stack(getattr(sign, "get_data_3d", sign.get_data)(), axis=-1), 9).tolist() for sign in found]


def draw(kind, make, path, **options):
    limits = {"x": (-1, 1), "y": (-1, 1), "nx": 9, "ny": 9}
    return PLOTS[kind].draw(make(**limits, trajectory=path), **options)


@pytest.mark.parametrize("kind", FLAT)
def test_the_path_runs_through_its_points_and_is_cut_at_the_border(make, kind):
    """From (1.2, 0.72) straight to the origin, so that it comes in where x is 1, or half a cell of 0.25 later."""
    figure = draw(kind, make, walk())
    border = {"contour": 1.0, "heat": 1.125}[kind]
    ends = np.concatenate([pieces(stroke).reshape(-1, 2) for stroke in strokes(figure)])
    np.testing.assert_allclose(ends[:, 1], 0.6 * ends[:, 0], atol=1e-12)
    np.testing.assert_allclose(ends.max(axis=0), [border, 0.6 * border])
    inner = {1.2 * share for share in (0.8, 0.6, 0.4, 0.2, 0.0)}
    assert {*np.round(ends[:, 0], 9)} == {round(x, 9) for x in {border} | inner}


@pytest.mark.parametrize("kind", [*FLAT, "surface"])
def test_records_that_are_mostly_off_the_plane_are_faint(make, kind):
    """The first three of six, at x = 1.2, 0.96 and 0.72: so are the pieces down to x = 0.48."""
    faint, full = [], []
    for stroke in strokes(draw(kind, make, walk())):
        (faint if stroke.get_alpha() else full).append(pieces(stroke)[..., 0])
    assert faint[-1].min() == pytest.approx(0.48, abs=0.03)
    assert full[-1].max() == pytest.approx(0.48, abs=0.03)
    assert len(strokes(draw(kind, make, _exact()))) == 3


def _exact():
    return replace(walk(), residuals=np.zeros(6))


@pytest.mark.parametrize("kind", FLAT)
def test_a_step_has_one_colour_in_every_frame(make, kind):
    """The middle of the piece from step 20 to 30 is half-way from 0 to 50."""
    for until in (None, 50.0, 30.0):
        top = strokes(draw(kind, make, _exact(), until=until))[-1]
        at = [i for i, piece in enumerate(pieces(top)) if abs(piece[0][0] - 0.72) < 1e-9]
        np.testing.assert_allclose(top.get_colors()[at[0]], STYLE.path_colormap(0.5))


@pytest.mark.parametrize("kind", FLAT)
def test_until_ends_the_path_between_two_records(make, kind):
    """Step 25 is midway between x = 0.72 and 0.48."""
    top = strokes(draw(kind, make, _exact(), until=25))[-1]
    assert pieces(top)[..., 0].min() == pytest.approx(0.6)
    assert strokes(draw(kind, make, _exact(), until=0)) == []
    assert strokes(draw(kind, make, _exact(), until=-1)) == []


@pytest.mark.parametrize("kind", FLAT)
def test_marks_lie_at_their_steps(make, kind):
    figure = draw(kind, make, walk())
    assert places(figure, "^") == [[[0.72, 0.432], [0.24, 0.144]]]  # steps 20 and 40
    assert places(figure, "D") == [[[0.6, 0.36]]]  # step 25
    assert places(figure, "o") == []  # the start is outside
    assert places(figure, "s") == []  # the end is the star
    inside = replace(walk(), points=walk().points / 2)
    assert places(draw(kind, make, inside), "o") == [[[0.6, 0.36]]]


@pytest.mark.parametrize("kind", FLAT)
def test_a_path_that_does_not_end_at_the_star_has_an_end(make, texts, kind):
    """As with averaged weights."""
    beside = replace(walk(), points=walk().points + 0.1, distances=walk().distances + 0.5)
    figure = draw(kind, make, beside)
    assert places(figure, "s") == [[[0.1, 0.1]]]
    assert "end" in texts(figure)


@pytest.mark.parametrize("kind", [*FLAT, "surface"])
def test_the_picture_says_how_much_of_the_path_it_shows(make, texts, kind):
    """Σ residual² / Σ distance² is (0.64 · 2 + 0.16 · 0.2) / 2.2, which is 0.596."""
    text = texts(draw(kind, make, walk()))
    assert "path of 6 records: the plane shows 40 % of it (squared distance from ★)" in text
    assert "3 faint: over half of the distance is off the plane" in text
    assert "1 record outside of the picture" in text
    assert "its own loss is 0.1 below the plane's (median)" in text
    words = {written.get_text() for written in draw(kind, make, walk()).findobj(Text)}
    assert {"start", "checkpoint", "learning rate", "step 0", "50"} <= words


@pytest.mark.parametrize("kind", [*FLAT, "surface"])
def test_a_dot_is_a_line_of_text(make, texts, kind):
    """A path on a random plane: 0.009 of a picture that is 2 wide, on a plane that shows nothing of it."""
    path = replace(walk(), points=0.0075 * walk().points, residuals=walk().distances)
    figure = draw(kind, make, path)
    assert strokes(figure) == []
    assert figure.findobj(lambda artist: artist.get_gid() == "path mark") == []
    said = "the plane shows 0 % of it (squared distance from ★) · here a dot, 0.0045 of the picture wide, and not drawn"
    assert f"path of 6 records: {said}" in texts(figure)
    assert "faint" not in texts(figure)
    without = to_image(draw(kind, make, None)).astype(int)
    height = len(without) - 170  # without the footer, which the dot has a line of
    np.testing.assert_array_equal(to_image(figure)[:height], without[:height])


def test_records_that_are_not_finite_are_left_out_and_counted(make, texts):
    path = walk()
    path.points[1], path.distances[2] = np.nan, np.inf
    figure = draw("contour", make, path)
    assert "path of 4 records" in texts(figure)
    assert "2 records not finite" in texts(figure)
    assert np.isfinite(np.concatenate([pieces(stroke) for stroke in strokes(figure)])).all()


def test_on_the_surface_the_path_has_the_losses_of_the_plane(make):
    """On the plane 10 x + y the path x = 2 y would be 21 y high; it is said to be 0.5 higher at every record."""
    share = np.linspace(0.9, 0, 6)
    path = replace(walk(), points=np.stack([share, share / 2], axis=1), residuals=np.zeros(6))
    path.plane_losses["loss"] = 10 * share + share / 2 + 0.5
    for stroke in strokes(draw("surface", make, path)):
        x, y, z = pieces(stroke).reshape(-1, 3).T
        np.testing.assert_allclose(y, x / 2, atol=1e-12)
        np.testing.assert_allclose(z, 10 * x + y + 0.5, atol=1e-9)
    del path.plane_losses["loss"]
    _, y, z = pieces(strokes(draw("surface", make, path))[-1]).reshape(-1, 3).T
    np.testing.assert_allclose(z, 21 * y, atol=1e-9)


def test_on_a_logarithmic_surface_the_path_is_logarithmic(make):
    share = np.linspace(0.9, 0, 6)
    path = replace(walk(), points=np.stack([share, 0 * share], axis=1), residuals=np.zeros(6))
    path.plane_losses["loss"] = 10 ** (3 * share)
    figure = PLOTS["surface"].draw(
        make(lambda x, y: 10 ** (3 * x), x=(-1, 1), y=(-1, 1), nx=9, ny=9, trajectory=path), color_scale="log"
    )
    x, _, z = pieces(strokes(figure)[-1]).reshape(-1, 3).T
    np.testing.assert_allclose(z, 3 * x, atol=1e-6)


def test_no_hill_hides_the_path_and_nothing_of_it_leaves_the_box(make):
    figure = draw("surface", make, walk())
    axes = figure.axes[0]
    sheet = max(artist.get_zorder() for artist in axes.collections if artist.get_gid() != "path")
    assert min(stroke.get_zorder() for stroke in strokes(figure)) > sheet
    ends = np.concatenate([pieces(stroke).reshape(-1, 3) for stroke in strokes(figure)])
    assert ends[:, 0].max() == pytest.approx(1.0)
    low, high = axes.get_zlim()
    assert low <= ends[:, 2].min() <= ends[:, 2].max() <= high


def cielab(colors) -> np.ndarray:
    """The CIELAB coordinates of sRGB colours (CIE 15, white D65), shape (n, 3)."""
    given = np.asarray(colors)[:, :3]
    linear = np.where(given <= 0.04045, given / 12.92, ((given + 0.055) / 1.055) ** 2.4)
    rows = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    ratio = linear @ np.array(rows).T / [0.95047, 1.0, 1.08883]
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)


def test_equal_steps_are_equal_changes_of_colour_and_no_other_line_has_these_colours():
    """In CIELAB, where 2.3 is just seen: each of 32 steps within a quarter of their mean; viridis is within 0.4."""
    path = cielab(STYLE.path_colormap(np.linspace(0, 1, 33)))
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert np.abs(steps / steps.mean() - 1).max() < 0.25
    assert steps.min() > 2.3
    assert (np.diff(path[:, 0]) > 0).all()  # from dark to light
    assert np.linalg.norm(path - cielab([to_rgba(STYLE.good)]), axis=1).min() > 40


def test_a_path_is_seen_on_dark_and_on_light(make):
    """A white rim in a dark one: one of them is far from every colour of the surface."""
    below, rim, _ = strokes(draw("contour", make, _exact()))
    assert to_rgba(below.get_colors()[0])[:3] == to_rgba(STYLE.ink)[:3]
    assert to_rgba(rim.get_colors()[0])[:3] == (1, 1, 1)
    assert below.get_linewidths()[0] > rim.get_linewidths()[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_line_is_cut_as_if_each_of_its_points_were_asked(seed):
    """Against a naive loop: of 4,000 points on each piece those inside, whose share is the share of its length."""
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(12, 2))
    points[4] = points[3] * [1, 0] + [0, points[3][1]]  # level with the one before
    box = ((-0.7, 0.9), (-0.4, 1.1))
    ends, numbers, inside = cut(points, box)
    lengths = dict(zip(numbers.tolist(), np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1), strict=True))
    for i, (a, b) in enumerate(pairwise(points)):
        places = a + np.linspace(0, 1, 4001)[:, None] * (b - a)
        among = ((places >= [-0.7, -0.4]) & (places <= [0.9, 1.1])).all(axis=1)
        assert lengths.get(i, 0.0) == pytest.approx(among.mean() * np.linalg.norm(b - a), abs=2e-3)
        assert inside[i] == among[0]


def test_no_path_is_no_trail(make):
    assert trail_of(make(), "loss") is None
