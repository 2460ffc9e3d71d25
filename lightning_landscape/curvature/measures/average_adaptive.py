"""Average adaptive sharpness: the mean rise of the loss under noise in proportion to the weights."""

from __future__ import annotations

import math

from .neighbourhood import Neighbourhood


def average_adaptive(around: Neighbourhood, noise: float = 0.05, pairs: int = 10) -> float:
    """E L(θ + σ ν ⊙ |θ|) − L(θ) for normal ν (Andriushchenko et al. 2023, section 3).

    Each ν is taken with its opposite, so that the slope cancels. Unit: loss. Cost: 20 forward passes.

    Args:
        around: the loss around the weights.
        noise: σ, a share of the weights; small enough that trained nets stay in their basin.
        pairs: of ν and −ν.
    """
    losses = [around.losses(around.weights.abs() * around.random("average", i), [noise, -noise]) for i in range(pairs)]
    return math.fsum(sum(pair) for pair in losses) / (2 * pairs) - around.loss
