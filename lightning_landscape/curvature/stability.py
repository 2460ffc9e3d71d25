"""The edge of stability of an optimiser: the curvature beyond which its steps no longer settle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Group = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Stability:
    """The edge of stability of a training.

    Args:
        learning_rate: η of the first group.
        limit: of λ_max, or of the preconditioned λ_max where there is a scale.
        formula: of the limit, in words.
        scale: p by parameter, of an optimiser whose update is −η p ⊙ g; None for plain gradients. Groups with another
            learning rate have it in p.
    """

    learning_rate: float
    limit: float
    formula: str
    scale: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class Edge:
    """One class of optimisers.

    Args:
        limit: the limit times η by a parameter group, and its formula.
        scale: p of a parameter by its state and group; None for an optimiser of plain gradients.
    """

    limit: Callable[[Group], tuple[float, str]]
    scale: Callable[[Mapping[str, Any], Group], Tensor] | None = None


def _of_sgd(group: Group) -> tuple[float, str]:
    """Heavy ball and Nesterov (Cohen et al. 2021, appendix B); torch's dampening makes the steps shorter."""
    momentum, dampening = group["momentum"], group["dampening"]
    if not momentum:
        return 2.0, "2/η"
    if group["nesterov"]:
        return 2 * (1 + momentum) / (1 + 2 * momentum), f"2 (1 + β) / ((1 + 2β) η), Nesterov momentum β = {momentum:g}"
    return 2 * (1 + momentum) / (1 - dampening), f"2 (1 + β) / η, momentum β = {momentum:g}"


def _of_adam(group: Group) -> tuple[float, str]:
    """Momentum that is a mean (Cohen et al. 2022, section 3)."""
    beta = float(group["betas"][0])
    factor = 2 * (1 + beta) / (1 - beta)
    return factor, f"{factor:.3g}/η, β₁ = {beta:g}"


def _of_rmsprop(group: Group) -> tuple[float, str]:
    factor = 2 * (1 + group["momentum"])
    return factor, f"{factor:.3g}/η"


def _adam_scale(state: Mapping[str, Any], group: Group) -> Tensor:
    second = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    corrected = second.double() / (1 - float(group["betas"][1]) ** float(state["step"]))
    return 1 / (corrected.sqrt() + group["eps"])


def _rmsprop_scale(state: Mapping[str, Any], group: Group) -> Tensor:
    mean = state["square_avg"].double()
    variance = mean - state["grad_avg"].double() ** 2 if group["centered"] else mean
    return 1 / (variance.clamp(min=0).sqrt() + group["eps"])


EDGES = {
    "SGD": Edge(_of_sgd),
    "Adam": Edge(_of_adam, _adam_scale),
    "RMSprop": Edge(_of_rmsprop, _rmsprop_scale),
}


def stability(optimizers: Sequence[Optimizer], trained: Mapping[str, Tensor]) -> Stability | None:
    """The edge of stability of a training with one optimiser of a known class; else None.

    Weight decay is left out. Parameters that do not move have a p near 0.

    Args:
        optimizers: of the training.
        trained: the parameters that may be in them, by name.

    >>> weight = torch.nn.Parameter(torch.ones(2))
    >>> edge = stability([torch.optim.SGD([weight], lr=0.1, momentum=0.9)], {"weight": weight})
    >>> round(edge.limit, 6), edge.formula, edge.scale
    (38.0, '2 (1 + β) / η, momentum β = 0.9', None)
    """
    edge = next((EDGES[k.__name__] for o in optimizers for k in type(o).__mro__ if k.__name__ in EDGES), None)
    if len(optimizers) != 1 or edge is None:
        return None
    groups = optimizers[0].param_groups
    rate = float(groups[0]["lr"])
    if rate <= 0 or any(group.get("maximize") for group in groups):
        return None
    factor, formula = edge.limit(groups[0])
    is_plain = edge.scale is None and all(float(group["lr"]) == rate for group in groups)
    scale = None if is_plain else _scales(optimizers[0], edge, trained, rate)
    return Stability(rate, factor / rate, formula, scale)


def _scales(optimizer: Optimizer, edge: Edge, trained: Mapping[str, Tensor], rate: float) -> dict[str, Tensor]:
    """p of each parameter, by name."""
    names = {id(parameter): name for name, parameter in trained.items()}
    smallest = torch.finfo(torch.float64).tiny
    scales = {name: torch.full_like(tensor, smallest, dtype=torch.float64) for name, tensor in trained.items()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name, state = names.get(id(parameter)), optimizer.state.get(parameter, {})
            if name is None or (edge.scale is not None and not state):
                continue
            one = torch.ones_like(parameter, dtype=torch.float64)
            scale = one if edge.scale is None else edge.scale(state, group)
            scales[name] = (scale * (float(group["lr"]) / rate)).clamp(min=smallest).detach()
    return scales
