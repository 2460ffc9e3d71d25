"""The path of a training as named arrays, for any table-like file.

::

    steps, points, residuals, distances, checkpoints, measured     as in `Trajectory`
    losses.…, plane_losses.…, metrics.…, history.…                 one array a column

A column's name in the file is safe in every format; the header has the exact one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..trajectory import Trajectory
from .layout import data_set_names, real_numbers

Arrays = dict[str, NDArray[Any]]
Names = dict[str, dict[str, str]]  # of each table: the exact name of a column by that in the file
TABLES = ("losses", "plane_losses", "metrics", "history")
ARRAYS = ("steps", "points", "residuals", "distances", "checkpoints")


def path_to_arrays(path: Trajectory) -> tuple[Names, Arrays]:
    """The names of the columns and the arrays of a path; no array is copied.

    >>> path = Trajectory(np.zeros(1), np.zeros((1, 2)), np.zeros(1), np.zeros(1), {"val/loss": np.ones(1)})
    >>> names, arrays = path_to_arrays(path)
    >>> names["losses"], arrays["losses.val_loss"]
    ({'val_loss': 'val/loss'}, array([1.]))
    """
    names: Names = {}
    arrays: Arrays = {name: getattr(path, name) for name in ARRAYS}
    arrays["measured"] = np.asarray(path.measured, dtype=bool)
    for table in TABLES:
        columns = getattr(path, table)
        safe = data_set_names(columns)
        names[table] = {safe[name]: name for name in columns}
        arrays |= {f"{table}.{safe[name]}": column for name, column in columns.items()}
    return names, arrays


def path_from_arrays(names: Mapping[str, Mapping[str, str]], arrays: Mapping[str, NDArray[Any]]) -> Trajectory:
    """The path that `path_to_arrays` took apart.

    Raises:
        ValueError: if its arrays do not fit together.
        KeyError: if one is missing.
    """
    losses, plane_losses, metrics, history = (
        {name: real_numbers(name, arrays[f"{table}.{safe}"]) for safe, name in names[table].items()} for table in TABLES
    )
    steps, points, residuals, distances, checkpoints = (real_numbers(name, arrays[name]) for name in ARRAYS)
    measured = arrays["measured"].astype(bool)
    return Trajectory(
        steps, points, residuals, distances, losses, plane_losses, metrics, history, checkpoints, measured
    )
