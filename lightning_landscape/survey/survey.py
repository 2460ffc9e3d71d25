"""One objective over a grid, for a plain module: the values in, a Landscape that fills up out."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .. import __version__
from ..accelerations import ON_REQUEST
from ..accelerations.bf16 import checked, control, errors, stated
from ..accelerations.choose import Choice, fastest, told
from ..accelerations.proof import proved
from ..directions import Directions, dead_filters, recipe
from ..evaluators import Evaluator, Measurement, Sequential, correction
from ..evaluators.modes import Flags, at_origin_in_train_mode, only_in_train_mode
from ..interpolation.refinement import least, refine
from ..isolation.effects import unheld
from ..landscape import ALIKE, Grid, Landscape
from ..objectives.base import Batch, CannotMeasureError, Objective
from ..objectives.batches import data_checksum
from ..objectives.spread import Spread
from ..objectives.touched import OriginalsTouchedError, Rehearsed, Touched
from ..weights.parameters import Params, Snapshot, canonical_name, checksum
from ..weights.plane import Plane
from ..weights.sharding import whole
from .resume import differences


def sweep(
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
    meta: dict[str, Any] | None = None,
    earlier: Sequence[Landscape] = (),
    flags: Flags | None = None,
    population: int | None = None,
    path: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
    originals: Params | None = None,
) -> Generator[Landscape, None, None]:
    """Yield the landscape before its first point and after every point: one object that fills up.

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
        meta: the recipe.
        earlier: parts of this very landscape, whose evaluated points are taken over, or what else there may be.
        flags: of a probe in eval mode, what its train mode is (`modes.put_in_mode`), so that a loss that exists there
            only is said to; else None.
        population: of how many samples the batches are a part, none of them twice; None where nobody knows.
        path: where on the plane each point of the grid lies, of shape (n, 1) to (n, k); None: where it says. A path
            starts at the origin.
        originals: the weights of the user's own module, which the objective must not compute with.

    Raises:
        CannotMeasureError: if it does, or not with any weight that moves.
        ValueError: if none of `earlier` is of this function and grid; the message says what differs.
        RuntimeError: of what can be measured in train mode only; what was raised is in the message.
    """
    started = time.perf_counter()
    objective = Spread(objective) if objective.divisible else objective
    of_population = correction(sum(batch.size for batch in batches), population)
    evaluator = Sequential(probe, seed=seed, recalibrate=recalibrate)
    try:
        center = _centre(evaluator, objective, plane, batches, originals or {}, grid.size)
    except OriginalsTouchedError:
        raise
    except Exception as error:
        if flags is not None and at_origin_in_train_mode(evaluator, flags, lambda: objective, plane, batches):
            raise only_in_train_mode(error) from error
        raise
    landscape = Landscape.empty(grid, list(center), objective.main(list(center)))
    landscape.center = {name: measured.value for name, measured in center.items()}
    landscape.meta = dict(meta or {})
    if accelerate in ON_REQUEST:
        landscape.meta["rounding"] = accelerate
    others = [differences(part, landscape) for part in earlier]
    if earlier and all(others):
        raise ValueError(
            f"The earlier landscape can't be continued: it has another {', '.join(others[0])}. Measure anew "
            "(resume=False), or into another file."
        )
    for part in [part for part, other in zip(earlier, others, strict=True) if not other]:
        landscape.meta |= {key: value for key, value in part.meta.items() if key == "bf16_error"}
        for flat in np.flatnonzero(part.evaluated.reshape(-1)):
            index = np.unravel_index(flat, grid.shape)
            landscape.record(index, {n: (v[index], part.standard_errors[n][index]) for n, v in part.values.items()})
    todo = grid.outwards[~landscape.done.reshape(-1)[grid.outwards]]
    yield landscape
    places = grid.points if path is None else path(grid.points)
    way: Evaluator = evaluator
    choice = Choice()
    if accelerate and objective.divisible and not recalibrate:
        expected = len(todo) if tolerance is None else min(len(todo), least(grid.shape))
        way, choice = fastest(evaluator, objective, plane, batches, places[todo], expected, accelerate)
    orders: Iterable[NDArray[np.intp]] = [todo]
    if tolerance is not None and way is evaluator:  # what is computed need not be interpolated
        orders = refine(landscape, [landscape.main], tolerance)
    some = checked(places[todo]) if "bf16" in choice.names else None
    exact = control(way, plane, some, [(objective, batches)]) if some is not None else []
    with proved(choice, way, plane, batches, lambda given: [(objective, given)]) as (fast, converted, choice):
        if some is not None:
            (rounded,) = control(fast, plane, some, [(objective, converted)])
            landscape.meta["bf16_error"] = stated(some, len(batches), errors(exact[0], rounded))
        for order in orders:
            for flat, measured in zip(order, fast(objective, plane, places[order], converted), strict=True):
                stored = {name: m.corrected(of_population) for name, m in measured.items()}
                landscape.record(np.unravel_index(flat, grid.shape), stored)
                landscape.meta["accelerations"] = told(way, choice)
                landscape.meta["seconds"] = round(time.perf_counter() - started, 3)
                if evaluator.parts is not None:
                    landscape.meta["batches"] = evaluator.parts  # they did not fit into the memory as they were
                yield landscape
    if landscape.interpolated.any():
        yield landscape


def _centre(
    evaluator: Sequential, objective: Objective, plane: Plane, batches: Sequence[Batch], originals: Params, points: int
) -> dict[str, Measurement]:
    """The measurements at the origin of an objective that is seen to depend on the weights that move, on no others."""
    module = evaluator.module
    own = {canonical_name(name): t for name, t in (*module.named_parameters(), *module.named_buffers())}
    moving = {name: own[name] for name in plane.origin if any(bool(whole(d[name]).any()) for d in plane.directions)}
    touched = Touched(originals, moving)
    refused = (
        "The criterion computes with {} of the net that it was written with, which does not move: the landscape moves "
        "a copy. Take the model that the criterion is given, or a copy (copy.deepcopy) of weights that are meant to "
        "stay."
    )
    rehearsed = Rehearsed(objective, touched, refused)
    center = next(iter(evaluator(rehearsed, plane, np.zeros((1, plane.ndim)), batches)))
    if not touched.watched and _is_the_same(evaluator, objective, plane, batches, center):
        raise CannotMeasureError(
            "The criterion does not depend on the weights that the directions move: take the model that it is given; "
            "or does ignore= leave only weights that it does not use?"
        )
    times = f"on every batch at each of {points:,} points"
    if text := unheld(rehearsed.noticed, "The criterion", times, "Leave it out of the criterion."):
        warnings.warn(text, stacklevel=2)
    return center


def _is_the_same(
    evaluator: Sequential, objective: Objective, plane: Plane, batches: Sequence[Batch], center: dict[str, Measurement]
) -> bool:
    """Whether the metrics stay what they are when every weight that moves becomes NaN."""
    try:
        measured = next(iter(evaluator(objective, plane, np.full((1, plane.ndim), np.nan), batches)))
    except Exception:  # noqa: BLE001  # whoever refuses NaN has seen it
        return False
    return all(name in measured and measured[name].value == value for name, (value, _) in center.items())


# What every landscape's file says of its values.
HOW = {
    "reduction": "mean over samples, accumulated in float64",
    "standard_error": "of the mean against that of all the data that the samples are a random part of (finite "
    "population correction); where all are taken, or nobody knows of how many, against that of all data of their kind. "
    "From the spread of single samples, where the losses tell it, else from that of batches, where chance made these; "
    "times t/2 of Student's t, so that ±2 cover 95.45 %; NaN where unknown",
    "checksums": "XXH3, 128 bits, of types, shapes and bits",
}


def directions_recipe(directions: Directions, snapshot: Snapshot, plane: Plane) -> dict[str, Any]:
    """What a landscape's file says of its directions, as plain JSON values."""
    moved = [name for name in plane.origin if any(bool(whole(d[name]).any()) for d in plane.directions)]
    axes = plane.axes() if len(moved) <= plane.ndim else []
    return {
        **recipe(directions),
        **({"axes": axes} if axes else {}),
        "cosine": plane.cosine(),
        "span": plane.span(ALIKE),
        "lengths": plane.norms(),
        "moved_parameters": sum(plane.origin[name].numel() for name in moved),
        "resting_parameters": sum(t.numel() for n, t in plane.origin.items() if n not in set(moved)),
        "dead_filters": dead_filters(snapshot, moved),
    }


def recipe_of(
    net: nn.Module, snapshot: Snapshot, plane: Plane, directions: Directions, batches: Sequence[Batch], **more: Any
) -> dict[str, Any]:
    """What a landscape's file says of how it was made, as plain JSON values.

    Args:
        net: the user's module.
        snapshot: its weights.
        plane: on which the points lie.
        directions: what gave the plane.
        batches: the frozen data.
        more: further entries, e.g. the objective's name.
    """
    size = sum(batch.size for batch in batches)
    return {
        "module": type(net).__name__,
        "samples": size,
        "batches": len(batches),
        "samples_by_data": {"data": size},
        "data_checksum": {"data": data_checksum(batches)},
        "weights_checksum": checksum(snapshot.params.values()),
        **HOW,
        "precision": str(next(iter(snapshot.params.values())).dtype).removeprefix("torch."),
        "directions": {
            **directions_recipe(directions, snapshot, plane),
            "checksum": checksum(d[name] for d in plane.directions for name in plane.origin),
        },
        "versions": {
            "lightning_landscape": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        **more,
    }
