"""SharpnessHistory: the numbers of a sharpness monitor along a training, in a file and in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .arguments import check_word
from .local_paths import local_path
from .plots import Figure
from .plots.sharpness import draw_curves, draw_spectra
from .spectrum import Spectrum
from .storage import LandscapeFileError, write_whole
from .storage.hdf5 import encode_columns, read_columns

Array = NDArray[np.float64]
Probes = tuple[Array, ...]
PICTURES = ("curves", "spectrum")
FORMAT = "lightning_landscape sharpness"
GROUP = "spectra/"  # of the file: steps (T,), nodes and weights (T, probes, m)


@dataclass(eq=False)
class SharpnessHistory:
    """Measures of sharpness by step, and densities of eigenvalues where they were measured.

    Args:
        rows: the numbers of each moment by name, oldest first; "step" is among them.
        spectra: nodes and weights of the probes, by step.
        facts: words by name, such as the optimiser and the formula of its edge of stability.

    >>> history = SharpnessHistory([{"step": 1.0, "sam": 0.5}, {"step": 2.0, "lambda_max": 3.0}])
    >>> history.columns["sam"]
    array([0.5, nan])
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    spectra: dict[int, tuple[Probes, Probes]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, Array]:
        """One array a name, shape (T,); NaN at steps without that number."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {name: np.array([row.get(name, np.nan) for row in self.rows]) for name in names}

    def record(self, row: Mapping[str, float], nodes: Sequence[Array] = (), weights: Sequence[Array] = ()) -> None:
        """Add the numbers of a moment; those of the same step or of later ones give way."""
        step = row["step"]
        self.rows = [other for other in self.rows if other["step"] < step] + [dict(row)]
        self.spectra = {other: probes for other, probes in self.spectra.items() if other < step}
        if nodes:
            self.spectra[int(step)] = tuple(nodes), tuple(weights)

    def density(self, step: int, points: int = 512) -> tuple[Array, Array]:
        """The density of the eigenvalues at a step, as `Spectrum.density` gives it.

        Raises:
            ValueError: if none was measured at that step.
        """
        if step not in self.spectra:
            known = ", ".join(map(str, self.spectra)) or "none; give spectrum=True"
            raise ValueError(f"step={step} has no density; the steps with one are {known}.")
        nodes, weights = self.spectra[step]
        return Spectrum(0, np.ones(1), np.zeros(1), nodes=nodes, weights=weights).density(points)

    def plot(self, kind: str = "curves") -> Figure:
        """A picture: "curves" of all numbers against steps, or the "spectrum" over the training.

        Raises:
            ValueError: if the kind is unknown, or there is nothing to draw.
        """
        check_word("kind", kind, PICTURES)
        if kind == "curves":
            return draw_curves(self.columns, self.facts)
        return draw_spectra({step: self.density(step) for step in self.spectra}, self.columns)

    def state(self) -> dict[str, object]:
        """All of it as plain lists and numbers, for a checkpoint."""
        spectra = {
            step: [[array.tolist() for array in probes] for probes in pair] for step, pair in self.spectra.items()
        }
        return {"rows": [dict(row) for row in self.rows], "spectra": spectra, "facts": dict(self.facts)}

    @classmethod
    def of_state(cls, state: Mapping[str, object]) -> SharpnessHistory:
        """The history that `state` was made of."""
        rows, spectra, facts = state["rows"], state["spectra"], state["facts"]
        assert isinstance(rows, list)
        assert isinstance(spectra, dict)
        assert isinstance(facts, dict)
        arrays = {int(step): (_arrays(nodes), _arrays(weights)) for step, (nodes, weights) in spectra.items()}
        return cls([dict(row) for row in rows], arrays, dict(facts))

    def save(self, path: str | PathLike[str]) -> Path:
        """Write an HDF5 file, whole or not at all; gives its path. `load_sharpness` reads it."""
        columns: dict[str, Array] = dict(self.columns)
        if self.spectra:
            columns[GROUP + "steps"] = np.array(list(self.spectra), dtype=np.float64)
            for place, name in enumerate(("nodes", "weights")):
                columns[GROUP + name] = _stacked([pair[place] for pair in self.spectra.values()])
        facts = {f"fact.{name}": text for name, text in self.facts.items()}
        content = encode_columns(columns, {"format": FORMAT, "format_version": "1", **facts})
        return write_whole(local_path("path", path), content, synced=False)


def load_sharpness(path: str | PathLike[str]) -> SharpnessHistory:
    """The history in a file that a `SharpnessMonitor` has written.

    Args:
        path: an ``.h5`` file.

    Raises:
        LandscapeFileError: if it is no such file, or damaged.
        FileNotFoundError: if there is none.
    """
    file = local_path("path", path)
    if not file.is_file():
        raise FileNotFoundError(f"path={str(path)!r} does not exist: give the sharpness.h5 of a training.")
    try:
        columns, attributes = read_columns(file)
    except (OSError, KeyError, RuntimeError) as error:
        raise LandscapeFileError(f"{file} can't be read as HDF5: {error}.") from error
    if attributes.get("format") != FORMAT:
        raise LandscapeFileError(f"{file} holds no sharpness of a training: landscapes are read by load().")
    parts = {name: columns.pop(GROUP + name) for name in ("steps", "nodes", "weights") if GROUP + name in columns}
    steps = columns.get("step", np.zeros(0))
    rows = [
        {name: float(column[i]) for name, column in columns.items() if not np.isnan(column[i])}
        for i in range(len(steps))
    ]
    spectra = {
        int(step): (_unstacked(nodes), _unstacked(weights))
        for step, nodes, weights in zip(*(parts[name] for name in ("steps", "nodes", "weights")), strict=True)
    } if parts else {}  # fmt: skip
    facts = {key.removeprefix("fact."): text for key, text in attributes.items() if key.startswith("fact.")}
    return SharpnessHistory(rows, spectra, facts)


def _arrays(lists: Sequence[Sequence[float]]) -> Probes:
    return tuple(np.array(values, dtype=np.float64) for values in lists)


def _stacked(moments: Sequence[Probes]) -> Array:
    """Arrays of different lengths in one, shape (T, probes, m), filled up with NaN."""
    shape = (len(moments), max(map(len, moments)), max(len(array) for probes in moments for array in probes))
    result = np.full(shape, np.nan)
    for i, probes in enumerate(moments):
        for j, array in enumerate(probes):
            result[i, j, : len(array)] = array
    return result


def _unstacked(probes: Array) -> Probes:
    return tuple(array[~np.isnan(array)] for array in probes if not np.isnan(array).all())
