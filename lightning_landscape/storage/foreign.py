"""Surfaces that other programs wrote, as Landscapes: each with the arrangement its program left it in.

- **loss-landscape**, the code of Li et al. (2018), .h5: ``xcoordinates``, ``ycoordinates``, ``train_loss``,
  ``train_acc``, ``dir_file``. Its arrays have shape (nx, ny), yet it walks them as the (ny, nx) mesh of its
  coordinates: place p of the flat array is the value at (x[p % nx], y[p // nx]). A square surface comes out
  transposed, another one scrambled; both are put right here. −1 is "not evaluated".
- **LightZero**'s ``loss_landscape``, .h5: the same keys without ``dir_file``, and ``train_loss_<metric>``;
  array[i, j] is at (x_i, y_j), everything is evaluated, and −1 is a loss like others.
- **LossLandscape** of PascalSun, .json: ``X``, ``Y``, ``loss_grid_2d`` (``X[i][j]`` is the coordinate along
  x), or a line or a volume; null is "not finite". Cells that were never filled hold 0, also as coordinates.

Where the numbers come from stands in ``landscape.meta["source"]``.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..landscape import Array, Grid, Landscape

NOT_EVALUATED = -1.0
AXES = ("xcoordinates", "ycoordinates")
MARK_OF_LI = "dir_file"
EIGENVALUES = {"min_eig", "max_eig"}


def is_surface(keys: Container[str]) -> bool:
    """True if an HDF5 file with these keys is a surface of loss-landscape or LightZero."""
    return AXES[0] in keys


def from_surface(arrays: Mapping[str, NDArray[Any]], by_li: bool) -> Landscape:
    """The landscape in a surface file of loss-landscape or LightZero.

    Args:
        arrays: the numeric data sets, by key.
        by_li: whether the file has the key ``dir_file``, which the code of Li et al. alone writes.

    Raises:
        ValueError: if it holds no values, or their shapes are not the grid's.

    >>> corner = {"xcoordinates": np.arange(3.0), "ycoordinates": np.arange(2.0), "train_loss": np.arange(6.0)}
    >>> corner["train_loss"] = corner["train_loss"].reshape(3, 2)
    >>> from_surface(corner, by_li=True).loss.tolist()
    [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    """
    axes = tuple(np.asarray(arrays[key], dtype=np.float64) for key in AXES if key in arrays)
    grid = Grid(axes)
    found = {key: np.asarray(array, dtype=np.float64) for key, array in arrays.items() if key not in AXES}
    for key, array in found.items():
        if array.shape != grid.shape:
            raise ValueError(f"{key} has shape {array.shape}, the grid has {grid.shape}.")
    if not found:
        raise ValueError(f"it has coordinates and no values: {', '.join(arrays)}.")
    main = _main(found)
    if not by_li:
        return Landscape(grid, found, main, meta={"source": {"program": "LightZero", "arrangement": "as in the file"}})
    values = {key: _unscrambled(array) for key, array in found.items()}
    known = {key: _known(values, key) for key in values}
    values = {key: np.where(known[key], array, np.nan) for key, array in values.items()}
    source = {
        "program": "loss-landscape (Li et al. 2018)",
        "arrangement": f"place p of the flat array was taken for (x[p % {len(axes[0])}], y[p // {len(axes[0])}])"
        if grid.ndim == 2
        else "as in the file",
        "not_evaluated": {key: int((~mask).sum()) for key, mask in known.items()},
    }
    return Landscape(grid, values, main, done=known[main], meta={"source": source})


def is_exploration(content: object) -> bool:
    """True if the content of a JSON file is an export of PascalSun's LossLandscape."""
    return isinstance(content, dict) and any(key in content for key in _GRIDS)


def from_exploration(content: Mapping[str, Any]) -> Landscape:
    """The landscape in a JSON file of PascalSun's LossLandscape: its surface, else its volume, else its line.

    Everything else in the file (trajectory, Hessian, metadata, the other grids) goes to ``meta["source"]``.

    Raises:
        ValueError: if a coordinate is missing, or its arrays do not fit together.

    >>> line = from_exploration({"X_1d": [-1, 0, 1], "loss_line_1d": [2, 1, None], "baseline_loss_1d": 1})
    >>> line.loss.tolist(), line.center
    ([2.0, 1.0, nan], {'loss': 1.0})
    """
    chosen = next(key for key in _GRIDS if key in content)
    coordinates, baseline = _GRIDS[chosen]
    loss = np.array(content[chosen], dtype=np.float64)
    axes, known = [], np.ones(loss.shape, dtype=bool)
    used = {chosen}
    for i, keys in enumerate(coordinates):
        found = {key: np.array(content[key], dtype=np.float64) for key in keys if key in content}
        meshes = [points for points in found.values() if points.shape == loss.shape and loss.ndim > 1]
        lines = [points for points in found.values() if points.ndim == 1]
        if not meshes and not lines:
            raise ValueError(f"{chosen} has no coordinates along direction {i}: {' or '.join(keys)}.")
        axes.append(lines[0] if lines else _axis(meshes[0], i))
        along = axes[-1].reshape([-1 if j == i else 1 for j in range(loss.ndim)])
        for mesh in meshes:
            known &= mesh == along
        used.update(found)
    center = content.get(baseline, content.get("baseline_loss"))
    remaining = {key: value for key, value in content.items() if key not in used}
    return Landscape(
        Grid(tuple(axes)),
        {"loss": np.where(known, loss, np.nan)},
        "loss",
        done=known,
        center={} if center is None else {"loss": float(center)},
        meta={"source": {"program": "LossLandscape (PascalSun)", "arrangement": "as in the file", **remaining}},
    )


# the key of the values: for each direction the keys of its coordinates, axes before meshes; the key of the centre
_GRIDS: dict[str, tuple[list[tuple[str, ...]], str]] = {
    "loss_grid_2d": ([("X",), ("Y",)], "baseline_loss"),
    "loss_grid_3d": ([("volume_x", "X"), ("volume_y", "Y"), ("volume_z", "Z")], "baseline_loss_3d"),
    "loss_line_1d": ([("X_1d", "X")], "baseline_loss_1d"),
}


def _unscrambled(array: Array) -> Array:
    """values[i, j] at (x_i, y_j), of an array that was filled as a mesh; a line as it is."""
    return array.reshape(array.shape[::-1]).T if array.ndim == 2 else array


def _known(values: Mapping[str, Array], key: str) -> NDArray[np.bool_]:
    """A mask of the points at which a metric of loss-landscape was evaluated.

    A point counts as not evaluated if all metrics of the same split (such as train) are −1 there. The two
    eigenvalues form a group of their own.
    """
    split = key.partition("_")[0]
    pair = [k for k in values if k.partition("_")[0] == split] if key not in EIGENVALUES else EIGENVALUES & {*values}
    unset: NDArray[np.bool_] = np.all([values[k] == NOT_EVALUATED for k in pair], axis=0)
    return ~unset


def _main(names: Mapping[str, Any]) -> str:
    """train_loss, else the first loss, else the first of all."""
    losses = [name for name in names if "loss" in name]
    return "train_loss" if "train_loss" in names else (losses or [*names])[0]


def _axis(mesh: Array, direction: int) -> Array:
    """The axis of a mesh along one direction; a cell that was never filled holds 0 in place of its coordinate."""
    slabs = np.moveaxis(mesh, direction, 0).reshape(mesh.shape[direction], -1)
    return slabs[np.arange(len(slabs)), np.abs(slabs).argmax(axis=1)]
