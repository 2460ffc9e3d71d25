"""The path in numbers: which curves are there, on which axes, and what becomes of many records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from lightning_landscape.plots import PLOTS, to_image
from lightning_landscape.plots.path import decimated
from tests.plots.walks import walk

TITLES = ["loss", "distance", "step length", "cosine to the last step", "learning rate"]


def panels(make, path, **options) -> dict:
    """The axes of each panel by its title."""
    figure = PLOTS["path"].draw(make(trajectory=path), **options)
    return {axes.get_title(loc="left"): axes for axes in figure.axes[0].child_axes}


def curves(axes) -> dict:
    """Steps and values of each curve by its label; lines that mark a step are none."""
    lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
    return {line.get_label(): np.stack([line.get_xdata(), line.get_ydata()]) for line in lines}


def test_every_curve_has_the_numbers_of_the_path(make):
    path = walk()
    drawn = panels(make, path)
    assert [*drawn] == TITLES
    few, many = path.steps, path.history["step"]
    expected = {
        "loss": {
            "logged": (many, path.history["loss"]),
            "on the plane": (few, path.plane_losses["loss"]),
            "of the weights": (few, path.losses["loss"]),
        },
        "distance": {
            "from the start": (many, path.history["distance"]),
            "from ★": (few, path.distances),
            "from the plane": (few, path.residuals),
        },
    }
    for title, table in expected.items():
        found = curves(drawn[title])
        assert found.keys() == table.keys()
        for label, columns in table.items():
            np.testing.assert_array_equal(found[label], np.stack(columns))
    for title, column in {"step length": "step_length", TITLES[3]: "cosine", TITLES[4]: "learning_rate"}.items():
        (found,) = curves(drawn[title]).values()
        np.testing.assert_array_equal(found, np.stack([many, path.history[column]]))


def test_what_is_not_known_has_no_panel(make):
    assert [*panels(make, walk(history={}, losses={}, plane_losses={}))] == ["distance"]
    unknown = {**walk().history, "cosine": np.full(51, np.nan)}
    assert [*panels(make, walk(history=unknown))] == [title for title in TITLES if title != TITLES[3]]


def test_axes_are_logarithmic_where_that_tells_more(make):
    """Step lengths from 0.01 to 0.3; a rate that falls to a hundredth, and one that falls to a half."""
    assert {title: axes.get_yscale() for title, axes in panels(make, walk()).items()} == {
        "loss": "linear", "distance": "linear", "step length": "log", TITLES[3]: "linear", TITLES[4]: "linear",
    }  # fmt: skip
    steps = walk().history["step"]
    history = {**walk().history, "learning_rate": np.where(steps < 25, 0.1, 0.001), "loss": 10.0 ** (-steps / 10)}
    drawn = panels(make, walk(history=history))
    assert drawn[TITLES[4]].get_yscale() == drawn["loss"].get_yscale() == "log"


def test_the_beginning_of_a_loss_that_falls_fast_is_not_cut(make):
    """One record of 51 has 2.0, and the rest less than 0.1."""
    logged = np.where(np.arange(51) == 0, 2.0, 0.05 + 0.001 * np.arange(51))
    only = walk(history={**walk().history, "loss": logged}, losses={}, plane_losses={})
    low, high = panels(make, only)["loss"].get_ylim()
    assert low < 0.05 < 2.0 < high


def test_another_metric_has_no_logged_loss(make):
    landscape = make(trajectory=walk(metric="acc"))
    landscape.values["acc"] = 1 - landscape.values["loss"]
    drawn = PLOTS["path"].draw(landscape, "acc").axes[0].child_axes[0]
    assert [*curves(drawn)] == ["on the plane", "of the weights"]


def test_checkpoints_and_changes_of_the_rate_are_lines(make, texts):
    for axes in panels(make, walk()).values():
        marked = [(line.get_gid(), line.get_xdata()[0]) for line in axes.lines if len(line.get_xdata()) == 2]
        assert sorted(marked) == [("checkpoint", 20), ("checkpoint", 40), ("learning rate", 25)]
    said = "dotted: checkpoints, dashed: changes of the learning rate"
    assert said in texts(PLOTS["path"].draw(make(trajectory=walk())))


def test_until_cuts_curves_and_lines_and_moves_no_axis(make):
    whole, part = panels(make, walk()), panels(make, walk(), until=25)
    for title in TITLES:
        assert part[title].get_xlim() == whole[title].get_xlim() == (0, 50)
        assert part[title].get_ylim() == whole[title].get_ylim()
        assert max(line.get_xdata()[-1] for line in part[title].lines) == 25


def test_in_axes_of_the_callers_the_lowest_panel_alone_has_numbers_of_steps(make):
    figure = Figure(figsize=(9, 5))
    left, right = figure.subplots(1, 2)
    PLOTS["path"].draw(make(trajectory=walk()), ax=right)
    to_image(figure, dpi=50)
    numbered = [
        bool([t for t in axes.get_xticklabels() if t.get_visible() and t.get_text()]) for axes in right.child_axes
    ]
    assert numbered == [False] * 4 + [True]
    assert not left.has_data()


def test_many_records_are_drawn_as_medians_and_their_range(make, texts):
    """One step of 10,000 is a hundred times as long: it is to be seen. The medians are those of 33 and 34 records."""
    count = 10_000
    lengths = 1 + 0.1 * np.random.default_rng(0).random(count)
    lengths[5_017] = 5.0
    history = {"step": np.arange(float(count)), "step_length": lengths}
    path = replace(walk(), steps=np.linspace(0, count - 1, 6), history=history)
    axes = panels(make, path)["step length"]
    (band,) = axes.collections
    assert band.get_paths()[0].vertices[:, 1].max() == 5.0
    assert band.get_paths()[0].vertices[:, 1].min() == lengths.min()
    (found,) = curves(axes).values()
    groups = np.array_split(lengths, 300)
    np.testing.assert_array_equal(found[1], [np.median(group) for group in groups])
    said = "10,000 records: medians of 34, bands from their lowest to their highest"
    assert said in texts(PLOTS["path"].draw(make(trajectory=path)))
    assert "medians" not in texts(PLOTS["path"].draw(make(trajectory=walk())))


def test_groups_without_a_number_are_gaps():
    steps, low, middle, high = decimated(np.arange(4.0), np.array([np.nan, np.nan, 3.0, np.nan]), 2)
    assert steps.tolist() == [0.5, 2.5]
    np.testing.assert_array_equal(np.stack([low, middle, high]), [[np.nan, 3.0]] * 3)


def test_a_landscape_without_a_path_is_refused(make):
    with pytest.raises(ValueError, match="path needs the path of a training, this landscape has none: project one"):
        PLOTS["path"].draw(make())
    assert not PLOTS["path"].draws(make())
    assert PLOTS["path"].draws(make(trajectory=walk()))
