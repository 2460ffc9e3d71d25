"""What every kind of directions promises: the table is the list of tests."""

import pytest
import torch

from lightning_landscape.directions import KINDS, recipe
from lightning_landscape.weights.parameters import Snapshot
from lightning_landscape.weights.plane import Plane

# How to make one of each kind; a kind without a row here fails, so that it gets one.
SETTINGS = {"random": {}}


def test_every_listed_kind_is_a_tested_kind():
    assert KINDS.keys() == SETTINGS.keys()


@pytest.fixture(params=KINDS)
def directions(request):
    return KINDS[request.param](**SETTINGS[request.param])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_every_direction_matches_the_parameters(directions, k, zoo):
    snapshot = Snapshot.of(zoo)
    made = directions(snapshot, k)
    assert len(made) == k
    for direction in made:
        assert list(direction) == list(snapshot.params)
        for name, weight in snapshot.params.items():
            assert direction[name].shape == weight.shape
            assert direction[name].dtype == weight.dtype == torch.float64
            assert direction[name].device == weight.device
            assert not direction[name].requires_grad
            assert direction[name].isfinite().all()
    assert all(length > 0 for length in Plane(snapshot.params, made).norms())


def test_directions_leave_the_module_and_the_random_streams_alone(directions, zoo, streams):
    before, drawn = {n: t.clone() for n, t in zoo.state_dict().items()}, streams()
    directions(Snapshot.of(zoo), 2)
    assert all(torch.equal(before[n], t) for n, t in zoo.state_dict().items())
    assert zoo.training
    assert streams() == drawn


def test_the_same_call_gives_the_same_bits(directions, zoo):
    first, second = (directions(Snapshot.of(zoo), 2) for _ in range(2))
    assert all(torch.equal(a[n], b[n]) for a, b in zip(first, second, strict=True) for n in a)


def test_every_recipe_names_its_kind(directions):
    kinds = {type(KINDS[kind](**SETTINGS[kind])): kind for kind in KINDS}
    assert recipe(directions)["kind"] == kinds[type(directions)]
