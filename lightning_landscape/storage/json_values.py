"""Plain values as strict JSON, the same when they are read back: NaN and inf among them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

TAG, FLOAT = "$", "$float"


def loose(value: object) -> Any:
    """The value that `strict` was given.

    >>> loose(strict({"best": float("nan"), "$c": 1}))
    {'best': nan, '$c': 1}
    """
    if isinstance(value, list):
        return [loose(item) for item in value]
    if not isinstance(value, dict):
        return value
    if [*value] == [FLOAT]:
        return float(value[FLOAT])
    return {key.removeprefix(TAG): loose(item) for key, item in value.items()}


def strict(value: object) -> Any:
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


def number(value: float) -> float | str:
    """A number as JSON has it: itself, or the text "NaN", "Infinity" or "-Infinity", which float() reads.

    >>> number(0.5), number(-float("inf"))
    (0.5, '-Infinity')
    """
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def plain(value: object, where: str = "meta", depth: int = 0, deepest: int = 50) -> Any:
    """The same value in Python's own types: NumPy scalars become numbers, tuples become lists.

    Args:
        value: what is to be stored, or a part of it.
        where: how to reach that part, for the message.
        depth: how deep it is nested.
        deepest: how deep it may be.

    Raises:
        ValueError: if something in it is not plain JSON, or is nested deeper.
    """
    if depth > deepest:
        raise ValueError(f"{where.partition('[')[0]} is nested deeper than {deepest}.")
    for numpy_type, python in ((np.bool_, bool), (np.integer, int), (np.floating, float)):
        if isinstance(value, numpy_type):
            return python(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]", depth + 1, deepest) for i, item in enumerate(value)]
    if not isinstance(value, dict):
        raise ValueError(f"{where} is a {type(value).__name__}: a file holds plain JSON values only.")
    for key in value:
        if not isinstance(key, str):
            # json would turn 1 into "1" without a word.
            raise ValueError(f"{where} has the key {key!r}: the keys of JSON are text.")
    return {key: plain(item, f"{where}[{key!r}]", depth + 1, deepest) for key, item in value.items()}
