"""The inner products of recorded weights, of which few need to be in memory at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..weights.parameters import CHUNK, Params, exact, size_in_bytes


def gram_matrix(weights: Sequence[Params], names: Sequence[str], block_bytes: int = 2**28) -> NDArray[np.float64]:
    """The inner products of the rows θ_t − θ_T, shape (T, T), float64.

    Args:
        weights: T sets of weights, oldest first. A list is in memory as it is. Any other sequence may read a file at
            each index: blocks of it are read, each against all blocks before it.
        names: of the parameters that count.
        block_bytes: of such a block, which has two sets at least. Two blocks are in memory at once.

    Raises:
        ValueError: if a set of weights lacks one of the names.

    >>> path = [{"w": torch.tensor([3.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])}, {"w": torch.zeros(2)}]
    >>> gram_matrix(path, ["w"]).tolist()
    [[9.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 0.0]]
    """
    count, last = len(weights), weights[-1]
    size = count
    if not isinstance(weights, list | tuple):
        size = max(2, block_bytes // max(1, sum(size_in_bytes(last[name]) for name in names if name in last)))
    blocks = [range(start, min(start + size, count)) for start in range(0, count, size)]
    total = np.zeros((count, count))
    for place, block in enumerate(blocks):
        rows = [weights[t] for t in block]
        for t, row in zip(block, rows, strict=True):
            _check_names(row, names, t)
        total[np.ix_(block, block)] = _products(rows, rows, last, names)
        for earlier in blocks[:place]:
            products = _products(rows, [weights[t] for t in earlier], last, names)
            total[np.ix_(block, earlier)], total[np.ix_(earlier, block)] = products, products.T
    return (total + total.T) / 2


def _check_names(row: Params, names: Sequence[str], t: int) -> None:
    lacking = next((name for name in names if name not in row), None)
    if lacking is not None:
        raise ValueError(
            f"The recorded weights {t} have no {lacking!r}: they are of another module. Record the module that is "
            "measured."
        )


def _products(
    rows: Sequence[Params], columns: Sequence[Params], last: Params, names: Sequence[str]
) -> NDArray[np.float64]:
    """The inner products of rows and columns, both as differences to `last`, shape (rows, columns)."""
    total = np.zeros((len(rows), len(columns)))
    step = max(1, CHUNK // max(len(rows), len(columns)))
    for name in names:
        flat = last[name].reshape(-1)
        for start in range(0, flat.numel(), step):
            part = slice(start, start + step)
            a = _differences(rows, name, part, flat[part])
            b = a if rows is columns else _differences(columns, name, part, flat[part])
            total += (a @ b.T).cpu().numpy()
    return total


def _differences(rows: Sequence[Params], name: str, part: slice, last: torch.Tensor) -> torch.Tensor:
    """A part of the rows of one tensor, less that of `last`, shape (rows, numbers), in float64."""
    result = torch.stack([exact(row[name].reshape(-1)[part]) for row in rows]) - exact(last)
    return torch.view_as_real(result).flatten(1) if result.is_complex() else result
