"""The choice of the evaluator that measures a landscape's points, and of its accelerations."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..evaluators import Evaluator, Sequential
from ..evaluators.affine.affine import Affine, find_affine
from ..objectives.base import Batch, Objective
from ..phases import SILENT, Phases
from ..weights.plane import Plane
from . import ACCELERATIONS, ON_REQUEST, Acceleration, applied
from .trial import Choice, Trial, TrialSettings, first_seconds, largest_batches

log = logging.getLogger(__name__)
DEFAULT = TrialSettings()


def choose(
    reference: Sequential,
    objective: Objective,
    plane: Plane,
    batches: Sequence[Batch],
    points: int,
    accelerate: bool | str = True,
    settings: TrialSettings = DEFAULT,
    phases: Phases = SILENT,
    *,
    shared: bool = False,
) -> Choice:
    """Try each acceleration at a point off the axes, on a few batches.

    It is kept if every metric is equal to 1e-6 of its value and the time is less. An acceleration that raises, differs
    or is slower is left out, which the log says at debug level. Nothing is tried where all points are measured sooner.
    A row of ON_REQUEST need not be equal, and is tried whatever time is left.

    Args:
        reference: the plain evaluator; its probe is left as it was.
        objective: is measured.
        plane: origin and k directions.
        batches: the frozen data of a point.
        points: the number of points to be measured.
        accelerate: True, or a row of ON_REQUEST to be tried after all others.
        settings: for the time of the trial.
        phases: is told of each trial.
        shared: several processes measure the points, so that no row is tried that needs the machine for one.
    """
    exact = ((n, row) for n, row in ACCELERATIONS.items() if not row.always and not (shared and row.alone))
    rows = [*exact, *_requested(accelerate)]
    trial = Trial(reference, objective, plane, batches, points, settings)
    with applied((), reference, (), always=True):
        if trial.begin():
            for number, (name, row) in enumerate(rows, 1):
                phases.tell("trying faster ways", number, len(rows))
                trial.consider([name])
                if row.together_with in ACCELERATIONS:
                    trial.consider([row.together_with, name])
    return trial.choice


def _requested(accelerate: bool | str) -> list[tuple[str, Acceleration]]:
    """The row that the user names, if one."""
    return [(accelerate, ON_REQUEST[accelerate])] if isinstance(accelerate, str) else []


def fastest(
    reference: Sequential,
    objective: Objective,
    plane: Plane,
    batches: Sequence[Batch],
    points: np.ndarray,
    expected: int | None = None,
    accelerate: bool | str = True,
    settings: TrialSettings = DEFAULT,
    known: Choice | None = None,
    phases: Phases = SILENT,
    *,
    shared: bool = False,
) -> tuple[Evaluator, Choice]:
    """`Affine`, where a few passes give all points; else `reference`, with the accelerations that are chosen.

    The arguments are those of `choose`, except for:

    Args:
        points: the points to be measured, shape (n, k).
        expected: the least number of them, where some may be interpolated; None for all.
        known: what was tried on this module before. It is not tried anew, unless there are many more points now.
        shared: as in `choose`; then `Affine` is not searched either.
    """
    if reference.edits_weights:  # other evaluators keep the parameters elsewhere, where an edit would stay
        return reference, Choice()
    expected = len(points) if expected is None else expected
    if known is not None and expected <= settings.remembered * known.points:
        affine = find_affine(reference, objective, plane, batches, points) if known.affine else None
        if affine is not None or not known.affine:
            return affine or reference, known
    if not shared and settings.share * len(points) * len(batches) >= settings.affine_passes:
        sample, times = largest_batches(batches, settings.batches)
        try:
            seconds = first_seconds(reference, objective, plane, sample) * times * len(points)
        except Exception as error:  # noqa: BLE001  # a step may refuse this very point
            log.debug("nothing is tried: %s: %s", type(error).__name__, error)
            return reference, Choice()
        if seconds >= settings.affine_seconds:
            affine = find_affine(reference, objective, plane, batches, points)
            if affine is not None:
                return affine, Choice(affine=True, points=expected)
    choice = choose(reference, objective, plane, batches, expected, accelerate, settings, phases, shared=shared)
    return reference, replace(choice, points=expected)


def report_of(evaluator: Evaluator, choice: Choice) -> dict[str, float | None]:
    """The part of a landscape's report on each acceleration and its gain in the trial."""
    if isinstance(evaluator, Affine) and evaluator.method:
        return {f"affine, {evaluator.method}": None}
    return dict(choice.speedup)
