"""The samples of a batch: how many there are, and which."""

import warnings
from collections import UserDict, namedtuple
from dataclasses import dataclass
from typing import Any, TypedDict

import attrs
import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader, IterableDataset

from lightning_landscape.objectives.batch_samples import IndivisibleError, counting, rows, select_samples, size_of

SEQUENCES = [torch.zeros(5, 4), torch.zeros(3, 4), torch.zeros(6, 4)]
Named = namedtuple("Named", "x y")


class Typed(TypedDict):
    x: Any
    y: Any


@dataclass(frozen=True)
class Data:
    x: Any
    y: Any


@attrs.define
class Slotted:
    x: Any
    y: Any


class Graphs:
    """As of a graph library: more nodes than graphs, and it says how many graphs."""

    num_graphs = 3

    def __init__(self) -> None:
        self.x, self.edge_index = torch.zeros(30, 4), torch.zeros(2, 50, dtype=torch.int64)


def strided(sequences: list[torch.Tensor]) -> torch.Tensor:
    """A nested tensor of the older layout, of which torch warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor(sequences)


def labels(size):
    return torch.zeros(size, dtype=torch.int64)


BOXES = [{"boxes": torch.zeros(k, 4), "labels": labels(k)} for k in (2, 1, 2, 2)]
IMAGES = [torch.zeros(3, 8, 8)] * 4
SIZES = {
    "pair": ((torch.zeros(3, 2), 1), 3),
    "a scalar alone": ({"s": torch.tensor(1.0)}, 1),
    "nothing": ([], 1),
    "sequences of their own lengths": ((SEQUENCES, labels(3)), 3),
    "sequences of one length": (([torch.zeros(7, 4)] * 3, labels(3)), 3),
    "sequences without targets": (SEQUENCES, 3),
    "sequences of one length by name": ({"x": [torch.zeros(7, 4)] * 3}, 3),
    "jagged": ((torch.nested.nested_tensor(SEQUENCES, layout=torch.jagged), labels(3)), 3),
    "nested": ((strided(SEQUENCES), labels(3)), 3),
    "packed": ((pack_sequence(SEQUENCES, enforce_sorted=False), labels(3)), 3),
    "graphs": (Graphs(), 3),
    "graphs beside what has more rows": ((torch.zeros(30, 4), labels((2, 50)), labels(4)), 4),
    "graphs by name": ({"x": torch.zeros(30, 4), "edges": labels((2, 50)), "y": labels(4)}, 4),
    "two views": (([torch.zeros(8, 3), torch.zeros(8, 3)], labels(8)), 8),
    "two views without targets": ([torch.zeros(8, 3), torch.zeros(8, 3)], 8),
    "images and boxes": ((tuple(IMAGES), tuple(BOXES)), 4),
    "images and boxes in lists": ([IMAGES, BOXES], 4),
    "images and numbers": ((IMAGES, [0, 1, 0, 1]), 4),
    "samples as they are": ([(torch.zeros(3, 8, 8), 1)] * 4, 4),
    "texts": ((["a", "bb", "c"], labels(3)), 3),
    "arrays": ((np.zeros((4, 3)), np.zeros(4)), 4),
    "a weight beside": ((torch.zeros(4, 3), labels(4), torch.tensor(0.5)), 4),
    "typed dictionary": (Typed(x=torch.zeros(4, 2), y=labels(4)), 4),
    "user's dictionary": (UserDict(x=torch.zeros(4, 2), y=labels(4)), 4),
    "dataclass": (Data(torch.zeros(4, 2), labels(4)), 4),
    "attrs": (Slotted(SEQUENCES, labels(3)), 3),
    "named tuple": (Named(torch.zeros(4, 2), labels(4)), 4),
}


@pytest.mark.parametrize("kind", SIZES)
def test_the_size_is_the_number_of_samples(kind):
    data, size = SIZES[kind]
    assert size_of(data) == size


def test_objects_in_a_ring_have_a_size():
    a, b = Data([], None), Data([], None)
    a.x.append(b)
    b.x.append(a)
    assert size_of((torch.zeros(4, 2), [a] * 4)) == 4


@pytest.mark.parametrize("kind", ["typed dictionary", "user's dictionary", "dataclass", "named tuple", "two views"])
def test_picked_samples_of_every_structure(kind):
    data, size = SIZES[kind]
    assert size_of(select_samples(data, [0, 1, 0], size)) == 3
    assert type(select_samples(data, [0], size)) is type(data)
    assert size_of(data) == size, "the batch itself stays"


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided], ids=str)
def test_picked_samples_of_nested_tensors(layout):
    nested = torch.nested.nested_tensor([torch.full((n,), float(n)) for n in (5, 3, 6)], layout=layout)
    assert [part.tolist() for part in select_samples(nested, [1, 0], 3).unbind()] == [[3.0] * 3, [5.0] * 5]


@pytest.mark.parametrize("kind", ["packed", "graphs"])
def test_what_has_no_rows_is_not_cut(kind):
    """It would come back whole, and count as fewer samples."""
    data, size = SIZES[kind]
    with pytest.raises(IndivisibleError, match="can't be divided into samples: make it of tensors"):
        rows(data, 0, 1, size)


def test_rows_of_all_that_has_so_many():
    cut = rows({"x": torch.arange(4), "pair": [torch.arange(4), torch.zeros(2)], "n": "abcd"}, 1, 3, 4)
    assert cut["x"].tolist() == cut["pair"][0].tolist() == [1, 2]
    assert cut["pair"][1].tolist() == [0, 0]
    assert cut["n"] == "abcd"


class Stream(IterableDataset):
    def __iter__(self):
        return iter(SEQUENCES)


@pytest.mark.parametrize("data", [SEQUENCES, Stream()], ids=["indexed", "iterated"])
def test_a_loader_counts_what_it_collates_whatever_comes_of_it(data):
    loader = DataLoader(data, 2, collate_fn=lambda samples: torch.cat(samples))
    assert [(len(batch.data), batch.size) for batch in counting(loader)] == [(8, 2), (6, 1)]
    assert [len(batch) for batch in loader] == [8, 6], "the user's gives what it gave"
