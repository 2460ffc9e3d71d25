"""Directions of several kinds in one plane, such as one towards a model and a random one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..weights.parameters import Params
from .facts import needs, recipe
from .site import Site


@dataclass(frozen=True)
class Joined:
    """The first direction of each part.

    Args:
        parts: callables ``(site, k) -> k directions``, one a direction.

    >>> from torch import nn
    >>> from ..weights.parameters import Snapshot
    >>> from .random import Random
    >>> net = nn.Linear(2, 1)
    >>> d, e = Joined((Random(seed=1), Random(seed=2)))(Snapshot.of(net), 2)
    >>> bool((d["weight"] == Random(seed=1)(Snapshot.of(net), 1)[0]["weight"]).all())
    True
    """

    parts: tuple[Callable[[Site, int], tuple[Params, ...]], ...]

    def __call__(self, site: Site, k: int) -> tuple[Params, ...]:
        """The k directions.

        Raises:
            ValueError: if there are not k parts.
        """
        if len(self.parts) != k:
            raise ValueError(
                f"parts holds {len(self.parts)}, and the number of directions is {k}: give one part a direction."
            )
        return tuple(part(site, 1)[0] for part in self.parts)

    @property
    def needs(self) -> tuple[str, ...]:
        """The needs of the parts."""
        return tuple(dict.fromkeys(need for part in self.parts for need in needs(part)))

    @property
    def labels(self) -> tuple[str, ...]:
        """After a call, the directions in words; empty where a part has no words."""
        labels = [label for part in self.parts for label in getattr(part, "labels", ())[:1]]
        return tuple(labels) if len(labels) == len(self.parts) else ()

    def recipe(self) -> dict[str, Any]:
        """The settings of each part, as plain JSON values."""
        return {"kind": "joined", "parts": [recipe(part) for part in self.parts]}
