"""The facts on directions that are known before and after they are laid: needs, recipe, labels, reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..spectrum import Spectrum
from .ignore import BIASBN
from .random import Random

Kind = Callable[..., Any]


@dataclass(frozen=True)
class Facts:
    """The facts on directions after they were laid, the same on all processes.

    Args:
        recipe: the kind and its settings, as plain JSON values.
        labels: the directions in words, one each; empty where axes need none.
        reach: the largest coordinate of a recorded path along each direction; empty without a path.
        spectrum: of the Hessian whose eigenvectors they are; None where they are others.
    """

    recipe: dict[str, Any]
    labels: tuple[str, ...] = ()
    reach: tuple[float, ...] = field(default=())
    spectrum: Spectrum | None = None


def facts_of(directions: Kind) -> Facts:
    """The facts on directions that were called.

    >>> facts_of(Random(seed=7)).recipe["seed"]
    7
    """
    labels, reach = getattr(directions, "labels", ()), getattr(directions, "reach", ())
    return Facts(recipe(directions), labels, reach, getattr(directions, "spectrum", None))


def recipe(directions: Kind) -> dict[str, Any]:
    """The kind and settings of directions, as plain JSON values for a landscape's file.

    >>> recipe(Random(seed=7))["kind"], recipe(Random(seed=7))["seed"]
    ('random', 7)
    """
    settings = getattr(directions, "recipe", None)
    return settings() if settings else {"kind": getattr(directions, "__name__", type(directions).__name__)}


def needs(directions: Kind) -> tuple[str, ...]:
    """Sources of directions beside the weights: "records", "gradient", "optimizers".

    Their numbers are those of one process, which the other processes take over.

    >>> needs(Random())
    ()
    """
    return tuple(getattr(directions, "needs", ()))


def stand_in(directions: Kind) -> Kind:
    """The directions of a rehearsal, when there are no records yet; random ones, where more than weights is needed.

    >>> stand_in(Random(seed=7)).seed
    7
    """
    if not needs(directions):
        return directions
    seed = getattr(directions, "seed", Random.seed)
    return Random(getattr(directions, "normalize", "none"), getattr(directions, "ignore", BIASBN), seed=seed)
