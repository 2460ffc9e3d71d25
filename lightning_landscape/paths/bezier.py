"""Curves of low loss between two minima: quadratic Bézier curves, trained (Garipov et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..directions import Between
from ..directions.between import Weights, check_frozen
from ..isolation.effects import one_pass
from ..isolation.rng import preserved, seed_streams
from ..objectives.base import Batch
from ..objectives.batch_samples import size_of
from ..objectives.batches import copy_to, generators_at
from ..objectives.criterion import MetricsFunction, copy_together, objective_of
from ..weights.parameters import Params, Snapshot, canonical_name


@dataclass(frozen=True, eq=False)
class Bezier:
    """φ(t) = (1 − t)² θ₁ + 2t(1 − t) θ + t² θ₂ (Garipov et al. 2018, equation 3).

    Args:
        start: θ₁, φ(0).
        bend: θ, the trained middle.
        end: θ₂, φ(1).

    The curve is a parabola in the plane of θ₁ with the directions θ₂ − θ₁ and θ − θ₁. As directions of
    `LossLandscape.compute_1d` it stands for the curve itself, as those of `compute_2d` for this plane.

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
        """The coordinates of φ(t) on its plane, shape (n, 2)."""
        return np.stack([t**2, 2 * t * (1 - t)], axis=1)

    def __call__(self, snapshot: Snapshot, k: int) -> tuple[Params, ...]:
        """The directions θ₂ − θ₁ and θ − θ₁ of the plane that holds the curve; k is 2.

        Raises:
            ValueError: if k is not 2, or the snapshot is not of θ₁.
        """
        if any(not torch.equal(self.start[n].to(w.device), w) for n, w in snapshot.params.items() if n in self.start):
            raise ValueError("The curve starts at other weights than the net's: give the net that it was trained from.")
        return Between((self.end, self.bend))(snapshot, k)

    def recipe(self) -> dict[str, Any]:
        """The kind of these directions, as plain JSON values."""
        return {"kind": "bezier"}


def train_bezier(
    net: nn.Module,
    end: Weights,
    dataloader: Iterable[Any],
    criterion: Callable[..., Any] | None = None,
    *,
    epochs: int = 50,
    lr: float = 0.05,
    momentum: float = 0.9,
    seed: int = 42,
) -> Bezier:
    """A curve from `net` to `end` along which the loss is low: minimises E_t L(φ(t)), t uniform in [0, 1].

    The middle θ starts half-way (Garipov et al. 2018, section 3.2). Every step draws one t, and moves θ down the
    gradient 2t(1 − t) ∇L(φ(t)) by SGD. Its rate falls as a cosine. Neither net is changed. BatchNorm normalises by
    its batch during this training: measure the curve with ``recalibrate=True``.

    Args:
        net: θ₁.
        end: θ₂: a module of the same architecture, a mapping, or a checkpoint.
        dataloader: as of `LossLandscape`.
        criterion: a loss, as of `LossLandscape`.
        epochs: passes over the data.
        lr: learning rate in the first epoch.
        momentum: of SGD.
        seed: of the draws of t, and of the order of the loader.

    Raises:
        ValueError: if `end` lacks a parameter or differs in a frozen one, or `epochs` is below 1.
        TypeError: if the criterion is no loss.
    """
    if epochs < 1:
        raise ValueError(f"epochs={epochs!r}: give the passes over the data, at least 1.")
    check_frozen(net, end)
    curve = _straight(net, end)
    device = next(iter(curve.start.values())).device
    with one_pass(), preserved(), torch.inference_mode(False):
        probe, loss = copy_together(net, nn.CrossEntropyLoss() if criterion is None else criterion, device)
        objective, kind = objective_of(loss)
        if isinstance(objective, MetricsFunction):
            raise TypeError(f"criterion is {kind}, which has no gradient: give a loss.")
        weights = {canonical_name(name): p for name, p in probe.train().named_parameters() if p.requires_grad}
        optimizer = torch.optim.SGD(list(curve.bend.values()), lr=lr, momentum=momentum)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        generator = torch.Generator().manual_seed(seed)
        seed_streams(seed)
        with generators_at(dataloader, seed), torch.enable_grad():
            for epoch in range(epochs):
                for index, data in enumerate(dataloader):
                    batch = Batch(copy_to(data, device), size_of(data), index)
                    t = float(torch.rand((), generator=generator))
                    _move(weights, curve.at(t))
                    probe.zero_grad()
                    if epoch == index == 0:
                        objective.rehearse(probe, batch)
                    observed = objective(probe, batch)
                    observed[objective.main(list(observed))].value.mean().backward()  # type: ignore[union-attr]
                    for name, bend in curve.bend.items():
                        gradient = weights[name].grad
                        bend.grad = None if gradient is None else 2 * t * (1 - t) * gradient
                    optimizer.step()
                schedule.step()
    return curve


@torch.no_grad()
def _move(weights: Params, target: Params) -> None:
    for name, value in target.items():
        weights[name].copy_(value)


def _straight(net: nn.Module, end: Weights) -> Bezier:
    """The straight line between two minima as a curve, bent half-way."""
    start = Snapshot.of(net).params
    (towards,) = Between((end,))(Snapshot(start), 1)
    bend, target = (
        {name: (w + share * towards[name]).to(w.dtype) for name, w in start.items()} for share in (0.5, 1.0)
    )
    return Bezier(start, bend, target)
