"""Loss and gradient of frozen batches, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .operator import flat
from .passes import BatchLoss, Passes, factor_of, shares


def loss_and_gradient(
    passes: Passes,
    params: Mapping[str, Tensor],
    device: torch.device,
    each: Callable[[Tensor, float], None] = lambda gradient, weight: None,
) -> tuple[float, Tensor]:
    """The mean loss where the module is, and its gradient, shape (P,), float64.

    Args:
        passes: over the frozen batches.
        params: with respect to which, in their order.
        device: of the gradient.
        each: is called with the gradient of each batch and its weight.
    """
    losses: list[BatchLoss] = []
    tensors = list(params.values())
    total = torch.zeros(sum(map(torch.numel, tensors)), dtype=torch.float64, device=device)

    def visit(loss: BatchLoss) -> None:
        gradient = flat(torch.autograd.grad(loss.value, tensors, allow_unused=True, materialize_grads=True), device)
        losses.append(BatchLoss(loss.value.detach(), loss.weight))
        total.add_(gradient, alpha=factor_of(loss.weight))
        each(gradient, loss.weight)

    passes.each(visit)
    factors = shares([loss.weight for loss in losses])
    value = sum(factor * float(loss.value) for factor, loss in zip(factors, losses, strict=True))
    return value, total * (factors[0] / factor_of(losses[0].weight))
