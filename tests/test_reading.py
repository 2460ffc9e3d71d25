"""The reading in words, on landscapes whose answers are worked out by hand."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_landscape import Grid, Landscape, Recipe
from lightning_landscape.reading import Reading, ReadingSettings, Surface, read
from lightning_landscape.recipe import DataRecipe, DirectionsRecipe
from lightning_landscape.report import Interpolation, Report, TrainModeLoss

LINE = (-1, 1, 5)  # -1, -0.5, 0, 0.5, 1


def surface(
    function: Callable[..., Any], *ranges: tuple[float, float, int], error: float | None = None, **options: Any
) -> Landscape:
    """The landscape of a formula, with the same standard error everywhere."""
    grid = Grid.from_ranges(*ranges)
    values = np.broadcast_to(function(*grid.points.T), grid.size).reshape(grid.shape).astype(float)
    errors = {} if error is None else {"loss": np.full(grid.shape, error)}
    return Landscape(grid, {"loss": values}, "loss", errors, **options)


def line(values: list[float], error: float | None = None, **options: Any) -> Landscape:
    """The landscape of values on as many points from -1 to 1."""
    return surface(lambda x: np.array(values), (-1, 1, len(values)), error=error, **options)


def sentence(landscape: Landscape, *words: str) -> str:
    """The one sentence that has all the words."""
    (found,) = [text for text in landscape.reading().sentences if all(word in text for word in words)]
    return found


def is_without(landscape: Landscape, word: str) -> bool:
    return word not in " ".join(landscape.reading().sentences)


def parabola(**options: Any) -> Landscape:
    return surface(lambda x: 1 + 2 * x**2, LINE, **options)


# the centre


def test_a_centre_that_is_lowest() -> None:
    assert sentence(parabola(error=0.02), "centre") == (
        "No point of the grid is lower than the centre, where loss is 1 (standard error 0.02)."
    )
    assert sentence(line([1, 1, 1]), "centre") == "No point of the grid is lower than the centre, where loss is 1."


def test_a_tilted_plane_is_lower_elsewhere() -> None:
    """2 + x is 1 at x = -1: lower by 1, ten times 0.1. Of the equal points the first is named."""
    plane = surface(lambda x, y: 2 + x, LINE, (-1, 1, 3), error=0.1)
    assert sentence(plane, "centre") == (
        "loss is 2 (standard error 0.1) at the centre and lower elsewhere: 1 at (-1, -1). The difference of 1 is 10 "
        "standard errors: no minimum yet along these directions. Train longer, or with a smaller learning rate at "
        "the end."
    )


@pytest.mark.parametrize(
    "error, end",
    [
        (0.6, "is 1.7 standard errors, which may be chance: measure more samples (max_samples) to know."),
        (0.0, "is many standard errors: no minimum yet along these directions."),
        (None, "can't be judged: no standard error is known."),
    ],
)
def test_a_lower_point_is_judged_by_the_standard_error(error: float | None, end: str) -> None:
    assert f"0 at x = 1. The difference of 1 {end}" in sentence(line([2, 1, 0], error), "lower elsewhere")


def test_the_larger_of_the_two_errors_judges() -> None:
    """The difference of 1 is 4 errors of the centre, 2.5 of the lowest point."""
    landscape = line([2, 1, 0])
    landscape.standard_errors["loss"] = np.array([9, 0.25, 0.4])
    assert "is 2.5 standard errors" in sentence(landscape, "lower elsewhere")


def test_a_point_that_is_not_done_is_not_the_lowest() -> None:
    landscape = line([1, 2, 0])
    landscape.done[2] = False
    assert "lower elsewhere: 1 at x = -1." in sentence(landscape, "centre")


def test_a_point_that_is_interpolated_is_not_the_lowest() -> None:
    landscape = line([3, 1.5, 2, 1, 3], 0.1)
    landscape.interpolated[3] = True
    assert "lower elsewhere: 1.5 at x = -0.5." in sentence(landscape, "at the centre")
    assert landscape.reading().headline.startswith("x = -0.5 is lower than the centre, by 0.5;")


def test_a_difference_of_rounding_is_none() -> None:
    assert sentence(line([2, 1, 1 - 9e-7]), "centre").startswith("No point of the grid is lower")
    assert "lower elsewhere" in sentence(line([2, 1, 1 - 2e-6]), "centre")


def test_no_advice_to_train_where_a_lower_point_is_as_it_should_be() -> None:
    path = line([2, 1, 0], 0.1, recipe=Recipe(directions=DirectionsRecipe("between")))
    assert sentence(path, "lower elsewhere").endswith("The difference of 1 is 10 standard errors.")
    unseen = line([2, 1, 0], 0.1, recipe=Recipe(data={"val": DataRecipe(9)}))
    assert sentence(unseen, "lower elsewhere").endswith(". That is usual on data that the training has not seen.")


# uphill


def test_a_parabola_uphill() -> None:
    """1.1 lies a fifth of the first step from 1 to 1.5; 2 a third of the step from 1.5 to 3."""
    assert sentence(parabola(), "Along x") == (
        "Along x (α) the loss has risen by 10 % at about -0.1 and about 0.1; by 1 at -0.667 and 0.667."
    )


def test_a_cross_entropy_rises_in_nats() -> None:
    for objective in ("CrossEntropyLoss", "cross_entropy"):
        landscape = parabola(recipe=Recipe(objective=objective))
        assert "by 1 nat at -0.667" in sentence(landscape, "Along x")
        landscape.values["other"], landscape.center["other"] = landscape.loss, 1.0
        assert "by 1 at -0.667" in " ".join(landscape.reading("other").sentences)
    assert "by 1 at -0.667" in sentence(parabola(recipe=Recipe(objective="MSELoss")), "Along x")


def test_a_tilted_plane_rises_on_one_side() -> None:
    """2.2 lies at 0.2, within the first step; 3 is the value of the point 1."""
    plane = surface(lambda x, y: 2 + x, LINE, (-1, 1, 3))
    below = "but not within the range below 0"
    assert (
        sentence(plane, "Along x")
        == f"Along x (α) the loss has risen by 10 % at about 0.2, {below}; by 1 at 1, {below}."
    )
    assert sentence(plane, "Along y") == "Along y (β) the loss rises nowhere by 10 % or 1 within the range."
    turned = surface(lambda x: 2 - x, LINE)
    assert "by 1 at -1, but not within the range above 0." in sentence(turned, "Along x")


def test_a_saddle_rises_along_one_direction_and_falls_along_the_other() -> None:
    """2.2 lies four fifths of the step from 2 to 2.25; 3 is the value at the ends."""
    saddle = surface(lambda x, y: 2 + x**2 - y**2, LINE, LINE, error=0.01)
    assert sentence(saddle, "Along x") == (
        "Along x (α) the loss has risen by 10 % at about -0.4 and about 0.4; by 1 at -1 and 1."
    )
    assert sentence(saddle, "Along y") == "Along y (β) the loss rises nowhere by 10 % or 1 within the range."
    assert "lower elsewhere: 1 at (0, -1)" in sentence(saddle, "centre")


def test_a_rise_that_is_less_than_the_noise() -> None:
    """10 % of 1 are less than 0.125 and not less than 0.0625."""
    assert sentence(parabola(error=0.125), "on other samples") == (
        "10 % of the centre's loss is less than its standard error: these places may be others on other samples."
    )
    assert is_without(parabola(error=0.0625), "on other samples")
    assert is_without(parabola(), "on other samples")
    assert is_without(line([3, 0, 3], 1.0), "on other samples")
    assert is_without(surface(lambda x: 1 + x, (0.5, 1, 3), error=9.0, center={"loss": 1.0}), "on other samples")


def test_a_volume_has_three_directions() -> None:
    """1 + x² + 2 y² + 4 z² on -1, 0, 1: 1.1 at a tenth, a twentieth and a fortieth of the first step."""
    volume = surface(lambda x, y, z: 1 + x**2 + 2 * y**2 + 4 * z**2, *[(-1, 1, 3)] * 3)
    assert sentence(volume, "Along x").endswith("about -0.1 and about 0.1; by 1 at -1 and 1.")
    assert sentence(volume, "Along y").endswith("about -0.05 and about 0.05; by 1 at about -0.5 and about 0.5.")
    assert sentence(volume, "Along z").endswith("about -0.025 and about 0.025; by 1 at about -0.25 and about 0.25.")
    assert sentence(volume, "steepest").startswith("3 directions can't show the steepest one")
    four = surface(lambda *c: 1 + c[3] ** 2, *[(-1, 1, 3)] * 4)
    assert "by 1 at -1 and 1" in sentence(four, "Along direction 4")


def test_a_cliff_is_between_its_neighbours() -> None:
    """1.1 lies half of the step from 1 to 1.2; 2 somewhere before the points that are infinite."""
    cliff = line([math.inf, 1.2, 1, 1.2, math.nan])
    assert sentence(cliff, "Along x") == (
        "Along x (α) the loss has risen by 10 % at about -0.25 and about 0.25; by 1 between -0.5 and -1 and "
        "between 0.5 and 1, where it is not finite."
    )
    assert sentence(cliff, "NaN") == (
        "2 of 5 points (40 %) are NaN or infinite. They are losses, not gaps: a narrower range has fewer."
    )


def test_points_that_are_not_done_end_the_way_uphill() -> None:
    landscape = line([9, 1, 1, 1, 9])
    landscape.done[-1] = False
    assert "by 1 at -0.562 and beyond 0.5, where points are not done" in sentence(landscape, "Along x")


def test_a_line_of_one_side_has_one_side() -> None:
    """From 0 to 1: 1.1 at a tenth of the only step."""
    landscape = surface(lambda x: 1 + x, (0, 1, 2))
    assert sentence(landscape, "Along x") == "Along x (α) the loss has risen by 10 % at about 0.1; by 1 at 1."


def test_a_loss_of_zero_or_less_has_no_tenth() -> None:
    assert sentence(line([3, 0, 3]), "Along x") == (
        "Along x (α) the loss has risen by 1 at about -0.33 and about 0.33."
    )
    assert sentence(line([0, -4, 0]), "Along x").endswith("risen by 1 at about -0.25 and about 0.25.")


# the range


def test_a_range_that_fits() -> None:
    assert sentence(parabola(), "range") == ("The range is neither too small nor too large: the loss goes from 1 to 3.")


def test_a_range_that_is_too_small() -> None:
    """1 + x²/100 changes by 1 %: the range that is twice as wide is from -2 to 2."""
    flat = surface(lambda x, y: 1 + x**2 / 100, (-1, 1, 51), (-0.5, 1, 4))
    assert sentence(flat, "Flat") == (
        "Flat in this range: the largest change of the loss is 1 %. Widen it, e.g. x=(-2, 2, 51), y=(-1, 2, 4)."
    )
    assert sentence(line([1, 1, 1]), "Flat") == "Flat in this range: all values are 1. Widen it, e.g. x=(-2, 2, 3)."
    assert is_without(line([1.1, 1, 1.1]), "Flat")
    assert is_without(line([0.875, 1, 1]), "Flat")
    assert is_without(line([1, 1, math.inf]), "Flat")


def test_a_path_between_weights_may_be_flat() -> None:
    for kind in ("between", "bezier", "joined"):
        path = line([1, 1, 1.01], recipe=Recipe(directions=DirectionsRecipe(kind)))
        assert sentence(path, "Flat").endswith("the loss is 1 %. Along a path between weights that is a result.")


def test_a_relief_of_noise_is_flat() -> None:
    """A relief of 0.2 is two standard errors of 0.1; one of 0.3 is three."""
    assert sentence(line([1.2, 1, 1.2], 0.1), "Flat") == (
        "Flat in this range: the relief of 0.2 is less than 3 standard errors of 0.1. Widen it, e.g. x=(-2, 2, 3). "
        "Or measure more samples (max_samples)."
    )
    assert is_without(line([1.2, 1, 1.2], 0.1), "median")
    assert is_without(line([1.375, 1, 1], 0.125), "Flat")


def test_a_range_that_is_too_large() -> None:
    """Beyond 100 times the centre, and beyond 10: 3 of 5 points."""
    assert sentence(line([201, 201, 2, 2, math.inf]), "too large") == (
        "The range is too large: 60 % of the points are not finite or above 200, 100 times the centre. "
        "Narrow it, e.g. x=(-0.5, 0.5, 5)."
    )
    assert sentence(line([11, 11, 0.01, 0, 11]), "too large").startswith(
        "The range is too large: 60 % of the points are not finite or above 10. Narrow"
    )
    assert is_without(line([9, 9, 0.01, 0, 9]), "is too large")
    half = surface(lambda x: np.array([math.inf, 1, 1, math.inf]), (-1, 2, 4))
    assert "neither too small nor too large" in sentence(half, "range", "goes")


def test_a_range_without_the_centre_gets_no_example() -> None:
    landscape = surface(lambda x: 1 + 0 * x, (1, 2, 3), center={"loss": 1.0})
    assert sentence(landscape, "Flat") == "Flat in this range: all values are 1. Widen it."


# the colours


def colored(values: list[float], colors: tuple[float, float] | None) -> str:
    """All sentences on values in such colours."""
    array, none = np.array(values), np.zeros(len(values), bool)
    axis = np.linspace(-1, 1, len(values))
    errors = np.zeros(len(values))
    shown = Surface("loss", (axis,), array, errors, ~none, none, 1.0, True, Recipe(), Report(), colors)
    return " ".join(read(shown).sentences)


def test_points_beyond_the_colours_are_counted() -> None:
    assert (
        "With color_scale='global' the colours run from 1 to 4: 2 of 5 points (40 %) lie beyond them, as far as 90. "
        "A narrower range has fewer of them."
    ) in colored([90, 2, 1, 3, 5], (1, 4))
    assert "1 of 5 points (20 %) lie beyond them, as far as -7." in colored([2, 2, 1, 3, -7], (1, 4))
    assert "colours" not in colored([4, 2, 1, 3, math.inf], (1, 4))
    assert "colours" not in colored([90, 2, 1, 3, 5], None)
    assert "colours" not in colored([math.nan] * 5, (1, 4))


@pytest.mark.parametrize("top", [1.0, 1e3, 1e9])
def test_the_colours_are_those_of_the_picture(top: float) -> None:
    """1 + x² in the middle, and a rim as high as `top`, which may be of other colours."""
    landscape = surface(lambda x, y: np.where(abs(x * y) > 0.5, top, x**2 + y**2 - 1), (-1, 1, 21), (-1, 1, 21))
    (mesh,) = [mesh for mesh in landscape.plot("heat").axes[0].collections if mesh.get_array() is not None]
    low, high = mesh.get_clim()
    count = int(((landscape.loss < low) | (landscape.loss > high)).sum())
    if count:
        assert f"from {low:.3g} to {high:.3g}: {count} of 441 points" in sentence(landscape, "colours run")
    else:
        assert is_without(landscape, "colours run")
    assert bool(count) == (top > 1)


# the noise


@pytest.mark.parametrize(
    "error, end",
    [(0.5, "of 0.5 is 25 % of the relief of 2: noisy. Measure more samples (max_samples)."),
     (0.01, "of 0.01 is 0.5 % of the relief of 2: small beside the shape.")],
)  # fmt: skip
def test_the_standard_error_beside_the_relief(error: float, end: str) -> None:
    assert sentence(parabola(error=error), "median") == f"The median standard error {end}"


def test_the_median_of_the_known_standard_errors() -> None:
    landscape = parabola()
    landscape.standard_errors["loss"] = np.array([0.1, 0.02, math.nan, 0.01, math.nan])
    assert "standard error of 0.02 is 1 % of the relief of 2" in sentence(landscape, "median")


def test_no_standard_error_is_said() -> None:
    text = (
        "No standard error is known, so that noise can't be told from shape: measure more than one batch, or give an "
        "objective with one value a sample."
    )
    assert sentence(parabola(), "noise") == text
    assert sentence(parabola(error=math.nan), "noise") == text


# the headline


@pytest.mark.parametrize(
    "values, error, text",
    [
        ([1, 1, 1], None, "the centre is the lowest point of the grid; +10 % nowhere within the range"),
        ([4, 3, 2, 1, 0], 0.1, "x = 1 is lower than the centre, by 2; +10 % at a distance of 0.1 along x; +1 at 0.5"),
        ([2, 1, 0], 0.6, "x = 1 is lower than the centre, by 1, which may be chance; +10 % at"),
        ([2, 1, 0], 0.5, "x = 1 is lower than the centre, by 1; +10 % at"),
        ([2, 1, 0], None, "x = 1 is lower than the centre, by 1; +10 % at"),
        ([3, 0, 3], None, "the centre is the lowest point of the grid; +1 at a distance of 0.33 along x"),
        ([math.inf, 1.2, 1, 1.2, math.inf], None, "grid; +10 % at a distance of 0.25 along x; +1 at less than 1 al"),
        ([2, math.inf, 1], None, "loss is inf at the centre"),
        ([math.nan] * 3, None, "loss is finite nowhere"),
    ],
)  # fmt: skip
def test_a_headline(values: list[float], error: float | None, text: str) -> None:
    headline = line(values, error).reading().headline
    assert text in headline
    assert "along" in headline or headline == text


def test_a_headline_has_a_distance_for_each_direction() -> None:
    """2 + x + 2 y² is 2.2 at x = 0.2; along y, where it is 2.5 at 0.5, two fifths of the way there."""
    bent = surface(lambda x, y: 2 + x + 2 * y**2, (-1, 1, 5), (-1, 1, 5))
    assert bent.reading().headline == (
        "(-1, 0) is lower than the centre, by 1; +10 % at a distance of 0.2 along x, 0.2 along y; "
        "+1 at 1 along x, 0.667 along y"
    )
    tilted = surface(lambda x, y: 2 + x, (-1, 1, 5), (-1, 1, 3))
    assert tilted.reading().headline.endswith("0.2 along x, nowhere along y; +1 at 1 along x, nowhere along y")


def test_a_headline_of_points_that_are_not_done_has_a_bound() -> None:
    landscape = line([9, 1, 1, 1, 9])
    landscape.done[-1] = False
    assert landscape.reading().headline.endswith(
        "+10 % at a distance of more than 0.5 along x; +1 at more than 0.5 along x"
    )
    one_sided = surface(lambda x: 2 - x, (0.5, 1, 3))
    assert one_sided.reading().headline == "loss is not known at the centre"


# the change


def step(number: int, checksum: str = "a", **facts: Any) -> Recipe:
    """The recipe of a step."""
    return Recipe(step=number, data={"train": DataRecipe(9, checksum=checksum)}, **facts)


def bowls(now: float = 8, then: float = 2, **options: Any) -> tuple[Landscape, Landscape]:
    """0.5 + now·x² at step 480 and 1 + then·x² at step 240, on -1, -0.75, …, 1."""
    late = surface(lambda x: 0.5 + now * x**2, (-1, 1, 9), error=0.125, recipe=step(480), **options)
    return late, surface(lambda x: 1 + then * x**2, (-1, 1, 9), error=0.0625, recipe=step(240), **options)


def change(late: Landscape, early: Landscape) -> list[str]:
    """The sentences that another landscape adds."""
    plain = late.reading().sentences
    sentences = late.reading(before=early).sentences
    assert [text for text in sentences if text in plain] == [*plain]
    return [text for text in sentences if text not in plain]


def test_a_narrower_valley() -> None:
    """1.5 lies a third of the step from 1 at 0.25 to 2.5; 2 four fifths of the step from 1.5 at 0.5 to 2.125."""
    late, early = bowls()
    assert change(late, early) == [
        "loss at the centre is 0.5, and it was 1 at step 240.",
        "Along x a rise by 1 is 0.333 away, and it was 0.7 away at step 240: narrower.",
    ]
    assert change(early, late)[1] == "Along x a rise by 1 is 0.7 away, and it was 0.333 away at step 480: wider."
    assert late.reading(before=early).headline == (
        "the centre is the lowest point of the grid; +10 % at a distance of 0.025 along x; +1 at 0.333 along x; "
        "it was at 0.7 along x at step 240"
    )


def test_distances_less_than_a_step_apart_are_the_same() -> None:
    """1 + 4x² is 2 at 0.5: a sixth away from a third, which is less than a step."""
    assert change(*bowls(8, 4))[1].endswith("it was 0.5 away at step 240: the same, to a step of the grid.")


def test_a_difference_of_the_centres_within_the_errors_may_be_chance() -> None:
    """The errors together are 0.1875: 0.5 is more than two of them, 0.25 is not."""
    late, early = bowls()
    early.center["loss"] = 0.75
    assert change(late, early)[0] == (
        "loss at the centre is 0.5, and it was 0.75 at step 240: a difference of less than 2 standard errors, which "
        "may be chance."
    )
    early.center["loss"] = 0.5
    assert change(late, early)[0] == "loss at the centre is 0.5, and it was 0.5 at step 240: the same."
    early.center["loss"] = math.inf
    assert change(late, early) == []
    early.recipe, early.center["loss"] = Recipe(), 1.0
    assert change(late, early)[0] == "loss at the centre is 0.5, and it was 1 before."


def test_other_samples_are_said() -> None:
    late, early = bowls()
    early.recipe = step(240, "b")
    assert change(late, early)[0].endswith("at step 240. These are other samples.")


def test_distances_along_other_directions_are_not_compared() -> None:
    late, early = bowls()
    early.recipe = step(240, directions=DirectionsRecipe("random", {"seed": 1}))
    expected = "Distances are not compared with those at step 240: the directions are others."
    assert change(late, early)[1:] == [expected]
    late.recipe = step(480, directions=DirectionsRecipe("random", {"seed": 2}))
    assert change(late, early)[1:] == [expected]
    assert "step 240" not in late.reading(before=early).headline
    late.recipe = step(480, directions=DirectionsRecipe("random", {"seed": 1}))
    assert change(late, early)[1].endswith(": narrower.")
    plane = surface(lambda x, y: 1 + x**2, LINE, LINE)
    assert change(plane, late)[1].startswith("Distances are not compared")


def test_a_tenth_of_the_larger_loss_is_compared_where_neither_rises_by_one() -> None:
    """0.5 + x²/5 is 0.6 from 0.55 at 0.5 to 0.6125 at 0.75 after four fifths; 1 + x²/10 is 1.1 at the end."""
    late, early = bowls(0.2, 0.1)
    assert change(late, early)[1] == (
        "Along x a rise by 0.1 (10 % of the larger loss) is 0.7 away, and it was 1 away at step 240: narrower."
    )
    assert late.reading(before=early).headline.endswith(
        "; +0.1 (10 % of the larger loss) at 0.7 along x; it was at 1 along x at step 240"
    )


def test_a_rise_that_only_one_of_two_reaches() -> None:
    """0.5 + 8x² has risen by 1 at a third, 1 by nothing within the same range."""
    late, early = bowls(8, 0)
    expected = "Along x a rise by 1 is 0.333 away, and it was beyond the range at step 240: narrower."
    assert change(late, early)[1] == expected
    expected = "Along x a rise by 1 is beyond the range, and it was 0.333 away at step 480: wider."
    assert change(early, late)[1] == expected
    assert early.reading(before=late).headline.endswith(
        "; +1 nowhere within the range; it was at 0.333 along x at step 480"
    )
    short = surface(lambda x: 1 + 0 * x, (-0.25, 0.25, 3), recipe=step(240))
    assert change(late, short)[1].endswith("and it was beyond the range at step 240.")
    assert len(change(early, surface(lambda x: 1 + 0 * x, LINE, recipe=step(480)))) == 1


def test_a_bound_is_not_compared() -> None:
    cliff = line([math.inf, math.inf, 1, 1, math.inf], recipe=step(240))
    assert change(bowls()[0], cliff)[1].endswith("it was less than 0.5 away at step 240.")


def test_a_metric_that_the_earlier_landscape_lacks() -> None:
    late, early = bowls()
    late.values["other"], late.center["other"] = late.loss, 0.5
    with pytest.raises(ValueError, match="metric='other' is not in this landscape; it has: loss"):
        late.reading("other", before=early)


# what was measured


def directions(**facts: Any) -> Recipe:
    return Recipe(directions=DirectionsRecipe("random", **facts))


def test_directions_that_are_one() -> None:
    both = surface(lambda x, y: 1 + (x + y) ** 2, LINE, LINE, recipe=directions(span=1, cosine=0.9999))
    assert sentence(both, "cosine") == (
        "Both directions are parallel (cosine 1.000): the landscape is that of a line. Make them orthogonal "
        "(orthogonalize=True), give others, or measure a line."
    )
    three = surface(lambda x, y, z: 1 + x**2, LINE, LINE, LINE, recipe=directions(span=2, cosine=-0.995))
    assert sentence(three, "cosine").startswith("The 3 directions span 2 dimensions only (cosine -0.995)")
    assert "that of a plane" in sentence(three, "cosine")
    one = surface(lambda x, y: 1 + x**2, LINE, LINE, recipe=directions(span=1, cosine=-1.0, moved_parameters=1))
    assert "Only 1 number may move: let others move too (ignore=None)" in sentence(one, "cosine")
    assert is_without(parabola(recipe=directions(span=1)), "cosine")
    assert is_without(parabola(recipe=directions()), "cosine")


def test_dead_filters() -> None:
    some = parabola(recipe=directions(dead_filters=12, settings={"normalize": "filter"}))
    assert sentence(some, "layer") == (
        "12 filters are zero and rest everywhere, since a direction has the length of its filter: "
        "normalize='layer' moves them."
    )
    one = parabola(recipe=directions(dead_filters=1, settings={"normalize": "filter"}))
    assert sentence(one, "layer").startswith("1 filter is zero and rests everywhere")
    assert is_without(parabola(recipe=directions(dead_filters=2, settings={"normalize": "layer"})), "filter")
    assert is_without(parabola(recipe=directions(dead_filters=0, settings={"normalize": "filter"})), "filter")


def test_points_that_are_missing_or_interpolated() -> None:
    landscape = parabola()
    landscape.done[[0, 1]] = False
    assert sentence(landscape, "not done. ") == (
        "2 of 5 points (40 %) are not done. The same run, started again, goes on with them."
    )
    landscape.report.failure = "RuntimeError"
    assert sentence(landscape, "not done:") == (
        "2 of 5 points (40 %) are not done: a step failed there, log.txt has the first error."
    )
    landscape.interpolated[2] = True
    assert "1 of 3 points (33.3 %) are interpolated, how well is not known." in sentence(landscape, "interpolated")
    landscape.report.interpolation = Interpolation(errors={"loss": 0.008})
    assert sentence(landscape, "interpolated").endswith(
        "interpolated, to within 0.8 % of the range. tolerance=None, budget=None evaluates all."
    )


def test_another_loss_in_train_mode() -> None:
    landscape = parabola(report=Report(train_mode_loss=TrainModeLoss(2.5, math.nan, "Dropout")))
    assert sentence(landscape, "train mode") == (
        "In train mode the loss at the centre is 2.5 instead of 1: this is the landscape of eval mode. "
        "mode='train' measures the other."
    )
    assert is_without(parabola(), "train mode")
    landscape.values["other"], landscape.center["other"] = landscape.loss, 1.0
    assert "train mode" not in str(landscape.reading("other"))


def test_the_last_sentence_promises_nothing() -> None:
    plane = surface(lambda x, y: 1 + x**2, LINE, LINE, recipe=directions(moved_parameters=19_466))
    assert plane.reading().sentences[-1] == (
        "2 random directions in the space of 19,466 weights can't show the steepest one: flat here is no proof of a "
        "flat minimum, and no promise for new data."
    )
    assert parabola().reading().sentences[-1].startswith("1 direction can't show the steepest one: flat here is no")
    assert parabola(recipe=directions(moved_parameters=1)).reading().sentences[-1] == (
        "These directions span all weights that may move. Nothing is shown of those at rest."
    )


# odd landscapes


def test_nothing_done() -> None:
    empty = Landscape.empty(Grid.from_ranges(LINE), ["loss"], "loss")
    assert empty.reading() == Reading(("No point is done yet: there is nothing to read.",), "no point is done yet")
    empty.record((2,), {"loss": (1.0, 0.1)})
    assert sentence(empty, "centre, where") == (
        "No point of the grid is lower than the centre, where loss is 1 (standard error 0.1)."
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_finite_loss(value: float) -> None:
    landscape = line([value] * 3)
    assert landscape.reading().sentences[:2] == (
        "loss is finite nowhere: check the weights, the data and the loss before the range.",
        "3 of 3 points (100 %) are NaN or infinite. They are losses, not gaps: a narrower range has fewer.",
    )


def test_a_centre_that_is_not_finite_or_not_known() -> None:
    low = "The lowest point is 1 at x = 1."
    assert line([2, math.inf, 1]).reading().sentences[0] == (
        f"loss is inf at the centre: check the weights and the data. {low}"
    )
    one_sided = surface(lambda x: 2 - x, (0.5, 1, 3))
    assert one_sided.reading().sentences[0] == f"loss is not known at the centre: let the range hold 0. {low}"
    assert is_without(one_sided, "Along")
    landscape = Landscape.empty(Grid.from_ranges((-1, 1, 3)), ["loss"], "loss")
    landscape.record((2,), {"loss": (1.0, 0.1)})
    assert landscape.reading().sentences[0] == f"loss is not known at the centre: that point is not done. {low}"


def test_a_slice_that_misses_the_centre_is_not_read() -> None:
    """The nearest slice along x is that of y = 0.5, where the loss begins at 1.25."""
    landscape = surface(lambda x, y: 1 + x**2 + y**2, LINE, (0.5, 1, 3), center={"loss": 1.0})
    assert is_without(landscape, "Along")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("error", [None, 0.0, 1e-320, 1.7e308, math.inf])
@pytest.mark.parametrize("ndim", [1, 2, 4])
@pytest.mark.parametrize("ends", [(-1, 1), (0, 1), (1, 2), (-0.8e308, 0.8e308)])
def test_odd_values_are_read_without_a_warning(error: float | None, ndim: int, ends: tuple[float, float]) -> None:
    odd = [1.7e308, -1.7e308, 5e-324, 0.0, math.nan, math.inf, -math.inf]
    earlier = None
    for first in odd:
        for second in odd:
            landscape = surface(lambda *c: np.where(c[0] > ends[0], second, first), *[(*ends, 3)] * ndim, error=error)  # noqa: B023
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                text, compared = str(landscape.reading()), landscape.reading(before=earlier or landscape)
            assert text.startswith("- ")
            assert compared.headline
            earlier = landscape
            assert max(map(len, text.splitlines())) <= 80


def test_huge_values_are_interpolated_without_overflow() -> None:
    """From -1e308 at 0 over 0 at 0.5 to 1e308 at 1: a rise of 1 is beyond float64, so none is told."""
    assert is_without(line([1e308, 0, -1e308, 0, 1e308]), "Along")
    assert sentence(line([1e308, 0, 0, 0, 1e308]), "Along x").endswith("risen by 1 at -0.5 and 0.5.")


def test_a_step_of_more_than_float64_is_interpolated() -> None:
    """From -1e308 at 0.5 to 1.7e308 at 1 zero lies 1 / 2.7 of the step further: at 0.685."""
    assert "by 1 at -0.685 and 0.685" in sentence(line([1.7e308, -1e308, 0, -1e308, 1.7e308]), "Along x")


# as text


def test_text_keeps_to_its_width_and_coordinates_to_their_line() -> None:
    text = Reading((f"{'a' * 50} {'b' * 12} x=(-0.25, 0.25, 51), y=(-0.5, 0.5, 51) 25 %.", "c")).wrapped(70)
    assert text.splitlines() == [
        f"- {'a' * 50} {'b' * 12}", "  x=(-0.25, 0.25, 51), y=(-0.5, 0.5, 51) 25 %.", "- c",
    ]  # fmt: skip


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="metric='acc' is not in this landscape; it has: loss"):
        parabola().reading("acc")


def test_every_threshold_has_its_reason() -> None:
    text = ReadingSettings.__doc__ or ""
    for field in fields(ReadingSettings):
        reason = text.split(f"{field.name}: ")[1].split(": ")[0]
        assert reason.count(".") >= 1, field.name


def test_the_page_on_reading_has_every_threshold_with_its_value() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reading.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d.e-]+) \|", page, re.M)
    assert {name: float(value) for name, value in rows} == vars(ReadingSettings())
