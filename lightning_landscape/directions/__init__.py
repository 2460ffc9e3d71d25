"""Directions: callables (site, k) -> k vectors. One file a kind, one row in KINDS."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..weights.parameters import Params
from .between import Between
from .checked import checked_directions
from .ignore import ignored_names
from .joined import Joined
from .normalize import NORMALIZATIONS, dead_filters
from .pca import PCA, random_walk_shares
from .random import Random
from .site import Site

Directions = Callable[[Site, int], tuple[Params, ...]]

# The kinds that need nothing but a module. Between needs models, and PCA a recording.
KINDS: dict[str, Callable[..., Directions]] = {"random": Random}

__all__ = [
    "KINDS",
    "NORMALIZATIONS",
    "PCA",
    "Between",
    "Directions",
    "Joined",
    "Random",
    "Site",
    "checked_directions",
    "dead_filters",
    "ignored_names",
    "make_directions",
    "random_walk_shares",
    "recipe",
]


def make_directions(kind: str, **settings: Any) -> Directions:
    """The directions of a kind by its name; settings that the kind does not have are ignored.

    Raises:
        ValueError: if there is no such kind.

    >>> make_directions("random", seed=7, normalize="layer")
    Random(normalize='layer', ignore='biasbn', orthogonalize=False, seed=7, vectors='random')
    >>> make_directions("randon")
    Traceback (most recent call last):
    ValueError: directions='randon' is unknown; the choices are random, or a callable (site, k).
    """
    if kind not in KINDS:
        raise ValueError(
            f"directions={kind!r} is unknown; the choices are {', '.join(KINDS)}, or a callable (site, k)."
        )
    known = inspect.signature(KINDS[kind]).parameters
    return KINDS[kind](**{name: value for name, value in settings.items() if name in known})


def recipe(directions: Directions) -> dict[str, Any]:
    """The kind and settings of directions, as plain JSON values for a landscape's file.

    >>> recipe(Random(seed=7))["kind"], recipe(Random(seed=7))["seed"]
    ('random', 7)
    """
    settings = getattr(directions, "recipe", None)
    return settings() if settings else {"kind": getattr(directions, "__name__", type(directions).__name__)}
