"""Plane: the affine subspace θ* + Σ cᵢ dᵢ of k directions through the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .parameters import Params, dot, norm, working_dtype


@dataclass(frozen=True, eq=False)
class Plane:
    """The points θ(c) = θ* + Σ cᵢ dᵢ (Li et al. 2018, equation 1, for k directions).

    Args:
        origin: θ*; held by reference, in the parameters' own types.
        directions: k vectors with the names and shapes of the origin.

    Raises:
        ValueError: if there is no direction, or one does not fit the origin.

    >>> import torch
    >>> plane = Plane({"w": torch.tensor([1.0, 1.0])}, ({"w": torch.tensor([2.0, 0.0])},))
    >>> plane.at([0.5])["w"], plane.project({"w": torch.tensor([4.0, 7.0])})
    (tensor([2., 1.]), array([1.5]))
    """

    origin: Params
    directions: tuple[Params, ...]

    def __post_init__(self) -> None:
        if not self.directions:
            raise ValueError("A Plane needs at least one direction, got none.")
        for i, direction in enumerate(self.directions):
            if direction.keys() != self.origin.keys():
                odd = sorted(direction.keys() ^ self.origin.keys())
                raise ValueError(f"Direction {i} and the origin do not name the same parameters: {odd[:5]}.")
            for name, tensor in self.origin.items():
                if direction[name].shape != tensor.shape:
                    raise ValueError(
                        f"Direction {i} has shape {tuple(direction[name].shape)} for {name!r}, "
                        f"the origin has {tuple(tensor.shape)}."
                    )

    @property
    def ndim(self) -> int:
        """k, the number of directions."""
        return len(self.directions)

    def at(self, point: Sequence[float] | NDArray[np.float64]) -> dict[str, Tensor]:
        """The parameters at one point of k coordinates, as new tensors in the parameters' own types."""
        if len(point) != self.ndim:
            raise ValueError(f"A point of this plane has {self.ndim} coordinates, got {len(point)}.")
        result = {}
        for name, tensor in self.origin.items():
            moved = tensor.to(working_dtype(tensor.dtype), copy=True)
            for coordinate, direction in zip(point, self.directions, strict=True):
                moved.add_(direction[name], alpha=float(coordinate))
            result[name] = moved.to(tensor.dtype)
        return result

    def project(self, params: Params) -> NDArray[np.float64]:
        """The coordinates of the point of the plane nearest to `params` (least squares), shape (k,)."""
        offset = {
            name: params[name].to(working_dtype(t.dtype)) - t.to(working_dtype(t.dtype))
            for name, t in self.origin.items()
        }
        lengths = np.array(
            [length or 1.0 for length in self.norms()]
        )  # directions of very different lengths would spoil the condition
        gram = np.array([[dot(a, b) for b in self.directions] for a in self.directions]) / np.outer(lengths, lengths)
        along = np.array([dot(d, offset) for d in self.directions]) / lengths
        return np.linalg.lstsq(gram, along, rcond=None)[0] / lengths

    def norms(self) -> list[float]:
        """The Euclidean length of each direction."""
        return [norm(direction) for direction in self.directions]

    def cosine(self) -> float:
        """The largest |cosine| between two directions, with its sign; 0 for a single one, or one of no length."""
        lengths, worst = self.norms(), 0.0
        for i in range(self.ndim):
            for j in range(i):
                cosine = dot(self.directions[i], self.directions[j]) / (lengths[i] * lengths[j] or 1.0)
                worst = cosine if abs(cosine) > abs(worst) else worst
        return worst
