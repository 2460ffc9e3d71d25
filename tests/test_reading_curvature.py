"""The reading of landscapes whose eigenvalues are known: parabolas and saddles, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lightning_landscape import Grid, Landscape, Recipe, Spectrum
from lightning_landscape.recipe import DirectionsRecipe
from lightning_landscape.trajectory import Trajectory


def surface(
    x: float, y: float, *eigenvalues: float, kind: str = "random", length: float = 1.0, **facts: Any
) -> Landscape:
    """1 + ½ (x α² + y β²), directions of a length, and a spectrum whose lowest eigenvalue is the last."""
    grid = Grid.from_ranges((-0.2, 0.2, 5), (-0.2, 0.2, 5))
    a, b = grid.points.T
    values = (1 + (x * a**2 + y * b**2) / 2).reshape(grid.shape)
    directions = DirectionsRecipe(kind, {}, lengths=[length, length], span=2, moved_parameters=900)
    facts = {"lowest": eigenvalues[-1], "gradient_norm": 0.0, "curvature_along_gradient": np.nan, **facts}
    spectrum = Spectrum(900, np.array(eigenvalues[:1]), np.zeros(1), **facts)
    return Landscape(grid, {"loss": values}, "loss", recipe=Recipe(directions=directions), spectrum=spectrum)


def with_rate(landscape: Landscape, rate: float) -> Landscape:
    one = np.zeros(1)
    landscape.trajectory = Trajectory(one, np.zeros((1, 2)), one, one, history={"learning_rate": np.array([9.0, rate])})
    return landscape


def sentence(landscape: Landscape, words: str, **options: Any) -> str:
    (found,) = [text for text in landscape.reading(**options).sentences if words in text]
    return found


def is_without(landscape: Landscape, word: str) -> bool:
    return word not in " ".join(landscape.reading().sentences)


def test_slices_beside_the_extremes_in_one_unit() -> None:
    """Directions of length 2: a curvature of 12 on the axis is 3 for the weights."""
    assert sentence(surface(12, 4, 50, -2, length=2, samples=256), "bend by") == (
        "Over a step of the grid the slices bend by 3 along x, 1 along y; the curvature of all directions is from -2 "
        "(λ_min) to 50 (λ_max), on 256 samples. The slices are convex at the centre, and the loss is not."
    )


def test_slices_that_bend_down_or_a_loss_that_is_convex_are_not_called_so() -> None:
    assert is_without(surface(3, -1, 50, -2), "convex")
    assert is_without(surface(3, 1, 50, 0.5), "and the loss is not")
    assert is_without(surface(3, 1, 50, -0.04), "and the loss is not")  # 8e-4 of λ_max may be zero
    assert not is_without(surface(3, 1, 50, -0.06), "and the loss is not")
    assert is_without(surface(3, 1, 50, -0.06, lowest_residual=0.1), "and the loss is not")


def test_unknown_lengths_and_an_unknown_lowest_eigenvalue() -> None:
    bare = surface(3, 1, 50, np.nan)
    bare.recipe = Recipe()
    assert sentence(bare, "λ_max") == "The curvature of all directions is at most 50 (λ_max)."
    assert is_without(bare, "The centre is a ")


@pytest.mark.parametrize(
    "eigenvalues, facts, text",
    [
        ((4, -1), {}, "The centre is a saddle: λ_min is negative, 25 % of λ_max in size."),
        ((-1, -4), {}, "The centre is a maximum: λ_min is negative."),
        ((4, 1), {}, "The centre is a minimum: all eigenvalues are positive."),
        ((4, 0.001), {}, "The centre is a minimum: no eigenvalue is clearly negative."),
        # ‖g‖² / 2c is 4 / 8 = 0.5 of a loss of 1, and 0.04 / 8 = 0.005
        (
            (4, -1),
            {"gradient_norm": 2.0, "curvature_along_gradient": 4.0},
            "The centre is no minimum: λ_min is negative",
        ),
        ((4, -1), {"gradient_norm": 0.2, "curvature_along_gradient": 4.0}, "The centre is a saddle"),
        (
            (4, 1),
            {"gradient_norm": 2.0, "curvature_along_gradient": 4.0},
            "The centre is on a slope, no minimum yet, though",
        ),
        ((4, 1), {"gradient_norm": np.nan}, "Where the gradient is zero, the centre is a minimum: all"),
        ((4, -1), {"gradient_norm": np.nan}, "The centre is no minimum"),
    ],
)
def test_minimum_saddle_or_slope(eigenvalues: tuple[float, float], facts: dict[str, float], text: str) -> None:
    assert text in sentence(surface(3, 1, *eigenvalues, **facts), text.partition(":")[0])


def test_the_fall_along_the_gradient_is_said() -> None:
    slope = surface(3, 1, 4, 1, gradient_norm=2.0, curvature_along_gradient=4.0)
    assert sentence(slope, "on a slope").endswith(
        "all eigenvalues are positive. Along the gradient a parabola would fall by 0.5."
    )
    saddle = surface(3, 1, 4, -1, gradient_norm=0.2, curvature_along_gradient=-0.5)
    assert sentence(saddle, "The centre is no minimum").endswith("Along the gradient the loss bends down.")


@pytest.mark.parametrize(
    "rate, ratio, words", [(0.05, "1", "at"), (0.047, "0.94", "at"), (0.04, "0.8", "below"), (0.08, "1.6", "over")]
)
def test_the_edge_of_stability_of_the_last_learning_rate(rate: float, ratio: str, words: str) -> None:
    """λ_max = 40 is 2/η for η = 0.05."""
    found = sentence(with_rate(surface(3, 1, 40, -1), rate), "2/η")
    assert found.startswith(
        f"λ_max is {ratio} times 2/η = {2 / rate:.3g}, for the learning rate η = {rate}: {words} the edge"
    )


def test_no_learning_rate_no_edge() -> None:
    assert is_without(surface(3, 1, 40, -1), "2/η")
    assert is_without(with_rate(surface(3, 1, 40, -1), np.nan), "2/η")
    assert is_without(with_rate(surface(3, 1, 40, -1), 0.0), "2/η")


def test_the_trace_over_the_largest_eigenvalue() -> None:
    assert sentence(surface(3, 1, 4, 1, trace=10.0, trace_error=0.1), "trace").startswith(
        "The trace of 10 is 2.5 λ_max"
    )
    assert is_without(surface(3, 1, 4, 1), "trace")


def test_eigenvectors_do_show_the_steepest_direction_at_the_centre() -> None:
    along = surface(4, -1, 4, -1, kind="hessian")
    assert sentence(along, "promise").startswith("Eigenvectors of the Hessian have the extreme curvatures")
    assert is_without(along, "can't show the steepest")


def test_it_is_of_the_main_loss_alone() -> None:
    both = surface(3, 1, 4, -1)
    both.values["val_loss"] = both.values["loss"]
    both.center["val_loss"] = 1.0
    assert "λ_max" not in str(both.reading("val_loss"))
    assert "λ_max" in str(both.reading())


def test_no_sentence_promises_generalisation() -> None:
    texts = [str(surface(3, 1, 4, low, trace=5.0).reading()) for low in (-1, 1)]
    assert not any("generalis" in text for text in texts)


def test_the_largest_eigenvalue_before() -> None:
    early, late = surface(3, 1, 4, -1), surface(3, 1, 8, -1)
    early.recipe = replace(early.recipe, step=60)
    assert sentence(late, "was 4", before=early) == "λ_max is 8, and it was 4 at step 60."
