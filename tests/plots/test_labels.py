"""Directions in words on the axes: the share that they explain, what a random walk has, and lengths."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_landscape import Grid, Landscape
from lightning_landscape.plots import PLOTS
from lightning_landscape.recipe import DirectionsRecipe, Recipe

LABELS = ["PCA 1 (99.5 %; random walk 100 %)", "PCA 2 (38 %; random walk 15 %)"]


def bowl(kind: str, labels: list[str], lengths: list[float]) -> Landscape:
    grid = Grid.from_ranges((-1, 1, 5), (-1, 1, 4))
    values = (grid.points**2).sum(axis=1).reshape(grid.shape)
    directions = DirectionsRecipe(kind, lengths=lengths, labels=labels)
    return Landscape(grid, {"loss": values}, "loss", center={"loss": 0.0}, recipe=Recipe(directions=directions))


def test_axes_have_words_and_lengths() -> None:
    (axes, *_) = PLOTS["contour"].draw(bowl("pca", LABELS, [1.0, 1.0])).axes
    assert axes.get_xlabel() == "α   PCA 1 (99.5 %; random walk 100 %), length 1"
    assert axes.get_ylabel() == "β   PCA 2 (38 %; random walk 15 %), length 1"
    (axes, *_) = PLOTS["contour"].draw(bowl("update", ["update by Adam", "random"], [0.03064, 0.03064])).axes
    assert axes.get_xlabel() == "α   update by Adam, length 0.0306"
    (axes, *_) = PLOTS["contour"].draw(bowl("between", ["a.ckpt", "b.ckpt"], [3.0, 4.0])).axes
    assert axes.get_ylabel() == "β   (1 = b.ckpt)"


@pytest.mark.parametrize("kind", ["contour", "heat", "surface", "slices"])
def test_the_longest_words_stay_inside_of_the_picture(kind: str) -> None:
    figure = PLOTS[kind].draw(bowl("pca", LABELS, [1.0, 1.0]))
    figure.draw_without_rendering()
    inside = figure.bbox
    for axes in figure.axes:
        for label in (axes.xaxis.label, axes.yaxis.label):
            if label.get_text() and label.get_visible():
                box = label.get_window_extent()
                assert np.all(box.min >= inside.min - 1), label.get_text()
                assert np.all(box.max <= inside.max + 1), label.get_text()
