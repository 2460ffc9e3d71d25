"""The planes of several landscapes: one plane, axes that can be compared, or different planes; each in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..landscape import Landscape
from ..recipe import DirectionsRecipe, Recipe

Relation = Literal["one", "alike", "unknown", "different"]
# Kinds whose directions come from a seed and the names of the parameters alone: two runs of one model share them.
SEEDED = ("random",)


@dataclass(frozen=True)
class Planes:
    """The relation between the planes of several landscapes.

    Args:
        relation: "one" for one plane through the same weights. "alike" for the same directions, each scaled by the
            weights of its run. "unknown" where a file tells nothing of its directions. Else "different".
        text: the relation in one or two sentences.
    """

    relation: Relation
    text: str

    @property
    def share_axes(self) -> bool:
        """True unless the axes are known to differ."""
        return self.relation != "different"


def planes_of(landscapes: Mapping[str, Landscape]) -> Planes:
    """The relation between the planes of several landscapes.

    Args:
        landscapes: by the name of their run.

    >>> import numpy as np
    >>> from lightning_landscape.landscape import Grid
    >>> def run(seed):
    ...     directions = DirectionsRecipe("random", {"seed": seed, "normalize": "filter"})
    ...     grid = Grid.from_ranges((-1, 1, 3))
    ...     return Landscape(grid, {"loss": np.zeros(3)}, "loss", recipe=Recipe(directions=directions))
    >>> print(planes_of({"sgd": run(42), "adam": run(42)}).text)
    The axes can be compared: random directions of seed 42, scaled by the weights of each run (filter).
    >>> print(planes_of({"sgd": run(42), "adam": run(43)}).text)
    The planes differ: seed 42 (sgd), 43 (adam). A point of one is no point of another.
    """
    recipes = {name: landscape.recipe for name, landscape in landscapes.items()}
    known = {name: recipe.directions for name, recipe in recipes.items() if recipe.directions is not None}
    if differing := _differing(known, recipes):
        return Planes("different", f"The planes differ: {'; '.join(differing)}. A point of one is no point of another.")
    if unknown := [name for name in recipes if name not in known]:
        names = ", ".join(unknown)
        return Planes("unknown", f"The directions of {names} are not known: the axes may be of different planes.")
    if _is_one(recipes):
        center = next(iter(recipes.values())).weights
        weights = f"the weights at its centre ({center})" if center else "the weights at its centre"
        return Planes("one", f"One plane: the directions and {weights} are the same.")
    first = next(iter(known.values()))
    if first.kind not in SEEDED:
        text = f"The planes differ: {first.kind} directions come from the weights of each run."
        return Planes("different", f"{text} A point of one is no point of another.")
    scaled = f"scaled by the weights of each run ({first.normalize})" if first.normalize != "none" else "not scaled"
    seed = first.settings.get("seed", "?")
    return Planes("alike", f"The axes can be compared: {first.kind} directions of seed {seed}, {scaled}.")


def _is_one(recipes: Mapping[str, Recipe]) -> bool:
    """True if weights and directions are known to agree in every bit."""
    keys = {(r.weights_checksum, r.directions.checksum if r.directions else None) for r in recipes.values()}
    return len(keys) == 1 and None not in next(iter(keys))


def _differing(known: Mapping[str, DirectionsRecipe], recipes: Mapping[str, Recipe]) -> list[str]:
    """The entries that differ, each with the values of the runs."""
    kinds = _values(known, lambda directions: directions.kind)
    if len(set(kinds.values())) > 1:
        return [_entry("kind", kinds)]
    if not known or next(iter(known.values())).kind not in SEEDED:
        return []
    result = []
    for setting in dict.fromkeys(name for directions in known.values() for name in directions.settings):
        values = _values(known, lambda directions, setting=setting: directions.settings.get(setting))  # type: ignore[misc]
        result += [_entry(setting, values)] if len(set(values.values())) > 1 else []
    moved = _values(known, lambda directions: directions.moved_parameters)
    result += [_entry("moved parameters", moved)] if len(set(moved.values()) - {"null"}) > 1 else []
    types = {name: json.dumps(recipes[name].dir_type or "weights") for name in known}  # None is of the callback
    return result + ([_entry("dir_type", types)] if len(set(types.values())) > 1 else [])


def _values(known: Mapping[str, DirectionsRecipe], get: Callable[[DirectionsRecipe], Any]) -> dict[str, str]:
    return {name: json.dumps(get(directions), default=repr) for name, directions in known.items()}


def _entry(title: str, values: Mapping[str, str]) -> str:
    """One entry and its values, each with the runs that have it.

    >>> _entry("seed", {"a": "42", "b": "43", "c": "42"})
    'seed 42 (a, c), 43 (b)'
    """
    runs: dict[str, list[str]] = {}
    for name, value in values.items():
        runs.setdefault(value.strip('"').replace("null", "none"), []).append(name)
    texts = [f"{value} ({', '.join(names)})" for value, names in runs.items()]
    return f"{title} {', '.join(texts)}"
