"""A landscape's recipe (`Landscape.meta`) as JSON text, value by value the same when read back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

DEEPEST = 50


def to_json(meta: dict[str, Any]) -> str:
    """The recipe as ASCII text; NaN and inf as Python's json writes them.

    Raises:
        ValueError: if something in it is not plain JSON, or is nested deeper than 50.

    >>> to_json({"seed": np.int64(3), "range": (-1.0, float("inf"))})
    '{"seed": 3, "range": [-1.0, Infinity]}'
    >>> to_json({"data": {"labels": {1, 2}}})
    Traceback (most recent call last):
    ValueError: meta['data']['labels'] is a set: a recipe holds plain JSON values only.
    """
    return json.dumps(plain(meta))


def from_json(text: str) -> dict[str, Any]:
    """The recipe that `to_json` wrote.

    Raises:
        ValueError: if the text is no JSON object.
        RecursionError: if it is nested absurdly deep.
    """
    meta = json.loads(text)
    if not isinstance(meta, dict):
        raise ValueError(f"the recipe is a {type(meta).__name__}, not a JSON object.")
    return meta


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
