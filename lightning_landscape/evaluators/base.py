"""The interface of every evaluator, and the measurements that it gives."""

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


class Evaluator(Protocol):
    """Measures points on a module.

    Attributes:
        module: what is moved.
        seed: of the random numbers that all points share.
        parts: into how many the batches had to be cut to fit into the memory; None if they fitted.
        at_once: how many points are measured side by side.
        works_ahead: whether points may be measured before any of those side by side with them is asked for.
    """

    @property
    def module(self) -> nn.Module: ...
    @property
    def seed(self) -> int: ...
    @property
    def parts(self) -> int | None: ...
    @property
    def at_once(self) -> int: ...
    @property
    def works_ahead(self) -> bool: ...

    def __call__(
        self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]
    ) -> Generator[dict[str, Measurement], None, None]:
        """Yield the measurements of each point, in the order of `points`, shape (n, k)."""
