"""The picture of a spectrum, and the eigenvalues in the pictures of landscapes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from lightning_landscape.landscape import Grid, Landscape
from lightning_landscape.plots import PLOTS, to_image
from lightning_landscape.plots.slices import draw_slices
from lightning_landscape.plots.spectrum import bulk_of
from lightning_landscape.recipe import DirectionsRecipe, Recipe
from lightning_landscape.spectrum import Spectrum

# 950 eigenvalues at 0, 40 at 1, 10 at 10; one probe.
NODES, WEIGHTS = np.array([-2.0, 0.0, 1.0, 10.0]), np.array([0.0, 0.95, 0.04, 0.01])


def spectrum(**fields) -> Spectrum:
    known = {
        "lowest": -2.0, "trace": 140.0, "trace_error": 1.5, "nodes": (NODES,), "weights": (WEIGHTS,), "samples": 512,
        "asymmetry": 3e-8, "method": "double backward", "loss": 0.5, "seed": 7,
    }  # fmt: skip
    return Spectrum(1000, np.array([10.0, 9.0]), np.zeros(2), **{**known, **fields})


def test_the_density_is_drawn_on_a_logarithmic_axis():
    (ax,) = spectrum().plot().axes
    assert ax.get_yscale() == "log"
    (line,) = [line for line in ax.get_lines() if line.get_label() == "density"]
    x, y = line.get_data()
    width = 12 / 100  # of the normal distributions, by the docstring of `density`
    for node, weight in ((0.0, 0.95), (1.0, 0.04), (10.0, 0.01)):
        assert y[np.abs(x - node).argmin()] == pytest.approx(weight / (width * np.sqrt(2 * np.pi)), rel=0.02)
    (alone,) = [line for line in ax.get_lines() if line.get_label() == "one eigenvalue"]
    assert alone.get_ydata()[0] == pytest.approx(0.001 / (width * np.sqrt(2 * np.pi)), rel=0.02)


def test_extremes_and_bulk_are_marked(texts):
    figure = spectrum().plot()
    (ax,) = figure.axes
    (known,) = [line for line in ax.get_lines() if line.get_gid() == "known"]
    assert known.get_xdata() == pytest.approx([10, 9, -2])
    for words in (
        "λ_max 10", "λ_min −2", "90 % of all: 0 to 0", "spectrum of 1,000 eigenvalues", "trace 140 ± 1.5 (SE)",
        "512 samples", "double backward, asymmetry 3e-08", "seed 7",
    ):  # fmt: skip
        assert words in texts(figure), words


def test_the_bulk_is_the_middle_of_the_eigenvalues():
    uniform = spectrum(nodes=(np.arange(1.0, 101.0),), weights=(np.full(100, 0.01),))
    assert bulk_of(uniform, 0.9) == (pytest.approx(5, abs=1), pytest.approx(95, abs=1))
    assert bulk_of(spectrum(), 0.98) == (0, 1)


def test_names_are_within_the_axes_and_do_not_overlap():
    for lowest in (-2.0, 9.9):
        figure = spectrum(lowest=lowest).plot()
        to_image(figure, dpi=83)
        (ax,) = figure.axes
        frame = ax.get_window_extent()
        boxes = [text.get_window_extent() for text in ax.texts if text.get_text().startswith("λ_")]
        assert len(boxes) == 2
        assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
        assert not boxes[0].overlaps(boxes[1])


def test_one_eigenvalue_alone_and_axes_of_the_caller():
    from lightning_landscape.plots.spectrum import draw_spectrum

    single = spectrum(nodes=(np.array([2.0]),), weights=(np.ones(1),), lowest=np.nan, trace=np.nan)
    figure = Figure(figsize=(9, 4))
    left, right = figure.subplots(1, 2)
    assert draw_spectrum(single, ax=right) is figure
    assert to_image(figure, dpi=50).min() < 128
    assert not left.has_data()


def test_no_density_is_said():
    with pytest.raises(ValueError, match="density=True"):
        spectrum(nodes=(), weights=()).plot()


def saddle(length: float = 2.0, kind: str = "hessian", **fields) -> Landscape:
    """1 + 3 (2α)² / 2 − (2β)² / 2 and a quartic; the eigenvalues are 3 and −1."""
    grid = Grid.from_ranges((-1, 1, 9), (-1, 1, 9))
    a, b = (length * grid.points).T
    values = (1 + 1.5 * a**2 - 0.5 * b**2 + a**4).reshape(grid.shape)
    directions = DirectionsRecipe(
        kind, {"eigenvalues": [3.0, -1.0]}, lengths=[length] * 2, labels=["λ_max = 3", "λ_min = −1"]
    )
    recipe = Recipe(directions=directions)
    return Landscape(grid, {"loss": values, "other": values}, "loss", recipe=recipe, spectrum=spectrum(), **fields)


def parabolas(landscape: Landscape, metric: str | None = None) -> list:
    (ax,) = draw_slices(landscape, metric).axes
    return [line for line in ax.get_lines() if line.get_gid() == "parabola"]


def test_slices_along_eigenvectors_have_their_parabolas(texts):
    first, second = parabolas(saddle())
    x, y = first.get_data()
    np.testing.assert_allclose(y, 1 + 0.5 * 3 * (2 * x) ** 2)
    x, y = second.get_data()
    np.testing.assert_allclose(y, 1 - 0.5 * (2 * x) ** 2)
    assert "dotted: ★ + ½λt²" in texts(draw_slices(saddle()))


def test_no_parabola_along_other_directions_of_other_metrics_or_beside_the_centre():
    assert not parabolas(saddle(kind="random"))
    assert not parabolas(saddle(), "other")
    beside = saddle()
    beside.grid = Grid((beside.grid.axes[0], beside.grid.axes[1] + 0.1))
    assert len(parabolas(beside)) == 1  # β goes through the centre still


@pytest.mark.parametrize("kind", ["contour", "heat", "surface", "slices"])
def test_the_footer_has_the_curvature_of_the_slices_beside_the_extremes(kind, texts):
    text = texts(PLOTS[kind].draw(saddle()))
    bends = [f"{bend:.3g}".replace("-", "−") for bend in (3 + 2 * 0.25, -1.0)]  # f[−h, 0, h] of a⁴ is h², h = 0.5
    assert f"curvature of the slices {bends[0]}, {bends[1]}, of all directions −2 to 10" in text
    assert "λ_max = 3" in text
    assert "curvature of" not in texts(PLOTS[kind].draw(saddle(), "other"))


def test_the_footer_without_lengths_or_the_lowest(texts):
    bare = saddle()
    bare.recipe, bare.spectrum = Recipe(), replace(spectrum(), lowest=np.nan)
    assert "curvature of all directions at most 10" in texts(PLOTS["heat"].draw(bare))
