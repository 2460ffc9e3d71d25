"""One scale for a run: its ranges from closed forms, and the same pixels for the same values at every step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize

from lightning_landscape.landscape import Grid, Landscape, Sample, Samples
from lightning_landscape.output import Look
from lightning_landscape.plots import PLOTS, to_image
from lightning_landscape.plots.run_scale import RunScale
from lightning_landscape.recipe import Recipe

GRID = Grid.from_ranges((-1, 1, 9), (-1, 1, 9))
R2 = (GRID.points**2).sum(axis=1).reshape(GRID.shape)  # 0 to 2, and 0 to 1 along the slices


def landscape(values, step: int = 0, **fields) -> Landscape:
    values = {"loss": values} if isinstance(values, np.ndarray) else values
    return Landscape(GRID, values, "loss", recipe=Recipe(epoch=step, step=step), **fields)


def scale_of(*landscapes: Landscape, **asked) -> RunScale:
    scale = RunScale(**asked)
    for each in landscapes:
        scale = scale.widened(each)
    return scale


def ends(scale: RunScale, kind: str = "contour", metric: str | None = None, of: Landscape | None = None):
    options = scale.options(of or landscape(R2), kind, metric)
    return options["color_scale"], options.get("vmin"), options.get("vmax")


@pytest.mark.parametrize(
    "kind, first, both",
    [
        ("contour", (1, 3), (0.5, 5)),
        ("heat", (1, 3), (0.5, 5)),
        ("surface", (1, 3), (0.5, 5)),
        ("slices", (1, 2), (0.5, 3)),
    ],
)
def test_the_first_landscape_sets_the_range_and_a_later_one_widens_it(kind, first, both):
    one, two = landscape(1 + R2), landscape(np.where(R2 == 0, 0.5, 1 + 2 * R2))
    assert ends(scale_of(one), kind) == ("global", *first)
    assert ends(scale_of(one, two), kind) == ends(scale_of(two, one), kind) == ("global", *both)


def test_a_landscape_inside_the_range_changes_nothing():
    scale = scale_of(landscape(1 + R2))
    inside = landscape(1.5 + 0.1 * R2)
    assert scale.widened(inside) == scale
    assert scale.widened(inside).changes(scale, inside) == []


def test_each_metric_and_the_tiles_have_their_own_range():
    items = (Sample(0, 0.0), Sample(1, 0.0))
    tiles = Samples(np.stack([3 + R2, 7 + R2]), items)
    one = landscape({"loss": 1 + R2, "acc": 0.5 - R2 / 8}, samples=tiles)
    scale = scale_of(one)
    assert ends(scale, "contour", "acc", one) == ("global", 0.25, 0.5)
    assert ends(scale, "tiles", None, one) == ("global", 3, 9)
    assert scale.widened(landscape(10 + R2)).options(one, "tiles") == scale.options(one, "tiles")


def test_what_is_said_of_a_change():
    one, two = landscape({"loss": 1 + R2, "acc": R2}), landscape({"loss": 2 + R2, "acc": R2, "new": R2})
    scale = scale_of(one)
    assert scale.changes(RunScale(), one) == []
    assert scale.widened(two).changes(scale, two) == ["loss from 1 to 4 (before: from 1 to 3)"]


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_or_not_done_do_not_count(odd):
    values, done = 1 + R2, np.ones(GRID.shape, bool)
    values[0, 0], values[0, 1], done[0, 1] = odd, 1e9, False
    assert ends(scale_of(landscape(values, done=done))) == ("global", 1, 3)


def test_flat_and_empty_landscapes_leave_the_range_to_the_next():
    flat, empty = landscape(np.full(GRID.shape, 2.3)), landscape(np.full(GRID.shape, np.nan))
    assert ends(scale_of(empty)) == ends(scale_of(flat)) == ("global", None, None)
    assert ends(scale_of(flat, empty, landscape(3 + R2))) == ("global", 2.3, 5)


def test_a_run_that_spans_two_decades_is_logarithmic():
    """Alone neither of them would be."""
    low, high = landscape(0.1 + R2), landscape(1 + 9 * R2)
    assert ends(scale_of(low))[0] == ends(scale_of(high))[0] == "global"
    scale = scale_of(low, high)
    assert ends(scale) == ("log", pytest.approx(0.1), pytest.approx(19))
    assert ends(scale, "slices") == ("log", pytest.approx(0.1), pytest.approx(10))
    assert ends(scale_of(high, low)) == ends(scale)
    assert scale.changes(scale_of(low), high) == ["loss from 0.1 to 19, logarithmic (before: from 0.1 to 2.1)"]


def test_tiles_are_logarithmic_where_the_whole_is_from_its_lowest_value():
    items = (Sample(0, 0.0), Sample(1, 0.0))
    values = 0.01 * np.exp(6 * R2)
    one = landscape(values, samples=Samples(np.stack([0 * R2, 4 * values]), items))
    assert ends(scale_of(one), "tiles", None, one) == ("log", pytest.approx(0.01), pytest.approx(4 * values.max()))


@pytest.mark.parametrize("lowest", [-0.5, 0.0])
def test_a_value_that_has_no_logarithm_keeps_all_linear(lowest):
    low, high = landscape(R2 + lowest), landscape(0.01 * np.exp(6 * R2))
    for scale in (scale_of(low, high), scale_of(high, low)):
        log, bottom, top = ends(scale)
        assert (log, bottom) == ("global", lowest)
        assert 1.5 <= top < 0.01 * np.exp(12)  # not the rim, which would take all colours


def test_an_accuracy_is_linear_though_it_spans_decades():
    """Its centre is near the upper end: there a logarithm would show the worst points."""
    falling = 0.99 - 0.49 * R2
    falling[0, 0] = 0.001
    assert ends(scale_of(landscape(falling)))[0] == "global"


def test_logarithmic_colours_that_are_asked_for_hold_the_positive_values():
    signed = landscape(R2 - 0.25)
    assert ends(scale_of(signed, color_scale="log")) == ("log", pytest.approx(R2[R2 > 0.25].min() - 0.25), 1.75)
    assert ends(scale_of(landscape(-1 - R2), color_scale="log")) == ("log", None, None)


def test_quantiles_of_each_are_joined():
    generator = np.random.default_rng(0)
    one, two = (landscape(generator.normal(place, 1, GRID.shape)) for place in (0, 4))
    low, high = np.quantile(one.loss, 0.05), np.quantile(two.loss, 0.95)
    assert ends(scale_of(one, two, color_scale="quantile")) == ("global", pytest.approx(low), pytest.approx(high))


def test_ends_that_are_asked_for_stay_and_are_of_the_main_loss_alone():
    one = landscape({"loss": 1 + R2, "acc": R2})
    two = landscape({"loss": 0.01 * np.exp(6 * R2), "acc": R2})
    scale = scale_of(one, two, vmin=0.5)
    log, low, high = ends(scale)
    assert (log, low) == ("global", 0.5)
    assert high >= 3
    assert ends(scale_of(one, vmin=0.5, vmax=2)) == ("global", 0.5, 2)
    assert ends(scale_of(one, vmin=0.5, vmax=2), "slices") == ("global", 0.5, 2)
    assert ends(scale_of(one, vmin=0.5, vmax=2), "contour", "acc", one) == ("global", 0, 2)
    assert scale_of(one, levels=[0, 1, 2]).options(one, "surface") == {"color_scale": "global", "levels": (0, 1, 2)}
    assert ends(scale_of(one, levels=np.arange(3)), "contour", "acc", one) == ("global", 0, 2)


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"vmin": "low"}, "vmin='low': give a finite number, or None"),
        ({"vmax": True}, "vmax=True: give a finite number"),
        ({"vmin": float("nan")}, "vmin=nan: give a finite number"),
        ({"vmax": float("inf")}, "vmax=inf: give a finite number"),
        ({"vmin": 2, "vmax": 2.0}, r"vmin=2 and vmax=2\.0 leave no range: give a vmin below vmax"),
        ({"vmin": 0, "color_scale": "log"}, "vmin=0 has no logarithm, and color_scale='log' needs ends above 0"),
        ({"levels": [1]}, r"levels=\[1\]: give at least two finite, increasing numbers, e\.g\. \[0, 1, 2, 5\]"),
        ({"levels": [1, 1]}, r"levels=\[1, 1\]: give at least two"),
        ({"levels": [0, float("nan")]}, r"levels=\[0, nan\]: give at least two"),
        ({"levels": "12"}, "levels='12': give at least two"),
        ({"levels": 3}, "levels=3: give at least two"),
        ({"levels": [0, 1], "color_scale": "log"}, r"levels=\[0, 1\] begin at or below 0, and color_scale='log' needs"),
        ({"levels": [0, 1], "vmax": 3}, r"vmax=3: levels=\[0, 1\] set both ends already. Leave out vmax, or levels"),
    ],
)
def test_what_can_not_be_asked_for_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        RunScale(**asked)


# pixels


def look(scale: RunScale, **options) -> Look:
    return Look(sample_layout="1x2", scale=scale, **options)


def figure(each: Landscape, kind: str, scale: RunScale):
    return PLOTS[kind].draw(each, **look(scale).options(each, kind, None))


def cell_colors(each: Landscape, scale: RunScale) -> np.ndarray:
    """The colour of each point in the picture of kind "heat", shape (*grid.shape, 3)."""
    drawn = figure(each, "heat", scale)
    pixels = to_image(drawn)
    places = drawn.axes[0].transData.transform(GRID.points + 0.05)  # beside the star
    columns, rows = np.floor(places).astype(int).T
    return pixels[pixels.shape[0] - 1 - rows, columns].reshape(*GRID.shape, 3)


STEPS = {
    "linear": [2.2 + 0.1 * R2, 0.8 + 0.5 * R2, 0.1 + 2 * R2],
    "logarithmic": [2.2 + 0.1 * R2, 0.4 * np.exp(R2), 0.004 * np.exp(3 * R2)],
}


@pytest.mark.parametrize("kind", list(STEPS))
def test_a_value_has_the_same_colour_at_every_step(kind):
    steps = [landscape(values, step) for step, values in enumerate(STEPS[kind])]
    scale = scale_of(*steps)
    everything = np.stack(STEPS[kind])
    log, low, high = ends(scale)
    assert log == {"linear": "global", "logarithmic": "log"}[kind]
    assert low == everything.min()
    norm = (Normalize if kind == "linear" else LogNorm)(low, high)
    for each in steps:
        expected = np.round(255 * colormaps["viridis"](norm(np.clip(each.loss, low, high)))[..., :3])
        assert np.abs(cell_colors(each, scale) - expected).max() <= 1
        alone = cell_colors(each, RunScale())
        assert each is steps[-1] or np.abs(alone - expected).max() > 50  # the colours of its own are others


@pytest.mark.parametrize("kind", ["contour", "heat", "surface", "slices", "tiles"])
def test_axes_ticks_and_colour_bars_have_the_same_pixels_at_every_step(kind):
    items = (Sample(0, 0.5), Sample(1, 0.5))
    steps = [
        landscape(values, 1000 * 10**step, samples=Samples(np.stack([values, 2 * values]), items))
        for step, values in enumerate(STEPS["linear"])
    ]
    scale = scale_of(*steps)
    drawn = [figure(each, kind, scale) for each in steps]
    images = [to_image(each) for each in drawn]
    boxes = [[axes.get_window_extent().bounds for axes in each.axes] for each in drawn]
    for box in boxes[1:]:
        np.testing.assert_array_equal(box, boxes[0])
    limits = [[(axes.get_xlim(), axes.get_ylim()) for axes in each.axes] for each in drawn]
    assert limits[0] == limits[1] == limits[2]
    masked = [without_content(image, each, kind) for image, each in zip(images, drawn, strict=True)]
    for image in masked[1:]:
        np.testing.assert_array_equal(image, masked[0])
    assert (masked[0] < 128).any(axis=-1).sum() > 200  # there are ticks and labels left to compare
    own = [to_image(figure(each, kind, RunScale())) for each in steps]
    assert any((without_content(a, b, kind) != masked[0]).any() for a, b in zip(own, drawn, strict=True))


def without_content(image: np.ndarray, drawn, kind: str) -> np.ndarray:
    """A picture without what may differ: title, footer, legend, captions, and the inside of axes that hold values.

    The colour bar of contours holds marks of the centre's loss.
    """
    image, (height, width) = image.copy(), image.shape[:2]
    boxes = [text.get_window_extent().padded(2) for text in drawn.texts]
    for place, axes in enumerate(drawn.axes):
        if place == 0 or kind == "contour":
            boxes.append(axes.get_window_extent().padded(1))
            boxes += [axes.get_legend().get_window_extent()] if axes.get_legend() else []
            tiles = [child for child in axes.child_axes if "bar" not in child.get_gid()]
            boxes += [box for tile in tiles for box in (tile.get_window_extent(), tile.title.get_window_extent())]
    for box in boxes:
        left, right = max(int(box.x0), 0), min(int(box.x1) + 1, width)
        image[max(height - int(box.y1) - 1, 0) : max(height - int(box.y0), 0), left:right] = 255
    return image


@pytest.mark.parametrize("kind", ["contour", "heat", "surface", "slices", "tiles"])
@pytest.mark.parametrize(
    "values", [1 + R2, 0.01 * np.exp(6 * R2), np.full(GRID.shape, 0.5), 1 + 1e-8 * R2, R2 - 0.5], ids="abcde"
)
def test_one_landscape_alone_is_drawn_as_without_a_run(kind, values):
    one = landscape(values, samples=Samples(np.stack([values, 2 * values]), (Sample(0, 0.5), Sample(1, 0.5))))
    alone = PLOTS[kind].draw(one, **({"layout": "1x2"} if kind == "tiles" else {}))
    np.testing.assert_array_equal(to_image(figure(one, kind, scale_of(one))), to_image(alone))


def test_tiles_with_a_bar_each_keep_their_own_ranges():
    tiles = Samples(np.stack([1 + R2, 5 + R2]), (Sample(0, 1.0), Sample(1, 5.0)))
    one = landscape(1 + R2, samples=tiles)
    own = replace(look(scale_of(one)), share_colorbar=False).options(one, "tiles", None)
    assert own == {"color_scale": "global", "layout": "1x2", "share_colorbar": False}
