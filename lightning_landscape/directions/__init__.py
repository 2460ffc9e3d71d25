"""Directions: callables (site, k) -> k vectors. One file a kind, one row in KINDS."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

from ..weights.parameters import Params
from .between import Between
from .checked import checked_directions
from .facts import Facts, facts_of, needs, recipe, stand_in
from .gradient import Gradient
from .hessian import Hessian
from .ignore import ignored_names
from .joined import Joined
from .mixed import Mixed
from .normalize import NORMALIZATIONS, dead_filters
from .pca import PCA, NoPlaneError, random_walk_shares
from .random import Random
from .site import Site
from .update import Update

Directions = Callable[[Site, int], tuple[Params, ...]]

# Every kind by its name: for the callback, LossLandscape, the command line and the page docs/directions.md.
KINDS: dict[str, Callable[..., Directions]] = {
    "random": Random,
    "pca": PCA,
    "gradient": Gradient,
    "update": Update,
    "between": Between,
    "mixed": Mixed,
    "hessian": Hessian,
}
KindName = Literal["random", "pca", "gradient", "update", "between", "mixed", "hessian"]  # what LightningCLI reads

__all__ = [
    "KINDS",
    "NORMALIZATIONS",
    "PCA",
    "Between",
    "Directions",
    "Facts",
    "Gradient",
    "Hessian",
    "Joined",
    "KindName",
    "Mixed",
    "NoPlaneError",
    "Random",
    "Site",
    "Update",
    "checked_directions",
    "dead_filters",
    "facts_of",
    "ignored_names",
    "make_directions",
    "needs",
    "random_walk_shares",
    "recipe",
    "stand_in",
]


def make_directions(kind: str, **settings: Any) -> Directions:
    """The directions of a kind by its name; settings that the kind does not have are ignored.

    Raises:
        ValueError: if there is no such kind, or it is between models and `settings` has no targets.

    >>> make_directions("random", seed=7, normalize="layer")
    Random(normalize='layer', ignore='biasbn', orthogonalize=False, seed=7, vectors='random')
    >>> make_directions("randon")
    Traceback (most recent call last):
    ValueError: directions='randon' is unknown; the choices are random, pca, gradient, update, between, mixed,
    hessian, or a callable (site, k).
    """
    if kind not in KINDS:
        raise ValueError(
            f"directions={kind!r} is unknown; the choices are {', '.join(KINDS)}, or a callable (site, k)."
        )
    if kind == "between" and not settings.get("targets"):
        raise ValueError(
            "directions='between' needs a model for each direction: give directions=Between(['first.ckpt', "
            "'second.ckpt']), or in a configuration directions: {targets: [first.ckpt, second.ckpt]}."
        )
    known = inspect.signature(KINDS[kind]).parameters
    return KINDS[kind](**{name: value for name, value in settings.items() if name in known})
