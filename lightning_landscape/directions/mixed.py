"""A plane of the path of a training and chance: the first principal component, and random directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..weights.parameters import Params, Snapshot
from .gradient import moving_length
from .ignore import ignored_names, plain_ignore
from .pca import PCA
from .random import Random, completed


@dataclass(frozen=True, eq=False)
class Mixed:
    """The first principal component of the recorded weights, and random directions orthogonal to it.

    The first axis shows how the loss fell along the path. The others show how sharp its end is beside the path. The
    first has the length of the weights that move, ‖θ*‖, as a filter-normalised random direction has: both axes have
    one scale.

    Args:
        weights: T recorded sets of weights, oldest first; None for those of the site: a training's records.
        normalize: how the random directions are scaled, as in `Random`.
        ignore: the parameters that stay at rest.
        seed: of the random directions.

    Attributes:
        labels: after a call, the directions in words.
        reach: after a call, the largest coordinate of a record along the first direction, in size.

    >>> import torch
    >>> path = [{"w": torch.tensor([[3.0 + t, 4.0]])} for t in (3, 2, 1, 0)]
    >>> mixed = Mixed(path, ignore=None)
    >>> d, e = mixed(Snapshot.of(torch.nn.ParameterDict(path[-1])), 2)
    >>> d["w"].round(decimals=4), bool(abs((d["w"] * e["w"]).sum()) < 1e-4), mixed.reach
    (tensor([[5., 0.]]), True, (0.6,))
    """

    weights: Sequence[Params] | None = None
    normalize: str = "filter"
    ignore: str | Sequence[str] | None = "biasbn"
    seed: int = 42
    labels: tuple[str, ...] = field(default=(), init=False, repr=False)
    reach: tuple[float, ...] = field(default=(), init=False, repr=False)
    _recipe: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def needs(self) -> tuple[str, ...]:
        """Needs of the site: the records of a training, unless weights are given."""
        return ("records",) if self.weights is None else ()

    def __call__(self, site: Snapshot, k: int) -> tuple[Params, ...]:
        """The k directions.

        Raises:
            ValueError: as `PCA` and `Random`.
        """
        pca = PCA(self.weights, ignore=self.ignore)
        (axis,) = pca(site, 1)
        at_rest = ignored_names(site, self.ignore)
        length = moving_length(site, at_rest)
        first = completed({name: tensor * length for name, tensor in axis.items() if name not in at_rest}, site)
        found = {"labels": (*pca.labels, *["random"] * (k - 1)), "reach": (pca.reach[0] / length,)}
        for name, value in {**found, "_recipe": pca.recipe()}.items():
            object.__setattr__(self, name, value)
        return (first, *Random(self.normalize, self.ignore, seed=self.seed).beside((first,), site, k))

    def recipe(self) -> dict[str, Any]:
        """The settings and the explained share of the first direction, as plain JSON values."""
        random = {"normalize": self.normalize, "seed": self.seed}
        pca = self._recipe or PCA(self.weights, ignore=self.ignore).recipe()
        return {**pca, "kind": "mixed", "ignore": plain_ignore(self.ignore), "random": random}
