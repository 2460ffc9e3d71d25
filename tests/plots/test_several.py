"""Pictures of several runs: panels, curves, paths and steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from lightning_landscape import Trajectory, compare
from lightning_landscape.comparison import on_one_surface
from lightning_landscape.plots import to_image
from lightning_landscape.plots.panels import PanelLayout
from lightning_landscape.plots.run_steps import run_curves
from lightning_landscape.plots.runs import LOOKS, Runs
from lightning_landscape.plots.several import COMPARISONS
from lightning_landscape.recipe import DataRecipe, DirectionsRecipe, Recipe
from tests.plots.artists import assert_bands_hold, contours


def recipe(seed=42, **fields):
    settings = {"seed": seed, "normalize": "filter"}
    return Recipe(directions=DirectionsRecipe("random", settings, checksum="d"), **fields)


@pytest.fixture
def three(make):
    """Slopes of different height, one of them on a wider range."""
    return {
        "sgd": make(recipe=recipe()),
        "adam": make(lambda x, y: 20 * x + y, recipe=recipe()),
        "adamw": make(lambda x, y: 0.1 * x, x=(-4, 4), recipe=recipe()),
    }


def panels_of(figure, metric="loss"):
    return [ax for ax in figure.axes if ax.get_label().startswith(f"{metric} of ")]


def bars_of(figure):
    return [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]


# panels


def test_panels_share_colours_and_axes(three):
    figure = compare(three).plot("panels")
    panels = panels_of(figure)
    assert [ax.get_label() for ax in panels] == ["loss of sgd", "loss of adam", "loss of adamw"]
    # 20 x + y on x = -3 … 3, y = -2 … 2 runs from -62 to 62, the widest of the three
    assert {(contours(ax).norm.vmin, contours(ax).norm.vmax) for ax in panels} == {(-62, 62)}
    assert {ax.get_xlim() for ax in panels} == {(-4, 4)}
    assert {ax.get_ylim() for ax in panels} == {(-2, 2)}
    for ax, function in zip(
        panels, (lambda x, y: 10 * x + y, lambda x, y: 20 * x + y, lambda x, y: 0.1 * x), strict=True
    ):
        assert_bands_hold(function, ax)
    heights = {(round(ax.get_position().height, 9), round(ax.get_position().width, 9)) for ax in panels}
    assert len(heights) == 1


def test_panels_of_several_metrics_have_a_scale_each(three):
    for landscape in three.values():
        landscape.values["acc"] = 100 - landscape.loss
        landscape.center["acc"] = 100.0
    figure = compare(three).plot("panels", ["loss", "acc"])
    assert {(contours(ax).norm.vmin, contours(ax).norm.vmax) for ax in panels_of(figure, "acc")} == {(38, 162)}
    assert {(contours(ax).norm.vmin, contours(ax).norm.vmax) for ax in panels_of(figure, "loss")} == {(-62, 62)}
    assert [bar.get_ylabel() for bar in bars_of(figure)] == ["loss", "acc"]


def test_one_metric_is_drawn_logarithmically_in_all_panels_or_in_none(make):
    low, high = make(lambda x, y: 0.01 + x**2 + 0 * y), make(lambda x, y: 2 + x**2 + 0 * y)
    figure = compare({"a": low, "b": high}).plot("panels")
    assert {type(contours(ax).norm).__name__ for ax in panels_of(figure)} == {"LogNorm"}
    assert {(contours(ax).norm.vmin, contours(ax).norm.vmax) for ax in panels_of(figure)} == {(0.01, 11)}


def test_different_planes_have_their_own_axes_and_the_picture_says_so(three, texts):
    three["adam"].recipe = recipe(seed=43)
    figure = compare(three).plot("panels")
    assert [ax.get_xlim() for ax in panels_of(figure)] == [(-3, 3), (-3, 3), (-4, 4)]
    assert len({contours(ax).norm.vmax for ax in panels_of(figure)}) == 1
    assert "The planes differ: seed 42 (sgd, adamw), 43 (adam). A point of one is no point of another." in texts(figure)


def test_a_panel_has_name_step_centre_and_curvatures(make, texts):
    runs = {"a": make(lambda x, y: 1 + x**2 + 2 * y**2, recipe=recipe(step=12000)), "b": make(lambda x, y: 5 + x**2)}
    text = texts(compare(runs).plot("panels"))
    assert "step 12,000 · ★ 1 · curvature 2, 4" in text
    assert "★ 5 · curvature 2, 0" in text
    assert "red: +10 % (solid), +1 (dashed) above ★" in text


@pytest.mark.parametrize(
    "count, shape", [(2, (1, 2)), (3, (1, 3)), (4, (2, 2)), (6, (2, 3)), (8, (2, 4)), (16, (4, 4))]
)
def test_many_panels_are_a_grid(make, count, shape):
    figure = compare({f"run {i}": make() for i in range(count)}).plot("panels")
    places = [ax.get_position() for ax in panels_of(figure)]
    assert len({round(place.x0, 6) for place in places}) == shape[1]
    assert len({round(place.y0, 6) for place in places}) == shape[0]


def test_more_runs_than_panels_are_refused(make):
    runs = Runs({f"run {i}": make() for i in range(5)})
    with pytest.raises(ValueError, match="5 runs are more than the 4 panels of a picture: compare fewer"):
        COMPARISONS["panels"].draw(runs, ["loss"], layout=PanelLayout(most_runs=4))


# curves


def test_curves_go_through_each_centre(three):
    figure = compare(three).plot("curves")
    along_x, along_y = figure.axes
    x, y = np.linspace(-3, 3, 7), np.linspace(-2, 2, 5)
    lines = along_x.get_lines()[:3]
    np.testing.assert_allclose([line.get_ydata() for line in lines], [10 * x, 20 * x, 0.1 * x * 4 / 3])
    np.testing.assert_allclose(lines[2].get_xdata(), x * 4 / 3)
    np.testing.assert_allclose([line.get_ydata() for line in along_y.get_lines()[:3]], [y, y, 0 * y])
    assert [line.get_color() for line in lines] == list(LOOKS.colors[:3])
    assert along_x.get_ylim() == along_y.get_ylim()
    assert along_x.get_xlim() == (-4, 4)


@pytest.mark.parametrize("kind", ["line", "volume"])
def test_lines_and_volumes_have_curves(make, make_volume, kind):
    of = (lambda f: make(f, ny=0)) if kind == "line" else (lambda f: make_volume(lambda x, y, z: f(x)))
    figure = compare({name: of(f) for name, f in (("a", abs), ("b", lambda x: x), ("c", lambda x: 2 * x))}).plot()
    assert len(figure.axes) == (1 if kind == "line" else 3)
    np.testing.assert_allclose(figure.axes[0].get_lines()[0].get_ydata(), np.abs(np.linspace(-3, 3, 7)))


def test_points_without_a_value_are_gaps(make):
    broken = make(lambda x, y: np.where(x == 1, np.inf, x))
    lines = compare({"a": broken, "b": make(), "c": make()}).plot("curves").axes[0].get_lines()
    np.testing.assert_array_equal(lines[0].get_ydata(), [-3, -2, -1, 0, np.nan, 2, 3])


# paths and steps


def path(points, off=0.0, **fields):
    points = np.array(points, dtype=float)
    residuals = np.full(len(points), off)
    return Trajectory(
        np.arange(len(points), dtype=float), points, residuals, np.hypot(np.linalg.norm(points, axis=1), off), **fields
    )


@pytest.fixture
def paths():
    return {
        "sgd": path([(2, 1), (1, 1), (0.5, 0)], losses={"loss": np.array([3.0, 2.0, 0.25])}),
        "adam": path([(2, 1), (-1, 1), (-2, 0.5)], off=1.5),
    }


@pytest.fixture
def runs(make, paths):
    surface = make(lambda x, y: 1 + x**2 + y**2, recipe=recipe(weights_checksum="w"))
    surface.recipe.directions.settings["explained"] = [0.654, 0.296]
    return on_one_surface(surface, paths, {name: {} for name in paths})


def test_all_paths_lie_on_one_picture(runs, paths, texts):
    assert runs.kinds == ("paths", "steps")
    figure = runs.plot()
    ax = figure.axes[0]
    lines = [c for c in ax.collections if type(c).__name__ == "LineCollection"]
    drawn = lines[1::2]  # each lies on a white rim
    for collection, (name, trajectory), color in zip(drawn, paths.items(), LOOKS.colors, strict=False):
        corners = np.stack([trajectory.points[:-1], trajectory.points[1:]], axis=1)
        np.testing.assert_array_equal(np.array(collection.get_segments()), corners, err_msg=name)
        assert tuple(collection.get_colors()[0][:3]) == to_rgba(color)[:3]
    markers = {tuple(np.ravel(line.get_xydata())): line.get_markerfacecolor() for line in ax.get_lines()}
    assert markers[(0.5, 0.0)] == LOOKS.colors[0]
    assert markers[(-2.0, 0.5)] == LOOKS.colors[1]
    assert markers[(2.0, 1.0)] == "white"
    text = texts(figure)
    assert "sgd: ends at 0.25" in text
    assert "α   (65% of the variance)" in text
    assert "○ start · ● end" in text


def test_a_path_far_from_the_plane_is_faint(runs, paths, texts):
    """The paths reach hypot(2, 1) on the plane. Half of that is 1.118, and adam's is 1.5 away from it."""
    lines = [c for c in runs.plot().axes[0].collections if type(c).__name__ == "LineCollection"]
    assert [set(c.get_colors()[:, 3]) for c in lines[1::2]] == [{1.0}, {0.35}]
    assert "faint: farther from the plane" in texts(runs.plot())
    near = {name: replace(p, residuals=np.zeros(3)) for name, p in paths.items()}
    figure = on_one_surface(runs.landscapes["sgd"], near, {name: {} for name in near}).plot()
    assert "faint" not in texts(figure)


def test_an_end_beyond_the_range_has_no_mark(runs):
    paths = {"a": path([(0, 0), (9, 9)]), "b": path([(0, 0), (1, 1)])}
    figure = on_one_surface(runs.landscapes["sgd"], paths, {name: {} for name in paths}).plot("paths")
    places = [tuple(np.ravel(line.get_xydata())) for line in figure.axes[0].get_lines()]
    assert sorted(places) == [(0, 0), (0, 0), (1, 1)]
    assert figure.axes[0].get_xlim() == (-3, 3)


def history(count, **columns):
    return {"step": np.arange(float(count)), **{name: np.array(column, float) for name, column in columns.items()}}


def test_steps_are_drawn_of_all_runs(make):
    first = path([(0, 0)], history=history(3, loss=[3, 2, 1], distance=[0, 1, 3], step_length=[np.nan, 1, 2]))
    second = path([(0, 0)], history=history(2, loss=[3, 2], distance=[0, 5]))
    runs = {"a": make(trajectory=first), "b": make(lambda x, y: x, trajectory=second), "c": make()}
    comparison = compare(runs)
    assert comparison.kinds == ("panels", "curves", "steps")
    axes = comparison.plot("steps").axes
    assert [ax.get_ylabel() for ax in axes] == ["loss", "distance from start", "step length"]
    drawn = [[line.get_xydata().tolist() for line in ax.get_lines()] for ax in axes]
    assert drawn == [
        [[[0, 3], [1, 2], [2, 1]], [[0, 3], [1, 2]]],
        [[[0, 0], [1, 1], [2, 3]], [[0, 0], [1, 5]]],
        [[[1, 1], [2, 2]]],  # the first step is not known
    ]
    assert [line.get_color() for line in axes[0].get_lines()] == list(LOOKS.colors[:2])
    assert {ax.get_xlim() for ax in axes} == {(0, 2)}


def test_losses_of_records_stand_for_those_that_were_not_logged(make):
    logged = path([(0, 0), (1, 1)], losses={"loss": np.array([9.0, 8])}, history=history(3, loss=[3, 2, 1]))
    recorded = path([(0, 0), (1, 1)], losses={"loss": np.array([7.0, 6])})
    curves = run_curves(Runs({"a": make(trajectory=logged), "b": make(trajectory=recorded)}), "loss")["loss"]
    assert {name: values.tolist() for name, (_, values) in curves.items()} == {"a": [9, 8], "b": [7, 6]}
    other = path([(0, 0)], history=history(2, loss=[5, 4]))
    curves = run_curves(Runs({"a": make(trajectory=logged), "b": make(trajectory=other)}), "loss")["loss"]
    assert {name: values.tolist() for name, (_, values) in curves.items()} == {"a": [3, 2, 1], "b": [5, 4]}


def test_numbers_over_two_decades_are_logarithmic(make):
    wide, narrow = ([1, 0.1, 0.001], [1, 2, 3])
    runs = {
        name: make(trajectory=path([(0, 0)], history=history(3, step_length=column, norm=narrow)))
        for name, column in (("a", wide), ("b", narrow))
    }
    axes = compare(runs).plot("steps").axes
    assert [ax.get_yscale() for ax in axes] == ["log", "linear"]


# all kinds


LONG = "a name of a run that is far too long for the panel that it stands above, version_12"


@pytest.mark.parametrize("kind", COMPARISONS)
@pytest.mark.parametrize("names", [("a", "b"), (LONG, "b"), tuple("abcdefgh")], ids=["two", "long", "eight"])
def test_nothing_written_leaves_the_picture(make, kind, names):
    data = {"train": DataRecipe(1024)}
    full = recipe(step=1200000, epoch=30, data=data, seed=7, weights_checksum="w", mode="eval")
    losses = {"loss": np.array([3.0, 1e-5])}
    trajectory = path([(0, 0), (1, 1)], losses=losses, history=history(2, loss=[3, 1e-5], distance=[0, 1e5]))
    shown = names[:2] if kind == "difference" else names
    one = kind == "paths"
    runs = {
        name: make(
            lambda x, y, i=i: np.where(x < -2, np.nan, np.exp(5 * np.abs(x) * (1 if one else i + 1))),
            recipe=full, trajectory=trajectory if kind in ("paths", "steps") else None,
        )
        for i, name in enumerate(shown)
    }  # fmt: skip
    pixels = to_image(compare(runs).plot(kind), dpi=100)
    frame = [pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]]
    assert all((edge == 255).all() for edge in frame)
    assert pixels.min() < 128


@pytest.mark.parametrize("function", [lambda x, y: x * np.nan, lambda x, y: 0 * x + 2, lambda x, y: 0 * x + 1e300])
def test_odd_values_are_drawn_without_a_warning(make, function, texts):
    for kind in ("panels", "curves"):
        to_image(compare({"a": make(function), "b": make(function), "c": make(function)}).plot(kind), dpi=50)
        to_image(compare({"a": make(function), "b": make(), "c": make()}).plot(kind), dpi=50)
