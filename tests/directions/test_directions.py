"""What every kind of directions promises: the table is the list of tests."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lightning_landscape.directions import KINDS, Site, recipe
from lightning_landscape.objectives.base import Batch, LossFunction
from lightning_landscape.weights.parameters import Snapshot
from lightning_landscape.weights.plane import Plane


def targets(zoo: nn.Module) -> tuple[dict[str, torch.Tensor], ...]:
    """Three other models."""
    return tuple({name: tensor + i for name, tensor in zoo.state_dict().items()} for i in (1, 2, 3))


# How to make one of each kind for a net and k; a kind without a row here fails, so that it gets one.
SETTINGS: dict[str, Callable[[nn.Module, int], dict[str, Any]]] = {
    "random": lambda zoo, k: {},
    "pca": lambda zoo, k: {},
    "gradient": lambda zoo, k: {},
    "update": lambda zoo, k: {},
    "between": lambda zoo, k: {"targets": targets(zoo)[:k]},
    "mixed": lambda zoo, k: {},
    "hessian": lambda zoo, k: {},
}


def test_every_listed_kind_is_a_tested_kind():
    assert KINDS.keys() == SETTINGS.keys()


@pytest.fixture(params=KINDS)
def make(request, zoo):
    return lambda k: KINDS[request.param](**SETTINGS[request.param](zoo, k))


def loss(module: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """A loss of all parameters, to which each number contributes."""
    return sum((p * batch).sin().square().sum() for p in module.parameters())


@pytest.fixture
def site(zoo):
    """A site that has all that a kind may need."""
    generator = torch.Generator().manual_seed(3)
    params = Snapshot.of(zoo).params
    records = [
        {n: t + i * torch.randn(t.shape, generator=generator, dtype=t.dtype) for n, t in params.items()}
        for i in (4, 3, 2, 1, 0)
    ]
    batches = [Batch(torch.tensor(1.0), 3), Batch(torch.tensor(2.0), 5)]
    optimizers = [torch.optim.Adam(zoo.parameters(), 0.01)]
    objective = LossFunction(loss)
    return Site.at(Snapshot.of(zoo), zoo, objective, batches, records=records, optimizers=optimizers)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_every_direction_matches_the_parameters(make, k, site):
    directions = make(k)(site, k)
    assert len(directions) == k
    for direction in directions:
        assert list(direction) == list(site.params)
        for name, weight in site.params.items():
            assert direction[name].shape == weight.shape
            assert direction[name].dtype == weight.dtype == torch.float64
            assert direction[name].device == weight.device
            assert not direction[name].requires_grad
            assert direction[name].isfinite().all()
    assert all(length > 0 for length in Plane(site.params, directions).norms())


def test_directions_leave_the_module_and_the_random_streams_alone(make, site, zoo, streams):
    before, drawn = {n: t.clone() for n, t in zoo.state_dict().items()}, streams()
    state = [dict(optimizer.state_dict()) for optimizer in site.optimizers]
    make(2)(site, 2)
    assert all(torch.equal(before[n], t) for n, t in zoo.state_dict().items())
    assert zoo.training
    assert all(p.grad is None and p.requires_grad for p in zoo.parameters())
    assert [dict(optimizer.state_dict()) for optimizer in site.optimizers] == state
    assert streams() == drawn


def test_the_same_call_gives_the_same_bits(make, site):
    first, second = (make(2)(site, 2) for _ in range(2))
    assert all(torch.equal(a[n], b[n]) for a, b in zip(first, second, strict=True) for n in a)


def test_every_recipe_names_its_kind(make):
    kinds = {type(make(1)): recipe(make(1))["kind"]}
    assert all(KINDS[kind] is cls for cls, kind in kinds.items())


@pytest.mark.parametrize("kind", ["gradient", "update", "mixed"])
def test_random_directions_beside_others_are_orthogonal(kind, site):
    directions = KINDS[kind](ignore=None)(site, 3)
    cosines = Plane(site.params, directions).cosines
    torch.testing.assert_close(torch.tensor(cosines), torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
    lengths = Plane(site.params, directions).norms()
    assert max(lengths) == pytest.approx(min(lengths), rel=1e-2)  # one scale for all axes


@pytest.mark.parametrize("kind", ["pca", "gradient", "mixed"])
def test_what_is_ignored_rests(kind, site):
    for direction in KINDS[kind](ignore=["biasbn", "embedding.*"])(site, 2):
        assert [name for name, tensor in direction.items() if tensor.any()] == [
            "conv.weight", "grouped.weight", "up.weight", "up_grouped.weight", "head.weight"
        ]  # fmt: skip
