"""Neighbourhood: the loss around the weights, as measures of sharpness may ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...evaluators import Sequential
from ...isolation.rng import keyed_seed, preserved
from ...objectives.base import Batch, CannotMeasureError, Objective
from ...objectives.spread import without_spread
from ...spectrum import Spectrum
from ...weights.parameters import Params, Snapshot
from ...weights.plane import Plane
from ..gradients import loss_and_gradient
from ..hessian import chosen_parameters
from ..measure import CurvatureSettings, hessian_curvature
from ..passes import Passes


class Moments(NamedTuple):
    """The moments of the gradients of some batches.

    Args:
        batches: n, the number of the batches.
        total: Σ g_b, shape (P,).
        squares: Σ ‖g_b‖².
    """

    batches: int
    total: Tensor
    squares: float


class Neighbourhood:
    """The mean loss of frozen batches around the weights of a module: values, gradients, and the Hessian's spectrum.

    What two measures need is computed once. The module is at its weights again after each question.

    Args:
        objective: what is measured; its main value is the loss.
        module: a copy that is ours, in its mode and on its device.
        batches: the frozen data.
        update: the optimiser's next update d, which leads to θ + d; None where none is known.
        learning_rate: of that update.
        settings: of the spectrum; None for λ_max, λ_min and the trace.
        seed: of random directions, and of the random numbers that all passes share.

    >>> from lightning_landscape.objectives.base import LossFunction
    >>> net = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.ones_(net.weight)
    >>> around = Neighbourhood(LossFunction(lambda net, x: (net.weight**2).sum()), net, [Batch(None, 1)])
    >>> around.loss, around.losses(torch.ones(1), [1.0, -1.0]), around.gradient.item()
    (1.0, [4.0, 0.0], 2.0)
    """

    def __init__(
        self,
        objective: Objective,
        module: nn.Module,
        batches: Sequence[Batch],
        *,
        update: Params | None = None,
        learning_rate: float | None = None,
        settings: CurvatureSettings | None = None,
        seed: int = 42,
    ) -> None:
        self.objective, self.module, self.batches = without_spread(objective), module, batches
        self.update, self.learning_rate, self.seed = update, learning_rate, seed
        self.settings = CurvatureSettings() if settings is None else settings
        self.origin = Snapshot.of(module).params
        self.evaluator = Sequential(module, seed=seed)

    @cached_property
    def weights(self) -> Tensor:
        """θ, shape (P,), float64."""
        return torch.cat([tensor.reshape(-1).to(torch.float64) for tensor in self.origin.values()])

    @cached_property
    def loss(self) -> float:
        """L(θ)."""
        return self.losses(torch.zeros_like(self.weights), [0.0])[0]

    @cached_property
    def gradient(self) -> Tensor:
        """g = ∇L(θ), shape (P,), float64."""
        return self._at_weights[0]

    @property
    def moments(self) -> dict[float, Moments]:
        """The moments of the gradients of single batches, by the weight of the batch."""
        return self._at_weights[1]

    @cached_property
    def _at_weights(self) -> tuple[Tensor, dict[float, Moments]]:
        moments: dict[float, Moments] = {}

        def add(gradient: Tensor, weight: float) -> None:
            count, total, squares = moments.get(weight, Moments(0, torch.zeros_like(gradient), 0.0))
            moments[weight] = Moments(count + 1, total + gradient, squares + float(gradient @ gradient))

        passes = Passes(self.objective, self.module, self.batches, self.seed)
        params = chosen_parameters(self.module, self.origin)
        return loss_and_gradient(passes, params, self.weights.device, add)[1], moments

    @cached_property
    def spectrum(self) -> Spectrum:
        """Eigenvalues and trace of the Hessian, whose products have proved themselves."""
        return hessian_curvature(self.objective, self.module, self.batches, self.settings, seed=self.seed).spectrum

    def losses(self, direction: Tensor | Params, coordinates: Sequence[float]) -> list[float]:
        """L(θ + c d) for each coordinate c: forward passes only.

        Args:
            direction: d, shape (P,), or by parameter.
            coordinates: c.

        Raises:
            CannotMeasureError: if the objective gives no loss.
        """
        named = self.named(direction) if isinstance(direction, Tensor) else direction
        points = np.asarray(coordinates, dtype=np.float64)[:, None]
        with preserved(), torch.no_grad():
            try:
                measured = list(self.evaluator(self.objective, Plane(self.origin, (named,)), points, self.batches))
            finally:
                self._go_back()
        if not measured[0]:
            raise CannotMeasureError(
                "The step neither returns a loss nor logs anything. Return the loss from the step, also in manual "
                "optimisation."
            )
        name = self.objective.main(list(measured[0]))
        return [point[name].value for point in measured]

    def gradient_at(self, displacement: Tensor) -> Tensor:
        """∇L(θ + d), shape (P,), float64."""
        params = chosen_parameters(self.module, self.origin)
        passes = Passes(self.objective, self.module, self.batches, self.seed)
        with torch.no_grad():
            for name, piece in self.named(displacement).items():
                params[name].copy_(self.origin[name] + piece)
        try:
            return loss_and_gradient(passes, params, self.weights.device)[1]
        finally:
            self._go_back()

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """A vector of shape (P,) in the shapes and types of the parameters."""
        pieces = vector.split([tensor.numel() for tensor in self.origin.values()])
        items = zip(self.origin.items(), pieces, strict=True)
        return {name: piece.view(tensor.shape).to(tensor.dtype) for (name, tensor), piece in items}

    def random(self, *key: object) -> Tensor:
        """A vector of independent normal numbers, shape (P,), the same for the same key."""
        generator = torch.Generator().manual_seed(keyed_seed(self.seed, *key))
        return torch.randn(len(self.weights), generator=generator, dtype=torch.float64).to(self.weights.device)

    def next_update(self) -> tuple[Params, float]:
        """The optimiser's update and its learning rate.

        Raises:
            CannotMeasureError: if none is known.
        """
        if self.update is None or not self.learning_rate:
            raise CannotMeasureError(
                "Critical sharpness is measured along the optimiser's update: give update= and learning_rate=."
            )
        return self.update, self.learning_rate

    def _go_back(self) -> None:
        params = chosen_parameters(self.module, self.origin)
        with torch.no_grad():
            for name, value in self.origin.items():
                params[name].copy_(value)
