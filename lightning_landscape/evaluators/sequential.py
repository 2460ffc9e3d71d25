"""Sequential: one point after the other, in place on a copy of the module. The reference of all evaluators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..objectives import Batch, Objective, Observation
from ..parameters import Params, canonical_name, working_dtype
from ..plane import Plane
from ..rng import seed_streams


class Measurement(NamedTuple):
    """One metric at one point.

    Args:
        value: the mean over the samples (or the sum, least or greatest, as its `Observation` says).
        standard_error: of that mean over observations; NaN where unknown.
    """

    value: float
    standard_error: float


class Sequential:
    """Moves the parameters of a module to each point and runs the objective over all batches.

    Args:
        module: a copy that is ours to move, in the mode (eval) and on the device it is measured in. It is left
            where the last point put it.
        seed: where every random stream starts at every point, so that all points share their random numbers.
            The caller wraps the iteration in `rng.preserved`.
    """

    def __init__(self, module: nn.Module, *, seed: int = 42) -> None:
        self.module, self.seed = module, seed
        self._buffers = list(module.buffers())
        self._kept = [buffer.detach().clone() for buffer in self._buffers]

    def __call__(
        self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]
    ) -> Iterator[dict[str, Measurement]]:
        """Yield the measurements of each point, in the order of `points`, shape (n, k).

        An iterator, so that the caller may save, show or stop between two points.

        Raises:
            ValueError: if a name of the plane is no parameter of the module.
        """
        move = _InPlace(self.module, plane)
        # Tensors made in inference mode do not count their edits, which a rehearsal may want to see.
        with torch.inference_mode(False), torch.no_grad():
            objective.rehearse(self.module, batches[0])
        for point in points:
            with torch.inference_mode():
                move(point)
                if self._buffers:
                    torch._foreach_copy_(self._buffers, self._kept)
                seed_streams(self.seed)
                objective.start()
                seen: dict[str, list[Observation]] = {}
                for batch in batches:
                    for name, observation in objective(self.module, batch).items():
                        seen.setdefault(name, []).append(observation)
                measured = {name: reduce(observations) for name, observations in seen.items()}
                whole = objective.finish()
            yield {**measured, **{name: Measurement(float(value), np.nan) for name, value in whole.items()}}


class _InPlace:
    """Writes θ* + Σ cᵢ dᵢ into the module's own tensors; parameters that no direction moves are left alone."""

    def __init__(self, module: nn.Module, plane: Plane) -> None:
        own = {canonical_name(name): p.detach() for name, p in module.named_parameters()}
        strangers = sorted(plane.origin.keys() - own.keys())
        if strangers:
            raise ValueError(f"The plane names parameters that the module does not have: {strangers[:5]}.")
        resting = {name for name in plane.origin if all(_is_zero(d[name]) for d in plane.directions)}
        for name in resting:
            own[name].copy_(plane.origin[name])
        moving = [name for name in plane.origin if name not in resting]
        exact = [name for name in moving if own[name].dtype == working_dtype(own[name].dtype)]
        self._exact = _Part(own, plane.origin, plane.directions, exact)
        # Low precision (bf16): the sum is made in float32 and rounded once, a tensor at a time.
        self._rounded = [
            _Part(own, plane.origin, plane.directions, [name]) for name in moving if name not in set(exact)
        ]

    def __call__(self, point: np.ndarray) -> None:
        coordinates = [float(c) for c in point]
        self._exact.write(coordinates)
        for part in self._rounded:
            part.write_rounded(coordinates)


class _Part:
    """Some tensors of the module beside their origin and directions, as lists for the foreach kernels."""

    def __init__(self, own: dict[str, Tensor], origin: Params, directions: Iterable[Params], names: list[str]) -> None:
        self.targets = [own[name] for name in names]
        self.origin = [origin[name] for name in names]
        self.directions = [[direction[name] for name in names] for direction in directions]

    def write(self, point: list[float]) -> None:
        if not self.targets:
            return
        torch._foreach_copy_(self.targets, self.origin)
        for coordinate, direction in zip(point, self.directions, strict=True):
            if coordinate:
                torch._foreach_add_(self.targets, direction, alpha=coordinate)

    def write_rounded(self, point: list[float]) -> None:
        staged = [o.to(working_dtype(o.dtype)) for o in self.origin]
        for coordinate, direction in zip(point, self.directions, strict=True):
            torch._foreach_add_(staged, direction, alpha=coordinate)
        torch._foreach_copy_(self.targets, staged)


def _is_zero(tensor: Tensor) -> bool:
    return tensor.numel() == 0 or (all(s == 0 for s in tensor.stride()) and not tensor.flatten()[0].item())


def reduce(observations: Sequence[Observation]) -> Measurement:
    """One metric at one point out of its observations, in float64.

    >>> reduce([Observation(torch.tensor([1.0, 2.0]), 2), Observation(6.0, 1)]).value
    3.0
    """
    how = observations[0].reduce
    values = _values([value for value, _, _ in observations])
    weights = np.array([weight for _, weight, _ in observations], dtype=np.float64)
    if len(values) != len(weights):  # some observations hold one value a sample
        counts = [value.numel() if isinstance(value, Tensor) else 1 for value, _, _ in observations]
        weights = np.repeat(weights / counts, counts)
    if how == "mean":
        return Measurement(*mean_and_error(values, weights))
    return Measurement(float(getattr(np, how)(values)), np.nan)  # sum, min or max


def _values(values: list[Tensor | float]) -> np.ndarray:
    """All values as one float64 array; values on a device are fetched in one transfer."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    if len(tensors) < len(values):
        return np.concatenate([np.array([v]) if not isinstance(v, Tensor) else _values([v]) for v in values])
    plain = all(value.ndim == 0 for value in tensors)
    joined = torch.stack(tensors) if plain else torch.cat([value.reshape(-1) for value in tensors])
    return joined.detach().to(torch.float64).cpu().numpy()


def mean_and_error(values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """The weighted mean of m observations, L = Σ w v / Σ w, and its standard error.

    An observation of weight w is taken as the mean of w samples, so that Σ w (v − L)² / (m − 1) estimates
    the variance of one sample, and the error is its root over Σ w. For equal weights this is the usual
    standard error of a mean. Data drawn without replacement from a finite set get no correction.

    Args:
        values: shape (m,).
        weights: shape (m,), numbers of samples.

    Returns:
        The mean, and the error (NaN for a single observation, or where a value is not finite).

    >>> mean_and_error(np.array([1.0, 2.0, 3.0, 6.0]), np.ones(4))  # std 2.1602 over √4
    (3.0, 1.0801234497346435)
    """
    total = weights.sum()
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = float(np.dot(weights, values) / total)
        if len(values) < 2:
            return mean, float("nan")
        spread = np.dot(weights, (values - mean) ** 2) / (len(values) - 1)
        return mean, float(np.sqrt(spread / total))
