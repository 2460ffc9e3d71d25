"""Comparisons of landscapes: which planes can be compared, the table by hand, distances, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_landscape import Comparison, Grid, Landscape, Recipe, Trajectory, compare, save
from lightning_landscape.comparison import on_one_surface
from lightning_landscape.recipe import DataRecipe, DirectionsRecipe

SETTINGS = {"normalize": "filter", "ignore": "biasbn", "seed": 42}


def bowl(scale: float = 1.0, ndim: int = 2, reach: float = 1.0, **fields: Any) -> Landscape:
    """scale · (1 + x² + 4 y²)."""
    grid = Grid.from_ranges(*[(-reach, reach, points) for points in (9, 5)[:ndim]])
    values = scale * (1 + (grid.points**2 * [1, 4][:ndim]).sum(axis=1).reshape(grid.shape))
    return Landscape(grid, {"loss": values, "val_acc": 1 / values}, "loss", **fields)


def recipe(kind: str = "random", weights: str = "w", plane: str = "d", **fields: Any) -> Recipe:
    settings = SETTINGS | fields.pop("settings", {})
    directions = DirectionsRecipe(kind, settings, checksum=plane, moved_parameters=fields.pop("moved", 100))
    return Recipe(directions=directions, weights_checksum=weights, **fields)


@pytest.mark.parametrize(
    "others, relation, text",
    [
        ({}, "one", "One plane: the directions and the weights at its centre are the same."),
        ({"weights": "v", "plane": "e"}, "alike", "can be compared: random directions of seed 42, scaled .* (filter)"),
        ({"settings": {"seed": 43}}, "different", "The planes differ: seed 42 (a, c), 43 (b). A point of one"),
        ({"settings": {"normalize": "layer"}}, "different", "The planes differ: normalize filter (a, c), layer (b)."),
        ({"settings": {"ignore": None}}, "different", "The planes differ: ignore biasbn (a, c), none (b)."),
        ({"settings": {"ignore": ["x"]}}, "different", 'ignore biasbn (a, c), ["x"] (b)'),
        ({"moved": 90}, "different", "The planes differ: moved parameters 100 (a, c), 90 (b)."),
        ({"dir_type": "states"}, "different", "The planes differ: dir_type weights (a, c), states (b)."),
        ({"kind": "pca"}, "different", "The planes differ: kind random (a, c), pca (b)."),
    ],
)
def test_the_relation_of_planes_is_said(others: dict[str, Any], relation: str, text: str) -> None:
    runs = {"a": bowl(recipe=recipe()), "b": bowl(2, recipe=recipe(**others)), "c": bowl(3, recipe=recipe())}
    comparison = compare(runs)
    assert comparison.planes.relation == relation
    for part in text.split(".*"):
        assert part.strip() in comparison.remarks()[0]
    assert comparison.remarks()[0] in str(comparison)
    assert comparison.planes.share_axes == (relation != "different")


def test_planes_of_two_trainings_are_different_though_both_are_of_principal_components() -> None:
    a, b = recipe("pca"), recipe("pca", weights="v", plane="e")
    comparison = compare({"a": bowl(recipe=a), "b": bowl(recipe=b)})
    assert comparison.planes.text.startswith("The planes differ: pca directions come from the weights of each run.")
    assert "difference" not in comparison.kinds
    assert compare({"a": bowl(recipe=a), "b": bowl(2, recipe=a)}).planes.relation == "one"


def test_an_unknown_recipe_is_named() -> None:
    comparison = compare({"a": bowl(recipe=recipe()), "b": bowl()})
    assert comparison.planes.relation == "unknown"
    assert comparison.remarks()[0].startswith("The directions of b are not known")
    assert "difference" in comparison.kinds


def test_what_else_differs_is_said() -> None:
    a = bowl(recipe=recipe(mode="eval", module="Net", data={"train": DataRecipe(64, checksum="1")}))
    b = bowl(reach=2, recipe=recipe(mode="train", module="Net", data={"train": DataRecipe(32, checksum="2")}))
    remarks = compare({"a": a, "b": b}).remarks()
    assert "The runs are measured on different samples: 64 (a), 32 (b). Only large differences count." in remarks
    assert "The mode differs: eval (a), train (b)." in remarks
    assert not any("model differs" in remark for remark in remarks)
    ranges = "9 points in [-1, 1] × 5 points in [-1, 1] (a), 9 points in [-2, 2] × 5 points in [-2, 2] (b)"
    assert f"The grids differ: {ranges}. Lowest and highest values depend on the range." in remarks
    assert not any("differ" in remark for remark in compare({"a": a, "b": a}).remarks())


def test_the_table_has_the_numbers_of_each_run() -> None:
    """Steps of 1/4 along x and 1/2 along y; 1.1 is reached on the line from 1.0625 to 1.25, and from 1 to 2."""
    errors = {"loss": np.full((9, 5), 0.01)}
    table = compare({"a": bowl(standard_errors=errors), "b": bowl(2), "c": bowl(0.1)}).table()
    expected = {
        "centre": (1, 2, 0.1),
        "standard error": (0.01, np.nan, np.nan),
        "lowest on the grid": (1, 2, 0.1),
        "  at x": (0, 0, 0),
        "  at y": (0, 0, 0),
        "highest on the grid": (6, 12, 0.6),
        "curvature x": (2, 4, 0.2),
        "curvature y": (8, 16, 0.8),
        "+10 % along x": (0.3, 0.3, 0.3),
        "+10 % along y": (0.05, 0.05, 0.05),
        "+1 along x": (1, 0.5 + 0.25 * (0.5 - 0.25) / (0.5625 - 0.25), np.inf),  # x² = 1/2
        "+1 along y": (0.5, 0.25, np.inf),
    }
    assert list(table) == list(expected)
    for title, numbers in expected.items():
        np.testing.assert_allclose(table[title], numbers, rtol=1e-12, atol=1e-15, err_msg=title)


def test_the_text_says_nowhere_and_unknown() -> None:
    errors = {"loss": np.full((9, 5), 0.01)}
    lines = compare({"sgd": bowl(standard_errors=errors), "adam": bowl(0.1)}).text().splitlines()
    assert lines[0].split() == ["loss", "sgd", "adam", "difference"]
    assert next(line for line in lines if line.startswith("standard error")).split()[2:] == ["0.01", "?"]
    assert next(line for line in lines if line.startswith("+1 along x")).split()[3:] == ["1", "nowhere"]


def test_an_accuracy_has_no_way_uphill() -> None:
    table = compare({"a": bowl(), "b": bowl(2)}).table("val_acc")
    assert table["centre"] == (1, 0.5)
    assert not any(title.startswith("+") for title in table)


# distances


def path(steps: list[float], distances: list[float], norms: list[float], length: float = 1.0) -> Trajectory:
    columns = [np.array(c, dtype=float) for c in (steps, distances, norms)]
    history = {"step": columns[0], "norm": columns[2], "step_length": np.full(len(steps), length)}
    return Trajectory(columns[0], np.zeros((len(steps), 2)), np.zeros(len(steps)), columns[1], history=history)


def test_two_steps_of_a_training_have_the_distance_that_the_later_path_tells() -> None:
    early = bowl(recipe=recipe(weights="1", step=10), trajectory=path([0, 10], [3, 0], [1, 2]))
    late = bowl(recipe=recipe(weights="2", step=20), trajectory=path([0, 10, 20], [8, 5, 0], [1, 2, 4]))
    assert compare({"a": early, "b": late}).table()["distance to a"] == (0, 5)
    assert compare({"b": late, "a": early}).table()["distance to b"] == (0, 5)


@pytest.mark.parametrize(
    "other",
    [
        {"trajectory": path([0, 10, 20], [8, 5, 0], [1, 2.5, 4])},  # another training from the same start
        {"trajectory": path([0, 20], [8, 0], [1, 4])},  # the record of the earlier step was thinned away
        {},
    ],
)
def test_a_distance_that_nothing_tells_is_left_out_with_a_word(other: dict[str, Any]) -> None:
    early = bowl(recipe=recipe(weights="1", step=10), trajectory=path([0, 10], [3, 0], [1, 2]))
    comparison = compare({"a": early, "b": bowl(recipe=recipe(weights="2", step=20), **other)})
    assert not any(title.startswith("distance to") for title in comparison.table())
    assert comparison.remarks()[-1] == "The distance between the weights is left out: the files do not tell it."


def test_equal_weights_have_no_distance() -> None:
    runs = {"a": bowl(recipe=recipe(plane="1")), "b": bowl(2, recipe=recipe(plane="2", settings={"seed": 1}))}
    assert compare(runs).table()["distance to a"] == (0, 0)


# paths on one surface


@pytest.fixture
def on_one() -> Comparison:
    paths = {
        "a": replace(
            path([0, 1, 2], [5, 4, 3], [1, 2, 3]),
            residuals=np.array([0.0, 0, 1]), losses={"loss": np.array([3.0, 2, 1])},
            plane_losses={"loss": np.array([3.0, 2, 1.5])},
        ),
        "b": path([0, 4], [5, 2], [1, 6], length=np.nan),
    }  # fmt: skip
    return on_one_surface(bowl(recipe=recipe("pca")), paths, {"a": {"a": 0, "b": 7}, "b": {"a": 7, "b": 0}})


def test_runs_on_one_surface_are_told_apart_by_their_paths(on_one: Comparison) -> None:
    assert on_one.is_one_surface
    assert on_one.landscapes["a"].recipe.weights == "the mean of 5 records of 2 runs"
    table = on_one.table()
    assert list(table) == [
        "distance to a", "steps", "norm of the weights", "length of the path", "loss at the end",
        "  of the plane there", "  distance from the plane",
    ]  # fmt: skip
    assert table["distance to a"] == (0, 7)
    assert table["steps"] == (2, 4)
    assert table["norm of the weights"] == (3, 6)
    np.testing.assert_equal(table["length of the path"], (3, np.nan))
    np.testing.assert_equal(table["loss at the end"], (1, np.nan))
    np.testing.assert_equal(table["  of the plane there"], (1.5, np.nan))
    np.testing.assert_equal(table["  distance from the plane"], (1, np.nan))


def test_one_centre_is_no_distance_between_the_ends(on_one: Comparison) -> None:
    paths = {name: landscape.trajectory for name, landscape in on_one.landscapes.items() if landscape.trajectory}
    unknown = on_one_surface(on_one.landscapes["a"], paths, {"a": {}, "b": {}})
    assert not any(title.startswith("distance to") for title in unknown.table())
    assert unknown.remarks()[-1].startswith("The distance between the weights is left out")


def test_only_equal_values_are_one_surface() -> None:
    same = recipe("pca")
    assert compare({"a": bowl(recipe=same), "b": bowl(recipe=same)}).is_one_surface
    assert not compare({"a": bowl(recipe=same), "b": bowl(2, recipe=same)}).is_one_surface
    assert not compare({"a": bowl(), "b": bowl()}).is_one_surface


# what is compared


def test_files_of_landscapes_are_read(tmp_path: Path) -> None:
    folder = compare({"sgd": bowl(), "adam": bowl(2)}).save(tmp_path / "both")[0].parent.parent
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.h5")) == [
        "adam/landscape.h5", "sgd/landscape.h5",
    ]  # fmt: skip
    assert compare([folder]).table()["centre"] == (2, 1)
    assert compare({"x": folder / "sgd" / "landscape.h5", "y": bowl(5)}).table()["centre"] == (1, 5)


def test_metrics_are_those_of_all_runs(tmp_path: Path) -> None:
    other = Landscape(bowl().grid, {"val_acc": bowl().loss}, "val_acc")
    comparison = compare({"a": bowl(), "b": other})
    assert comparison.metrics == ("val_acc",)
    with pytest.raises(ValueError, match=r"metric='loss' is not in b; all runs have: val_acc\."):
        comparison.table("loss")
    named = bowl()
    named.name_same_loss({"train/loss": "loss"})
    assert compare({"a": named, "b": bowl()}).metric("train/loss") == "loss"


def test_a_page_shows_the_table() -> None:
    assert "<pre>loss " in compare({"a": bowl(), "<b>": bowl()})._repr_html_()
    assert "&lt;b&gt;" in compare({"a": bowl(), "<b>": bowl()})._repr_html_()


@pytest.mark.parametrize(
    "runs, message",
    [
        ({}, r"at least two landscapes, got none"),
        ({"a": bowl()}, r"at least two landscapes, got a: give another run"),
        ({"a": bowl(), "b": bowl(ndim=1)}, r"different numbers of directions: a 2-D, b 1-D"),
        (
            {"a": bowl(), "b": Landscape(bowl().grid, {"mse": bowl().loss}, "mse")},
            r"no metric in common \(a: loss, val_acc; b: mse\)",
        ),
    ],
)
def test_what_can_not_be_compared_is_refused(runs: dict[str, Landscape], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(runs)


def test_a_kind_that_the_runs_do_not_have_is_refused() -> None:
    comparison = compare({"a": bowl(), "b": bowl(2)})
    assert comparison.kinds == ("difference", "panels", "curves")
    with pytest.raises(ValueError, match=r"kind='film' is unknown; the choices for these runs are difference, panels"):
        comparison.plot("film")
    with pytest.raises(ValueError, match=r"kind='paths' needs one surface with the path of every run.*compute_runs"):
        comparison.plot("paths")
    with pytest.raises(ValueError, match=r"kind='curves' draws one metric at a time, got loss, val_acc: give one"):
        comparison.plot("curves", ["loss", "val_acc"])


def test_files_of_one_name_have_numbers(tmp_path: Path) -> None:
    file = save(bowl(), tmp_path / "a.h5")
    assert list(compare([file, file]).landscapes) == ["a (1)", "a (2)"]
