"""The edge of stability of optimisers: their own steps on a quadratic tell where it is."""

from __future__ import annotations

import pytest
import torch

from lightning_landscape.curvature.stability import stability

SGDS = [
    {"momentum": 0.0},
    {"momentum": 0.9},
    {"momentum": 0.8, "nesterov": True},
    {"momentum": 0.9, "dampening": 0.9},
]
ADAPTIVE = [
    (torch.optim.Adam, {"betas": (0.0, 0.9)}),
    (torch.optim.Adam, {"betas": (0.0, 0.9), "amsgrad": True}),
    (torch.optim.AdamW, {"betas": (0.0, 0.99), "weight_decay": 0.0}),
    (torch.optim.RMSprop, {}),
    (torch.optim.RMSprop, {"centered": True}),
]


def size_after(curvature, options, steps=400):
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.1, **options)
    for _ in range(steps):
        weight.grad = curvature * weight.detach()
        optimizer.step()
    return abs(weight.item())


@pytest.mark.parametrize("options", SGDS, ids=str)
def test_gradient_descent_settles_below_the_limit_and_not_above(options):
    weight = torch.nn.Parameter(torch.ones(1))
    limit = stability([torch.optim.SGD([weight], lr=0.1, **options)], {"weight": weight}).limit
    assert size_after(0.98 * limit, options) < 1e-3
    assert size_after(1.02 * limit, options) > 1e3


def test_adams_momentum_is_that_of_a_mean():
    """Heavy ball with as much dampening as momentum, whose limit is tried above."""
    weight = torch.nn.Parameter(torch.ones(1))
    of_adam = stability([torch.optim.Adam([weight], lr=0.1)], {"weight": weight})
    of_mean = stability([torch.optim.SGD([weight], lr=0.1, momentum=0.9, dampening=0.9)], {"weight": weight})
    assert of_adam.limit == pytest.approx(of_mean.limit)
    assert of_adam.formula == "38/η, β₁ = 0.9"


@pytest.mark.parametrize("kind, options", ADAPTIVE, ids=str)
def test_the_preconditioner_is_that_of_the_step_just_made(kind, options):
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.nn.Parameter(torch.randn(n, generator=generator, dtype=torch.float64)) for n in (3, 2))
    optimizer = kind([{"params": [first]}, {"params": [second], "lr": 0.02}], lr=0.1, **options)
    for _ in range(4):
        before = [first.detach().clone(), second.detach().clone()]
        first.grad, second.grad = (torch.randn(n, generator=generator, dtype=torch.float64) for n in (3, 2))
        optimizer.step()
    still = torch.nn.Parameter(torch.ones(2))
    edge = stability([optimizer], {"first": first, "second": second, "still": still})
    for name, parameter, start in (("first", first, before[0]), ("second", second, before[1])):
        moved = parameter.detach() - start
        assert torch.allclose(moved, -0.1 * edge.scale[name] * parameter.grad, rtol=1e-9)
    assert 0 < edge.scale["still"].max() < 1e-300


def test_what_is_unknown():
    weight = torch.nn.Parameter(torch.ones(1))
    sgd = torch.optim.SGD([weight], lr=0.1)
    assert stability([sgd, sgd], {"weight": weight}) is None
    assert stability([torch.optim.Rprop([weight])], {"weight": weight}) is None
    assert stability([torch.optim.SGD([weight], lr=0.1, maximize=True)], {"weight": weight}) is None
    assert stability([torch.optim.SGD([weight], lr=0.0)], {"weight": weight}) is None
