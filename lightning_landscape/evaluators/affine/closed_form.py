"""The closed form: what an objective measures, where that is the cross-entropy (or accuracy) of affine scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...objectives.base import Observation, most_cautious
from ..base import Measurement
from ..reduction import coverage_factor
from .cross_entropy import CACHED, Margins, Product, class_last, correct, margins
from .recording import LossCall, NotAffine, Seen, affine_parts

TIMES = 6  # the bytes of what is recorded: what it and all that is made of it take at most
ROUNDING = 1e-6  # of a mean of losses against torch's, relative
SUM_COST = 128  # numbers as which the sum of a batch at a point counts
OF_BATCHES = {"losses": "mean", "hit": "hits"}  # of one value a sample, the mean of a batch
DIFFERENT = 3  # values that are seen of an accuracy, before it is believed to be one


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of one call of the loss at all points; or of G calls on batches of one size, as if of one.

    Args:
        parts: z₀, …, z_k in the shape of the call's input.
        arguments: of the call at the origin, by name.
        batches: G.
    """

    parts: Tensor
    arguments: dict[str, Any]
    batches: int = 1

    @cached_property
    def margins(self) -> Margins:
        """The margins of the loss for these scores."""
        return margins(self.parts, self.arguments, self.batches)

    @property
    def samples(self) -> int:
        """n, of each batch."""
        return self.margins.parts.shape[1] // self.batches

    def hits(self, points: Product | Tensor) -> Tensor:
        """The number of rightly classified samples in each batch at each point, shape (G, P)."""
        labels = self.arguments["target"].reshape(-1)
        pieces = zip(class_last(self.parts).chunk(self.batches, dim=1), labels.chunk(self.batches), strict=True)
        return torch.stack([correct(parts, own, points) for parts, own in pieces])


@dataclass(frozen=True, eq=False)
class Reading:
    """The rule by which one observation of a batch follows from the scores.

    Args:
        what: "loss": what the call gives, a scalar; "mean": the mean of what it gives; "losses": one value a sample,
            as it gives them; "sample": of one of these; "hits": the share of samples that are classified rightly;
            "hit": one value a sample, rightly or not.
        observation: at the origin: its weight and how batches are put together.
        factor: by which it is multiplied (accuracies in percent).
        row: which sample.
    """

    what: str
    observation: Observation
    factor: float = 1.0
    row: int = 0


class ClosedForm:
    """All points of an objective out of a few passes of it.

    Args:
        passes: what was seen at the origin, at one point on each axis, and at others.
        where: these points, shape (m, k).
        trial: on too few batches to tell an accuracy from anything else.

    Raises:
        NotAffine: if a metric is nothing that this form knows, or the scores are not affine.
    """

    def __init__(self, passes: Sequence[Sequence[Seen]], where: np.ndarray, *, trial: bool = False) -> None:
        self.groups: list[tuple[Scores, dict[str, Reading]]] = []
        self.drawn = most_cautious(seen.batch.drawn for seen in passes[0])
        found: list[_Found] = []
        accuracies: dict[str, set[float]] = {}
        for seen in zip(*passes, strict=True):
            index, readings = _readings(seen)
            if seen[0].batch.drawn == "batches":  # their samples' spread tells nothing
                readings = {name: replace(r, what=OF_BATCHES.get(r.what, r.what)) for name, r in readings.items()}
            calls = [s.losses[index] for s in seen]
            _require_same_arguments(calls)
            found.append(_Found([arguments for _, arguments, _ in calls], readings))
            for name, reading in readings.items():
                if reading.what in ("hits", "hit"):
                    rates = [torch.as_tensor(s.observations[name].value).double().mean() for s in seen]
                    accuracies.setdefault(name, set()).update(map(float, rates))
        for group in _joined(found):
            scores = Scores(affine_parts([a["input"] for a in group.calls], where), group.calls[0], group.batches)
            if len(scores.parts) == 1:
                still = scores.parts.expand(len(where[0]) + 1, *scores.parts.shape[1:]).clone()
                still[1:] = 0
                scores = replace(scores, parts=still)
            try:
                _ = scores.margins
            except ValueError as error:
                raise NotAffine(str(error)) from error
            self.groups.append((scores, group.readings))
        for name, values in accuracies.items():
            if len(values) < DIFFERENT and not trial:
                raise NotAffine(f"{name!r} may be an accuracy, or anything else of {sorted(values)}")

    @property
    def example(self) -> Tensor:
        """A tensor with the type and the device that points must have."""
        return self.groups[0][0].parts

    def cost(self) -> int:
        """Numbers to be computed for a point; of many tiny batches more, whose sums take memory instead."""
        return max(sum(s.parts[0].numel() for s, _ in self.groups), SUM_COST * max(s.batches for s, _ in self.groups))

    def bytes(self) -> int:
        """The memory of the kept tensors in bytes."""
        return sum(scores.parts.nbytes + scores.margins.parts.nbytes for scores, _ in self.groups)

    def __call__(self, points: Product | Tensor) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Value and standard error of every metric at every point, each of shape (P,)."""
        tallies: dict[str, _Tally] = {}
        for scores, readings in self.groups:
            each: Tensor | None = None
            totals: Tensor | None = None
            moments: tuple[Tensor, Tensor] | None = None
            hits: Tensor | None = None
            for name, reading in readings.items():
                tally = tallies.setdefault(name, _Tally(reading.observation.reduce, self.drawn))
                weight, samples = reading.observation.weight, scores.samples
                has_singles = reading.observation.each is not None and self.drawn != "batches"
                if reading.what == "losses" or (has_singles and reading.what in ("loss", "mean")):
                    moments = scores.margins.moments(points) if moments is None else moments
                if reading.what in ("hits", "hit"):
                    hits = scores.hits(points) * reading.factor if hits is None else hits
                    everyone = scores.arguments["target"].numel() // scores.batches
                    share = hits.sum(0)
                    of_samples = share, share * reading.factor, weight / everyone, everyone * scores.batches
                    if reading.what == "hits":
                        tally.add(hits / everyone, weight, of_samples if has_singles else None)
                    else:
                        tally.add_samples(*of_samples)
                elif reading.what == "losses":
                    assert moments is not None
                    tally.add_samples(*moments, weight / samples, samples * scores.batches)
                elif reading.what == "sample":
                    each = scores.margins.each(points).double() if each is None else each
                    tally.add(each[reading.row][None], weight)
                else:
                    totals = scores.margins.totals(points) if totals is None else totals
                    singles = (
                        (*moments, weight / samples, samples * scores.batches) if has_singles and moments else None
                    )
                    tally.add(totals / (samples if reading.what == "mean" else 1), weight, singles)
        return {name: tally.result() for name, tally in tallies.items()}

    def tolerance(self, measurement: Measurement) -> float:
        """The allowed error of a value, from the rounding of losses that are means of score differences."""
        samples = sum(scores.margins.parts.shape[1] for scores, _ in self.groups)
        size = max(float(scores.parts[0].abs().max()) for scores, _ in self.groups)
        rounding = torch.finfo(self.example.dtype).eps * (1 + size) / samples**0.5
        return ROUNDING * abs(measurement.value) + 16 * rounding


@dataclass(frozen=True, eq=False)
class _Found:
    """The loss arguments and readings that give the metrics of a batch, or of G batches joined into one.

    Args:
        calls: the arguments of the loss at each point of the passes.
        readings: how.
        batches: G.
    """

    calls: list[dict[str, Any]]
    readings: dict[str, Reading]
    batches: int = 1

    def kind(self) -> tuple[Any, ...]:
        """The same for batches that may be joined: their losses have one divisor."""
        own = self.calls[0]
        scores, target, readings = own["input"], own["target"], self.readings.items()
        weighted = own["weight"] is not None
        ignored = not target.is_floating_point() and bool((target == own["ignore_index"]).any())
        if weighted or ignored or scores.ndim < 2 or any(reading.what == "sample" for _, reading in readings):
            return (id(self),)
        how = [
            (name, r.what, r.factor, r.observation.weight, r.observation.reduce, r.observation.each is None)
            for name, r in readings
        ]
        others = [value for value in own.values() if not isinstance(value, Tensor)]
        return (scores.shape, scores.dtype, target.shape, *others, *how)


def _joined(found: Sequence[_Found]) -> Iterator[_Found]:
    """Small batches of one kind as one: hundreds of them would take longer to call upon than to compute."""
    for _, alike in groupby(found, key=_Found.kind):
        group = list(alike)
        step = max(1, CACHED // max(1, group[0].calls[0]["input"].numel()))
        if step == 1:
            yield from group
            continue
        for some in (group[i : i + step] for i in range(0, len(group), step)):
            calls = [
                {**own[0], **{name: torch.cat([a[name] for a in own]) for name in ("input", "target")}}
                for own in zip(*(one.calls for one in some), strict=True)
            ]
            yield _Found(calls, some[0].readings, len(some))


def _readings(seen: Sequence[Seen]) -> tuple[int, dict[str, Reading]]:
    """The index of the loss call that gives all metrics of a batch, and the reading of each metric."""
    first = seen[0]
    counts = {(len(s.losses), tuple(s.observations)) for s in seen}
    if len(counts) > 1:
        raise NotAffine("the step goes another way at other points")
    unknown = "no loss function of torch.nn.functional"
    for index in reversed(range(len(first.losses))):
        if first.losses[index][0] is not F.cross_entropy:
            continue
        calls = [s.losses[index] for s in seen]
        readings = {}
        for row, name in enumerate(first.observations):
            reading = _reading([s.observations[name] for s in seen], calls, row)
            if reading is None:
                unknown = repr(name)
                break
            readings[name] = reading
        else:
            if readings:
                return index, readings
    raise NotAffine(f"{unknown} is not known to follow from the scores of a cross-entropy")


def _reading(observed: Sequence[Observation], calls: Sequence[LossCall], row: int) -> Reading | None:
    origin = observed[0]
    if origin.reduce not in ("mean", "sum") or len({(o.weight, o.reduce) for o in observed}) > 1:
        return None
    pairs = [(torch.as_tensor(o.value), result) for o, (_, _, result) in zip(observed, calls, strict=True)]

    def alike(of: str) -> bool:
        return all(_follows(of, value, result, row) for value, result in pairs)

    for what in ("loss", "losses", "sample", "mean"):
        if alike(what):
            return Reading(what, origin, row=row)
    for factor in (1.0, 100.0):
        for what in ("hits", "hit"):
            if all(_counts(what, v, c, factor) for (v, _), c in zip(pairs, calls, strict=True)):
                return Reading(what, origin, factor)
    return None


def _follows(what: str, value: Tensor, result: Tensor, row: int) -> bool:
    """True if a value follows from the result of a loss call in the way that `what` names.

    The value and the result must be equal to the bit, except for a mean that the step takes itself.
    """
    if what == "loss":
        return value.numel() == result.numel() == 1 and float(value) == float(result)
    if result.ndim != 1:
        return False
    if what == "losses":
        return value.shape == result.shape and torch.equal(value.to(result.dtype), result)
    if what == "sample":
        return value.numel() == 1 and row < len(result) and float(value) == float(result[row])
    return value.numel() == 1 and bool(np.isclose(float(value), float(result.double().mean()), rtol=1e-6, atol=0))


def _counts(what: str, value: Tensor, call: LossCall, factor: float) -> bool:
    """True if a value is `factor` times the accuracy of a batch, or of its samples."""
    scores, target = call[1]["input"], call[1]["target"]
    if scores.ndim != 2 or target.shape != scores.shape[:1] or target.is_floating_point():
        return False
    hits = (scores.argmax(1) == target).double() * factor
    wanted = hits if what == "hit" else hits.mean()
    return value.shape == wanted.shape and bool(torch.allclose(value.to(wanted), wanted, rtol=1e-6, atol=0))


def _require_same_arguments(calls: Sequence[LossCall]) -> None:
    for name, value in calls[0][1].items():
        for _, arguments, _ in calls[1:] if name != "input" else ():
            other = arguments[name]
            same = torch.equal(value, other) if isinstance(value, Tensor) else bool(value == other)
            if not same:
                raise NotAffine(f"the loss is called with another {name} at other points")


class _Sums:
    """The weighted sums of some values, and of their squares, at all points."""

    def __init__(self) -> None:
        self.count, self.weight = 0, 0.0
        self.first = self.second = torch.zeros(())

    def add(self, total: Tensor, squares: Tensor, weight: float, count: int) -> None:
        """The sums of some values of the same weight, and of their squares, shape (P,)."""
        self.first = self.first.to(total) + weight * total
        self.second = self.second.to(total) + weight * squares
        self.weight += weight * count
        self.count += count

    def error(self) -> Tensor:
        """The standard error of their mean, as `reduction.mean_and_error`."""
        mean = self.first / self.weight
        if self.count < 2:
            return torch.full_like(mean, float("nan"))
        spread = (self.second - self.weight * mean.square()).clamp(min=0) / (self.count - 1)
        return (spread / self.weight).sqrt() * coverage_factor(self.count - 1)


class _Tally:
    """One metric over the batches at all points at once, by the rules of `reduction.reduce`.

    Args:
        reduce: how the batches are put together.
        drawn: what chance has chosen, as `Batch.drawn`.
    """

    def __init__(self, reduce: str, drawn: str) -> None:
        self.reduce, self.drawn = reduce, drawn
        self.plain = torch.zeros(())
        self.values, self.singles = _Sums(), _Sums()
        self.knows_singles = True

    def add(self, value: Tensor, weight: float, singles: tuple[Tensor, Tensor, float, int] | None = None) -> None:
        """One value for each of some batches of the same weight, shape (G, P); and what is known of their samples."""
        sums = value.sum(0), value.square().sum(0), weight, len(value)
        self._add(sums, sums if weight == 1 and singles is None else singles)

    def add_samples(self, total: Tensor, squares: Tensor, weight: float, count: int) -> None:
        """The sums of one value a sample, all of the same weight, and of their squares, shape (P,)."""
        self._add((total, squares, weight, count), (total, squares, weight, count))

    def _add(
        self, values: tuple[Tensor, Tensor, float, int], singles: tuple[Tensor, Tensor, float, int] | None
    ) -> None:
        self.plain = self.plain.to(values[0]) + values[0]
        self.values.add(*values)
        self.knows_singles &= singles is not None
        if singles is not None:
            self.singles.add(*singles)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Values and standard errors."""
        if self.reduce == "sum":
            return self.plain.cpu().numpy(), np.full(self.plain.shape, np.nan)
        mean = self.values.first / self.values.weight
        error = torch.full_like(mean, float("nan"))
        if self.knows_singles and self.drawn != "batches":
            error = self.singles.error()
        elif self.drawn != "ordered":
            error = self.values.error()
        return mean.cpu().numpy(), error.cpu().numpy()
