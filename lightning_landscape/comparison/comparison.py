"""Comparison: the landscapes of several runs, whether their planes can be compared, a table and pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..landscape import Landscape
from ..storage import load, save
from ..trajectory import Trajectory
from .distances import NOTE
from .files import STEM, find_runs
from .planes import Planes, planes_of
from .remarks import remarks_of
from .table import Table, as_text, table_of

if TYPE_CHECKING:
    from ..plots import Figure
    from ..plots.runs import Runs

Source = Landscape | str | os.PathLike[str]


def compare(runs: Mapping[str, Source] | Sequence[str | os.PathLike[str]]) -> Comparison:
    """The comparison of several runs: a table, pictures, and sentences on what can be compared.

    Args:
        runs: landscapes or their files, by the name of the run. Or files, folders of landscapes and folders of runs:
            of several, each gives its last landscape; a single one gives all landscapes in it.

    Raises:
        FileNotFoundError: if there is no such file, or a folder holds no landscape.
        ValueError: if there are fewer than two, they have different numbers of directions, or no metric in common.

    >>> from lightning_landscape.landscape import Grid
    >>> x = np.linspace(-1, 1, 5)
    >>> flat, sharp = (Landscape(Grid((x,)), {"loss": 1 + c * x**2}, "loss") for c in (1, 2))
    >>> compare({"sgd": flat, "adam": sharp}).table()["curvature x"]
    (2.0, 4.0)
    """
    sources: Mapping[str, Source] = runs if isinstance(runs, Mapping) else find_runs(runs)
    return Comparison({n: s if isinstance(s, Landscape) else load(s) for n, s in sources.items()})


def on_one_surface(
    landscape: Landscape, paths: Mapping[str, Trajectory], distances: Mapping[str, Mapping[str, float]]
) -> Comparison:
    """The comparison of runs on one measured surface.

    Args:
        landscape: the surface.
        paths: of the runs, by their names.
        distances: between the ends of each two runs.
    """
    note = f"the mean of {sum(len(path.steps) for path in paths.values())} records of {len(paths)} runs"
    recipe = replace(landscape.recipe, weights=note)
    return Comparison(
        {
            name: replace(
                landscape, trajectory=path, recipe=recipe, meta={**landscape.meta, NOTE: dict(distances[name])}
            )
            for name, path in paths.items()
        }
    )


@dataclass(frozen=True, eq=False)
class Comparison:
    """The landscapes of several runs.

    Printed, it is the table of the main loss and the remarks on it.

    Args:
        landscapes: two or more with the same number of directions, by the name of their run.

    Raises:
        ValueError: if there are fewer than two, they have different numbers of directions, or no metric in common.
    """

    landscapes: dict[str, Landscape]

    def __post_init__(self) -> None:
        if len(self.landscapes) < 2:
            names = ", ".join(self.landscapes) or "none"
            raise ValueError(f"A comparison needs at least two landscapes, got {names}: give another run.")
        ndims = {name: landscape.grid.ndim for name, landscape in self.landscapes.items()}
        if len(set(ndims.values())) > 1:
            texts = ", ".join(f"{name} {ndim}-D" for name, ndim in ndims.items())
            raise ValueError(f"The landscapes have different numbers of directions: {texts}. Compare equal ones.")
        if not self.metrics:
            texts = "; ".join(f"{name}: {', '.join(x.values)}" for name, x in self.landscapes.items())
            raise ValueError(f"The landscapes have no metric in common ({texts}): measure the same losses.")

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that all runs have, the main loss of the first run before the others."""
        first, *following = self.landscapes.values()
        names = sorted(first.values, key=lambda name: name != first.main)
        return tuple(name for name in names if all(_has(x, name) for x in following))

    @property
    def ndim(self) -> int:
        """The number of directions of each landscape."""
        return next(iter(self.landscapes.values())).grid.ndim

    def metric(self, name: str | None = None) -> str:
        """`name` itself, or the first of `metrics` for None.

        Raises:
            ValueError: if a run has no such metric.
        """
        if name is None:
            return self.metrics[0]
        known = next(iter(self.landscapes.values())).recipe.same_as_loss.get(name, name)
        if known not in self.metrics:
            lacking = [run for run, landscape in self.landscapes.items() if not _has(landscape, known)]
            raise ValueError(
                f"metric={name!r} is not in {', '.join(lacking)}; all runs have: {', '.join(self.metrics)}."
            )
        return known

    @cached_property
    def planes(self) -> Planes:
        """The relation between the planes."""
        return planes_of(self.landscapes)

    @cached_property
    def is_one_surface(self) -> bool:
        """True if all runs lie on one measured surface, and differ in their paths only."""
        first, *following = self.landscapes.values()
        return self.planes.relation == "one" and all(
            x.grid == first.grid
            and all(np.array_equal(x.values[name], first.values[name], equal_nan=True) for name in self.metrics)
            for x in following
        )

    def table(self, metric: str | None = None) -> Table:
        """The numbers of a metric by their titles, one a run; NaN where a run has none.

        Of the surfaces they are centre, standard error, lowest and highest value, curvatures, and `Landscape.uphill`.
        Then come the distance between the weights, and the length and the end of each path.
        """
        return table_of(self.landscapes, self.metric(metric), self.is_one_surface)

    def remarks(self, metric: str | None = None) -> tuple[str, ...]:
        """Sentences on the planes, on what the runs do not share, and on what is not known."""
        name = self.metric(metric)
        result = [self.planes.text, *remarks_of(self.landscapes, name)]
        if not any(title.startswith("distance to ") for title in self.table(name)):
            result.append("The distance between the weights is left out: the files do not tell it.")
        return tuple(result)

    def text(self, metric: str | None = None) -> str:
        """The table of a metric, and the remarks below it."""
        name = self.metric(metric)
        return "\n".join([as_text(self.table(name), list(self.landscapes), name), "", *self.remarks(name)])

    def __str__(self) -> str:
        return self.text()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of pictures that these runs have, the usual one first; names in `plots.several.COMPARISONS`."""
        from ..plots.several import kinds_of

        return kinds_of(self._runs)

    def plot(self, kind: str | None = None, metrics: str | Sequence[str] | None = None) -> Figure:
        """The picture of a kind.

        Args:
            kind: "difference", "panels", "curves", "paths" or "steps"; None for the first of `kinds`.
            metrics: one or several of `metrics`; None for the main loss. Panels draw several, other kinds one.

        Raises:
            ValueError: if the kind is unknown, the runs have no such picture, or one has no such metric.
        """
        from ..plots.several import draw_runs

        names = [metrics] if isinstance(metrics, str) or metrics is None else metrics
        return draw_runs(self._runs, kind, [self.metric(name) for name in names])

    @property
    def _runs(self) -> Runs:
        from ..plots.runs import Runs

        return Runs(self.landscapes, self.planes.share_axes, self.is_one_surface, self.planes.text)

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """The paths of files with the landscapes, ``<folder>/<run>/landscape.h5``, which `compare` reads again."""
        return [save(landscape, Path(folder) / name / f"{STEM}.h5") for name, landscape in self.landscapes.items()]

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.text())}</pre>"


def _has(landscape: Landscape, name: str) -> bool:
    return name in landscape.values
