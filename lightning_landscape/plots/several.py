"""Pictures of several runs: one file a kind, one row each in COMPARISONS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from .difference import draw_difference
from .panels import draw_panels
from .run_curves import draw_run_curves
from .run_paths import draw_run_paths
from .run_steps import draw_run_steps, run_curves
from .runs import Runs


@dataclass(frozen=True)
class RunPicture:
    """One kind of picture of several runs.

    Args:
        draw: ``draw(runs, metrics) -> Figure``.
        draws: True if these runs have such a picture.
        needs: what runs need for it, in words.
        metrics: the most metrics in one picture; None for any number.
    """

    draw: Callable[[Runs, Sequence[str]], Figure]
    draws: Callable[[Runs], bool]
    needs: str
    metrics: int | None = 1


def _have_paths(runs: Runs) -> bool:
    """True if all runs have paths on one surface."""
    return runs.ndim == 2 and runs.one_surface and all(x.trajectory is not None for x in runs.landscapes.values())


def _have_surfaces(runs: Runs) -> bool:
    """True if the surfaces are what differs, and not the paths alone."""
    return not _have_paths(runs)


def _is_pair(runs: Runs) -> bool:
    grids = [landscape.grid for landscape in runs.landscapes.values()]
    return len(grids) == 2 and grids[0] == grids[1] and runs.ndim <= 2 and runs.share_axes and _have_surfaces(runs)


COMPARISONS: dict[str, RunPicture] = {
    "difference": RunPicture(
        lambda runs, metrics: draw_difference(runs, metrics[0]),
        _is_pair,
        "two runs with one or two directions, on equal grids whose axes can be compared",
    ),
    "panels": RunPicture(
        draw_panels,
        lambda runs: runs.ndim == 2 and _have_surfaces(runs),
        "two directions, and surfaces that differ",
        metrics=None,
    ),
    "paths": RunPicture(
        lambda runs, metrics: draw_run_paths(runs, metrics[0]),
        _have_paths,
        "one surface with the path of every run on it (LossLandscape.compute_runs)",
    ),
    "curves": RunPicture(
        lambda runs, metrics: draw_run_curves(runs, metrics[0]),
        _have_surfaces,
        "surfaces that differ",
    ),
    "steps": RunPicture(
        lambda runs, metrics: draw_run_steps(runs, metrics[0]),
        lambda runs: bool(run_curves(runs, runs.first.main)),
        "a recorded trajectory of at least one run",
    ),
}


def kinds_of(runs: Runs) -> tuple[str, ...]:
    """The kinds that these runs have, the usual one first."""
    return tuple(kind for kind, picture in COMPARISONS.items() if picture.draws(runs))


def draw_runs(runs: Runs, kind: str | None, metrics: Sequence[str]) -> Figure:
    """The figure of a kind; None for the first that these runs have and that draws so many metrics.

    Raises:
        ValueError: if the kind is unknown, or these runs have no such picture.
    """
    able = {name: COMPARISONS[name] for name in kinds_of(runs)}
    if kind is None:
        kind = next((n for n, p in able.items() if p.metrics is None or len(metrics) <= p.metrics), None)
    if kind is None or kind not in COMPARISONS:
        raise ValueError(f"kind={kind!r} is unknown; the choices for these runs are {', '.join(able) or 'none'}.")
    picture = COMPARISONS[kind]
    if kind not in able:
        raise ValueError(
            f"kind={kind!r} needs {picture.needs}; the choices for these runs are {', '.join(able) or 'none'}."
        )
    if picture.metrics is not None and len(metrics) > picture.metrics:
        raise ValueError(f"kind={kind!r} draws one metric at a time, got {', '.join(metrics)}: give one.")
    return picture.draw(runs, metrics)
