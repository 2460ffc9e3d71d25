"""History: numbers of every record of a training, from weights in full precision."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROW = np.dtype(
    [
        ("step", "<i4"),
        ("norm", "<f8"),
        ("distance", "<f8"),
        ("step_length", "<f8"),
        ("cosine", "<f4"),
        ("learning_rate", "<f4"),
        ("loss", "<f4"),
    ]
)


class History:
    """Rows of 40 bytes, one for each record that was ever made; they stay when its weights are removed.

    The columns are "step", "norm" (‖θ‖), "distance" (‖θ − θ₀‖), "step_length", "cosine", "learning_rate" and "loss".
    The length is that of the optimiser's last step. The cosine is of the angle between its last two steps. A number
    that is not known is NaN.

    >>> history = History()
    >>> history.add(step=0, norm=5.0, distance=0.0)
    >>> history.columns["norm"], history.columns["loss"], len(history)
    (array([5.]), array([nan]), 1)
    """

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []  # an array would be copied by every row

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def last_step(self) -> int | None:
        """The step of the last row; None without one."""
        return int(self._rows[-1][0]) if self._rows else None

    @property
    def rows(self) -> NDArray[np.void]:
        """The rows as a structured array, shape (N,)."""
        return np.array(self._rows, ROW)

    def add(self, step: int, **numbers: float) -> None:
        """Add a row; the columns that are not given are NaN."""
        self._rows.append((step, *(numbers.get(name, math.nan) for name in (ROW.names or ())[1:])))

    def drop_last(self) -> None:
        """Remove the last row."""
        self._rows.pop()

    @property
    def columns(self) -> dict[str, NDArray[np.float64]]:
        """The columns by name, each of shape (N,)."""
        rows = self.rows
        return {name: rows[name].astype(np.float64) for name in ROW.names or ()}

    def state(self) -> Tensor:
        """The rows as bytes, for a checkpoint."""
        return torch.from_numpy(self.rows.view(np.uint8).copy())

    def load(self, state: Tensor) -> None:
        """Take over the rows that `state` has given."""
        self._rows = np.frombuffer(state.numpy().tobytes(), ROW).tolist()


def lengths(
    weights: Tensor, first: Tensor, before: Tensor | None = None, earlier: Tensor | None = None, chunk: int = 2**15
) -> dict[str, float]:
    """The columns of a history that weights alone give, summed in float64.

    Args:
        weights: after a step, as one vector.
        first: the weights of the first record.
        before: those before the step; None where they are not known.
        earlier: those one step before that; None leaves the cosine out.
        chunk: how many numbers are computed at a time. So many, in float64, lie in a core's own cache.

    >>> zero, one = torch.zeros(2), torch.tensor([3.0, 4.0])
    >>> lengths(2 * one, zero, one, zero)
    {'norm': 10.0, 'distance': 10.0, 'step_length': 5.0, 'cosine': 1.0}
    """
    sums = dict.fromkeys(("norm", "distance", "step_length", "before", "product"), 0.0)
    for place in range(0, weights.numel(), chunk):
        part = slice(place, place + chunk)
        now, start = _double(weights[part]), _double(first[part])
        sums["norm"] += now.dot(now).item()
        moved = start.sub_(now)
        sums["distance"] += moved.dot(moved).item()
        if before is None:
            continue
        last = _double(before[part])
        step = now.sub_(last)
        sums["step_length"] += step.dot(step).item()
        if earlier is not None:
            other = last.sub_(earlier[part])
            sums["before"] += other.dot(other).item()
            sums["product"] += step.dot(other).item()
    result = {"norm": math.sqrt(sums["norm"]), "distance": math.sqrt(sums["distance"])}
    if before is not None:
        result["step_length"] = math.sqrt(sums["step_length"])
    scale = math.sqrt(sums["before"]) * math.sqrt(sums["step_length"])
    if earlier is not None and scale > 0:
        result["cosine"] = sums["product"] / scale
    return result


def _double(part: Tensor) -> Tensor:
    """A copy in float64."""
    return part.to(torch.float64, copy=True)
