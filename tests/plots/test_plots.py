"""Every row of PLOTS keeps the same promises."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from lightning_landscape.landscape import Grid, Landscape, Sample, Samples
from lightning_landscape.plots import COLOR_SCALES, PLOTS, encode_picture, to_image
from lightning_landscape.recipe import DataRecipe, DirectionsRecipe, Recipe
from lightning_landscape.report import RoundingError
from tests.plots.walks import walk

KINDS = sorted(PLOTS)
ROWS = [(kind, ndim) for kind in KINDS for ndim in PLOTS[kind].ndims]
REFUSED = [(kind, ndim) for kind in KINDS for ndim in (1, 2, 3, 4) if ndim not in PLOTS[kind].ndims]

# Points along each axis; in 3-D the corners explode beyond what any range shows unless there are points between.
POINTS = {1: (13,), 2: (13, 9), 3: (9, 7, 5), 4: (3, 2, 2, 2)}


def r2(p):
    return (p**2).sum(axis=1)


SURFACES = {
    "bowl": lambda p: 0.1 + r2(p),
    "exploding": lambda p: 0.1 * np.exp(12 * r2(p)),
    "exploding below zero": lambda p: 0.1 * np.exp(12 * r2(p)) - 1,
    "nan": lambda p: np.where(p[:, 0] > 0.5, np.nan, 1 + r2(p)),
    "inf": lambda p: np.where(p[:, 0] < -0.5, -np.inf, np.where(p[:, 0] > 0.5, np.inf, r2(p))),
    "all nan": lambda p: np.full(len(p), np.nan),
    "flat": lambda p: np.full(len(p), 0.1234),
    "negative": lambda p: -5 - r2(p),
    "wild": lambda p: np.where(r2(p) < 0.1, -1.7e308, 1.7e308),
    "tiny": lambda p: 1e-300 * (1 + r2(p)),
    "one finite value": lambda p: np.where(r2(p) < 1e-9, 1.0, np.nan),
    "partial": lambda p: r2(p),
    "nothing done": lambda p: r2(p),
}
NOTES = {
    "exploding": "logarithmic",
    "exploding below zero": "clipped to be readable",
    "nan": "not finite",
    "inf": "not finite",
    "all nan": "no finite value",
    "flat": "flat: all values 0.1234",
    "partial": "not evaluated",
    "nothing done": "no point evaluated yet",
}


def recipe(epoch: int, step: int) -> Recipe:
    directions = DirectionsRecipe("random", {"normalize": "filter"})
    return Recipe(epoch=epoch, step=step, seed=7, data={"train": DataRecipe(1024)}, directions=directions)


def landscape(surface: str, ndim: int, recipe=None) -> Landscape:
    grid = Grid.from_ranges(*[(-1, 1, points) for points in POINTS[ndim]])
    values = SURFACES[surface](grid.points).reshape(grid.shape)
    done = np.full(grid.shape, surface != "nothing done")
    if surface == "partial":
        done[len(done) // 2 :] = False
    picture = np.full((8, 8, 3), 200, np.uint8)
    items = (Sample(0, 0.5, 1, 1, 0.9, picture), Sample(1, 0.5, 1, 2, 0.9), Sample(2, float("nan")))
    samples = Samples(np.stack([values] * 3), items)
    fields = {"samples": samples, "recipe": recipe or Recipe(), "trajectory": walk(ndim)}
    return Landscape(grid, {"loss": values}, "loss", done=done, **fields)


@pytest.mark.parametrize("color_scale", COLOR_SCALES)
@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("kind, ndim", ROWS)
def test_every_kind_draws_every_surface_without_a_warning(kind, ndim, surface, color_scale, texts):
    figure = PLOTS[kind].draw(landscape(surface, ndim), color_scale=color_scale)
    image = to_image(figure, dpi=50)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert image.min() < 128
    if color_scale == "global" and surface in NOTES and kind != "path":  # which shows no grid
        assert NOTES[surface] in texts(figure)


@pytest.mark.parametrize("kind, ndim", ROWS)
def test_every_kind_draws_to_given_axes_and_returns_their_figure(kind, ndim):
    figure = Figure(figsize=(9, 4))
    left, right = figure.subplots(1, 2)
    assert PLOTS[kind].draw(landscape("bowl", ndim), ax=right) is figure
    to_image(figure, dpi=50)
    assert not left.has_data()
    assert not left.get_title(loc="left")
    drawn = [a for a in figure.axes if a is not left]
    assert any("loss" in a.get_title(loc="left") for a in drawn)


@pytest.mark.parametrize("kind, ndim", ROWS)
def test_every_kind_draws_to_axes_of_a_subfigure_outside_of_a_grid(kind, ndim):
    figure = Figure(figsize=(9, 5))
    ax = figure.subfigures(1, 2)[1].add_axes((0.2, 0.2, 0.6, 0.6))
    assert PLOTS[kind].draw(landscape("bowl", ndim), ax=ax) is figure
    image = to_image(figure, dpi=50)
    assert (image[:, : image.shape[1] // 2 - 25] == 255).all()


@pytest.mark.parametrize("kind, ndim", ROWS)
def test_every_kind_tells_where_its_numbers_come_from(kind, ndim, texts):
    text = texts(PLOTS[kind].draw(landscape("bowl", ndim, recipe(3, 12000))))
    for part in ("epoch 3", "step 12,000", "1,024 samples", "seed 7", "filter-normalised", "★ θ*: 0.1"):
        assert part in text, part


@pytest.mark.parametrize("kind, ndim", [row for row in ROWS if row[1] > 1])
def test_every_kind_says_that_its_directions_are_one(kind, ndim, texts):
    for cosine, span, said in (
        (0.9999, 1, "(cosine 1.000): this is a line"),
        (-0.995, 1, "(cosine −0.995): this is a"),
    ):
        directions = DirectionsRecipe("random", cosine=cosine, span=span)
        assert said in texts(PLOTS[kind].draw(landscape("bowl", ndim, Recipe(directions=directions))))
    directions = DirectionsRecipe("random", cosine=0.985, span=ndim)
    assert "(cosine" not in texts(PLOTS[kind].draw(landscape("bowl", ndim, Recipe(directions=directions))))


@pytest.mark.parametrize("kind, ndim", ROWS)
def test_every_kind_names_its_axes(kind, ndim, texts):
    directions = DirectionsRecipe("random", {"normalize": "filter"}, axes=["net.weight", "net.bias"])
    text = texts(PLOTS[kind].draw(landscape("bowl", ndim, Recipe(directions=directions))))
    assert "axes net.weight, net.bias, filter-normalised" in text
    assert "random" not in text


@pytest.mark.parametrize("surface", ["bowl", "exploding", "exploding below zero", "inf", "partial", "worst"])
@pytest.mark.parametrize("kind, ndim", ROWS)
def test_nothing_written_leaves_the_picture(kind, ndim, surface):
    example = landscape("exploding" if surface == "worst" else surface, ndim, recipe(30, 120000))
    if surface == "worst":  # the longest note: exploding, not finite and not all evaluated
        example.loss[:2] = np.nan
        example.done[-2:] = False
    figure = PLOTS[kind].draw(example, **({"layout": "2x2"} if kind == "tiles" else {}))
    pixels = to_image(figure).astype(int)
    frame = np.concatenate([pixels[:2].reshape(-1), pixels[-2:].reshape(-1), pixels[:, :2].reshape(-1)])
    assert (frame == 255).all()
    assert (pixels[:, -2:] == 255).all()


def extents(figure) -> dict[str, tuple[float, ...]]:
    """The boxes of all that is written, in pixels, as matplotlib draws it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    written = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    on_ticks = {id(label) for ax in figure.axes for axis in axes_of(ax) for label in hidden_labels(axis)}
    return {
        f"{t.get_text()!r} {i}": t.get_window_extent(canvas.get_renderer()).extents
        for i, t in enumerate(written)
        if id(t) not in on_ticks
    }


def axes_of(ax) -> list:
    return [ax.xaxis, ax.yaxis, *([ax.zaxis] if ax.name == "3d" else [])]


def hidden_labels(axis) -> list:
    """The labels of ticks beyond the ends of an axis, which matplotlib makes and does not draw."""
    low, high = sorted(axis.get_view_interval())
    margin = 1e-9 * (high - low)
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    beyond = [tick for tick in ticks if not low - margin <= tick.get_loc() <= high + margin]
    return [label for tick in beyond for label in (tick.label1, tick.label2)]


NAMES = ("loss", "a_very_long_name_of_a_metric/with_words_that_nobody_reads_" * 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("surface", ["bowl", "exploding below zero", "partial", "tiny", "large", "worst"])
@pytest.mark.parametrize("kind, ndim", ROWS)
def test_nothing_written_is_cut_at_the_first_drawing(kind, ndim, surface, name):
    example = landscape("bowl" if surface in ("large", "worst") else surface, ndim, recipe(30, 120000))
    example.values, example.main, example.center = {name: example.loss}, name, {name: example.center["loss"]}
    if surface == "large":
        example.loss[:] = 1e6 + example.loss
    if surface == "worst":  # the longest notes
        example.loss[:2], example.done[-2:] = np.nan, False
        example.recipe.data["train"] = DataRecipe(1024, available=100_000)
        example.report.rounding_error = RoundingError(9, 2, share={name: 0.00123})
    figure = PLOTS[kind].draw(example, **({"layout": "2x2"} if kind == "tiles" else {}))
    width, height = figure.get_size_inches() * figure.dpi
    for text, (left, bottom, right, top) in extents(figure).items():
        assert left >= -1 and bottom >= -1 and right <= width + 1 and top <= height + 1, text  # noqa: PT018


@pytest.mark.parametrize("kind, ndim", ROWS)
def test_axes_have_the_same_pixels_at_every_step(kind, ndim):
    """With other titles, values, notes and numbers on the bar; of one metric and of another."""
    places = []
    for surface, step in (("bowl", 1), ("exploding", 999_000), ("nan", 5), ("flat", 20), ("nothing done", 7)):
        example = landscape(surface, ndim, recipe(step // 10, step))
        example.values["another"], example.center["another"] = 1e4 + example.loss, 1.0
        for metric in (None, "another") if PLOTS[kind].per == "metric" else (None,):
            figure = PLOTS[kind].draw(example, metric)
            shape = to_image(figure).shape
            axes = figure.axes[:1] + figure.axes[0].child_axes
            places.append((shape, [tuple(np.round(ax.get_window_extent().extents, 3)) for ax in axes]))
    assert all(place == places[0] for place in places)


@pytest.mark.parametrize("kind", [kind for kind, ndim in ROWS if ndim == 2])
def test_text_is_readable_on_a_card(kind):
    """A card of TensorBoard is 350 pixels wide: 7 points are 8 pixels there."""
    figure = PLOTS[kind].draw(landscape("bowl", 2, recipe(3, 12000)), **({"layout": "2x5"} if kind == "tiles" else {}))
    from matplotlib.text import Text

    to_image(figure)
    shrink = 350 / (figure.get_figwidth() * 72)  # pixels of a card a point
    sizes = {t.get_text(): t.get_fontsize() * shrink for t in figure.findobj(Text) if t.get_text().strip()}
    assert min(sizes.values()) > 6.9
    assert max(sizes.values()) < 14


@pytest.mark.parametrize(
    "recipe, label",
    [
        (DirectionsRecipe("random", {"normalize": "filter"}), "1 = each filter's own norm"),
        (DirectionsRecipe("random", {"normalize": "layer"}), "1 = each layer's own norm"),
        (DirectionsRecipe("random", {"normalize": "none"}), "1 = length of"),
        (DirectionsRecipe("between"), "1 = the other weights"),
    ],
)
@pytest.mark.parametrize("kind, ndim", [row for row in ROWS if row[0] != "path"])  # its axis is of steps
def test_the_axes_say_what_one_is(kind, ndim, recipe, label, texts):
    assert label in texts(PLOTS[kind].draw(landscape("bowl", ndim, Recipe(directions=recipe))))


@pytest.mark.parametrize("surface, log", [("exploding", True), ("bowl", False), ("exploding below zero", False)])
def test_all_pictures_of_a_landscape_are_logarithmic_or_none(surface, log, texts):
    kinds = [kind for kind, ndim in ROWS if ndim == 2]
    assert {kind: "logarithmic" in texts(PLOTS[kind].draw(landscape(surface, 2))) for kind in kinds} == dict.fromkeys(
        kinds, log
    )


@pytest.mark.parametrize("kind, ndim", ROWS)
def test_names_with_mathematics_in_them_stay_names(kind, ndim, texts):
    renamed = landscape("bowl", ndim)
    renamed.values, renamed.main = {"$a_{b$/x^": renamed.values["loss"]}, "$a_{b$/x^"
    figure = PLOTS[kind].draw(renamed)
    to_image(figure, dpi=50)
    assert "$a_{b$/x^" in texts(figure)


@pytest.mark.parametrize("kind, ndim", ROWS)
def test_letters_that_the_font_lacks_are_boxes_and_no_warning(kind, ndim):
    renamed = landscape("bowl", ndim)
    renamed.values, renamed.main = {"精度 🙂 אב": renamed.values["loss"]}, "精度 🙂 אב"
    figure = PLOTS[kind].draw(renamed)
    pixels = to_image(figure, dpi=50)
    assert pixels.min() < 128
    for suffix in ("png", "svg"):
        assert len(encode_picture(figure, f".{suffix}", pixels)) > 1000


def ends(figure) -> set:
    """The ends of everything that carries values: colour bars, axes of values, and tiles in 1-D."""
    plain = {"α", "β", "γ"}
    axes = [*figure.axes, *(inset for ax in figure.axes for inset in ax.child_axes)]
    axes = [ax for ax in axes if ax.get_ylabel()[:1] not in plain or ax.name == "3d"]
    return {getattr(ax, "get_zlim", ax.get_ylim)() for ax in axes}


@pytest.mark.parametrize("options", [{"vmin": 0.5, "vmax": 4.0}, {"levels": [0.5, 1.0, 2.0, 4.0]}])
@pytest.mark.parametrize("color_scale", COLOR_SCALES)
@pytest.mark.parametrize("kind, ndim", ROWS)
def test_every_kind_takes_the_scale_of_a_run(kind, ndim, color_scale, options, texts):
    """Two landscapes of other values have the same ends of colours, heights and axes."""
    words = (
        "colours 0.5 … 4"
        if kind not in ("slices", "isosurfaces", "path") and (kind, ndim) != ("tiles", 1)
        else "0.5 … 4"
    )
    drawn = []
    for surface in ("bowl", "exploding"):
        figure = PLOTS[kind].draw(landscape(surface, ndim), color_scale=color_scale, **options)
        to_image(figure, dpi=50)
        assert words in texts(figure)
        drawn.append(ends(figure) if kind != "isosurfaces" else set())  # its levels are round ones between the ends
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_color_scale(kind):
    with pytest.raises(ValueError, match=r"color_scale='hot' is unknown: choose one of global, quantile, log"):
        PLOTS[kind].draw(landscape("bowl", PLOTS[kind].ndims[0]), color_scale="hot")


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_metric(kind):
    with pytest.raises(ValueError, match=r"metric='nope' is not in this landscape; it has: loss"):
        PLOTS[kind].draw(landscape("bowl", PLOTS[kind].ndims[0]), "nope")


@pytest.mark.parametrize("kind, ndim", REFUSED)
def test_other_dimensions_are_refused_and_the_kinds_that_draw_them_named(kind, ndim):
    kinds = {1: "by: slices, tiles", 2: "by: contour, heat", 3: "by: slices, path, sections, isosurfaces"}
    advice = kinds.get(ndim, "no plot does so far")
    with pytest.raises(ValueError, match=rf"{kind} draws .*-D landscapes, this one is {ndim}-D: .*{advice}"):
        PLOTS[kind].draw(landscape("bowl", ndim))


def test_suffixes_are_the_documented_ones():
    assert {kind: plot.suffix for kind, plot in PLOTS.items()} == {
        "contour": "2dcontour",
        "heat": "2dheat",
        "surface": "3dsurface",
        "slices": "1dslices",
        "tiles": "samples",
        "path": "path",
        "sections": "3dslices",
        "isosurfaces": "3disosurface",
    }


@pytest.mark.parametrize("kind, ndim", ROWS)
def test_the_star_is_missing_where_the_plane_does_not_hold_the_centre(kind, ndim):
    grid = Grid.from_ranges(*[(1, 2, 5)] * ndim)
    values = grid.points.sum(axis=1).reshape(grid.shape)
    samples = Samples(values[None], (Sample(0, 1.0),))
    figure = PLOTS[kind].draw(Landscape(grid, {"loss": values}, "loss", samples=samples, trajectory=walk(ndim)))
    assert not figure.findobj(lambda artist: artist.get_gid() == "center")


def test_to_image_leaves_the_figure_as_it_was():
    figure = PLOTS["heat"].draw(landscape("bowl", 2))
    canvas, dpi = figure.canvas, figure.dpi
    small, large = to_image(figure, dpi=50), to_image(figure)
    assert (large.shape[1], small.shape[1]) == (714, 210)  # 4.2 inches
    assert (figure.canvas, figure.dpi) == (canvas, dpi)
    np.testing.assert_array_equal(large, to_image(figure))


def test_neither_torch_nor_pyplot_is_imported():
    heavy = {"torch", "lightning", "matplotlib.pyplot", "skimage"}
    code = f"import sys, lightning_landscape.plots; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
