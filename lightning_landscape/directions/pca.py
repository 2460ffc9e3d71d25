"""The directions along which a training moved most: the principal components of its recorded weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..weights.parameters import CHUNK, Params, Snapshot, exact, working_dtype


@dataclass(frozen=True, eq=False)
class PCA:
    """The first k principal components of the rows θ_t − θ_T, each of length 1 (Li et al. 2018, section 7.1).

    The components come from the T×T Gram matrix of the rows, in float64; the P×P covariance is never computed.
    They are not filter-normalised, which would turn them away from the path. The first recorded weights have
    coordinates of at least 0.

    Args:
        weights: T recorded sets of weights, oldest first (`Recorder.weights`); the last is θ_T.
        center: subtract the mean of the rows first, as principal component analysis does.

    Attributes:
        explained: after a call, the share of the variance along each direction, shape (k,).

    >>> path = [{"w": torch.tensor([float(t), 0.1 * (-1) ** t, 0.0])} for t in range(6)]
    >>> pca = PCA(path)
    >>> d, e = pca(Snapshot(path[-1]), 2)
    >>> bool(abs(d["w"][0]) > 0.99), bool(pca.explained.sum() > 1 - 1e-12)
    (True, True)
    """

    weights: Sequence[Params]
    center: bool = True
    explained: NDArray[np.float64] | None = field(default=None, init=False, repr=False)

    def __call__(self, snapshot: Snapshot, k: int) -> tuple[Params, ...]:
        """The k directions, in the snapshot's names, shapes and precision.

        Raises:
            ValueError: if fewer than k + 1 sets of weights were recorded, or they lie in fewer than k directions.
        """
        count = len(self.weights)
        if count < k + 1:
            raise ValueError(
                f"PCA of {k} directions needs at least {k + 1} recorded sets of weights, got {count}: record more "
                "often, or train longer."
            )
        gram = products = gram_matrix(self.weights, list(snapshot.params))
        if self.center:
            gram = gram - gram.mean(axis=0) - gram.mean(axis=1)[:, None] + gram.mean()
        values, vectors = np.linalg.eigh(gram)
        values, vectors = values[::-1], vectors[:, ::-1]
        # Components below 1e-10 of the largest eigenvalue are rounding errors.
        rank = int((values > 1e-10 * max(values[0], np.finfo(float).tiny)).sum()) if values[0] > 0 else 0
        if rank < k:
            raise ValueError(
                f"The recorded weights lie in {rank} directions only, not in {k}: record more often, or train longer."
            )
        object.__setattr__(self, "explained", values[:k] / values.clip(0).sum())
        shares = vectors[:, :k] / np.sqrt(values[:k])  # direction i = Σ_t shares[t, i] (row t − the mean row)
        if self.center:
            shares = shares - shares.mean(axis=0)
        shares = shares * np.where(products[0] @ shares < 0, -1.0, 1.0)
        return tuple(self._combined(snapshot, shares[:, i]) for i in range(k))

    def recipe(self) -> dict[str, Any]:
        """The settings and the explained shares, as plain JSON values."""
        share = None if self.explained is None else self.explained.tolist()
        return {"kind": "pca", "recorded": len(self.weights), "center": self.center, "explained": share}

    def _combined(self, snapshot: Snapshot, shares: NDArray[np.float64]) -> dict[str, Tensor]:
        """Σ_t shares[t] (θ_t − θ_T), a tensor at a time, accumulated in float64."""
        result, last = {}, self.weights[-1]
        for name, like in snapshot.params.items():
            total = torch.zeros_like(exact(last[name]))
            for share, row in zip(shares[:-1], self.weights[:-1], strict=True):
                total += float(share) * (exact(row[name]) - exact(last[name]))
            result[name] = total.to(like.device, working_dtype(like.dtype))
        return result


def gram_matrix(weights: Sequence[Params], names: Sequence[str]) -> NDArray[np.float64]:
    """The inner products of the rows θ_t − θ_T, shape (T, T), float64.

    Raises:
        ValueError: if a set of weights lacks one of the names.
    """
    total = np.zeros((len(weights), len(weights)))
    for name in names:
        lacking = next((t for t, row in enumerate(weights) if name not in row), None)
        if lacking is not None:
            raise ValueError(
                f"The recorded weights {lacking} have no {name!r}: they are of another module. Record the module that "
                "is measured."
            )
        pieces = [row[name].reshape(-1).split(max(1, CHUNK // len(weights))) for row in weights]
        for piece in zip(*pieces, strict=True):
            rows = torch.stack([exact(p) for p in piece]) - exact(piece[-1])
            if rows.is_complex():
                rows = torch.view_as_real(rows).flatten(1)
            total += (rows @ rows.T).cpu().numpy()
    return (total + total.T) / 2


def random_walk_shares(steps: int, k: int) -> NDArray[np.float64]:
    """The shares that PCA gives a random walk in many dimensions: 60.8 %, 15.2 %, … in the limit.

    The i-th share is proportional to 1 / sin²(iπ / 2T) (Antognini and Sohl-Dickstein 2018, section 2). Compare the
    explained variance of a path with it.

    Args:
        steps: T, the number of recorded points.
        k: the number of shares.

    >>> random_walk_shares(10_000, 2).round(3).tolist()
    [0.608, 0.152]
    """
    parts = 1 / np.sin(np.arange(1, steps) * np.pi / (2 * steps)) ** 2
    return parts[:k] / parts.sum()
