"""A landscape's recipe (`Landscape.meta`) as JSON text, value by value the same when read back."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

DEEPEST = 50
TAG, FLOAT = "$", "$float"


def to_json(meta: dict[str, Any]) -> str:
    """The recipe as ASCII text that any JSON parser reads, NaN and inf among its numbers as in `strict`.

    Raises:
        ValueError: if something in it is not plain JSON, or is nested deeper than 50.

    >>> to_json({"seed": np.int64(3), "range": (-1.0, float("inf"))})
    '{"seed": 3, "range": [-1.0, {"$float": "Infinity"}]}'
    >>> from_json(to_json({"best": float("nan")}))
    {'best': nan}
    >>> to_json({"data": {"labels": {1, 2}}})
    Traceback (most recent call last):
    ValueError: meta['data']['labels'] is a set: a recipe holds plain JSON values only.
    """
    return json.dumps(strict(plain(meta)), allow_nan=False)


def from_json(text: str) -> dict[str, Any]:
    """The recipe that `to_json` wrote.

    Raises:
        ValueError: if the text is no JSON object.
        RecursionError: if it is nested absurdly deep.
    """
    return recipe(json.loads(text))


def recipe(value: Any) -> dict[str, Any]:
    """The recipe of which a file holds ``strict(plain(meta))``.

    Raises:
        ValueError: if it is no JSON object.
    """
    if not isinstance(value, dict):
        raise ValueError(f"the recipe is a {type(value).__name__}, not a JSON object.")
    return {key.removeprefix(TAG): _loose(item) for key, item in value.items()}


def strict(value: Any) -> Any:
    """A plain value in numbers that JSON has (RFC 8259, section 6): NaN becomes ``{"$float": "NaN"}``.

    A key that begins with $ gets a second one, so that nobody's own dictionary is taken for a number.

    >>> strict([1, -float("inf"), {"$float": 2}])
    [1, {'$float': '-Infinity'}, {'$$float': 2}]
    """
    if isinstance(value, float) and not math.isfinite(value):
        return {FLOAT: number(value)}
    if isinstance(value, list):
        return [strict(item) for item in value]
    if isinstance(value, dict):
        return {TAG * key.startswith(TAG) + key: strict(item) for key, item in value.items()}
    return value


def _loose(value: Any) -> Any:
    """The value that `strict` was given."""
    if isinstance(value, list):
        return [_loose(item) for item in value]
    if isinstance(value, dict):
        return float(value[FLOAT]) if [*value] == [FLOAT] else recipe(value)
    return value


def number(value: float) -> float | str:
    """A number as JSON has it: itself, or the text "NaN", "Infinity" or "-Infinity", which float() reads.

    >>> number(0.5), number(-float("inf"))
    (0.5, '-Infinity')
    """
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def plain(value: Any, where: str = "meta", depth: int = 0) -> Any:
    """The same value in Python's own types: NumPy scalars become numbers, tuples become lists.

    Args:
        value: a recipe or a part of it.
        where: how to reach that part, for the message.
        depth: how deep it is nested.

    Raises:
        ValueError: if something in it is not plain JSON, or is nested deeper than 50.
    """
    if depth > DEEPEST:
        raise ValueError(f"meta is nested deeper than {DEEPEST}.")
    for numpy_type, python in ((np.bool_, bool), (np.integer, int), (np.floating, float)):
        if isinstance(value, numpy_type):
            return python(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        raise ValueError(f"{where} is a {type(value).__name__}: a recipe holds plain JSON values only.")
    for key in value:
        if not isinstance(key, str):
            # json would turn 1 into "1" without a word.
            raise ValueError(f"{where} has the key {key!r}: the keys of a recipe are text.")
    return {key: plain(item, f"{where}[{key!r}]", depth + 1) for key, item in value.items()}
