"""The parameters that a plane leaves at rest."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ..weights.parameters import Snapshot

BIASBN = "biasbn"


def plain_ignore(ignore: str | Sequence[str] | None) -> str | list[str] | None:
    """The setting `ignore` in plain JSON values, for a recipe.

    >>> plain_ignore(("biasbn", "embedding.*"))
    ['biasbn', 'embedding.*']
    """
    return ignore if ignore is None or isinstance(ignore, str) else list(ignore)


def ignored_names(snapshot: Snapshot, ignore: str | Sequence[str] | None) -> frozenset[str]:
    """The names of the parameters whose direction is zero.

    Args:
        snapshot: the module's parameters and their roles.
        ignore: ``"biasbn"``, a name pattern such as ``"embedding.*"``, several of these, or None for nothing.
            ``"biasbn"`` is every tensor of at most one dimension and every parameter of a normalisation layer
            (Li et al. 2018, section 4).

    Raises:
        ValueError: if a pattern matches no parameter, or nothing is left to perturb.

    >>> from torch import nn
    >>> snapshot = Snapshot.of(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm((2, 2))))
    >>> sorted(ignored_names(snapshot, "biasbn"))
    ['0.bias', '1.bias', '1.weight']
    """
    patterns = [ignore] if isinstance(ignore, str) else list(ignore or [])
    names: set[str] = set()
    for pattern in patterns:
        if pattern == BIASBN:
            names |= {n for n, t in snapshot.params.items() if t.ndim <= 1} | snapshot.normalization
            continue
        matched = {name for name in snapshot.params if fnmatchcase(name, pattern)}
        if not matched:
            examples = ", ".join(list(snapshot.params)[:6])
            raise ValueError(
                f"ignore={pattern!r} matches no trainable parameter: give {BIASBN!r}, None, or patterns of "
                f"names such as {examples}."
            )
        names |= matched
    if names >= snapshot.params.keys():
        raise ValueError(
            f"ignore={ignore!r} leaves none of the {len(snapshot.params)} trainable parameters to perturb: "
            "give None, or fewer patterns."
        )
    return frozenset(names)
