"""The directions along which a training moved most: the principal components of its recorded weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..weights.parameters import Params, Snapshot, exact, working_dtype
from ..weights.sharding import cut, zero
from .gram import gram_matrix
from .ignore import ignored_names, plain_ignore


class NoPlaneError(ValueError):
    """Recorded weights that lie in too few directions, for the reason in the message."""


@dataclass(frozen=True, eq=False)
class PCA:
    """The first k principal components of the rows θ_t − θ_T, each of length 1 (Li et al. 2018, section 7.1).

    The components come from the T×T Gram matrix of the rows, in float64; the P×P covariance is never computed.
    They are not filter-normalised, which would turn them away from the path. The first recorded weights have
    coordinates of at least 0.

    Args:
        weights: T recorded sets of weights, oldest first (`Recorder.weights`); the last is θ_T. None for those of
            the site: a training's records.
        center: subtract the mean of the rows first, as principal component analysis does.
        ignore: the parameters that stay at rest, as in `ignored_names`. Their motion counts for nothing.

    Attributes:
        explained: after a call, the share of the variance along each direction, shape (k,).
        random_walk: after a call, the shares that a random walk of T points would have; None if not centred.
        recorded: after a call, T.
        labels: after a call, the directions in words.
        reach: after a call, the largest coordinate of a record along each direction, in size.

    >>> path = [{"w": torch.tensor([float(t), 0.1 * (-1) ** t, 0.0])} for t in range(6)]
    >>> pca = PCA(path)
    >>> d, e = pca(Snapshot(path[-1]), 2)
    >>> bool(abs(d["w"][0]) > 0.99), bool(pca.explained.sum() > 1 - 1e-12)
    (True, True)
    >>> pca.labels[0]
    'PCA 1 (99.7 %; random walk 64 %)'
    """

    weights: Sequence[Params] | None = None
    center: bool = True
    ignore: str | Sequence[str] | None = None
    explained: NDArray[np.float64] | None = field(default=None, init=False, repr=False)
    random_walk: NDArray[np.float64] | None = field(default=None, init=False, repr=False)
    recorded: int | None = field(default=None, init=False, repr=False)
    labels: tuple[str, ...] = field(default=(), init=False, repr=False)
    reach: tuple[float, ...] = field(default=(), init=False, repr=False)

    @property
    def needs(self) -> tuple[str, ...]:
        """Needs of the site: the records of a training, unless weights are given."""
        return ("records",) if self.weights is None else ()

    def __call__(self, site: Snapshot, k: int) -> tuple[Params, ...]:
        """The k directions, in the site's names, shapes and precision.

        Raises:
            NoPlaneError: if fewer than k + 1 sets of weights were recorded, or they lie in fewer than k directions.
            ValueError: if none were.
        """
        weights = getattr(site, "records", ()) if self.weights is None else self.weights
        self._check_count(len(weights), k)
        at_rest = ignored_names(site, self.ignore)
        names = [name for name in site.params if name not in at_rest]
        products = gram_matrix(weights, names)
        values, vectors = _components(products, k, self.center)
        shares = vectors[:, :k] / np.sqrt(values[:k])  # direction i = Σ_t shares[t, i] (row t − the mean row)
        if self.center:
            shares = shares - shares.mean(axis=0)
        shares = shares * np.where(products[0] @ shares < 0, -1.0, 1.0)
        self._describe(values[:k] / values.clip(0).sum(), len(weights), np.abs(products @ shares).max(axis=0))
        return _combined(weights, names, shares, site)

    def recipe(self) -> dict[str, Any]:
        """The settings and the explained shares, as plain JSON values."""
        shares = {"explained": self.explained, "random_walk": self.random_walk}
        return {
            "kind": "pca",
            "recorded": len(self.weights) if self.weights is not None else self.recorded,
            "center": self.center,
            "ignore": plain_ignore(self.ignore),
            **{name: None if share is None else share.tolist() for name, share in shares.items()},
        }

    def _check_count(self, count: int, k: int) -> None:
        if not count and self.weights is None:
            raise ValueError(
                "PCA needs the weights that a training went through, and none are recorded here. The callback has them "
                "during and after a fit whose trajectory it records. Elsewhere, record them (Recorder.record, "
                "LossLandscapeWriter.record_checkpoint), and give LossLandscape records=recorder.weights."
            )
        if count < k + 1:
            raise NoPlaneError(
                f"PCA of {k} directions needs at least {k + 1} recorded sets of weights, got {count}: record more "
                "often, or train longer."
            )

    def _describe(self, explained: NDArray[np.float64], count: int, reach: NDArray[np.float64]) -> None:
        """Keep what was found beside the directions."""
        walk = random_walk_shares(count, len(explained)) if self.center else None
        labels = [f"PCA {i} ({percent(share)}" for i, share in enumerate(explained, 1)]
        beside = [")"] * len(labels) if walk is None else [f"; random walk {percent(share)})" for share in walk]
        found = {
            "explained": explained,
            "random_walk": walk,
            "recorded": count,
            "labels": tuple(a + b for a, b in zip(labels, beside, strict=True)),
            "reach": tuple(reach.tolist()),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)


def _components(
    products: NDArray[np.float64], k: int, center: bool, rounding: float = 1e-10
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The eigenvalues of a Gram matrix from the largest on, and the eigenvectors as columns.

    Components below `rounding` of the largest eigenvalue are rounding errors.

    Raises:
        NoPlaneError: if fewer than k components are more than that, or the matrix is not finite.
    """
    gram = products
    if not np.isfinite(products).all():
        raise NoPlaneError("The recorded weights are not finite: the training has diverged.")
    if center:
        gram = gram - gram.mean(axis=0) - gram.mean(axis=1)[:, None] + gram.mean()
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[::-1], vectors[:, ::-1]
    rank = int((values > rounding * max(values[0], np.finfo(float).tiny)).sum()) if values[0] > 0 else 0
    if rank < k:
        raise NoPlaneError(
            f"The recorded weights lie in {rank} directions only, not in {k}: record more often, or train longer."
        )
    return values, vectors


def _combined(
    weights: Sequence[Params], names: Sequence[str], shares: NDArray[np.float64], site: Snapshot
) -> tuple[dict[str, Tensor], ...]:
    """Σ_t shares[t, i] (θ_t − θ_T) for each i, accumulated in float64; each record is read once."""
    last = weights[-1]
    totals = [{name: torch.zeros_like(exact(last[name])) for name in names} for _ in range(shares.shape[1])]
    for t in range(len(weights) - 1):
        row = weights[t]
        for name in names:
            difference = exact(row[name]) - exact(last[name])
            for total, share in zip(totals, shares[t], strict=True):
                total[name] += float(share) * difference
    directions = []
    for total in totals:
        direction = {}
        for name, like in site.params.items():
            precise = working_dtype(like.dtype)
            moved = name in total
            direction[name] = cut(total[name].to(like.device, precise), like) if moved else zero(like, precise)
        directions.append(direction)
    return tuple(directions)


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


def percent(share: float) -> str:
    """A share in percent, with as many digits as tell it from 100 %.

    >>> percent(0.634), percent(0.9951), percent(1.0)
    ('63 %', '99.5 %', '100 %')
    """
    digits = 1 if 0.985 < share < 0.9995 else 0
    return f"{100 * share:.{digits}f} %"
