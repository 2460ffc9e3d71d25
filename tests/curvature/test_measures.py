"""Each measure of sharpness against its closed form on a quadratic loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape.curvature import CurvatureSettings
from lightning_landscape.curvature.measures import MEASURES, Neighbourhood
from lightning_landscape.curvature.measures.average_adaptive import average_adaptive
from lightning_landscape.curvature.measures.epsilon import epsilon
from lightning_landscape.objectives.base import Batch, CannotMeasureError, LossFunction

CURVATURES = torch.tensor([5.0, 1.0, 0.5, 0.2, -0.1], dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0], dtype=torch.float64)


class Point(nn.Module):
    """Five weights, whose loss is c + ½ Σ λᵢ θᵢ²."""

    def __init__(self, weights=WEIGHTS):
        super().__init__()
        self.weights = nn.Parameter(weights.clone())


def quadratic(curvatures=CURVATURES, weights=WEIGHTS, constant=1.0, **options):
    loss = LossFunction(lambda module, batch: constant + 0.5 * (curvatures * module.weights**2).sum())
    return Neighbourhood(loss, Point(weights), [Batch(None, 3)], **options)


def value(name, around):
    return MEASURES[name].measure(around)


GRADIENT = CURVATURES * WEIGHTS
ALONG = ((CURVATURES * GRADIENT**2).sum() / (GRADIENT**2).sum()).item()


def test_the_eigenvalues_and_the_trace():
    around = quadratic(settings=CurvatureSettings(top_k=1))
    assert value("lambda_max", around) == pytest.approx(5.0, abs=1e-9)
    assert value("lambda_min", around) == pytest.approx(-0.1, abs=1e-9)
    assert value("trace", around) == pytest.approx(6.6, abs=1e-9)
    assert value("along_gradient", around) == pytest.approx(ALONG, rel=1e-12)


@pytest.mark.parametrize("learning_rate", [1e-3, 0.1, 0.3, 10.0])
def test_critical_sharpness_is_exact_on_a_quadratic(learning_rate):
    update = {"weights": -learning_rate * GRADIENT}
    around = quadratic(update=update, learning_rate=learning_rate)
    assert value("critical", around) == pytest.approx(ALONG, rel=1e-9)


def test_critical_sharpness_takes_six_forward_passes():
    around = quadratic(update={"weights": -0.3 * GRADIENT}, learning_rate=0.3)
    passes = []
    losses = around.losses
    around.losses = lambda *arguments: passes.append(1) or losses(*arguments)
    value("critical", around)
    assert len(passes) <= 6


def test_critical_sharpness_of_another_optimisers_update():
    """For an update −η P g it is gᵀPHPg / gᵀPg."""
    scale = torch.tensor([0.1, 1.0, 2.0, 1.0, 3.0], dtype=torch.float64)
    step = scale * GRADIENT
    expected = ((CURVATURES * step**2).sum() / (GRADIENT * step).sum()).item()
    around = quadratic(update={"weights": -0.1 * step}, learning_rate=0.1)
    assert value("critical", around) == pytest.approx(expected, rel=1e-9)


def test_critical_sharpness_without_a_rise_and_uphill():
    falls = torch.tensor([-1.0], dtype=torch.float64)
    around = quadratic(falls, torch.ones(1).double(), update={"weights": torch.ones(1).double()}, learning_rate=1.0)
    assert value("critical", around) == 0
    uphill = quadratic(update={"weights": GRADIENT}, learning_rate=1.0)
    assert math.isnan(value("critical", uphill))
    with pytest.raises(CannotMeasureError, match=r"give update= and learning_rate="):
        value("critical", quadratic())


def test_critical_sharpness_is_within_a_percent_where_the_loss_is_no_quadratic():
    quartic = LossFunction(lambda module, batch: (module.weights**4).sum())
    start = torch.tensor([1.0], dtype=torch.float64)
    around = Neighbourhood(
        quartic, Point(start), [Batch(None, 1)], update={"weights": -0.01 * 4 * start**3}, learning_rate=0.01
    )
    assert value("critical", around) == pytest.approx(4.0, rel=0.01)  # (1 − 4η)⁴ = 1 at η = ½


def test_sam():
    length = GRADIENT.norm().item()
    assert value("sam", quadratic()) == pytest.approx(0.05 * length + 0.5 * 0.05**2 * ALONG, rel=1e-9)
    assert math.isnan(value("sam", quadratic(weights=torch.zeros(5).double())))


def test_adaptive_sam():
    scaled = WEIGHTS.abs() * GRADIENT
    step = 0.5 * WEIGHTS.abs() * scaled / scaled.norm()
    expected = (GRADIENT @ step + 0.5 * (CURVATURES * step**2).sum()).item()
    assert value("adaptive_sam", quadratic()) == pytest.approx(expected, rel=1e-9)


def test_adaptive_sam_does_not_change_with_the_scale_of_a_layer():
    """A net a·b·x with a ↦ 7a and b ↦ b/7 is the same function."""
    product = LossFunction(lambda module, batch: (module.weights.prod() - 3) ** 2)
    pairs = [torch.tensor(pair, dtype=torch.float64) for pair in ([2.0, 0.5], [14.0, 0.5 / 7])]
    first, second = (
        [value(name, Neighbourhood(product, Point(pair), [Batch(None, 1)])) for name in ("adaptive_sam", "sam")]
        for pair in pairs
    )
    assert first[0] == pytest.approx(second[0], rel=1e-9)
    assert first[1] != pytest.approx(second[1], rel=0.1)


def test_average_adaptive():
    around = quadratic()
    expected = 0.5 * 0.05**2 * (CURVATURES * WEIGHTS**2).sum().item()
    several = [average_adaptive(quadratic(seed=seed)) for seed in range(20)]
    assert np.mean(several) == pytest.approx(expected, abs=3 * np.std(several, ddof=1) / 20**0.5)
    assert average_adaptive(around) == average_adaptive(around)


def test_epsilon_reaches_the_corner_of_the_box():
    convex, weights = torch.tensor([5.0, 1.0, 0.5]).double(), torch.tensor([1.0, -2.0, 0.0]).double()
    corner = weights.abs() + 1e-2 * (weights.abs() + 1)
    low, high = (1 + 0.5 * (convex * w**2).sum() for w in (weights, corner))
    expected = ((high - low) / (1 + low)).item()
    assert epsilon(quadratic(convex, weights), box=1e-2) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name, rise", [("basin_width", 0.1 * 2.0), ("basin_width_of_one", 1.0)])
def test_the_basin_width_of_a_round_bowl(name, rise):
    bowl = quadratic(4 * torch.ones(5).double(), torch.zeros(5).double(), constant=2.0)
    assert value(name, bowl) == pytest.approx((2 * rise / 4) ** 0.5, rel=0.01)


def test_the_basin_width_of_a_flat_loss_is_infinite():
    assert value("basin_width_of_one", quadratic(torch.zeros(5).double())) == math.inf


def test_the_noise_scale_of_noise_with_a_known_covariance():
    """The loss θᵀx̄ has the gradients x: mean μ, and covariance σ² I."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.tensor([1.0, 2.0, 0.0, 0.0, 2.0], dtype=torch.float64)
    x = mean + 1.5 * torch.randn(4000, 5, generator=generator, dtype=torch.float64)
    linear = LossFunction(lambda module, x: (x @ module.weights).mean())
    batches = [Batch(part, len(part)) for part in x.split(8)]
    assert value("noise_scale", Neighbourhood(linear, Point(), batches)) == pytest.approx(5 * 2.25 / 9, rel=0.1)
    assert math.isnan(value("noise_scale", Neighbourhood(linear, Point(), batches[:1])))


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_leaves_the_weights_alone(name):
    around = quadratic(update={"weights": -0.1 * GRADIENT}, learning_rate=0.1)
    random = torch.get_rng_state()
    number = value(name, around)
    assert isinstance(number, float)
    assert torch.equal(around.module.weights.detach(), WEIGHTS)
    assert torch.equal(torch.get_rng_state(), random)
    assert MEASURES[name].needs in ("hessian", "gradient", "forward")


@pytest.mark.parametrize("name", sorted(MEASURES.keys() - {"basin_width_of_one"}))
def test_every_measure_tells_unit_and_cost(name):
    text = MEASURES[name].measure.__doc__
    assert "Cost:" in text
    assert "Unit:" in text
