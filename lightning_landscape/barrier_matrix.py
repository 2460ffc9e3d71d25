"""BarrierMatrix: the barriers between every two of several models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BarrierMatrix:
    """The losses on the straight lines between n models, pair by pair.

    Args:
        names: of the models.
        metric: the name of the loss.
        t: the points of each line, from 0 at the first model to 1 at the second, shape (points,).
        lines: the losses, shape (n, n, points). ``lines[i, j]`` goes from model i to model j.
        errors: their standard errors, of the same shape; NaN where unknown.
        aligned: True if the units of the second model were put in the order of those of the first.
        recalibrated: True if the statistics of BatchNorm were computed anew at every point.

    >>> t = np.linspace(0, 1, 3)
    >>> lines = np.array([[[1.0, 1, 1], [1, 3, 2]], [[2, 3, 1], [2, 2, 2]]])
    >>> matrix = BarrierMatrix(("a", "b"), "loss", t, lines, np.full(lines.shape, 0.1))
    >>> matrix.barriers.tolist(), matrix.losses.tolist()
    ([[0.0, 1.5], [1.5, 0.0]], [1.0, 2.0])
    """

    names: tuple[str, ...]
    metric: str
    t: Array
    lines: Array
    errors: Array
    aligned: bool = False
    recalibrated: bool = False

    def __post_init__(self) -> None:
        shape = (len(self.names), len(self.names), len(self.t))
        for name, array in {"lines": self.lines, "errors": self.errors}.items():
            if array.shape != shape:
                raise ValueError(
                    f"{name} has shape {array.shape}, and there are {shape[0]} names and {shape[2]} points: give "
                    f"{shape}."
                )

    @property
    def losses(self) -> Array:
        """The loss of each model itself, shape (n,)."""
        return np.asarray(self.lines[range(len(self.names)), range(len(self.names)), 0])

    @property
    def barriers(self) -> Array:
        """The highest rise above the line between the two losses, shape (n, n); 0 where there is none.

        max over t of L(t) − ((1 − t) L(0) + t L(1)) (Entezari et al. 2022, section 2).
        """
        return np.asarray(self._rises.max(axis=-1))

    @property
    def standard_errors(self) -> Array:
        """The standard error of each barrier, were its three losses independent; NaN where unknown, shape (n, n).

        They are of the same samples, so the error is mostly smaller.
        """
        first, last = self.errors[..., :1] * (1 - self.t), self.errors[..., -1:] * self.t
        errors = np.sqrt(self.errors**2 + first**2 + last**2)
        errors[..., [0, -1]] = 0.0
        at = self._rises.argmax(axis=-1)[..., None]
        return np.asarray(np.take_along_axis(errors, at, axis=-1)[..., 0])

    @property
    def _rises(self) -> Array:
        return np.asarray(self.lines - ((1 - self.t) * self.lines[..., :1] + self.t * self.lines[..., -1:]))
