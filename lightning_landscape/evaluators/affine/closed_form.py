"""The closed form of an objective's values, where these are the cross-entropy or the accuracy of affine scores."""

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
from ..mean_and_error import coverage_factor
from .cross_entropy import CACHED_NUMBERS, Margins, Product, class_last, correct, margins
from .recording import LossCall, NotAffine, Seen, affine_parts
from .settings import AffineSettings

OF_BATCHES = {"losses": "mean", "hit": "hits"}  # the mean over a batch of one value a sample
Sums = tuple[Tensor, Tensor, float, int]  # of values and of their squares, shape (P,); the weight and count of values


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

    def hits(self, points: Product | Tensor) -> Tensor:
        """The number of rightly classified samples in each batch at each point, shape (G, P)."""
        labels = self.arguments["target"].reshape(-1).chunk(self.batches)
        parts = class_last(self.parts).chunk(self.batches, dim=1)
        return torch.stack([correct(z, target, points) for z, target in zip(parts, labels, strict=True)])


@dataclass(frozen=True, eq=False)
class Reading:
    """The rule by which one observation of a batch follows from the scores.

    Args:
        kind: "loss" for the result of the loss, a scalar; "mean" for its mean; "losses" for its values, one a sample;
            "sample" for one of these; "hits" for the share of samples that are classified rightly; "hit" for one value
            a sample, rightly or not.
        observation: at the origin: its weight and how batches are put together.
        factor: of the value (100 for accuracies in percent).
        row: the number of the sample.
    """

    kind: str
    observation: Observation
    factor: float = 1.0
    row: int = 0


class ClosedForm:
    """All points of an objective out of a few passes of it.

    Args:
        passes: the records at the origin, at one point on each axis, and at further points.
        probes: these points, shape (m, k).
        settings: for the cost and the accuracy of the form.
        is_trial: True for too few batches to tell an accuracy from other metrics.

    Raises:
        NotAffine: if this form does not know a metric, or the scores are not affine.
    """

    def __init__(
        self, passes: Sequence[Sequence[Seen]], probes: np.ndarray, settings: AffineSettings, *, is_trial: bool = False
    ) -> None:
        self.settings = settings
        self.drawn = most_cautious(seen.batch.drawn for seen in passes[0])
        batches = [_LossCalls.of(seen) for seen in zip(*passes, strict=True)]
        self.groups = [(_scores(group, probes), group.readings) for group in _joined(batches)]
        if not is_trial:
            _check_accuracies(passes, batches, settings.min_rates)

    @property
    def example(self) -> Tensor:
        """A tensor with the type and the device that points must have."""
        return self.groups[0][0].parts

    def cost(self) -> int:
        """Numbers to be computed for a point; of many tiny batches more, whose sums take memory instead."""
        numbers = sum(scores.parts[0].numel() for scores, _ in self.groups)
        return max(numbers, self.settings.numbers_of_sum * max(scores.batches for scores, _ in self.groups))

    def bytes(self) -> int:
        """The memory of the kept tensors in bytes."""
        return sum(scores.parts.nbytes + scores.margins.parts.nbytes for scores, _ in self.groups)

    def __call__(self, points: Product | Tensor) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Value and standard error of every metric at every point, each of shape (P,)."""
        tallies: dict[str, _Tally] = {}
        for scores, readings in self.groups:
            block = _Block(scores, points)
            for name, reading in readings.items():
                block.add(reading, tallies.setdefault(name, _Tally(reading.observation.reduce, self.drawn)))
        return {name: tally.result() for name, tally in tallies.items()}

    def tolerance(self, measurement: Measurement) -> float:
        """The allowed error of a value, from the rounding of losses that are means of score differences."""
        samples = sum(scores.margins.parts.shape[1] for scores, _ in self.groups)
        size = max(float(scores.parts[0].abs().max()) for scores, _ in self.groups)
        rounding = torch.finfo(self.example.dtype).eps * (1 + size) / samples**0.5
        return self.settings.tolerance * abs(measurement.value) + 16 * rounding


@dataclass(frozen=True, eq=False)
class _Block:
    """Scores at a block of points, from which each quantity is computed once."""

    scores: Scores
    points: Product | Tensor

    @cached_property
    def totals(self) -> Tensor:
        return self.scores.margins.totals(self.points)

    @cached_property
    def moments(self) -> tuple[Tensor, Tensor]:
        return self.scores.margins.moments(self.points)

    @cached_property
    def each(self) -> Tensor:
        return self.scores.margins.each(self.points).double()

    @cached_property
    def hits(self) -> Tensor:
        return self.scores.hits(self.points)

    def add(self, reading: Reading, tally: _Tally) -> None:
        """Add the values of a reading to the tally of its metric."""
        weight, batches = reading.observation.weight, self.scores.batches
        has_singles = reading.observation.each is not None and tally.drawn != "batches"
        if reading.kind == "sample":
            tally.add(self.each[reading.row][None], weight)
        elif reading.kind in ("hits", "hit"):
            samples = self.scores.arguments["target"].numel() // batches
            hits = self.hits * reading.factor
            singles = hits.sum(0), hits.sum(0) * reading.factor, weight / samples, samples * batches
            if reading.kind == "hit":
                tally.add_sums(singles, singles)
            else:
                tally.add(hits / samples, weight, singles if has_singles else None)
        else:
            samples = self.scores.margins.parts.shape[1] // batches
            if reading.kind == "losses":
                losses = *self.moments, weight / samples, samples * batches
                tally.add_sums(losses, losses)
            else:
                spread = (*self.moments, weight / samples, samples * batches) if has_singles else None
                tally.add(self.totals / (samples if reading.kind == "mean" else 1), weight, spread)


@dataclass(frozen=True, eq=False)
class _LossCalls:
    """The loss calls and readings that give the metrics of a batch, or of G batches joined into one.

    Args:
        arguments: of the loss at each point of the passes.
        readings: of each metric.
        batches: G.
    """

    arguments: list[dict[str, Any]]
    readings: dict[str, Reading]
    batches: int = 1

    @classmethod
    def of(cls, seen: Sequence[Seen]) -> _LossCalls:
        """The loss calls of one batch, from its records at all points of the passes."""
        index, readings = _readings(seen)
        if seen[0].batch.drawn == "batches":  # the spread of their samples tells nothing
            readings = {name: replace(r, kind=OF_BATCHES.get(r.kind, r.kind)) for name, r in readings.items()}
        arguments = [s.losses[index][1] for s in seen]
        for name, value in arguments[0].items():
            for changed in arguments[1:] if name != "input" else ():
                is_tensor = isinstance(value, Tensor)
                if not (torch.equal(value, changed[name]) if is_tensor else bool(value == changed[name])):
                    raise NotAffine(f"the loss is called with another {name} at other points")
        return cls(arguments, readings)

    def kind(self) -> tuple[object, ...]:
        """A key that is equal for batches that may be joined: their losses have one divisor."""
        call = self.arguments[0]
        scores, target, readings = call["input"], call["target"], self.readings.items()
        is_ignoring = not target.is_floating_point() and bool((target == call["ignore_index"]).any())
        is_single = scores.ndim < 2 or any(reading.kind == "sample" for _, reading in readings)
        if call["weight"] is not None or is_ignoring or is_single:
            return (id(self),)
        rules = [
            (name, r.kind, r.factor, r.observation.weight, r.observation.reduce, r.observation.each is None)
            for name, r in readings
        ]
        options = [value for value in call.values() if not isinstance(value, Tensor)]
        return (scores.shape, scores.dtype, target.shape, *options, *rules)


def _joined(batches: Sequence[_LossCalls]) -> Iterator[_LossCalls]:
    """Join small batches of one kind: hundreds of calls would take longer than their numbers."""
    for _, alike in groupby(batches, key=_LossCalls.kind):
        group = list(alike)
        step = max(1, CACHED_NUMBERS // max(1, group[0].arguments[0]["input"].numel()))
        if step == 1:
            yield from group
            continue
        for members in (group[i : i + step] for i in range(0, len(group), step)):
            arguments = [
                calls[0] | {name: torch.cat([call[name] for call in calls]) for name in ("input", "target")}
                for calls in zip(*(member.arguments for member in members), strict=True)
            ]
            yield _LossCalls(arguments, members[0].readings, len(members))


def _scores(calls: _LossCalls, probes: np.ndarray) -> Scores:
    """The scores of these calls, with k + 1 parts and margins.

    Raises:
        NotAffine: if they are not affine, or the loss has arguments that this form does not know.
    """
    parts = affine_parts([call["input"] for call in calls.arguments], probes)
    if len(parts) == 1:  # the same at all points
        parts = torch.cat([parts, torch.zeros_like(parts).expand(probes.shape[1], *parts.shape[1:])])
    scores = Scores(parts, calls.arguments[0], calls.batches)
    try:
        _ = scores.margins
    except ValueError as error:
        raise NotAffine(str(error)) from error
    return scores


def _check_accuracies(passes: Sequence[Sequence[Seen]], batches: Sequence[_LossCalls], min_rates: int) -> None:
    """Raises NotAffine for an accuracy with so few values in the passes that it may be another metric."""
    rates: dict[str, set[float]] = {}
    for seen, calls in zip(zip(*passes, strict=True), batches, strict=True):
        for name in [name for name, reading in calls.readings.items() if reading.kind in ("hits", "hit")]:
            values = [torch.as_tensor(s.observations[name].value).double().mean() for s in seen]
            rates.setdefault(name, set()).update(map(float, values))
    for name, distinct in rates.items():
        if len(distinct) < min_rates:
            raise NotAffine(f"{name!r} may be an accuracy, or anything else of {sorted(distinct)}")


def _readings(seen: Sequence[Seen]) -> tuple[int, dict[str, Reading]]:
    """The index of the loss call that gives all metrics of a batch, and the reading of each metric."""
    losses, names = seen[0].losses, list(seen[0].observations)
    if len({(len(s.losses), tuple(s.observations)) for s in seen}) > 1:
        raise NotAffine("the step goes another way at other points")
    unknown = "no loss function of torch.nn.functional"
    for index in reversed(range(len(losses))):
        if losses[index][0] is not F.cross_entropy:
            continue
        calls = [s.losses[index] for s in seen]
        readings = [_reading([s.observations[name] for s in seen], calls, row) for row, name in enumerate(names)]
        known = {name: reading for name, reading in zip(names, readings, strict=True) if reading is not None}
        if known and len(known) == len(names):
            return index, known
        unknown = next((repr(name) for name in names if name not in known), unknown)
    raise NotAffine(f"{unknown} is not known to follow from the scores of a cross-entropy")


def _reading(observed: Sequence[Observation], calls: Sequence[LossCall], row: int) -> Reading | None:
    origin = observed[0]
    if origin.reduce not in ("mean", "sum") or len({(o.weight, o.reduce) for o in observed}) > 1:
        return None
    pairs = [(torch.as_tensor(o.value), call) for o, call in zip(observed, calls, strict=True)]
    for kind in ("loss", "losses", "sample", "mean"):
        if all(_follows(kind, value, call[2], row) for value, call in pairs):
            return Reading(kind, origin, row=row)
    for factor in (1.0, 100.0):
        for kind in ("hits", "hit"):
            if all(_is_accuracy(kind, value, call, factor) for value, call in pairs):
                return Reading(kind, origin, factor)
    return None


def _follows(kind: str, value: Tensor, result: Tensor, row: int) -> bool:
    """True if a value follows from the result of a loss call in the way that `kind` names.

    The value and the result must be equal to the bit, except for a mean that the step takes itself.
    """
    if kind == "loss":
        return value.numel() == result.numel() == 1 and float(value) == float(result)
    if result.ndim != 1:
        return False
    if kind == "losses":
        return value.shape == result.shape and torch.equal(value.to(result.dtype), result)
    if kind == "sample":
        return value.numel() == 1 and row < len(result) and float(value) == float(result[row])
    return value.numel() == 1 and bool(np.isclose(float(value), float(result.double().mean()), rtol=1e-6, atol=0))


def _is_accuracy(kind: str, value: Tensor, call: LossCall, factor: float) -> bool:
    """True if a value is `factor` times the accuracy of a batch, or of its samples."""
    scores, target = call[1]["input"], call[1]["target"]
    if scores.ndim != 2 or target.shape != scores.shape[:1] or target.is_floating_point():
        return False
    hits = (scores.argmax(1) == target).double() * factor
    expected = hits if kind == "hit" else hits.mean()
    return value.shape == expected.shape and bool(torch.allclose(value.to(expected), expected, rtol=1e-6, atol=0))


class _WeightedSums:
    """The weighted sums of values, and of their squares, at all points."""

    def __init__(self) -> None:
        self.count, self.weight = 0, 0.0
        self.first = self.second = torch.zeros(())

    def add(self, total: Tensor, squares: Tensor, weight: float, count: int) -> None:
        """Add `Sums`."""
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
        drawn: the unit that chance has chosen, as `Batch.drawn`.
    """

    def __init__(self, reduce: str, drawn: str) -> None:
        self.reduce, self.drawn = reduce, drawn
        self.total = torch.zeros(())
        self.values, self.singles = _WeightedSums(), _WeightedSums()
        self.knows_singles = True

    def add(self, value: Tensor, weight: float, singles: Sums | None = None) -> None:
        """Add one value for each of G batches of one weight, shape (G, P), and the sums over their samples."""
        sums = value.sum(0), value.square().sum(0), weight, len(value)
        self.add_sums(sums, sums if weight == 1 and singles is None else singles)

    def add_sums(self, values: Sums, singles: Sums | None) -> None:
        """Add the sums over some values, and over single samples where these are known."""
        self.total = self.total.to(values[0]) + values[0]
        self.values.add(*values)
        self.knows_singles &= singles is not None
        if singles is not None:
            self.singles.add(*singles)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Values and standard errors."""
        if self.reduce == "sum":
            return self.total.cpu().numpy(), np.full(self.total.shape, np.nan)
        mean = self.values.first / self.values.weight
        error = torch.full_like(mean, float("nan"))
        if self.knows_singles and self.drawn != "batches":
            error = self.singles.error()
        elif self.drawn != "ordered":
            error = self.values.error()
        return mean.cpu().numpy(), error.cpu().numpy()
