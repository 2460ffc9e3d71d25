"""Curves of low loss between two minima: quadratic Bézier curves, trained (Garipov et al. 2018)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from .criteria import pair
from .directions.between import Weights, weights_of
from .parameters import Params, Snapshot
from .plane import Plane
from .rng import preserved, seed_streams


@dataclass(frozen=True, eq=False)
class Bezier:
    """φ(t) = (1 − t)² θ₁ + 2t(1 − t) θ + t² θ₂ (Garipov et al. 2018, equation 3).

    Args:
        start: θ₁, φ(0).
        bend: θ, the trained middle.
        end: θ₂, φ(1).

    The curve lies in the plane of θ₁ with directions θ₂ − θ₁ and θ − θ₁, on which it is a parabola:

    >>> start, bend, end = ({"w": torch.tensor(w)} for w in ([0.0, 0.0], [0.5, 1.0], [1.0, 0.0]))
    >>> curve = Bezier(start, bend, end)
    >>> curve.at(0.5)["w"], curve.points(np.array([0.0, 0.5, 1.0])).tolist()
    (tensor([0.5000, 0.5000]), [[0.0, 0.0], [0.25, 0.5], [1.0, 0.0]])
    """

    start: Params
    bend: Params
    end: Params

    def at(self, t: float) -> dict[str, Tensor]:
        """The weights at t in [0, 1]."""
        a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t**2
        return {name: a * w + b * self.bend[name] + c * self.end[name] for name, w in self.start.items()}

    def points(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """The coordinates of φ(t) on `plane`, shape (n, 2)."""
        return np.stack([t**2, 2 * t * (1 - t)], axis=1)

    @property
    def plane(self) -> Plane:
        """Origin θ₁, directions θ₂ − θ₁ and θ − θ₁."""
        towards = ({n: other[n] - w for n, w in self.start.items()} for other in (self.end, self.bend))
        return Plane(self.start, tuple(towards))


def train_bezier(
    net: nn.Module,
    end: Weights,
    dataloader: Any,
    criterion: Callable[[Any, Any], Tensor],
    *,
    epochs: int = 50,
    lr: float = 0.05,
    momentum: float = 0.9,
    seed: int = 42,
) -> Bezier:
    """A curve from `net` to `end` along which the loss is low: minimises E_t L(φ(t)), t uniform in [0, 1].

    Garipov et al. 2018, section 3.2: at every step one t is drawn, and the middle θ, which starts half-way, moves
    down the gradient, with SGD under a cosine schedule. Neither net is changed. BatchNorm normalises by its batch
    here: measure the curve with ``recalibrate=True``.

    Args:
        net: θ₁.
        end: θ₂: a module of the same architecture, a mapping, or a checkpoint.
        dataloader: gives (inputs, targets).
        criterion: of (outputs, targets), a mean over samples.
        epochs: passes over the data.
        lr: learning rate at the start.
        momentum: of SGD.
        seed: of the draws of t.

    Raises:
        ValueError: if `end` lacks a parameter, or no epoch is asked for.
    """
    if epochs < 1:
        raise ValueError(f"epochs={epochs!r}: give at least 1.")
    device = next(net.parameters()).device
    probe = copy.deepcopy(net).train()
    first = {name: tensor.clone() for name, tensor in Snapshot.of(net).params.items()}
    other = weights_of(end)
    if missing := sorted(first.keys() - other.keys()):
        raise ValueError(f"The end of the curve has no {missing[0]!r}: it must be of the same architecture.")
    last = {name: other[name].to(tensor.device, tensor.dtype).clone() for name, tensor in first.items()}
    bend = {name: ((w + last[name]) / 2).requires_grad_() for name, w in first.items()}
    curve = Bezier(first, bend, last)
    steps = epochs * len(dataloader)
    optimizer = torch.optim.SGD(list(bend.values()), lr=lr, momentum=momentum)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.5 * (1 + math.cos(math.pi * i / steps)))
    generator = torch.Generator().manual_seed(seed)
    with preserved(), torch.enable_grad():
        seed_streams(seed)
        for _ in range(epochs):
            for data in dataloader:
                inputs, targets = (part.to(device) if isinstance(part, Tensor) else part for part in pair(data))
                t = float(torch.rand((), generator=generator))
                loss = criterion(functional_call(probe, curve.at(t), (inputs,)), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return Bezier(first, {name: tensor.detach() for name, tensor in bend.items()}, last)
