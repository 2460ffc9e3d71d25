"""The ranges that a caller asks for: of colours and heights (vmin, vmax), of lines and bands (levels)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def check_range(low: float | None, high: float | None, log: bool = False) -> None:
    """Raises ValueError unless the ends that are given are finite, in order, and positive on a logarithmic scale.

    >>> check_range(0.0, None)
    >>> check_range(2, 1)
    Traceback (most recent call last):
    ValueError: the range from 2 to 1 is reversed or empty: give a low end below the high end.
    """
    given = [end for end in (low, high) if end is not None]
    if not np.isfinite(given).all():
        raise ValueError(f"the range from {low} to {high} has an end that is not finite: give finite numbers, or None.")
    if len(given) == 2 and not given[0] < given[1]:
        raise ValueError(f"the range from {low} to {high} is reversed or empty: give a low end below the high end.")
    if log and given and min(given) <= 0:
        raise ValueError(f"the range from {low} to {high} is not positive, which a logarithmic scale needs.")


def checked_levels(levels: ArrayLike, log: bool = False) -> NDArray[np.float64]:
    """`levels` as an array, shape (n,).

    Raises:
        ValueError: unless they are at least two finite, increasing numbers, positive on a logarithmic scale.

    >>> checked_levels(np.arange(0, 1, 0.25))
    array([0.  , 0.25, 0.5 , 0.75])
    >>> checked_levels([1, 0])
    Traceback (most recent call last):
    ValueError: levels=[1, 0] must be at least two finite, increasing numbers, e.g. np.arange(0, 10, 0.5).
    """
    array = np.asarray(levels, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all() or not (array[1:] > array[:-1]).all():
        shown = np.array2string(np.asarray(levels), separator=", ", threshold=8)
        raise ValueError(f"levels={shown} must be at least two finite, increasing numbers, e.g. np.arange(0, 10, 0.5).")
    check_range(float(array[0]), float(array[-1]), log)
    return array


def thin(count: int, most: int) -> slice:
    """The step that leaves at most `most` of `count` things, the first among them.

    >>> list(range(10))[thin(10, 4)]
    [0, 3, 6, 9]
    """
    return slice(None, None, max(1, -(-count // most)))
