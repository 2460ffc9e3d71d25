"""Batches in small parts, whose activations stay in the cache of a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import is_

import numpy as np

from ..evaluators import Evaluator, EvaluatorWrapper, Stream
from ..evaluators.out_of_memory import pieces
from ..objectives.base import Batch, Objective
from ..objectives.batch_samples import IndivisibleError
from ..weights.plane import Plane
from .equality import equal, off_axes


@contextmanager
def small_batches(
    evaluator: Evaluator, batches: Sequence[Batch], max_size: int = 64
) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """At most 64 samples at a time, for metrics that are means over samples.

    Convolutional nets were fastest with 16 to 64 samples, compiled ones with more.

    Raises:
        ValueError: if all batches are small, or the module is not on a CPU. Large batches pay elsewhere.
    """
    if all(batch.size <= max_size for batch in batches):
        raise ValueError("the batches are small already")
    if any(tensor.device.type != "cpu" for tensor in evaluator.module.parameters()):
        raise ValueError("the module is not on a CPU")
    yield _SmallBatches(evaluator, max_size), batches


class _SmallBatches(EvaluatorWrapper):
    """Measures in parts where that is equal over all batches, at the origin and off the axes; else in whole batches.

    A trial on a few batches proves nothing. They may have the same number of masked tokens, or losses that are all
    above a threshold.
    """

    def __init__(self, inner: Evaluator, max_size: int) -> None:
        super().__init__(inner)
        self._max_size = max_size
        self._known: list[tuple[Objective, Sequence[Batch], Sequence[Batch]]] = []

    def __call__(self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]) -> Stream:
        yield from self.inner(objective, plane, points, self._parts(objective, plane, batches))

    def _parts(self, objective: Objective, plane: Plane, batches: Sequence[Batch]) -> Sequence[Batch]:
        objective = objective.alone
        for known, whole, parts in self._known:
            if known is objective and len(whole) == len(batches) and all(map(is_, whole, batches)):
                return parts
        parts = batches
        if objective.divisible:
            with suppress(IndivisibleError):
                parts = [part for batch in batches for part in pieces(batch, self._max_size)]
        if len(parts) > len(batches) and not self._are_equal(objective, plane, batches, parts):
            parts = batches
        self._known.append((objective, batches, parts))
        return parts

    def _are_equal(self, objective: Objective, plane: Plane, batches: Sequence[Batch], parts: Sequence[Batch]) -> bool:
        points = np.repeat([np.zeros(plane.ndim), *off_axes(plane, 1)], self.at_once, axis=0)
        try:
            rows = [list(self.inner(objective, plane, points, cut)) for cut in (batches, parts)]
        except Exception:  # noqa: BLE001  # a step may refuse a point, or a part
            return False
        return all(equal(a, b) for a, b in zip(*rows, strict=True))
