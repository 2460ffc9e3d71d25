"""What a batch holds: leaves, digests, copies; and the generators of a loader."""

import threading
from collections import UserDict
from dataclasses import dataclass

import attrs
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from lightning_landscape.objectives.base import Batch
from lightning_landscape.objectives.batches import copy_to, data_checksum, deep_copy, generators_at, leaves
from lightning_landscape.objectives.criterion import FrozenLoader


def digest(*data):
    return data_checksum([Batch(d, 1) for d in data])


def test_the_digest_is_of_every_bit_and_text():
    base = {"x": torch.ones(2), "name": ["a", "b"], "more": (3, None)}
    assert digest(base) == digest({"x": torch.ones(2), "name": ["a", "b"], "more": (3, None)})
    others = [
        {**base, "x": torch.ones(2, dtype=torch.float64)}, {**base, "x": torch.ones(2, 1)},
        {**base, "name": ["a", "c"]}, {**base, "more": (4, None)}, {**base, "x": torch.tensor([1.0, 1.0 + 2**-23])},
    ]  # fmt: skip
    assert len({digest(base), *map(digest, others)}) == 6
    assert digest(base, base) != digest(base)
    assert digest(base, others[0]) != digest(others[0], base)


def test_the_digest_of_a_frozen_loader_is_that_of_its_batches():
    """Its loader holds objects whose texts are addresses."""
    data = [torch.ones(3), torch.zeros(2)]
    loaders = [DataLoader(TensorDataset(torch.randn(n)), generator=torch.Generator()) for n in (3, 4)]
    assert len({digest(FrozenLoader(data, loader)) for loader in loaders}) == 1
    assert digest(FrozenLoader(data[:1], loaders[0])) != digest(FrozenLoader(data, loaders[0]))


def test_numbers_that_are_expanded_have_a_digest():
    assert digest(torch.ones(()).expand(1)) == digest(torch.ones(1))
    assert digest(torch.ones(()).expand(4)) == digest(torch.ones(4))


def test_a_copy_is_our_own():
    data = {"x": torch.ones(2, requires_grad=True), "y": [torch.zeros(1)], "name": "a"}
    twin = copy_to(data, torch.device("cpu"))
    assert twin["x"].is_leaf
    assert [twin["x"].requires_grad, twin["y"][0].requires_grad] == [True, False]
    twin["y"][0].fill_(5)
    assert data["y"][0].item() == 0
    assert twin["name"] == "a"


class Cell:
    """Knows its neighbours."""

    def __init__(self, place):
        self.place, self.x, self.near = place, torch.tensor(float(sum(place))), []


def linked(n):
    """A map of n × n cells; the first of them."""
    cells = [[Cell((i, j)) for j in range(n)] for i in range(n)]
    for i in range(n):
        for j in range(n):
            around = [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
            cells[i][j].near += [cells[a][b] for a, b in around if 0 <= a < n and 0 <= b < n]
    return cells[0][0]


def chain(length):
    first = cell = Cell((0, 0))
    for i in range(length):
        cell.near.append(Cell((i, 0)))
        cell = cell.near[0]
    return first


@pytest.mark.timeout(60)
@pytest.mark.parametrize("made", [lambda: linked(40), lambda: chain(5000)], ids=["map", "chain"])
def test_objects_that_know_each_other_are_looked_at_once(made):
    """By every way from one to the other it would take for ever, and a chain more calls than Python allows."""
    data = made()
    cells = {id(leaf) for leaf in leaves(data) if isinstance(leaf, torch.Tensor)}
    assert len(cells) in (1600, 5001)
    for twin in (deep_copy(data), copy_to(data, torch.device("cpu"))):
        assert digest(twin) == digest(data)
        assert not cells & {id(leaf) for leaf in leaves(twin)}
    data.near[0].x += 1
    assert digest(twin) != digest(data)


def test_what_can_not_be_copied_is_shared():
    data = {"lock": threading.Lock(), "x": torch.ones(2)}
    for twin in (deep_copy(data), copy_to(data, torch.device("cpu"))):
        assert twin["lock"] is data["lock"]
        assert twin["x"] is not data["x"]


@attrs.define
class Slotted:
    x: torch.Tensor
    names: list


@dataclass
class Data:
    x: torch.Tensor
    names: list


@pytest.mark.parametrize(
    "made",
    [Slotted, Data, lambda x, names: UserDict(x=x, names=names)],
    ids=["attrs", "dataclass", "user's dictionary"],
)
def test_batches_of_every_structure_have_a_digest_and_copies(made):
    data = made(torch.ones(2), ["a"])
    assert digest(data) == digest(made(torch.ones(2), ["a"])) != digest(made(torch.ones(2), ["b"]))
    twin = copy_to(data, torch.device("cpu"))
    assert digest(twin) == digest(data)
    leaves(twin)[0].fill_(5)
    assert leaves(data)[0].tolist() == [1, 1]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.jagged, torch.strided], ids=str)
def test_nested_tensors_have_a_digest_and_copies(layout):
    def nested(last):
        return torch.nested.nested_tensor([torch.ones(2), torch.tensor([1.0, 2.0, last])], layout=layout)

    assert digest(nested(3.0)) == digest(nested(3.0)) != digest(nested(4.0))
    for twin in (deep_copy(nested(3.0)), copy_to(nested(3.0), torch.device("cpu"))):
        assert digest(twin) == digest(nested(3.0))


def test_every_number_of_an_array_counts_and_no_address():
    """The text of a long array leaves out its middle, that of an object says where it lies."""
    array = np.zeros(5000)
    other = array.copy()
    other[2500] = 1
    assert digest(array) != digest(other)
    assert digest(object()) == digest(object())


def test_generators_of_loader_and_samplers_are_put_back_after_an_error_too():
    data = TensorDataset(torch.arange(20))
    sampler = RandomSampler(data, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(data, sampler=sampler, generator=torch.Generator().manual_seed(2))
    states = [g.get_state() for g in (sampler.generator, loader.generator)]
    orders = []
    for _ in range(2):
        with generators_at(loader, 3):
            orders.append(torch.cat([x for (x,) in loader]).tolist())
    with pytest.raises(ZeroDivisionError), generators_at(loader, 3):
        sum(1 / int(x[0]) for (x,) in loader)
    assert orders[0] == orders[1] != sorted(orders[0])
    for state, generator in zip(states, (sampler.generator, loader.generator), strict=True):
        np.testing.assert_array_equal(state, generator.get_state())
    with generators_at([1, 2], 3):  # what is no DataLoader has none
        pass
