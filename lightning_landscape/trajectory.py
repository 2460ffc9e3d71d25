"""Trajectory: the path of a training on the plane of a landscape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Columns = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The path of a training on a plane of k directions: T records of the weights, oldest first.

    Args:
        steps: the step of the optimiser at which each was recorded, shape (T,).
        points: the coordinates of the nearest point of the plane, shape (T, k), in lengths of each direction.
        residuals: the distance of each record from the plane, shape (T,).
        distances: the distance of each record from the centre θ* of the plane, shape (T,).
        losses: by metric of the landscape, the value of each record itself on the landscape's data, shape (T,).
        plane_losses: by metric, the value of the plane at `points`, shape (T,). It differs from `losses` where the
            path leaves the plane.
        metrics: other numbers recorded beside the weights, each of shape (T,); NaN where unknown.
        history: numbers of all N ≥ T records of the training, each of shape (N,). Weights are kept of T of them only.
            The columns are "step", "norm", "distance", "step_length", "cosine", "learning_rate" and "loss".
        checkpoints: the steps at which a checkpoint was saved, shape (C,).
        measured: true where `losses` and `plane_losses` were measured, shape (T,); None for all, if there are any.

    >>> path = Trajectory(np.arange(2.0), np.zeros((2, 2)), np.array([3.0, 0.0]), np.array([4.0, 0.0]))
    >>> path.residual_shares.tolist(), path.ndim
    ([0.75, 0.0], 2)
    """

    steps: Array
    points: Array
    residuals: Array
    distances: Array
    losses: Columns = field(default_factory=dict)
    plane_losses: Columns = field(default_factory=dict)
    metrics: Columns = field(default_factory=dict)
    history: Columns = field(default_factory=dict)
    checkpoints: Array = field(default_factory=lambda: np.empty(0))
    measured: NDArray[np.bool_] = None  # type: ignore[assignment]  # filled below

    def __post_init__(self) -> None:
        if self.measured is None:
            object.__setattr__(self, "measured", np.full(len(self.steps), bool(self.losses)))
        columns = [("points", self.points), ("residuals", self.residuals), ("distances", self.distances)]
        columns += [("measured", self.measured), *self.losses.items(), *self.plane_losses.items()]  # type: ignore[list-item]
        for name, column in (*columns, *self.metrics.items()):
            if len(column) != len(self.steps):
                raise ValueError(f"{name} has {len(column)} rows for {len(self.steps)} steps: give one row a step.")
        lengths = {name: len(column) for name, column in self.history.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"history has columns of different lengths: {lengths}. Give one row a record.")

    @property
    def ndim(self) -> int:
        """k, the number of coordinates of a point."""
        return self.points.shape[1]

    @property
    def learning_rate(self) -> float | None:
        """The learning rate at the last record; None where it is unknown.

        >>> one = np.zeros(1)
        >>> Trajectory(one, np.zeros((1, 2)), one, one, history={"learning_rate": np.array([0.1])}).learning_rate
        0.1
        """
        rates = self.history.get("learning_rate", np.empty(0))
        return float(rates[-1]) if len(rates) and np.isfinite(rates[-1]) else None

    @property
    def residual_shares(self) -> Array:
        """residuals / distances, shape (T,): near 1 where the plane shows little of the record; 0 at the centre."""
        return np.divide(self.residuals, self.distances, out=np.zeros(len(self.steps)), where=self.distances > 0)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        tables = [self.losses, self.plane_losses, self.metrics, self.history]
        single = [self.steps, self.points, self.residuals, self.distances, self.checkpoints, self.measured]
        return sum(array.nbytes for array in (*single, *(column for table in tables for column in table.values())))

    def record(self, t: int, losses: Mapping[str, float], plane_losses: Mapping[str, float]) -> None:
        """Fill in the losses of record t, in place.

        Args:
            t: the place of the record.
            losses: by metric, the value of the record itself.
            plane_losses: by metric, the value of the plane at its point.
        """
        for table, values in ((self.losses, losses), (self.plane_losses, plane_losses)):
            for name, value in values.items():
                table.setdefault(name, np.full(len(self.steps), np.nan))[t] = value
        self.measured[t] = True

    def take_over(self, other: Trajectory) -> None:
        """Fill in the losses of records that only another path on the same plane has measured.

        A record is the same if its step and its distances are.
        """
        places = {row: t for t, row in enumerate(other._rows())}
        for t, row in enumerate(self._rows()):
            place = places.get(row)
            if place is not None and other.measured[place] and not self.measured[t]:
                losses, plane_losses = (
                    {name: float(column[place]) for name, column in table.items()}
                    for table in (other.losses, other.plane_losses)
                )
                self.record(t, losses, plane_losses)

    def _rows(self) -> list[tuple[float, float, float]]:
        """Step, residual and distance of each record, which tell it from others."""
        return list(zip(self.steps.tolist(), self.residuals.tolist(), self.distances.tolist(), strict=True))


def equal_trajectories(a: Trajectory | None, b: Trajectory | None) -> bool:
    """True if both hold the same numbers, or both are None; NaN equals NaN."""
    if a is None or b is None:
        return a is b
    return all(_same(getattr(a, name), getattr(b, name)) for name in Trajectory.__dataclass_fields__)


def _same(p: Array | Mapping[str, Array], q: Array | Mapping[str, Array]) -> bool:
    if isinstance(p, Mapping) and isinstance(q, Mapping):
        return p.keys() == q.keys() and all(np.array_equal(p[key], q[key], equal_nan=True) for key in p)
    return np.array_equal(np.asarray(p), np.asarray(q), equal_nan=True)
