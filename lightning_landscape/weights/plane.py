"""Plane: the affine subspace θ* + Σ cᵢ dᵢ of k directions through the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .parameters import CHUNK, Params, dot, exact, norm, working_dtype
from .sharding import whole

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plane:
    """The points θ(c) = θ* + Σ cᵢ dᵢ (Li et al. 2018, equation 1, for k directions).

    Args:
        origin: θ*, held by reference, in the types of the parameters.
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

    def at(self, point: Sequence[float] | Array) -> dict[str, Tensor]:
        """The parameters at one point of k coordinates, as new tensors in the types of the parameters."""
        if len(point) != self.ndim:
            raise ValueError(f"A point of this plane has {self.ndim} coordinates, got {len(point)}.")
        result = {}
        for name, tensor in self.origin.items():
            moved = tensor.to(working_dtype(tensor.dtype), copy=True)
            for coordinate, direction in zip(point, self.directions, strict=True):
                moved.add_(direction[name], alpha=float(coordinate))
            result[name] = moved.to(tensor.dtype)
        return result

    def project(self, params: Params) -> Array:
        """The coordinates of the point of the plane nearest to `params` (least squares), shape (k,)."""
        return self.locate(params)[0]

    def locate(self, params: Params) -> tuple[Array, float, float]:
        """The place of weights beside the plane, by least squares in float64; exact on skew directions of any length.

        Returns:
            The coordinates of the nearest point of the plane, shape (k,); the distance to it; the distance to θ*.

        >>> import torch
        >>> skew = ({"w": torch.tensor([1.0, 0.0, 0.0])}, {"w": torch.tensor([3.0, 4.0, 0.0])})
        >>> plane = Plane({"w": torch.zeros(3)}, skew)
        >>> point, residual, distance = plane.locate({"w": torch.tensor([4.0, 4.0, 2.0])})
        >>> point.round(12).tolist(), round(residual, 12), distance
        ([1.0, 1.0], 2.0, 6.0)
        """
        along, square = self._products(params, np.zeros(self.ndim))
        point = self._solve(along)
        rest = square - float(along @ point)
        if not self._is_exact(rest, square):
            # What the first solution has left along the directions is its rounding error.
            along, rest = self._products(params, point)
            correction = self._solve(along)
            point, rest = point + correction, rest - float(along @ correction)
        return point, math.sqrt(max(rest, 0.0)), math.sqrt(square)

    def _is_exact(self, rest: float, square: float, share: float = 1e-4, condition: float = 1e4) -> bool:
        """True if a first solution is exact to about twelve digits, as on most planes: a second one takes as long.

        Args:
            rest: the square of the distance to the plane.
            square: the square of the distance to θ*.
            share: the least rest, as a share of `square`: the difference of nearly equal numbers loses digits.
            condition: the largest condition of the directions' inner products: of 16 digits, it costs its decades.
        """
        return rest > share * square and float(np.linalg.cond(self._gram[1])) < condition

    def _products(self, params: Params, point: Array) -> tuple[Array, float]:
        """The inner products of θ − θ(point) with each direction, shape (k,), and with itself."""
        along, square = np.zeros(self.ndim), 0.0
        for weights, origin, *directions in self._pieces(params):
            offset = weights - origin
            for coordinate, direction in zip(point, directions, strict=True):
                if coordinate:
                    offset.sub_(direction, alpha=float(coordinate))
            along += [float(torch.vdot(direction, offset).real) for direction in directions]
            square += float(torch.vdot(offset, offset).real)
        return along, square

    def _pieces(self, params: Params) -> Iterator[list[Tensor]]:
        """Weights, origin and the k directions in float64, some of the numbers at a time."""
        for name, origin in self.origin.items():
            tensors = [params[name].to(origin.device), origin, *(direction[name] for direction in self.directions)]
            size = max(1, CHUNK // 16)  # the pieces of all tensors stay in the processor's cache together
            for pieces in zip(*(whole(tensor).reshape(-1).split(size) for tensor in tensors), strict=True):
                yield [exact(piece) for piece in pieces]

    def _solve(self, along: Array) -> Array:
        """The coordinates whose point has these inner products with the directions; the smallest ones of several."""
        lengths, gram = self._gram
        return np.linalg.lstsq(gram, along / lengths, rcond=None)[0] / lengths

    @cached_property
    def _gram(self) -> tuple[Array, Array]:
        """The length of each direction, and the inner products of the directions at unit length, shape (k, k).

        Unit lengths keep the condition of the system good where directions have very different lengths.
        """
        lengths = np.array([length or 1.0 for length in self.norms()])
        return lengths, np.array([[dot(a, b) for b in self.directions] for a in self.directions]) / np.outer(
            lengths, lengths
        )

    def norms(self) -> list[float]:
        """The Euclidean length of each direction."""
        return [norm(direction) for direction in self.directions]

    def span(self, alike: float) -> int:
        """The number of dimensions that the directions span; two with a |cosine| above `alike` count as one.

        >>> import torch
        >>> x, y = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])}
        >>> Plane(x, (x, y)).span(0.99), Plane(x, (x, x)).span(0.99)
        (2, 1)
        """
        return int((np.linalg.eigvalsh(self.cosines) >= 1 - alike).sum())

    def axes(self) -> list[str]:
        """The name of the one number that each direction moves; empty if a direction moves several.

        >>> import torch
        >>> w, b = torch.zeros(1, 2), torch.zeros(())
        >>> Plane({"w": w, "b": b}, ({"w": torch.tensor([[0.0, 3.0]]), "b": b}, {"w": w, "b": b + 1})).axes()
        ['w[0, 1]', 'b']
        """
        names = [_only_number(direction) for direction in self.directions]
        return names if all(names) else []

    def cosine(self) -> float:
        """The cosine between two directions that is largest in size; 0 for one direction, or one of no length."""
        off_diagonal = self.cosines - np.eye(self.ndim)
        return float(off_diagonal.flat[np.abs(off_diagonal).argmax()])

    @cached_property
    def cosines(self) -> Array:
        """The cosines between all directions, shape (k, k); 0 for a direction of no length."""
        lengths = [length or 1.0 for length in self.norms()]
        cosines = np.eye(self.ndim)
        for i in range(self.ndim):
            for j in range(i):
                cosines[i, j] = cosines[j, i] = dot(self.directions[i], self.directions[j]) / (lengths[i] * lengths[j])
        return cosines


def _only_number(direction: Params) -> str:
    """The name of the only real number of a direction that is not zero, e.g. "w[0, 1]"; else empty."""
    moved = [(name, tensor) for name, tensor in direction.items() if bool((whole(tensor) != 0).any())]
    if len(moved) != 1 or moved[0][1].is_complex():
        return ""
    name, tensor = moved[0]
    places = whole(tensor).nonzero()
    if len(places) != 1:
        return ""
    return name if tensor.numel() == 1 else f"{name}{places[0].tolist()}"
