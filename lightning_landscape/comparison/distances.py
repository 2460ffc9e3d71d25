"""The distance between the centres of two landscapes, where their files tell it."""

from __future__ import annotations

import math

import numpy as np

from ..landscape import Landscape

NOTE = "ends"  # the note of a landscape with the distance from the end of its run to those of others, by their names


def center_distance(a: Landscape, b: Landscape, name: str | None = None) -> float:
    """‖θ_A − θ_B‖, the distance between the weights that two landscapes are of; NaN where nothing tells it.

    Landscapes on one plane note the distances between the ends of their runs. The same checksum of the weights is a
    distance of 0. Two steps of one training have it in the later trajectory.

    Args:
        a, b: the landscapes.
        name: of the run of `a`, under which `b` notes it.
    """
    noted = noted_distance(b, name)
    if math.isfinite(noted):
        return noted
    sums = [x.recipe.weights_checksum for x in (a, b)]
    if sums[0] is not None and sums[0] == sums[1]:
        return 0.0
    found = [_distance_from(x, y) for x, y in ((a, b), (b, a))]
    return next((value for value in found if math.isfinite(value)), math.nan)


def noted_distance(landscape: Landscape, name: str | None) -> float:
    """The distance between the end of a landscape's run and that of the run `name`, as it notes it; else NaN."""
    distances = landscape.meta.get(NOTE)
    return float(distances[name]) if isinstance(distances, dict) and name in distances else math.nan


def _distance_from(earlier: Landscape, later: Landscape) -> float:
    """The distance of an earlier step from a later one of the same training, from the later one's trajectory."""
    step, ours, theirs = earlier.recipe.step, earlier.trajectory, later.trajectory
    if step is None or ours is None or theirs is None:
        return math.nan
    norms = [_norm_at(path.history, step) for path in (ours, theirs)]
    at = np.flatnonzero(theirs.steps == step)
    # The norm in full precision is the same at the same step of the same training, and of no other.
    if not len(at) or norms[0] != norms[1] or len(ours.distances) == 0 or ours.distances[-1] != 0:
        return math.nan
    return float(theirs.distances[at[0]])


def _norm_at(history: dict[str, np.ndarray], step: int) -> float:
    """The norm of the weights at a step; NaN where it is unknown."""
    steps, norms = history.get("step"), history.get("norm")
    if steps is None or norms is None:
        return math.nan
    at = np.flatnonzero(steps == step)
    return float(norms[at[0]]) if len(at) else math.nan
