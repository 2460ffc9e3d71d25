"""Affine: where the scores are affine in the point, all points follow from k + 1 passes. Found by numbers, not names.

A linear classifier, or a trained head on a frozen backbone: z(θ* + Σ cᵢ dᵢ) = z₀ + Σ cᵢ zᵢ. Three ways, the first
that proves equal is taken:

1. the step's metrics are the cross-entropy of such scores, and their accuracy: `closed_form`, a matrix product;
2. else the step runs at every point as it is, but modules that are affine, or constant, are not called: `replay`;
3. else every point is measured in full, by the evaluator that is given.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np
import torch

from ...objectives.base import Batch, Objective
from ...weights.plane import Plane
from ...weights.sharding import is_sharded
from ..base import Measurement
from ..sequential import Sequential
from ..wrapper import Around
from . import closed_form, replay
from .blocks import blocks
from .closed_form import ROUNDING, ClosedForm
from .recording import NotAffine, Recording, Seen, room
from .replay import Replay, candidates, memory_of, moving_parameters, worth_remembering

log = logging.getLogger(__name__)
Measured = dict[str, Measurement]
AT_ONCE = 2**32  # numbers computed before the next point is given: a second or so
OFF_AXES = (0.61, -0.37, 0.83)  # of the way along each axis
TRIAL_BYTES = 2**28


class Affine(Around):
    """An evaluator that measures in full what it must, and computes the rest.

    Values equal those of `reference` to 1e-6 relative in float32: this is proved at the point farthest from the
    origin, on all batches, before any other is given. Points that had to be measured keep the values of
    `reference` to the bit, the origin among them. The last bits of the others may depend on which points are asked
    for together. What a step does besides at single points (raise, return nothing) is not seen in between. All that is
    remembered and made of it, in all its streams, takes no more than `room` of memory.

    Args:
        reference: measures points in full.

    Attributes:
        way: of the last call: "closed form", "replay", or "" where every point was measured in full.
        declined: why it was, else "".

    The points come as of any evaluator:

    >>> from lightning_landscape.objectives.base import LossFunction
    >>> net = torch.nn.Linear(2, 3, bias=False).requires_grad_(False)
    >>> plane = Plane({"weight": net.weight.clone()}, ({"weight": torch.eye(3, 2)},))
    >>> loss = LossFunction(lambda net, batch: torch.nn.functional.cross_entropy(net(batch[0]), batch[1]))
    >>> batches = [Batch((torch.ones(4, 2), torch.tensor([0, 1, 2, 0])), 4)]
    >>> evaluator = Affine(Sequential(net))
    >>> len(list(evaluator(loss, plane, np.linspace(-1, 1, 51)[:, None], batches))), evaluator.way
    (51, 'closed form')
    """

    def __init__(self, reference: Sequential) -> None:
        super().__init__(reference)
        self.reference = reference
        self.way = self.declined = ""
        self._kept = 0  # bytes, of all streams

    def __call__(
        self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]
    ) -> Generator[Measured, None, None]:
        """Yield the measurements of each point, in the order of `points`; see `Sequential`."""
        points = np.asarray(points, dtype=np.float64)
        self.way = self.declined = ""
        found: _Found | None = None
        try:
            found = _find(self.reference, objective, plane, points, batches, self._kept)
        except NotAffine as reason:
            self.declined = str(reason)
        except Exception as error:  # noqa: BLE001  # if it is the step's own, it comes again at its point
            self.declined = f"{type(error).__name__}: {error}"
        if found is None:
            log.debug("measured in full: %s", self.declined)
            yield from self.reference(objective, plane, points, batches)
            return
        self.way = found.way
        self._kept += found.bytes
        try:
            computed = found.compute(points)
            for point in points:
                measured = next(computed)
                if tuple(point) in found.known:
                    measured = found.known[tuple(point)]
                elif not all(np.isfinite(m.value) for m in measured.values()):
                    measured = next(iter(self.reference(objective, plane, point[None], batches)))
                yield measured
        finally:
            self._kept -= found.bytes


def find_affine(
    reference: Sequential,
    objective: Objective,
    plane: Plane,
    batches: Sequence[Batch],
    points: np.ndarray | None = None,
) -> Affine | None:
    """An `Affine` evaluator, if the objective is affine enough for it on the smallest batch; else None.

    Call it inside `rng.preserved`. It takes at most k + 3 + 2ᵏ passes over one batch (twice, where the closed form
    does not do). The evaluator costs k + 2 passes over all batches, and then almost nothing a point (closed form), or
    what the step costs without its model (replay): it is worth it from some ten points on.

    Args:
        reference: measures points in full.
        objective: what is measured.
        plane: origin and k directions.
        batches: the frozen data.
        points: which will be measured, shape (n, k); None for those between −1 and 1.
    """
    k = plane.ndim
    if points is None:
        points = np.stack(np.meshgrid(*[np.linspace(-1.0, 1.0, 5)] * k, indexing="ij"), axis=-1).reshape(-1, k)
    evaluator, few = Affine(reference), _smallest(batches)
    share = few[0].size / sum(batch.size for batch in batches)
    try:
        _find(reference, objective, plane, np.asarray(points, dtype=np.float64), few, share=share)
    except Exception as reason:  # noqa: BLE001  # whatever it is, the reference does not need it
        log.debug("not affine: %s", reason)
        return None
    return evaluator


class _Found:
    """A way that has proved equal: what computes the points, and what is known of some already."""

    def __init__(
        self,
        way: str,
        compute: Callable[[np.ndarray], Iterator[Measured]],
        known: dict[tuple[float, ...], Measured],
        bytes: int,
    ) -> None:
        self.way, self.compute, self.known, self.bytes = way, compute, known, bytes


def _find(
    reference: Sequential,
    objective: Objective,
    plane: Plane,
    points: np.ndarray,
    batches: Sequence[Batch],
    kept: int = 0,
    share: float = 1.0,
) -> _Found:
    """The first way that proves equal, and takes no more memory than there is room for.

    Args:
        kept: bytes of that room that are taken already.
        share: of the data that `batches` are, where all of it must have room.

    Raises:
        NotAffine: if there is none.
    """
    k = plane.ndim
    if points.ndim != 2 or points.shape[1] != k or not np.isfinite(points).all() or not batches:
        raise NotAffine("points or batches that are not to be computed")
    if len(points) <= k + 3:
        raise NotAffine("so few points are measured sooner than computed")
    if is_sharded(reference.module):
        raise NotAffine("the processes share the parameters")
    where = _probes(points)
    more = _more(where, points)
    device = next((p.device for p in reference.module.parameters()), torch.device("cpu"))
    most = max(0, room(device) - kept)
    try:
        return _closed(reference, objective, plane, where, more, batches, most // closed_form.TIMES, share)
    except NotAffine as reason:
        log.debug("no closed form: %s", reason)
    # What was recorded for it is gone by now.
    return _replayed(reference, objective, plane, where, more, batches, most // replay.TIMES, share)


def _closed(
    reference: Sequential,
    objective: Objective,
    plane: Plane,
    where: np.ndarray,
    more: np.ndarray,
    batches: Sequence[Batch],
    most: int,
    share: float,
) -> _Found:
    if len(batches) > 1:
        trial = Recording(objective, most_bytes=min(most, TRIAL_BYTES))
        ClosedForm(_passes(trial, reference, plane, more, _smallest(batches))[0], more, trial=True)
        del trial
    else:
        where = more
    passes, measured = _passes(Recording(objective, most_bytes=int(most * share)), reference, plane, where, batches)
    form = ClosedForm(passes, where)
    del passes

    def compute(points: np.ndarray) -> Iterator[Measured]:
        results: list[Measured | None] = [None] * len(points)
        plan = blocks(points, max(1, AT_ONCE // form.cost()), form.example)
        for i in range(len(points)):
            if results[i] is None:
                members, places, block = plan.block_of(i)
                with torch.no_grad():
                    columns = form(block)
                for member, place in zip(members, places, strict=True):
                    results[member] = {
                        name: Measurement(float(v[place]), float(e[place])) for name, (v, e) in columns.items()
                    }
            yield results[i] or {}
            results[i] = {}

    return _Found("closed form", compute, _proved(compute, where, measured, form.tolerance), form.bytes())


def _replayed(
    reference: Sequential,
    objective: Objective,
    plane: Plane,
    where: np.ndarray,
    more: np.ndarray,
    batches: Sequence[Batch],
    most: int,
    share: float,
) -> _Found:
    parts = candidates(reference.module, plane)
    trial = Recording(objective, parts, nested=True, most_bytes=min(most, TRIAL_BYTES))
    passes, _ = _passes(trial, reference, plane, more, _smallest(batches))
    watched = worth_remembering(passes, more, moving_parameters(reference.module, plane))
    del passes, trial
    passes, measured = _passes(
        Recording(objective, watched, most_bytes=int(most * share)), reference, plane, where, batches
    )
    replayed = Replay(objective, memory_of(passes, where))
    del passes

    def compute(points: np.ndarray) -> Iterator[Measured]:
        stream = iter(reference(replayed, plane, points, batches))
        for point in points:
            replayed.point = point
            yield next(stream)

    known = _proved(compute, where, measured, lambda m: ROUNDING * abs(m.value))
    return _Found("replay", compute, known, replayed.bytes())


def _smallest(batches: Sequence[Batch]) -> list[Batch]:
    return [min(batches, key=lambda batch: batch.size)]


def _probes(points: np.ndarray) -> np.ndarray:
    """The origin, a point on each axis as far out as any, and the farthest of the points, shape (k + 2, k)."""
    k = points.shape[1]
    far = points[np.abs(points).argmax(axis=0), np.arange(k)]
    far = np.where(far == 0, 1.0, far)
    farthest = points[np.abs(points / far).sum(axis=1).argmax()]
    if np.count_nonzero(farthest) < min(k, 2) or (k == 1 and farthest[0] == far[0]):
        farthest = -0.7 * far  # a line is tried between the points that it was drawn through, or beyond them
    return np.concatenate([np.zeros((1, k)), np.diag(far), farthest[None]])


def _more(where: np.ndarray, points: np.ndarray) -> np.ndarray:
    """For one batch: the outermost of the points in each quadrant, and one between the axes, too."""
    k = where.shape[1]
    far = where[1 : k + 1].sum(axis=0)
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * k, indexing="ij"), axis=-1).reshape(-1, k)
    corners = points[((points / far) @ signs.T).argmax(axis=0)]
    others = np.unique(np.concatenate([corners, [far * np.array(OFF_AXES * k)[:k]]]), axis=0)
    new = [point for point in others if not (point == where).all(axis=1).any()]
    return np.concatenate([where, np.reshape(new, (-1, k))])


def _passes(
    recording: Recording, reference: Sequential, plane: Plane, where: np.ndarray, batches: Sequence[Batch]
) -> tuple[list[list[Seen]], list[Measured]]:
    passes, measured = [], []
    for result in reference(recording, plane, where, batches):
        if [id(seen.batch) for seen in recording.seen] != [id(batch) for batch in batches]:
            raise NotAffine("the batches did not stay whole")
        passes.append(recording.seen)
        measured.append(result)
    return passes, measured


def _proved(
    compute: Callable[[np.ndarray], Iterator[Measured]],
    where: np.ndarray,
    measured: list[Measured],
    allowed: Callable[[Measurement], float],
) -> dict[tuple[float, ...], Measured]:
    """The measurements by point, after a check that `compute` gives the same values at the last point.

    Raises:
        NotAffine: if it is not.
    """
    got, want = next(compute(where[-1:])), measured[-1]
    if list(got) != list(want):
        raise NotAffine(f"{sorted(want)} are measured, {sorted(got)} computed")
    for name, measurement in want.items():
        value, error = got[name]
        off, expected = abs(value - measurement.value), measurement.standard_error
        if not off <= allowed(measurement):
            raise NotAffine(f"{name!r} is off by {off:.3g} of {measurement.value:.6g} at the farthest point")
        if not np.isclose(error, expected, rtol=1e-3, atol=1e-5 * abs(measurement.value), equal_nan=True):
            raise NotAffine(f"the standard error of {name!r} is {error:.6g} instead of {expected:.6g}")
    return {tuple(point): m for point, m in zip(where, measured, strict=True)}
