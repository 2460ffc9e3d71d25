"""Blocks: an arbitrary list of points cut into products of axes, as far as it has that structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .cross_entropy import Product


@dataclass(frozen=True, eq=False)
class Blocks:
    """Points in blocks that are computed at once.

    Args:
        numbers: the block of each point, shape (n,).
        outer: the distinct leading coordinates, shape (A, k − 1); or all points, shape (n, k), without a product.
        inner: the distinct last coordinates, ascending, shape (B,); None where the points form no product.
        rows: the place of each point in `outer`, shape (n,).
        columns: the place of each point in `inner`, shape (n,).
        example: the points' type and device.
    """

    numbers: np.ndarray
    outer: np.ndarray
    inner: np.ndarray | None
    rows: np.ndarray
    columns: np.ndarray
    example: Tensor

    def block_of(self, point: int) -> tuple[np.ndarray, np.ndarray, Product | Tensor]:
        """The numbers of the points in the block of this point, their places in it, and the block."""
        members = np.flatnonzero(self.numbers == self.numbers[point])
        outer, rows = np.unique(self.rows[members], return_inverse=True)
        leading = torch.as_tensor(self.outer[outer]).to(self.example)
        if self.inner is None:
            return members, rows, leading
        inner, columns = np.unique(self.columns[members], return_inverse=True)
        product = Product(leading, torch.as_tensor(self.inner[inner]).to(self.example))
        return members, rows * len(inner) + columns, product


def blocks(points: np.ndarray, size: int, example: Tensor, max_waste: int = 8) -> Blocks:
    """Cut points into blocks of about `size` points.

    Args:
        points: shape (n, k), in any order.
        size: the number of points to compute at once.
        example: a tensor with the points' type and device.
        max_waste: computed points of a product for each of `points`; a single point costs about so much more.

    A grid of 3 × 2 is one block whatever its order:

    >>> grid = np.array([[1, 5], [0, 4], [2, 5], [1, 4], [0, 5], [2, 4]], dtype=float)
    >>> members, places, product = blocks(grid, 100, torch.zeros(())).block_of(0)
    >>> places.tolist(), product.inner.tolist()
    ([3, 0, 5, 2, 1, 4], [4.0, 5.0])
    """
    inner, columns = np.unique(points[:, -1], return_inverse=True)
    if points.shape[1] == 1:
        outer, rows = np.zeros((1, 0)), np.zeros(len(points), dtype=np.int64)
    else:
        outer, rows = np.unique(points[:, :-1], axis=0, return_inverse=True)
    rows, columns = rows.reshape(-1), columns.reshape(-1)
    if len(outer) * len(inner) > max_waste * len(points):
        order = np.arange(len(points))
        return Blocks(order // max(1, size // max_waste), points, None, order, np.zeros_like(order), example)
    width = min(len(inner), max(1, round(size**0.5)))
    height = max(1, size // width)
    numbers = rows // height * (len(inner) // width + 1) + columns // width
    return Blocks(numbers, outer, inner, rows, columns, example)
