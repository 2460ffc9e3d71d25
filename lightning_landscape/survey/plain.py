"""The survey of a plain module: one objective on given batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..accelerations import ON_REQUEST
from ..evaluators import Measurement, Sequential
from ..evaluators.modes import Flags, at_origin_in_train_mode, only_in_train_mode
from ..isolation.effects import effects_warning
from ..landscape import Grid, Landscape
from ..objectives.base import Batch, CannotMeasureError, Objective
from ..objectives.spread import Spread
from ..objectives.touched import OriginalsTouchedError, Rehearsed, Touched
from ..paths.project import Recorded
from ..recipe import Recipe
from ..spectrum import Spectrum
from ..weights.parameters import Params, canonical_name
from ..weights.plane import Plane
from ..weights.sharding import whole
from .data import frozen
from .group import take_over_path
from .recipe import data_recipe
from .resume import differences
from .survey import Surface, Survey

NOTHING_KNOWN = Recipe()
TOUCHES_ORIGINALS = (
    "The criterion computes with {} of the net that it was written with, which does not move: the landscape moves "
    "a copy. Take the model that the criterion is given. Take a copy (copy.deepcopy) of weights that are meant to "
    "stay fixed."
)


def survey_module(
    probe: nn.Module,
    objective: Objective,
    plane: Plane,
    grid: Grid,
    batches: Sequence[Batch],
    *,
    seed: int = 42,
    recalibrate: bool = False,
    accelerate: bool | str = True,
    tolerance: float | None = None,
    recipe: Recipe = NOTHING_KNOWN,
    earlier: Sequence[Landscape] = (),
    flags: Flags | None = None,
    population: int | None = None,
    path: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
    searched: Sequence[int] = (),
    reach: Sequence[float] = (),
    spectrum: Spectrum | None = None,
    originals: Params | None = None,
    recorded: Recorded | None = None,
) -> Generator[Landscape, None, None]:
    """Yield the landscape before its first point, after every point and after every record: one object that fills up.

    Call it inside `rng.preserved`.

    Args:
        probe: a copy that is ours to move, in the mode it is measured in.
        objective: what is measured.
        plane: origin and k directions, on the probe's device.
        grid: k axes; one along a path.
        batches: the frozen data.
        seed: of the random numbers that every point shares.
        recalibrate: compute the statistics of BatchNorm anew at every point.
        accelerate: use what proves equal and faster on this module (`accelerations`); "bf16" for bfloat16, too.
        tolerance: of the main loss: what can be interpolated within it, is (`refinement`); None to evaluate all.
        recipe: how it is made; the data are added here.
        earlier: parts of this very landscape, whose evaluated points are taken over, or what else there may be.
        flags: the train mode of a probe in eval mode (`modes.put_in_mode`), else None. With them, the message of
            an error says of a loss that it exists in train mode only.
        population: of how many samples the batches are a part, none of them twice; None where nobody knows.
        path: where on the plane each point of the grid lies, of shape (n, 1) to (n, k); None: where it says. A path
            starts at the origin.
        searched: the directions whose range is found (`find_range`).
        reach: the largest coordinate of a recorded path along the directions.
        spectrum: of the Hessian at the origin, which goes into the landscape; None where it is unknown.
        originals: the weights of the user's own module, which the objective must not compute with.
        recorded: the records of a training, whose path is projected and measured; None for none.

    Raises:
        CannotMeasureError: if it does, or not with any weight that moves.
        ValueError: if none of `earlier` is of this function and grid; the message says what differs.
        RuntimeError: of what can be measured in train mode only; what was raised is in the message.
    """
    objective = Spread(objective) if objective.divisible else objective
    evaluator = Sequential(probe, seed=seed, recalibrate=recalibrate)
    accelerations = accelerate if objective.divisible and not recalibrate else False
    survey = Survey(evaluator, grid, accelerate=accelerations, tolerance=tolerance, path=path)
    survey.plane, survey.recorded = plane, recorded
    surface = Surface("data", objective, frozen(batches, population))
    try:
        surface.center = _centre(evaluator, objective, plane, batches, originals or {}, grid.size)
    except OriginalsTouchedError:
        raise
    except Exception as error:
        if flags is not None and at_origin_in_train_mode(evaluator, flags, lambda: objective, plane, batches):
            raise only_in_train_mode(error) from error
        raise
    surface.names = {name: name for name in surface.center}
    recipe = replace(recipe, ranges=survey.find_ranges(surface, searched, reach=reach))
    rounding = str(accelerate) if accelerate in ON_REQUEST else None
    data = {surface.data: data_recipe(surface.frozen)}
    landscape = survey.begin([surface], None, replace(recipe, data=data, rounding=rounding, tolerance=tolerance))
    landscape.spectrum = spectrum
    _take_over(landscape, earlier)
    order = landscape.remaining
    yield landscape
    with survey.running(landscape, [surface], None, order) as landscapes:
        yield from landscapes


def _take_over(landscape: Landscape, earlier: Sequence[Landscape]) -> None:
    """Record the points of those of the earlier landscapes that are of this very one.

    Raises:
        ValueError: if there are some, and none is.
    """
    differing = [differences(part, landscape) for part in earlier]
    if earlier and all(differing):
        raise ValueError(
            f"The earlier landscape can't be continued: it has another {', '.join(differing[0])}. Measure anew "
            "(resume=False), or give another surf_file."
        )
    for part in [part for part, entries in zip(earlier, differing, strict=True) if not entries]:
        landscape.report.rounding_error = part.report.rounding_error or landscape.report.rounding_error
        take_over_path(landscape, part)
        for flat in np.flatnonzero(part.evaluated.reshape(-1)):
            index = np.unravel_index(flat, landscape.grid.shape)
            landscape.record(index, {n: (v[index], part.standard_errors[n][index]) for n, v in part.values.items()})


def _centre(
    evaluator: Sequential, objective: Objective, plane: Plane, batches: Sequence[Batch], originals: Params, points: int
) -> dict[str, Measurement]:
    """The measurements at the origin; the objective must depend on the weights that move, and on no others."""
    module = evaluator.module
    tensors = {canonical_name(name): t for name, t in (*module.named_parameters(), *module.named_buffers())}
    moving = {
        name: tensors[name] for name in plane.origin if any(bool((whole(d[name]) != 0).any()) for d in plane.directions)
    }
    touched = Touched(originals, moving)
    rehearsed = Rehearsed(objective, touched, TOUCHES_ORIGINALS)
    center = next(iter(evaluator(rehearsed, plane, np.zeros((1, plane.ndim)), batches)))
    if not touched.watched and _is_the_same(evaluator, objective, plane, batches, center):
        raise CannotMeasureError(
            "The criterion does not depend on the weights that the directions move. Compute the loss with the model "
            "that it is given, or let ignore= leave weights that the loss uses."
        )
    times = f"on every batch at each of {points:,} points"
    if text := effects_warning(rehearsed.noticed, "The criterion", times, "Leave it out of the criterion."):
        warnings.warn(text, stacklevel=2)
    return center


def _is_the_same(
    evaluator: Sequential, objective: Objective, plane: Plane, batches: Sequence[Batch], center: dict[str, Measurement]
) -> bool:
    """True if the metrics keep their values when every weight that moves becomes NaN."""
    try:
        measured = next(iter(evaluator(objective, plane, np.full((1, plane.ndim), np.nan), batches)))
    except Exception:  # noqa: BLE001  # whoever refuses NaN has seen it
        return False
    return all(name in measured and measured[name].value == value for name, (value, _) in center.items())
