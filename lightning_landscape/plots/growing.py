"""Films of the path of a training, which grows on one landscape while colours, axes and camera stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..landscape import Landscape
from ..trajectory import Array, Trajectory
from .film import Film


def growing_film(
    landscape: Landscape,
    kind: str | None = None,
    metric: str | None = None,
    *,
    frames: int = 40,
    over: Callable[[], bool] | None = None,
    **options: Any,
) -> Film:
    """The film of a path, from its first record to its last.

    Args:
        landscape: with a `trajectory`.
        kind: of picture: one that shows a path. None for the usual one of so many directions, or "path".
        metric: None for the main loss.
        frames: how many; the last has the whole path.
        over: tells whether the time is over; asked before each frame. The film then has fewer, and the last of them.
        options: of that kind of picture.

    Raises:
        ValueError: if there is no path, or this kind of picture does not show it here.
    """
    from . import PLOTS, USUAL, to_image

    path = landscape.trajectory
    if kind is None:
        usual = USUAL.get(landscape.grid.ndim, "path")
        kind = usual if PLOTS[usual].grows else "path"
    _check(landscape, kind, metric, frames)
    assert path is not None
    film = Film()
    moments = _moments(path, frames)
    for number in [len(moments) - 1, *range(len(moments) - 1)]:
        if len(film) and over is not None and over():
            break
        figure = PLOTS[kind].draw(landscape, metric, until=float(moments[number]), **options)
        film.add(number, to_image(figure))
    return film


def _moments(path: Trajectory, frames: int) -> Array:
    """The steps of the frames: evenly spaced, whole where they can be; the last is that of the last record."""
    moments = np.linspace(path.steps[0], path.steps[-1], frames)
    is_whole = np.ptp(path.steps) >= frames and np.array_equal(path.steps, np.round(path.steps))
    return np.unique(np.round(moments) if is_whole else moments)


def is_growing(landscape: Landscape, kind: str, metric: str | None = None) -> bool:
    """True if a kind of picture shows a path on this landscape, and not a dot."""
    try:
        _check(landscape, kind, metric, frames=2)
    except ValueError:
        return False
    return True


def _check(landscape: Landscape, kind: str, metric: str | None, frames: int) -> None:
    """Raises ValueError unless there is a path that this kind of picture shows."""
    from . import PLOTS
    from .trail import trail_of

    able = [name for name, plot in PLOTS.items() if plot.grows and landscape.grid.ndim in plot.ndims]
    if kind not in able:
        raise ValueError(
            f"kind={kind!r} shows no path of a {landscape.grid.ndim}-D landscape: choose one of {', '.join(able)}."
        )
    if landscape.trajectory is None or not len(landscape.trajectory.steps):
        raise ValueError(
            "this landscape has no path of a training, so nothing grows: project one with Recorder.trajectory(plane), "
            "and set it as landscape.trajectory."
        )
    trail = trail_of(landscape, landscape.metric(metric)) if landscape.grid.ndim == 2 else None
    if kind != "path" and trail is not None and trail.is_dot:
        raise ValueError(
            f"kind={kind!r}: on this plane the path is a dot, so nothing grows. Measure on the plane of its principal "
            'components, directions=PCA(recorder.weights), or take kind="path".'
        )
    if not isinstance(frames, int) or frames < 2:
        raise ValueError(f"frames={frames!r}: give a whole number of at least 2.")
