"""Directions of several kinds: the first of each."""

import pytest
import torch
from torch import nn

from lightning_landscape.directions import Between, Joined, Random, recipe
from lightning_landscape.weights.parameters import Snapshot


def test_each_part_gives_its_first_direction():
    net, other = nn.Linear(3, 2), nn.Linear(3, 2)
    snapshot, parts = Snapshot.of(net), (Random(seed=1), Between((other,)), Random(seed=2))
    for got, part in zip(Joined(parts)(snapshot, 3), parts, strict=True):
        (expected,) = part(snapshot, 1)
        assert all(torch.equal(got[name], expected[name]) for name in snapshot.params)


def test_its_recipe_holds_those_of_its_parts():
    joined = Joined((Random(seed=1), Between((nn.Linear(3, 2),))))
    assert recipe(joined) == {
        "kind": "joined", "parts": [recipe(Random(seed=1)), {"kind": "between", "targets": 1}],
    }  # fmt: skip


def test_it_needs_one_part_a_direction():
    with pytest.raises(ValueError, match="parts holds 1, and the number of directions is 2: give one part"):
        Joined((Random(),))(Snapshot.of(nn.Linear(3, 2)), 2)
