"""Affine: where the scores are affine in the point, all points follow from k + 1 passes. Found by numbers, not names.

For a linear classifier, or a trained head on a frozen backbone, z(θ* + Σ cᵢ dᵢ) = z₀ + Σ cᵢ zᵢ. The first of three
methods that proves equal is taken:

1. `closed_form`: the step's metrics are the cross-entropy of such scores and their accuracy. A matrix product gives
   them.
2. `replay`: the step runs at every point as it is, but modules that are affine, or constant, are not called.
3. Every point is measured in full, by the evaluator inside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ...objectives.base import Batch, Objective
from ...weights.plane import Plane
from ...weights.sharding import is_sharded
from ..base import Evaluator, EvaluatorWrapper, Measurement, Measurements, Stream
from .blocks import blocks
from .closed_form import ClosedForm
from .recording import NotAffine, Recording, Seen, available_bytes
from .replay import Replay, candidates, memory_of, moving_parameters, worth_remembering
from .settings import DEFAULT, AffineSettings

log = logging.getLogger(__name__)


class Affine(EvaluatorWrapper):
    """An evaluator that measures a few points in full, and computes all others.

    Values equal those of `reference` to 1e-6 relative in float32. This is proved on all batches at the point farthest
    from the origin, before any other is given. Points that had to be measured keep the values of `reference` to the
    bit, the origin among them. The last bits of the others may depend on which points are asked for together. Side
    effects of a step at single points (it raises, returns nothing) are not seen in between. All streams together take
    no more than `available_bytes` of memory.

    Args:
        reference: measures points in full.
        settings: for the search.

    Attributes:
        method: of the last call: "closed form", "replay", or "" where every point was measured in full.
        declined: the reason for measuring every point in full, else "".

    The points come as of any evaluator:

    >>> from lightning_landscape.evaluators import Sequential
    >>> from lightning_landscape.objectives.base import LossFunction
    >>> net = torch.nn.Linear(2, 3, bias=False).requires_grad_(False)
    >>> plane = Plane({"weight": net.weight.clone()}, ({"weight": torch.eye(3, 2)},))
    >>> loss = LossFunction(lambda net, batch: torch.nn.functional.cross_entropy(net(batch[0]), batch[1]))
    >>> batches = [Batch((torch.ones(4, 2), torch.tensor([0, 1, 2, 0])), 4)]
    >>> evaluator = Affine(Sequential(net))
    >>> len(list(evaluator(loss, plane, np.linspace(-1, 1, 51)[:, None], batches))), evaluator.method
    (51, 'closed form')
    """

    def __init__(self, reference: Evaluator, settings: AffineSettings = DEFAULT) -> None:
        super().__init__(reference)
        self.settings = settings
        self.method = self.declined = ""
        self._taken_bytes = 0  # by all streams

    def __call__(self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]) -> Stream:
        points = np.asarray(points, dtype=np.float64)
        self.method = self.declined = ""
        method: _Method | None = None
        search = _Search(self.inner, objective, plane, batches, points, self.settings, self._taken_bytes)
        try:
            method = search.method()
        except Exception as error:  # noqa: BLE001  # an error of the step itself comes again at its point
            self.declined = str(error) if isinstance(error, NotAffine) else f"{type(error).__name__}: {error}"
        if method is None:
            log.debug("measured in full: %s", self.declined)
            yield from self.inner(objective, plane, points, batches)
            return
        self.method = method.name
        self._taken_bytes += method.bytes
        try:
            computed = method.compute(points)
            for point in points:
                measurements = next(computed)
                if tuple(point) in method.known:
                    measurements = method.known[tuple(point)]
                elif not all(np.isfinite(m.value) for m in measurements.values()):
                    measurements = next(iter(self.inner(objective, plane, point[None], batches)))
                yield measurements
        finally:
            self._taken_bytes -= method.bytes


def find_affine(
    reference: Evaluator,
    objective: Objective,
    plane: Plane,
    batches: Sequence[Batch],
    points: np.ndarray,
    settings: AffineSettings = DEFAULT,
) -> Affine | None:
    """An `Affine` evaluator, if the objective is affine enough for it on the smallest batch; else None.

    Call it inside `rng.preserved`. The search takes at most k + 3 + 2ᵏ passes over one batch, twice as many without a
    closed form. The evaluator costs k + 2 passes over all batches. A point then costs almost nothing
    (closed form), or the step without its model (replay). It is worth it from some ten points on.

    Args:
        reference: measures points in full.
        objective: is measured.
        plane: origin and k directions.
        batches: the frozen data.
        points: the points to be measured, shape (n, k).
        settings: for the search.
    """
    smallest = _smallest(batches)
    share = smallest[0].size / sum(batch.size for batch in batches)
    points = np.asarray(points, dtype=np.float64)
    try:
        _Search(reference, objective, plane, smallest, points, settings, share=share).method()
    except Exception as reason:  # noqa: BLE001  # the reference measures whatever has failed here
        log.debug("not affine: %s", reason)
        return None
    return Affine(reference, settings)


@dataclass(frozen=True, eq=False)
class _Method:
    """A method that has proved equal.

    Args:
        name: as `Affine.method`.
        compute: gives the measurements of points, one after the other.
        known: the measurements of the points that were measured in full.
        bytes: the memory that it takes.
    """

    name: str
    compute: Callable[[np.ndarray], Iterator[Measurements]]
    known: dict[tuple[float, ...], Measurements]
    bytes: int


@dataclass(frozen=True, eq=False)
class _Search:
    """The search for a method that gives the measured values.

    The first arguments are those of `find_affine`.

    Args:
        taken_bytes: of the available memory, by other streams.
        share: of `batches` in all the data for which there must be memory.
    """

    reference: Evaluator
    objective: Objective
    plane: Plane
    batches: Sequence[Batch]
    points: np.ndarray
    settings: AffineSettings
    taken_bytes: int = 0
    share: float = 1.0

    def method(self) -> _Method:
        """The first method that proves equal, and takes no more memory than is available.

        Raises:
            NotAffine: if there is none.
        """
        k, points = self.plane.ndim, self.points
        if points.ndim != 2 or points.shape[1] != k or not np.isfinite(points).all() or not self.batches:
            raise NotAffine("points or batches that are not to be computed")
        if len(points) <= k + 3:
            raise NotAffine("so few points are measured sooner than computed")
        module = self.reference.module
        if is_sharded(module):
            raise NotAffine("the processes share the parameters")
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        max_bytes = max(0, available_bytes(device, self.settings.max_bytes) - self.taken_bytes)
        probes = _probes(points)
        trial_probes = _trial_probes(probes, points)
        try:
            return self._closed_form(probes, trial_probes, max_bytes // self.settings.closed_form_factor)
        except NotAffine as reason:
            log.debug("no closed form: %s", reason)
        # The record for the closed form is gone by now.
        return self._replay(probes, trial_probes, max_bytes // self.settings.replay_factor)

    def _closed_form(self, probes: np.ndarray, trial_probes: np.ndarray, max_bytes: int) -> _Method:
        if len(self.batches) > 1:
            ClosedForm(self._trial(trial_probes, max_bytes), trial_probes, self.settings, is_trial=True)
        else:
            probes = trial_probes
        passes, measured = self._record(probes, Recording(self.objective, max_bytes=int(max_bytes * self.share)))
        form = ClosedForm(passes, probes, self.settings)
        del passes

        def compute(points: np.ndarray) -> Iterator[Measurements]:
            results: list[Measurements | None] = [None] * len(points)
            plan = blocks(points, max(1, self.settings.numbers_at_once // form.cost()), form.example)
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

        return _Method("closed form", compute, _proved(compute, probes, measured, form.tolerance), form.bytes())

    def _replay(self, probes: np.ndarray, trial_probes: np.ndarray, max_bytes: int) -> _Method:
        module = self.reference.module
        trial = self._trial(trial_probes, max_bytes, candidates(module, self.plane))
        watched = worth_remembering(trial, trial_probes, moving_parameters(module, self.plane))
        del trial
        recording = Recording(self.objective, watched, max_bytes=int(max_bytes * self.share))
        passes, measured = self._record(probes, recording)
        del recording
        replay = Replay(self.objective, memory_of(passes, probes))
        del passes

        def compute(points: np.ndarray) -> Iterator[Measurements]:
            stream = iter(self.reference(replay, self.plane, points, self.batches))
            for point in points:
                replay.point = point
                yield next(stream)

        known = _proved(compute, probes, measured, lambda m: self.settings.tolerance * abs(m.value))
        return _Method("replay", compute, known, replay.bytes())

    def _trial(self, probes: np.ndarray, max_bytes: int, watched: Sequence[nn.Module] = ()) -> list[list[Seen]]:
        """The records of the smallest batch at the probes."""
        max_bytes = min(max_bytes, self.settings.trial_bytes)
        recording = Recording(self.objective, watched, nested=True, max_bytes=max_bytes)
        return self._record(probes, recording, _smallest(self.batches))[0]

    def _record(
        self, probes: np.ndarray, recording: Recording, batches: Sequence[Batch] | None = None
    ) -> tuple[list[list[Seen]], list[Measurements]]:
        """The records of batches (None for all) at the probes, and their measurements."""
        passes, measured, batches = [], [], batches or self.batches
        for measurements in self.reference(recording, self.plane, probes, batches):
            if [id(seen.batch) for seen in recording.seen] != [id(batch) for batch in batches]:
                raise NotAffine("the batches did not stay whole")
            passes.append(recording.seen)
            measured.append(measurements)
        return passes, measured


def _smallest(batches: Sequence[Batch]) -> list[Batch]:
    return [min(batches, key=lambda batch: batch.size)]


def _probes(points: np.ndarray) -> np.ndarray:
    """The points that are measured in full, shape (k + 2, k).

    They are the origin, a point on each axis as far out as any, and the farthest of the points.
    """
    k = points.shape[1]
    far = points[np.abs(points).argmax(axis=0), np.arange(k)]
    far = np.where(far == 0, 1.0, far)
    farthest = points[np.abs(points / far).sum(axis=1).argmax()]
    if np.count_nonzero(farthest) < min(k, 2) or (k == 1 and farthest[0] == far[0]):
        farthest = -0.7 * far  # a line is tried between the points that it was drawn through, or beyond them
    return np.concatenate([np.zeros((1, k)), np.diag(far), farthest[None]])


def _trial_probes(probes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The probes of one batch: also the outermost point in each quadrant, and a point between the axes."""
    k = probes.shape[1]
    far = probes[1 : k + 1].sum(axis=0)
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * k, indexing="ij"), axis=-1).reshape(-1, k)
    corners = points[((points / far) @ signs.T).argmax(axis=0)]
    between = far * np.resize([0.61, -0.37, 0.83], k)
    added = np.unique(np.concatenate([corners, between[None]]), axis=0)
    new = [point for point in added if not (point == probes).all(axis=1).any()]
    return np.concatenate([probes, np.reshape(new, (-1, k))])


def _proved(
    compute: Callable[[np.ndarray], Iterator[Measurements]],
    probes: np.ndarray,
    measured: list[Measurements],
    tolerance: Callable[[Measurement], float],
) -> dict[tuple[float, ...], Measurements]:
    """The measurements by point, after a check that `compute` gives the same values at the last point.

    Raises:
        NotAffine: if it does not.
    """
    computed, expected = next(compute(probes[-1:])), measured[-1]
    if list(computed) != list(expected):
        raise NotAffine(f"{sorted(expected)} are measured, {sorted(computed)} computed")
    for name, (value, error) in expected.items():
        difference = abs(computed[name].value - value)
        if not difference <= tolerance(expected[name]):
            raise NotAffine(f"{name!r} is off by {difference:.3g} of {value:.6g} at the farthest point")
        got = computed[name].standard_error
        if not np.isclose(got, error, rtol=1e-3, atol=1e-5 * abs(value), equal_nan=True):
            raise NotAffine(f"the standard error of {name!r} is {got:.6g} instead of {error:.6g}")
    return {tuple(point): measurements for point, measurements in zip(probes, measured, strict=True)}
