"""Points in bfloat16, on request only: its error is no rounding error of float32, so it is measured and stated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from ..evaluators import Evaluator, EvaluatorWrapper, Measurements, Stream
from ..objectives.base import Batch, Objective
from ..report import RoundingError
from ..weights.plane import Plane

CHECKED_BATCHES = 4  # of each data set, on which points are measured in float32 too

Array = NDArray[np.float64]
Measured = Sequence[tuple[Objective, Sequence[Batch]]]


@contextmanager
def bf16(evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """Matrix products and convolutions in bfloat16, by `torch.autocast`: 8 bits of precision, the range of float32."""
    yield _Autocast(evaluator), batches


class _Autocast(EvaluatorWrapper):
    """Measures each point under autocast, and leaves it between two points."""

    def __call__(self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]) -> Stream:
        device = next((p.device.type for p in self.module.parameters()), "cpu")
        stream = iter(self.inner(objective, plane, points, batches))
        while True:
            # A cache would keep the weights of the point before.
            with torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False):
                row = next(stream, None)
            if row is None:
                return
            yield row


def control_points(points: Array) -> Array:
    """The origin, and eight of the points from the first to the last, which lies outermost; shape (9, k)."""
    spread = np.linspace(0, len(points) - 1, 8).round().astype(int)
    return np.concatenate([np.zeros((1, points.shape[1])), points[spread]])


def control_values(evaluator: Evaluator, plane: Plane, points: Array, measured: Measured) -> list[dict[str, Array]]:
    """The metrics of each pair of an objective and its batches at these points, by name, each of shape (n,).

    A few batches of each pair are measured. A value is NaN where the step refuses a point.
    """
    tables = []
    for objective, batches in measured:
        rows = [_row(evaluator, objective, plane, point, batches[:CHECKED_BATCHES]) for point in points]
        names = dict.fromkeys(name for row in rows for name in row)
        tables.append({name: np.array([row[name].value if name in row else np.nan for row in rows]) for name in names})
    return tables


def _row(
    evaluator: Evaluator, objective: Objective, plane: Plane, point: Array, batches: Sequence[Batch]
) -> Measurements:
    try:
        return next(iter(evaluator(objective, plane, point[None], batches)))
    except Exception:  # noqa: BLE001  # a step may refuse a point
        return {}


def errors(exact: dict[str, Array], rounded: dict[str, Array]) -> dict[str, dict[str, float]]:
    """The largest difference in each metric, and its share of the range of the finite exact values.

    Args:
        exact: the metrics in float32, each of shape (n,).
        rounded: the same in bfloat16.

    Returns:
        By metric "largest" and "share"; inf where a finite value became another, NaN where none is finite.

    >>> errors({"loss": np.array([1.0, 3.0, np.inf])}, {"loss": np.array([1.5, 3.0, np.inf])})
    {'loss': {'largest': 0.5, 'share': 0.25}}
    """
    result = {}
    for name, values in exact.items():
        known = np.isfinite(values)
        approximate = rounded.get(name, np.full(len(values), np.nan))[known]
        distances = np.where(np.isfinite(approximate), np.abs(approximate - values[known]), np.inf)
        largest = float(distances.max()) if known.any() else float("nan")
        width = float(np.ptp(values[known])) if known.any() else float("nan")
        result[name] = {"largest": largest, "share": largest / width if width else float(largest and np.inf)}
    return result


def rounding_report(points: Array, batches: int, by_metric: dict[str, dict[str, float]]) -> RoundingError:
    """The part of a landscape's report on the rounding of its points.

    Args:
        points: those that were checked.
        batches: how many there are.
        by_metric: the `errors` of each metric.
    """
    by_key = {key: {name: error[key] for name, error in by_metric.items()} for key in ("largest", "share")}
    return RoundingError(len(points), min(batches, CHECKED_BATCHES), **by_key)
