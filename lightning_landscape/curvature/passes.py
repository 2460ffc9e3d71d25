"""Passes over frozen batches, each of which begins in the same state, and whose losses have graphs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..evaluators.gradient import graphs_retained
from ..isolation.rng import seed_streams
from ..isolation.tensor_state import SavedTensors, ScriptState
from ..objectives.base import Batch, CannotMeasureError, Objective, Observation
from ..objectives.spread import without_spread
from ..weights.sharding import is_sharded
from .kernels import differentiable_twice


class BatchLoss(NamedTuple):
    """The loss of one batch.

    Args:
        value: shape (), with its graph.
        weight: of the batch in the mean over all, such as its number of samples.
    """

    value: Tensor
    weight: float


class Passes:
    """Passes of an objective over frozen batches, at the weights that the module has.

    Before each pass buffers, training flags, the step's state and all random streams are put back. All passes are thus
    of one function: dropout has the same masks, and BatchNorm the same statistics.

    Args:
        objective: what is measured; its main value is the loss.
        module: a copy that is ours, in its mode and on its device.
        batches: the frozen data.
        seed: of the random streams.

    Raises:
        CannotMeasureError: if the module is sharded over processes, or there are no batches.
    """

    def __init__(self, objective: Objective, module: nn.Module, batches: Sequence[Batch], seed: int) -> None:
        if is_sharded(module):
            raise CannotMeasureError(
                "The parameters are divided among processes (FSDP), where a Hessian can't be computed. Measure "
                "critical sharpness, which needs no second derivatives, or load the checkpoint into one process."
            )
        if not batches:
            raise CannotMeasureError("batches is empty: give at least one batch to measure the curvature on.")
        self.objective, self.module, self.batches, self.seed = without_spread(objective), module, batches, seed
        parts = [part for part in module.modules() if not isinstance(part, torch.jit.ScriptModule)]
        self._flags = [(vars(part), part.training) for part in parts]
        self._tables = [(part._buffers, dict(part._buffers)) for part in parts if part._buffers]
        self._script, self._buffers = ScriptState(module), SavedTensors(module.buffers())

    def rehearse(self) -> None:
        """Let the objective see the first batch, so that it may find out if it edits batches."""
        with self.kernels():
            self._reset()
            self.objective.rehearse(self.module, self.batches[0])

    def each(self, visit: Callable[[BatchLoss], None], count: int | None = None) -> None:
        """Call a function with the loss of each batch, in the order of the batches.

        Args:
            visit: computes the derivatives at once; the graph is free afterwards, unless it keeps it.
            count: of the first batches; None for all.

        Raises:
            CannotMeasureError: if a loss has no graph, or is not finite.
        """
        with self.kernels():
            self._reset()
            self.objective.start()
            for place, batch in enumerate(self.batches[:count]):
                self._put_flags_back()
                visit(self._loss(place, batch))
        for parameter in self.module.parameters():
            parameter.grad = None  # a step of manual optimisation may have filled it

    def _loss(self, place: int, batch: Batch) -> BatchLoss:
        with graphs_retained():  # in manual optimisation the step itself goes backward
            observed = self.objective(self.module, batch)
        if not observed:
            raise CannotMeasureError(f"The step gave no loss on batch {place}: return it from the step.")
        name = self.objective.main(list(observed))
        observation = observed[name]
        value = observation.value
        if not isinstance(value, Tensor) or not value.requires_grad:
            number = float(value)
            if not math.isfinite(number):
                raise CannotMeasureError(f"{name} is {number} on batch {place}, which has no curvature.")
            raise CannotMeasureError(
                f"{name} can't be differentiated: it has no graph to the parameters. Return the loss as a tensor from "
                "the step (also in manual optimisation), without detach() or item()."
            )
        if observation.reduce not in ("mean", "sum"):
            raise CannotMeasureError(f"{name} is the {observation.reduce} over batches: a mean or a sum has a Hessian.")
        if not bool(torch.isfinite(value.detach()).all()):
            raise CannotMeasureError(f"{name} is not finite on batch {place}, where it has no curvature.")
        return BatchLoss(value.sum() if observation.reduce == "sum" else value.mean(), _weight(observation))

    @contextmanager
    def kernels(self) -> Iterator[None]:
        """The context of all derivatives of the losses: that of one process, among several."""
        with self.objective.around(), differentiable_twice(self.module):
            yield

    @property
    def samples(self) -> int:
        """The number of samples in all batches."""
        return sum(batch.size for batch in self.batches)

    def _reset(self) -> None:
        self._put_flags_back()
        for table, buffers in self._tables:
            table.clear()
            table.update(buffers)
        self._script.restore()
        self._buffers.restore()
        seed_streams(self.seed)

    def _put_flags_back(self) -> None:
        for attributes, training in self._flags:
            attributes["training"] = training


def _weight(observation: Observation) -> float:
    """The weight of a batch in a mean; infinite in a sum, which `shares` reads as 1."""
    return math.inf if observation.reduce == "sum" else float(observation.weight)


def factor_of(weight: float) -> float:
    """The factor of a batch before the division by all weights: its weight, or 1 in a sum."""
    return 1.0 if math.isinf(weight) else weight


def shares(weights: Sequence[float]) -> list[float]:
    """The factor of each batch's loss in that of the data set: n_b / N, or 1 in a sum.

    >>> shares([16.0, 16.0, 8.0]), shares([math.inf, math.inf])
    ([0.4, 0.4, 0.2], [1.0, 1.0])
    """
    total = sum(weights)
    return [1.0 if math.isinf(total) else weight / total for weight in weights]
