"""The interface of every evaluator, the measurements that it gives, and the base classes of wrappers."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from torch import nn

from ..objectives.base import Batch, Objective
from ..weights.plane import Plane


class Measurement(NamedTuple):
    """One metric at one point.

    Args:
        value: the mean over the samples (or the sum, least or greatest, as its `Observation` says).
        standard_error: of that mean over observations; NaN where unknown.
    """

    value: float
    standard_error: float

    def corrected(self, factor: float) -> Measurement:
        """The same with the error times a factor."""
        return self._replace(standard_error=factor * self.standard_error)


Measurements = dict[str, Measurement]  # of one point, by metric
Stream = Generator[Measurements, None, None]  # of one point after the other


class Evaluator(Protocol):
    """Measures points on a module.

    Attributes:
        module: the module that is moved.
        parts: the number of pieces that the batches were cut into to fit into the memory; None if they fitted.
        at_once: the number of points that are measured side by side.
        works_ahead: True if points may be measured before one of their chunk is asked for.
    """

    @property
    def module(self) -> nn.Module: ...
    @property
    def parts(self) -> int | None: ...
    @property
    def at_once(self) -> int: ...
    @property
    def works_ahead(self) -> bool: ...

    def __call__(self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]) -> Stream:
        """Yield the measurements of each point, in the order of `points`, shape (n, k)."""


class EvaluatorWrapper:
    """Measures as the evaluator inside does; a subclass has its own `__call__`.

    Args:
        inner: the evaluator inside.
    """

    def __init__(self, inner: Evaluator) -> None:
        self.inner = inner

    @property
    def module(self) -> nn.Module:
        return self.inner.module

    @property
    def parts(self) -> int | None:
        return self.inner.parts

    @property
    def at_once(self) -> int:
        return self.inner.at_once

    @property
    def works_ahead(self) -> bool:
        return self.inner.works_ahead

    def __call__(self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]) -> Stream:
        return self.inner(objective, plane, points, batches)


class ObjectiveWrapper(Objective):
    """Passes every call on to another objective; a subclass has its own `__call__`.

    Args:
        objective: the objective inside, which is not changed.
    """

    divisible = False  # a batch is known by its identity

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        self.objective.rehearse(module, batch)

    def start(self) -> None:
        self.objective.start()

    def finish(self) -> dict[str, float]:
        return self.objective.finish()
