"""ε-sharpness: the highest loss within a box around the weights."""

from __future__ import annotations

from .neighbourhood import Neighbourhood


def epsilon(around: Neighbourhood, box: float = 1e-3, steps: int = 10) -> float:
    """(max L(θ + z) − L(θ)) / (1 + L(θ)) over |zᵢ| ≤ ε (|θᵢ| + 1) (Keskar et al. 2017, equation 3).

    The maximum is sought by steps along the signs of the gradient, each a fifth of the box. It is a lower bound. Unit:
    none. Cost: 10 gradients and 10 forward passes.

    Args:
        around: the loss around the weights.
        box: ε; 1e-3 is the paper's.
        steps: of the ascent.
    """
    limit = box * (around.weights.abs() + 1)
    place = 0.01 * limit * around.random("epsilon").sign()  # a minimum has no gradient to follow
    highest = around.loss
    for _ in range(steps):
        place = (place + limit / 5 * around.gradient_at(place).sign()).clamp(-limit, limit)
        highest = max(highest, around.losses(place, [1.0])[0])
    return (highest - around.loss) / (1 + around.loss)
