"""An evaluator around another one: what those that change how points are measured share."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
from torch import nn

from ..objectives.base import Batch, Objective
from ..weights.plane import Plane
from .base import Evaluator, Measurement


class Around:
    """Measures as the evaluator inside does; a subclass has its own `__call__`.

    Args:
        inner: the evaluator inside.
    """

    def __init__(self, inner: Evaluator) -> None:
        self.inner = inner

    @property
    def module(self) -> nn.Module:
        """See `Evaluator`."""
        return self.inner.module

    @property
    def seed(self) -> int:
        """See `Evaluator`."""
        return self.inner.seed

    @property
    def parts(self) -> int | None:
        """See `Evaluator`."""
        return self.inner.parts

    @property
    def at_once(self) -> int:
        """See `Evaluator`."""
        return self.inner.at_once

    @property
    def works_ahead(self) -> bool:
        """See `Evaluator`."""
        return self.inner.works_ahead

    def __call__(
        self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]
    ) -> Generator[dict[str, Measurement], None, None]:
        """See `Evaluator`."""
        return self.inner(objective, plane, points, batches)
