"""From the observations of all batches to one measurement: the mean, in float64, and its standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..objectives.base import Observation
from ..objectives.single_losses import SingleLosses, at_once, joined
from .base import Measurement

Array = NDArray[np.float64]
INSIDE = math.erf(2**0.5)  # the share of normal numbers within 2 standard deviations: 95.45 %
_not_finite_is_a_value = np.errstate(invalid="ignore", divide="ignore", over="ignore")


@_not_finite_is_a_value
def reduce(observations: Sequence[Observation], drawn: str = "samples") -> Measurement:
    """One metric at one point out of its observations.

    The error comes from the spread of single samples, where all are known. Else it comes from the spread of the
    batches, where chance has made these.

    Args:
        observations: one of each batch.
        drawn: the unit that chance has chosen, as `Batch.drawn`.

    >>> reduce([Observation(torch.tensor([1.0, 2.0]), 2), Observation(6.0, 1)]).value
    3.0
    """
    how = observations[0].reduce
    values = _numbers([observation.value for observation in observations])
    if how != "mean":
        return Measurement(float(getattr(np, how)(values)), np.nan)  # sum, min or max
    weights = np.array([observation.weight for observation in observations], dtype=np.float64)
    counts = np.array([_count(observation.value) for observation in observations])
    of_each = np.repeat(weights / counts, counts) if len(values) > len(counts) else weights
    if drawn == "batches":
        return Measurement(_mean(values, of_each), _error(_means(values, counts), weights))
    singles = _singles(observations)
    error = None if singles is None else _error_of_samples(_means(values, counts), *singles, weights)
    if error is None:
        error = _error(values, of_each) if drawn == "samples" else np.nan
    return Measurement(_mean(values, of_each), error)


def _singles(observations: Sequence[Observation]) -> tuple[Array, NDArray[np.intp]] | None:
    """The values of all samples, and their number in each batch; None where some are unknown."""
    each = [observation.each for observation in observations]
    deferred = [losses for losses in each if isinstance(losses, SingleLosses)]
    if len(deferred) == len(each) and (together := joined(deferred)) is not None:
        return _numbers([together]), np.array([losses.size for losses in deferred])
    known: list[Tensor | float] = []
    for observation in observations:
        losses: Tensor | float | None = at_once(observation.each)
        if losses is None and (_count(observation.value) > 1 or observation.weight == 1):
            losses = observation.value  # of single samples itself
        if losses is None:
            return None
        known.append(losses)
    return _numbers(known), np.array([_count(losses) for losses in known])


def _error_of_samples(
    values: Array, each: Array, counts: NDArray[np.intp], weights: Array, unexplained: float = 0.1
) -> float | None:
    """The standard error from single samples, if the values of the batches follow from them but for a constant.

    Args:
        values: of the batches.
        each: of all samples.
        counts: samples in each batch.
        weights: of the batches.
        unexplained: the largest share of the error that may have another cause: it would add 0.5 % to the error.
    """
    error = _root_of_spread(each, np.repeat(weights / counts, counts))
    residuals = values - _means(each, counts)
    spread = _root_of_spread(residuals, weights) if len(residuals) > 1 else 0.0
    allowed = max(unexplained * error, 1e-7 * float(np.abs(values).max()))  # the latter for rounding
    return error * coverage_factor(len(each) - 1) if len(each) > 1 and spread <= allowed else None


def _count(value: Tensor | float) -> int:
    return value.numel() if isinstance(value, Tensor) else 1


def _means(values: Array, counts: NDArray[np.intp]) -> Array:
    """The means of groups of `counts` values each."""
    return np.add.reduceat(values, np.cumsum(counts) - counts) / counts if len(values) > len(counts) else values


def _numbers(values: Sequence[Tensor | float]) -> Array:
    """All values as one float64 array; values on a device are fetched in one transfer."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    if len(tensors) < len(values):
        return np.concatenate([np.array([v]) if not isinstance(v, Tensor) else _numbers([v]) for v in values])
    plain = all(value.ndim == 0 for value in tensors)
    joined = torch.stack(tensors) if plain else torch.cat([value.reshape(-1) for value in tensors])
    return joined.detach().cpu().to(torch.float64).numpy()  # not every device knows float64


@_not_finite_is_a_value
def mean_and_error(values: Array, weights: Array) -> tuple[float, float]:
    """The weighted mean of m observations, L = Σ w v / Σ w, and its standard error.

    An observation of weight w is taken as the mean of w samples. Then s² = Σ w (v − L)² / (m − 1) estimates the
    variance of one sample. The error is s / √(Σ w), times `coverage_factor` of m − 1.

    Args:
        values: shape (m,).
        weights: shape (m,), numbers of samples.

    Returns:
        The mean, and the error (NaN for a single observation, or where a value is not finite).

    >>> mean, error = mean_and_error(np.array([1.0, 2.0, 3.0, 6.0]), np.ones(4))
    >>> mean, error / coverage_factor(3)  # std 2.1602 over √4
    (3.0, 1.0801234497346435)
    """
    return _mean(values, weights), _error(values, weights)


def _mean(values: Array, weights: Array) -> float:
    return float(np.dot(weights, values) / weights.sum())


def _error(values: Array, weights: Array) -> float:
    return _root_of_spread(values, weights) * coverage_factor(len(values) - 1) if len(values) > 1 else math.nan


def _root_of_spread(values: Array, weights: Array) -> float:
    deviations = values - _mean(values, weights)
    return math.sqrt(np.dot(weights, deviations * deviations) / (len(values) - 1) / weights.sum())


@cache
def coverage_factor(degrees: int) -> float:
    """t / 2, where Student's t is within ± t as often as a normal number within ± 2.

    The spread of few observations is known badly. With this factor, ± 2 standard errors cover 95.45 % all the same.

    >>> [round(coverage_factor(degrees), 4) for degrees in (1, 2, 9, 100)]
    [6.9839, 2.2633, 1.1599, 1.0127]
    """
    if degrees >= 30:  # the series is right to 1e-5 there (Abramowitz and Stegun 1964, 26.7.5, at x = 2)
        v = degrees
        return 1 + 2.5 / (2 * v) + 294 / (2 * 96 * v**2) + 1098 / (2 * 384 * v**3)
    low, high = 2.0, 14.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < INSIDE else (low, middle)
    return high / 2


def _within(t: float, degrees: int) -> float:
    """The probability that Student's t is within ± t (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    cosine, sine = (degrees / (degrees + t * t)) ** 0.5, t / (degrees + t * t) ** 0.5
    is_odd = degrees % 2
    term = cosine if is_odd else 1.0
    total = term if degrees > 1 else 0.0
    for i in range(2 + is_odd, degrees - 1, 2):
        term *= cosine**2 * (i - 1) / i
        total += term
    return 2 / math.pi * (math.atan(t / degrees**0.5) + sine * total) if is_odd else sine * total


def correction(size: int, population: int | None) -> float:
    """The factor of the standard error of n of N samples, none of them twice: √(1 − n/N) (Cochran 1977, section 2.5).

    It is 1 where N is unknown. It is 1 for n = N, too: the error is then that of all data of their kind.

    >>> correction(36, 100), correction(100, 100), correction(36, None)
    (0.8, 1.0, 1.0)
    """
    return 1.0 if population is None or size >= population else float((1 - size / population) ** 0.5)
