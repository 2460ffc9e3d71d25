"""Batches in small parts, whose activations stay in the cache of a CPU."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from operator import is_

import numpy as np

from ..evaluators import Around, Evaluator, Measurement
from ..evaluators.out_of_memory import pieces
from ..objectives.base import Batch, Objective
from ..objectives.batch_samples import IndivisibleError
from ..weights.plane import Plane
from .equality import equal, off_axes

MOST = 64  # samples: convolutional nets were fastest with 16 to 64, compiled ones with more


@contextmanager
def small_batches(evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """At most 64 samples at a time, for metrics that are means over samples.

    Raises:
        ValueError: if all batches are small, or the module is not on a CPU, where large ones pay.
    """
    if all(batch.size <= MOST for batch in batches):
        raise ValueError("the batches are small already")
    if any(tensor.device.type != "cpu" for tensor in evaluator.module.parameters()):
        raise ValueError("the module is not on a CPU")
    yield _InParts(evaluator), batches


class _InParts(Around):
    """Measures in parts where that is equal over all batches, at the origin and off the axes; else as it was asked.

    A trial on a few batches does not tell: those may have the same number of masked tokens, or losses that are all
    above a threshold.
    """

    def __init__(self, inner: Evaluator) -> None:
        super().__init__(inner)
        self._known: list[tuple[Objective, Sequence[Batch], Sequence[Batch]]] = []

    def __call__(
        self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]
    ) -> Generator[dict[str, Measurement], None, None]:
        """See `Evaluator`."""
        yield from self.inner(objective, plane, points, self._parts(objective, plane, batches))

    def _parts(self, objective: Objective, plane: Plane, batches: Sequence[Batch]) -> Sequence[Batch]:
        objective = objective.alone
        for other, whole, parts in self._known:
            if other is objective and len(whole) == len(batches) and all(map(is_, whole, batches)):
                return parts
        parts = _parts(batches) if objective.divisible else batches
        if len(parts) > len(batches) and not self._are_equal(objective, plane, batches, parts):
            parts = batches
        self._known.append((objective, batches, parts))
        return parts

    def _are_equal(self, objective: Objective, plane: Plane, batches: Sequence[Batch], parts: Sequence[Batch]) -> bool:
        points = np.repeat([np.zeros(plane.ndim), *off_axes(plane, 1)], self.at_once, axis=0)
        try:
            rows = [list(self.inner(objective, plane, points, given)) for given in (batches, parts)]
        except Exception:  # noqa: BLE001  # a step may refuse a point, or a part
            return False
        return all(equal(whole, cut) for whole, cut in zip(*rows, strict=True))


def _parts(batches: Sequence[Batch]) -> Sequence[Batch]:
    try:
        return [part for batch in batches for part in pieces(batch, MOST)]
    except IndivisibleError:
        return batches
