"""Films of a path that grows: the same plane in every frame, and more of the path in each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lightning_landscape.plots import PLOTS, to_image
from lightning_landscape.plots.growing import growing_film, is_growing
from tests.plots.walks import walk

GROWING = [kind for kind, plot in PLOTS.items() if plot.grows]


@pytest.fixture
def landscape(make):
    return make(x=(-1, 1), y=(-1, 1), nx=9, ny=9, trajectory=walk())


@pytest.mark.parametrize("kind", GROWING)
def test_the_last_frame_is_the_picture_and_more_changes_from_frame_to_frame(landscape, kind):
    film = landscape.film(kind, frames=4)
    assert len(film) == 4
    final = to_image(landscape.plot(kind))
    np.testing.assert_array_equal(film[-1], final)
    missing = [int((frame != final).any(axis=-1).sum()) for frame in film]
    assert missing == sorted(missing, reverse=True)
    assert missing[0] > missing[1] > missing[2] > 0


@pytest.mark.parametrize("kind", GROWING)
def test_axes_colours_and_camera_stay(landscape, kind):
    """Everything but the path and its key is the same: so is all that lies outside of the axes and the key."""
    first, last = (PLOTS[kind].draw(landscape, until=until) for until in (0.0, 50.0))
    for a, b in zip(first.axes, last.axes, strict=True):
        assert (a.get_xlim(), a.get_ylim()) == (b.get_xlim(), b.get_ylim())
        assert a.get_position().bounds == b.get_position().bounds
        if a.name == "3d":
            assert (a.get_zlim(), a.elev, a.azim) == (b.get_zlim(), b.elev, b.azim)
    title = int(0.5 * first.dpi)
    np.testing.assert_array_equal(to_image(first)[:title], to_image(last)[:title])


def test_moments_are_even_in_the_steps(landscape, monkeypatch):
    asked = []
    draw = PLOTS["contour"].draw

    def noted(*arguments, until, **options):
        asked.append(until)
        return draw(*arguments, until=until, **options)

    monkeypatch.setitem(PLOTS, "contour", replace(PLOTS["contour"], draw=noted))
    assert len(growing_film(landscape, frames=6)) == 6
    assert sorted(asked) == [0, 10, 20, 30, 40, 50]


def test_without_time_the_last_frame_comes_first(landscape):
    film = growing_film(landscape, "heat", frames=5, over=lambda: True)
    assert len(film) == 1
    np.testing.assert_array_equal(film[0], to_image(landscape.plot("heat")))


def test_what_can_not_grow_is_refused(landscape, make):
    with pytest.raises(ValueError, match=r"kind='tiles' shows no path of a 2-D landscape: choose one of contour, heat"):
        landscape.film("tiles")
    with pytest.raises(ValueError, match=r"frames=1: give a whole number of at least 2"):
        landscape.film(frames=1)
    with pytest.raises(ValueError, match="this landscape has no path of a training, so nothing grows"):
        make().film()
    landscape.trajectory = replace(walk(), points=0.001 * walk().points)
    with pytest.raises(ValueError, match=r"kind='contour': on this plane the path is a dot, so nothing grows"):
        landscape.film("contour")
    assert not is_growing(landscape, "contour")
    assert is_growing(landscape, "path")


def test_a_line_has_a_film_of_its_numbers(make):
    line = make(lambda x: x**2, ny=0, trajectory=walk(1))
    np.testing.assert_array_equal(line.film(frames=2)[-1], to_image(line.plot("path")))
