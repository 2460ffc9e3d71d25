"""Directions: callables (snapshot, k) -> k vectors. One file a kind, one row in KINDS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..weights.parameters import Params, Snapshot
from .between import Between
from .checked import alike, checked_directions
from .ignore import ignored_names
from .joined import Joined
from .normalize import NORMALIZATIONS, dead_filters
from .pca import PCA, random_walk_shares
from .random import Random

Directions = Callable[[Snapshot, int], tuple[Params, ...]]

# Those that need nothing but a module; Between and PCA are given models or a recording.
KINDS: dict[str, Callable[..., Directions]] = {
    "random": Random,
}

__all__ = [
    "KINDS",
    "NORMALIZATIONS",
    "PCA",
    "Between",
    "Directions",
    "Joined",
    "Random",
    "alike",
    "checked_directions",
    "dead_filters",
    "ignored_names",
    "random_walk_shares",
    "recipe",
]


def recipe(directions: Directions) -> dict[str, Any]:
    """What a landscape's file says of its directions: the kind and its settings, plain JSON values.

    >>> recipe(Random(seed=7))["kind"], recipe(Random(seed=7))["seed"]
    ('random', 7)
    """
    own = getattr(directions, "recipe", None)
    return own() if own is not None else {"kind": getattr(directions, "__name__", type(directions).__name__)}
