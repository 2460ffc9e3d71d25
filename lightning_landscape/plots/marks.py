"""The moments of a training that pictures of its path mark: checkpoints, and changes of the learning rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..trajectory import Array, Trajectory


@dataclass(frozen=True)
class MarkSettings:
    """The rule for what is marked.

    Args:
        least_factor: by which a learning rate rises or falls at a mark. The usual steps of schedules are 10, 5 and 2.
        alone: how many times as large as those beside it a change must be, as logarithms. A schedule that changes the
            rate at every step has no mark at every step.
        limit: the most marks of one kind. With more of them a path is hidden, and none are drawn.
    """

    least_factor: float = 1.2
    alone: float = 5.0
    limit: int = 16


def rate_changes(steps: Array, rates: Array, settings: MarkSettings = MarkSettings()) -> Array:
    """The steps at which a learning rate jumps: by a factor, and alone.

    A decay at every step, a warm-up and a cosine have no jump. A restart of a cosine has one.

    Args:
        steps: of N records, shape (N,).
        rates: the learning rates there, shape (N,); those that are NaN, zero or negative have no jump beside them.
        settings: the rule.

    >>> rate_changes(np.arange(6.0), np.array([0.1, 0.1, 0.1, 0.01, 0.01, 0.01]))
    array([3.])
    >>> rate_changes(np.arange(6.0), 0.5 ** np.arange(6))
    array([], dtype=float64)
    """
    known = np.isfinite(rates) & (rates > 0)
    logs = np.log(np.where(known, rates, 1.0))
    sizes = np.where(known[1:] & known[:-1], np.abs(np.diff(logs)), np.inf)
    beside = np.maximum(np.append(sizes[1:], 0.0), np.append(0.0, sizes[:-1])) if len(sizes) else sizes
    jumps = np.isfinite(sizes) & (sizes > np.log(settings.least_factor)) & (sizes > settings.alone * beside)
    return steps[1:][jumps]


def marks_of(path: Trajectory, settings: MarkSettings = MarkSettings()) -> dict[str, Array]:
    """The steps of the marks of a path, by what they mark; those of which there are too many are left out.

    The learning rates are those of the history, which has every record, or else those that came with the weights.
    """
    history = path.history if "step" in path.history else {"step": path.steps, **path.metrics}
    rates = history.get("learning_rate")
    changes = np.empty(0) if rates is None else rate_changes(history["step"], rates, settings)
    inside = (path.checkpoints >= path.steps[0]) & (path.checkpoints <= path.steps[-1])
    found = {"checkpoint": np.asarray(path.checkpoints)[inside], "learning rate": changes}
    return {name: steps for name, steps in found.items() if 0 < len(steps) <= settings.limit}
