"""What a batch holds: leaves, digests, copies; and the generators of a loader."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from lightning_landscape.batches import data_checksum, generators_at, own_copy
from lightning_landscape.criteria import FrozenLoader
from lightning_landscape.objectives import Batch


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
    twin = own_copy(data, torch.device("cpu"))
    assert twin["x"].is_leaf
    assert [twin["x"].requires_grad, twin["y"][0].requires_grad] == [True, False]
    twin["y"][0].fill_(5)
    assert data["y"][0].item() == 0
    assert twin["name"] == "a"


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
