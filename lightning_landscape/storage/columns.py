"""The facts of single samples as columns, for any table-like file: one array a fact, one entry a sample.

A fact that may be unknown has a mask beside it (``label`` and ``label_known``); there are no magic values.
Thumbnails of any size share one array, padded with black at the bottom and the right.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..landscape import Array, Sample, Samples
from .layout import real_numbers

Columns = dict[str, NDArray[Any]]

# name in Sample: dtype in the file, and what makes a Python value of it on either side
OPTIONAL: dict[str, tuple[Any, Any]] = {
    "label": (np.int64, index),
    "prediction": (np.int64, index),
    "probability": (np.float64, float),
}


def to_columns(samples: Samples) -> Columns:
    """One array of length B a fact; a fact that no sample has is left out.

    Returns:
        ``index`` and ``center``. Each of ``label``, ``prediction``, ``probability`` with its ``…_known``.
        ``thumbnail``, shape (B, height, width, 3). With it ``thumbnail_height``, ``thumbnail_width`` and
        ``thumbnail_known``.

    Raises:
        ValueError: if a thumbnail is not a uint8 RGB picture.

    >>> one, two = Sample(7, 0.5, label=3), Sample(9, 0.25)
    >>> columns = to_columns(Samples(np.zeros((2, 4)), (one, two)))
    >>> list(columns), columns["label"].tolist(), columns["label_known"].tolist()
    (['index', 'center', 'label', 'label_known'], [3, 0], [True, False])
    """
    items = samples.items
    columns: Columns = {
        "index": np.array([index(item.index) for item in items], dtype=np.int64),
        "center": np.array([item.center for item in items], dtype=np.float64),
    }
    for name, (dtype, python) in OPTIONAL.items():
        facts = [getattr(item, name) for item in items]
        known = np.array([fact is not None for fact in facts], dtype=bool)
        if known.any():
            columns[name] = np.array([python(0 if fact is None else fact) for fact in facts], dtype=dtype)
            columns[f"{name}_known"] = known
    return {**columns, **_thumbnail_columns([item.thumbnail for item in items])}


def from_columns(values: Array, columns: Mapping[str, NDArray[Any]]) -> Samples:
    """The samples that `to_columns` took apart.

    Args:
        values: shape (B, *grid.shape).
        columns: as `to_columns` gives them.

    Raises:
        ValueError: if the columns do not fit together.
        KeyError: if one is missing.
    """
    count = len(columns["index"])
    for name, column in columns.items():
        if len(column) != count:
            raise ValueError(f"samples have {count} indices and {len(column)} entries in {name!r}.")
    facts: dict[str, list[Any]] = {
        "index": [index(i) for i in columns["index"]],
        "center": [float(center) for center in columns["center"]],
        "thumbnail": _thumbnails(columns, count),
    }
    for name, (_, python) in OPTIONAL.items():
        if name in columns:
            pairs = zip(columns[name], columns[f"{name}_known"], strict=True)
            facts[name] = [python(fact) if known else None for fact, known in pairs]
    items = tuple(Sample(**dict(zip(facts, row, strict=True))) for row in zip(*facts.values(), strict=True))
    return Samples(real_numbers("samples", values), items)


def _thumbnail_columns(pictures: list[NDArray[np.uint8] | None]) -> Columns:
    """The columns of the thumbnails; none if there is no thumbnail."""
    known = np.array([picture is not None for picture in pictures], dtype=bool)
    if not known.any():
        return {}
    for picture in pictures:
        if picture is not None and (picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3):
            raise ValueError(
                f"a thumbnail must be uint8 of shape (height, width, 3), got {picture.dtype} {picture.shape}."
            )
    sizes = np.array([(0, 0) if p is None else p.shape[:2] for p in pictures], dtype=np.int64)
    padded = np.zeros((len(pictures), *sizes.max(axis=0), 3), dtype=np.uint8)
    for place, picture in zip(padded, pictures, strict=True):
        if picture is not None:
            place[: picture.shape[0], : picture.shape[1]] = picture
    return {
        "thumbnail": padded,
        "thumbnail_height": sizes[:, 0],
        "thumbnail_width": sizes[:, 1],
        "thumbnail_known": known,
    }


def _thumbnails(columns: Mapping[str, NDArray[Any]], count: int) -> list[NDArray[np.uint8] | None]:
    """The thumbnails, each in its own size."""
    if "thumbnail" not in columns:
        return [None] * count
    padded, known = columns["thumbnail"], columns["thumbnail_known"]
    heights, widths = columns["thumbnail_height"], columns["thumbnail_width"]
    if padded.dtype != np.uint8 or padded.ndim != 4 or padded.shape[3] != 3:
        raise ValueError(f"thumbnails are {padded.dtype} of shape {padded.shape}, not RGB pictures.")
    for sizes, maximum in ((heights, padded.shape[1]), (widths, padded.shape[2])):
        if len(sizes) and not 0 <= sizes.min() <= sizes.max() <= maximum:
            raise ValueError(f"thumbnails of size {sizes.min()} to {sizes.max()} do not fit in {maximum}.")
    return [
        padded[b, : heights[b], : widths[b]].copy() if known[b] else None  # a copy frees the padding
        for b in range(count)
    ]
