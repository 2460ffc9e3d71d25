"""One objective over a grid, for a plain module: the values in, a Landscape that fills up out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from . import __version__
from .accelerations import ON_REQUEST
from .accelerations.bf16 import checked, control, errors, stated
from .accelerations.choose import Choice, fastest, told
from .accelerations.proof import proved
from .batches import data_checksum
from .directions import Directions, dead_filters, recipe
from .evaluators import Evaluator, Sequential, correction
from .landscape import Grid, Landscape
from .objectives import Batch, Objective
from .parameters import Snapshot, checksum
from .plane import Plane
from .refinement import least, refine
from .resume import differences
from .sharding import whole
from .spread import Spread


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
    earlier: Landscape | None = None,
    population: int | None = None,
    path: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
) -> Generator[Landscape, None, None]:
    """Yield the landscape before its first point and after every point: one object that fills up.

    Call it inside `rng.preserved`.

    Args:
        probe: a copy that is ours to move, in eval mode.
        objective: what is measured.
        plane: origin and k directions, on the probe's device.
        grid: k axes; one along a path.
        batches: the frozen data.
        seed: of the random numbers that every point shares.
        recalibrate: compute the statistics of BatchNorm anew at every point.
        accelerate: use what proves equal and faster on this module (`accelerations`); "bf16" for bfloat16, too.
        tolerance: of the main loss: what can be interpolated within it, is (`refinement`); None to evaluate all.
        meta: the recipe.
        earlier: a part of this very landscape, whose evaluated points are taken over.
        population: of how many samples the batches are a part, none of them twice; None where nobody knows.
        path: where on the plane each point of the grid lies, of shape (n, 1) to (n, k); None: where it says. A path
            starts at the origin.

    Raises:
        ValueError: if `earlier` is of another function or grid; the message says what differs.
    """
    started = time.perf_counter()
    objective = Spread(objective) if objective.divisible else objective
    part = correction(sum(batch.size for batch in batches), population)
    evaluator = Sequential(probe, seed=seed, recalibrate=recalibrate)
    center = next(iter(evaluator(objective, plane, np.zeros((1, plane.ndim)), batches)))
    landscape = Landscape.empty(grid, list(center), objective.main(list(center)))
    landscape.center = {name: measured.value for name, measured in center.items()}
    landscape.meta = dict(meta or {})
    if accelerate in ON_REQUEST:
        landscape.meta["rounding"] = accelerate
    todo = grid.outwards
    if earlier is not None:
        if others := differences(earlier, landscape):
            raise ValueError(
                f"The earlier landscape can't be continued: it has another {', '.join(others)}. Measure anew "
                "(resume=False), or into another file."
            )
        landscape.meta |= {key: value for key, value in earlier.meta.items() if key == "bf16_error"}
        done = earlier.evaluated.reshape(-1)
        for flat in np.flatnonzero(done):
            index = np.unravel_index(flat, grid.shape)
            landscape.record(
                index, {n: (v[index], earlier.standard_errors[n][index]) for n, v in earlier.values.items()}
            )
        todo = todo[~done[todo]]
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
                stored = {name: m.corrected(part) for name, m in measured.items()}
                landscape.record(np.unravel_index(flat, grid.shape), stored)
                landscape.meta["accelerations"] = told(way, choice)
                landscape.meta["seconds"] = round(time.perf_counter() - started, 3)
                if evaluator.parts is not None:
                    landscape.meta["batches"] = evaluator.parts  # they did not fit into the memory as they were
                yield landscape
    if landscape.interpolated.any():
        yield landscape


# What every landscape's file says of its values.
HOW = {
    "reduction": "mean over samples, accumulated in float64; module in eval mode",
    "standard_error": "of the mean against that of all the data that the samples are a random part of (finite "
    "population correction); where all are taken, or nobody knows of how many, against that of all data of their kind. "
    "From the spread of single samples, where the losses tell it, else from that of batches, where chance made these; "
    "times t/2 of Student's t, so that ±2 cover 95.45 %; NaN where unknown",
    "checksums": "XXH3, 128 bits, of types, shapes and bits",
}


def directions_recipe(directions: Directions, snapshot: Snapshot, plane: Plane) -> dict[str, Any]:
    """What a landscape's file says of its directions, as plain JSON values."""
    moved = [name for name in plane.origin if any(bool(whole(d[name]).any()) for d in plane.directions)]
    return {
        **recipe(directions),
        "cosine": plane.cosine(),
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
