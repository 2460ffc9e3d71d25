"""A sweep: one landscape that fills up from the middle outwards, or along a path; what its recipe says."""

import json
from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import Between, Grid, Joined, Landscape, LossLandscape, Plane, Random, Snapshot
from lightning_landscape.accelerations.choose import fastest
from lightning_landscape.accelerations.trial import TrialSettings
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, LossFunction
from lightning_landscape.objectives.batches import data_checksum
from lightning_landscape.recipe import DataRecipe, Recipe
from lightning_landscape.survey import survey
from lightning_landscape.survey.plain import survey_module
from lightning_landscape.survey.recipe import directions_recipe
from lightning_landscape.survey.resume import differences

GRID = Grid.from_ranges((-1, 2, 4), (-1, 1, 3))
BATCHES = [Batch(torch.tensor([1.0, 3.0]), 2), Batch(torch.tensor([8.0]), 1)]


class Point(nn.Module):
    """Two weights."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))


def loss(module, data):
    return (module.w * torch.tensor([1, 10])).sum() * data.double()


PLANE = Plane({"w": torch.tensor([1.0, 2.0]).double()}, tuple({"w": row} for row in torch.eye(2).double()))


def run(**options):
    given = {"probe": Point(), "objective": LossFunction(loss), "plane": PLANE, "grid": GRID, "batches": BATCHES}
    with preserved():
        yield from survey_module(**{**given, **options})


def surface():
    """mean (x + 10 y) b with weights (1, 2) + point, over b = 1, 3, 8."""
    x, y = GRID.points.T
    return (((1 + x) + 10 * (2 + y)) * 4).reshape(GRID.shape)


def test_it_fills_up_from_the_middle_outwards(student):
    counts, radii, before = [], [], np.zeros(GRID.shape, bool)
    for landscape in run():
        counts.append(int(landscape.done.sum()))
        new = np.argwhere(landscape.done & ~before)
        radii += [max(abs(GRID.axes[i][at]) for i, at in enumerate(index)) for index in new]
        before = landscape.done.copy()
        np.testing.assert_allclose(landscape.loss[before], surface()[before], rtol=1e-14)
        assert np.isnan(landscape.loss[~before]).all()
    assert counts == list(range(13))
    assert radii == sorted(radii)
    assert landscape.center["loss"] == pytest.approx(84)
    errors = np.abs(surface() / 4) * np.std([1, 3, 8], ddof=1) / np.sqrt(3) * student(3)
    np.testing.assert_allclose(landscape.standard_errors["loss"], errors, rtol=1e-9)


def test_a_path_leads_over_the_plane():
    t = np.array([0.0, 0.5, 2.0])
    *_, landscape = run(grid=Grid((t,)), path=lambda points: np.hstack([points**2, -points]))
    np.testing.assert_allclose(landscape.loss, 4 * ((1 + t**2) + 10 * (2 - t)))


def test_what_is_done_is_not_measured_again():
    earlier = next(x for x in run(recipe=Recipe(seed=1)) if x.done.sum() == 5)
    earlier.values["loss"][GRID.center_index] = -1.0  # a mark
    calls = []
    counted = LossFunction(lambda module, data: calls.append(1) or loss(module, data))
    first, *_, last = run(objective=counted, recipe=Recipe(seed=1), earlier=[earlier])
    expected = surface()
    expected[GRID.center_index] = -1
    np.testing.assert_allclose(last.loss, expected)
    assert last.done.all()
    assert first is last
    assert len(calls) == 2 * (1 + 7) + 2 + 1  # the centre and 7 points on two batches, two rehearsals, and the losses


def test_a_stopped_sweep_leaves_its_landscape(tmp_path):
    stream = run()
    landscape = next(stream)
    next(stream), next(stream)
    stream.close()
    assert landscape.done.sum() == 2


# What the landscape is a function of; a file that differs in one of them is of another.
ENTRIES = ["module", "weights_checksum", "objective", "mode", "seed", "precision", "rounding"]
ENTRIES += ["directions", "dir_type", "recalibrate"]


@pytest.mark.parametrize("name", ENTRIES)
def test_another_recipe_is_not_continued(name):
    one, other = (Landscape(GRID, {"loss": surface()}, "loss", recipe=Recipe(**{name: value})) for value in ("a", "b"))
    assert differences(one, other) == [name.replace("_", " ")]
    assert differences(one, one) == []
    if name != "rounding":  # which is that of the accelerations
        with pytest.raises(ValueError, match=rf"can't be continued: it has another .*{name.replace('_', ' ')}"):
            list(run(earlier=[one], recipe=Recipe(**{name: "b"})))


def test_other_data_are_not_continued():
    data = [{"train": DataRecipe(8, checksum="a")}, {"train": DataRecipe(8, checksum="b")}, {"val": DataRecipe(8)}]
    one, other, val = (Landscape(GRID, {"loss": surface()}, "loss", recipe=Recipe(data=d)) for d in data)
    assert differences(one, other) == ["data checksum"]
    assert differences(one, val) == ["data", "data checksum"]


def test_another_main_loss_is_not_continued():
    one, other = (Landscape(GRID, {"a": surface(), "b": surface()}, main) for main in ("a", "b"))
    assert differences(one, other) == ["loss"]


def test_another_function_of_the_same_name_is_not_continued():
    one = Landscape(GRID, {"loss": surface() + 1}, "loss")
    with pytest.raises(ValueError, match="value at the centre"):
        list(run(earlier=[one]))


def test_the_recipe_tells_one_direction_from_another():
    net, other = nn.Linear(3, 2), nn.Linear(3, 2)
    snapshot = Snapshot.of(net)

    def recipe(directions):
        return directions_recipe(directions, snapshot, Plane(snapshot.params, directions(snapshot, 2)))

    mirrored = {n: 2 * p - dict(other.named_parameters())[n] for n, p in net.named_parameters()}  # just as far away
    found = [recipe(Between((other, target))) for target in (nn.Linear(3, 2), mirrored, other)]
    found.append(recipe(Joined((Random(seed=1), Between((other,))))))
    assert len({directions.checksum for directions in found}) == 4
    for directions in found:
        assert json.loads(json.dumps(asdict(directions))) == asdict(directions)
        assert directions.moved_parameters == 8
    assert found[2].cosine == pytest.approx(1)
    assert recipe(Random()).resting_parameters == 2


def test_the_recipe_has_the_data():
    (*_, landscape) = run(population=70)
    data = {"data": DataRecipe(3, 2, data_checksum(BATCHES), "as given", 70)}
    assert landscape.recipe.data == data


def test_what_is_computed_is_not_interpolated(tmp_path, monkeypatch):
    """A linear model is affine in the point: its values follow from a few passes, and a tolerance saves nothing."""
    monkeypatch.setattr(survey, "fastest", partial(fastest, settings=TrialSettings(affine_seconds=0.0)))
    torch.manual_seed(0)  # of ten samples, an accuracy of 30 % may be anything that has three values
    net = nn.Linear(5, 3)
    data = TensorDataset(torch.randn(20, 5), torch.randint(3, (20,)))
    landscape = LossLandscape(net, DataLoader(data, 10), surf_file=tmp_path / "a.h5", tolerance=0.1)
    landscape.compute_2d((-1, 1, 21), (-1, 1, 19))
    assert landscape.landscape.report.accelerations == {"affine, closed form": None}
    assert not landscape.landscape.interpolated.any()
    plain = LossLandscape(net, DataLoader(data, 10), surf_file=tmp_path / "b.h5", accelerate=False)
    expected = plain.compute_2d((-1, 1, 21), (-1, 1, 19))["losses"]
    np.testing.assert_allclose(landscape.landscape.loss, expected, rtol=1e-6)
