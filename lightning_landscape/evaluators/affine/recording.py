"""Recording: what a pass of an objective saw, batch by batch; and whether that was affine in the point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...objectives.base import Batch, Objective, Observation
from ...objectives.loss_calls import LossCalls
from ...objectives.single_losses import at_once
from ...weights.parameters import size_in_bytes

LossCall = tuple[Callable[..., Tensor], dict[str, Any], Tensor]
Key = tuple[nn.Module, int]  # a module, and the how manieth of its calls on a batch
MOST_BYTES = 2**31  # of what is recorded and all that is made of it
ROUNDINGS = 128  # of the largest value: what an affine function may be off; TF32 and bfloat16 are off by more


class NotAffine(Exception):
    """An error that rules out an affine way to measure; its message says why."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A record of one batch at one point: its observations, loss calls and module outputs.

    Args:
        batch: which one.
        observations: of the objective.
        losses: the calls of loss functions, in order.
        outputs: what the watched modules returned, in the order in which their calls began; None for what is no
            floating tensor.
        inside: of each of these calls, the watched call in which it lies.
    """

    batch: Batch
    observations: dict[str, Observation]
    losses: list[LossCall]
    outputs: dict[Key, Tensor | None] = field(default_factory=dict)
    inside: dict[Key, Key | None] = field(default_factory=dict)


class Recording(Objective):
    """An objective that remembers what each batch of a pass saw.

    Args:
        objective: which is asked, and not changed.
        watched: the modules whose outputs to keep.
        most_bytes: more than that over all passes is not kept.
        nested: keep the outputs of calls inside of watched calls, too.

    Attributes:
        seen: of the last pass, in the order of the batches.
    """

    divisible = False  # a batch is known by its identity

    def __init__(
        self,
        objective: Objective,
        watched: Sequence[nn.Module] = (),
        *,
        most_bytes: int,
        nested: bool = False,
    ) -> None:
        self.objective, self.watched, self.nested, self.left = objective, watched, nested, most_bytes
        self.seen: list[Seen] = []

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """Rehearse the objective."""
        self.objective.rehearse(module, batch)

    def start(self) -> None:
        """Start the objective, and forget the last pass."""
        self.seen = []
        self.objective.start()

    def finish(self) -> dict[str, float]:
        """The objective's metrics of the whole set."""
        return self.objective.finish()

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """The objective's observations, which are also recorded in `seen`.

        Raises:
            NotAffine: if there is too much to keep.
        """
        outputs: dict[Key, Tensor | None] = {}
        inside: dict[Key, Key | None] = {}
        open_calls: list[Key] = []
        calls: dict[nn.Module, int] = {}

        def watch(part: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if open_calls and not self.nested:
                return forward(*args, **kwargs)
            key = (part, calls.get(part, 0))
            calls[part] = key[1] + 1
            inside[key], outputs[key] = (open_calls[-1] if open_calls else None), None
            open_calls.append(key)
            try:
                result = forward(*args, **kwargs)
            finally:
                open_calls.pop()
            if isinstance(result, Tensor) and result.is_floating_point():
                outputs[key] = self._kept(result, edited=True)
            return result

        with answered(self.watched, watch), LossCalls() as seen:
            observations = self.objective(module, batch)
        losses = [
            (function, {name: self._kept(value) for name, value in arguments.items()}, self._kept(result))
            for function, arguments, result in seen.calls
        ]
        kept = {
            name: o._replace(value=self._kept(o.value), each=self._kept(at_once(o.each)))
            for name, o in observations.items()
        }
        self.seen.append(Seen(batch, kept, losses, outputs, inside))
        return observations

    def _kept(self, value: Any, edited: bool = False) -> Any:
        """A tensor without its graph and the rest of its memory; a copy, if a step may edit it."""
        if not isinstance(value, Tensor):
            return value
        self.left -= size_in_bytes(value)
        if self.left < 0:
            raise NotAffine("there is too much to keep in memory")
        kept = value.detach()
        edited |= kept.layout is torch.strided and kept.untyped_storage().nbytes() > kept.nbytes
        return kept.clone() if edited else kept


def room(device: torch.device) -> int:
    """Bytes that may be taken: 2 GiB, or a quarter of what is free, where that is known to be less."""
    free = 4 * MOST_BYTES
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + cached
    elif device.type == "cpu":
        with suppress(OSError, StopIteration):  # other systems than Linux do not say
            lines = Path("/proc/meminfo").read_text().splitlines()
            free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return min(MOST_BYTES, free // 4)


@contextmanager
def answered(parts: Sequence[nn.Module], answer: Callable[..., Any]) -> Iterator[None]:
    """Inside, ``answer(module, forward, *args)`` is called in place of the `forward` of each of these modules."""
    own = [(part, vars(part).get("forward")) for part in parts]
    try:
        for part, _ in own:
            vars(part)["forward"] = partial(answer, part, part.forward)
        yield
    finally:
        for part, kept in own:
            vars(part).pop("forward", None)
            if kept is not None:
                vars(part)["forward"] = kept


def affine_parts(values: Sequence[Tensor | None], where: np.ndarray) -> Tensor:
    """z₀, …, z_k of an affine function z(c) = z₀ + Σ cᵢ zᵢ that was seen at some points.

    Args:
        values: at each point.
        where: shape (m, k), m > k + 1: the origin, one point on each axis, and others.

    Returns:
        Shape (k + 1, …); (1, …) where all values are the same to the bit.

    Raises:
        NotAffine: if the values at the other points are not those of the first k + 1.

    >>> line = [torch.tensor(v) for v in (1.0, 3.0, 7.0)]
    >>> affine_parts(line, np.array([[0.0], [0.5], [1.5]]))
    tensor([1., 4.])
    >>> affine_parts([v**2 for v in line], np.array([[0.0], [0.5], [1.5]]))
    Traceback (most recent call last):
    lightning_landscape.evaluators.affine.recording.NotAffine: not affine in the point
    """
    tensors = [value for value in values if value is not None]
    first = tensors[0] if tensors else torch.zeros(())
    if len(tensors) < len(where) or any(t.shape != first.shape or t.dtype != first.dtype for t in tensors):
        raise NotAffine("not of the same kind at all points")
    if all(torch.equal(t, first) for t in tensors[1:]):
        return first[None]
    if first.dtype not in (torch.float32, torch.float64):
        raise NotAffine(f"rounded to {first.dtype}")
    k = where.shape[1]
    parts = torch.stack([first, *((t - first) / where[i + 1, i] for i, t in enumerate(tensors[1 : k + 1]))])
    size = max(float(t.abs().max()) for t in tensors)
    for point, seen in zip(where[k + 1 :], tensors[k + 1 :], strict=True):
        # Not NaN <= …: what is not finite is not affine.
        if not float((at(parts, point) - seen).abs().max()) <= ROUNDINGS * torch.finfo(first.dtype).eps * size:
            raise NotAffine("not affine in the point")
    return parts


def at(parts: Tensor, point: np.ndarray) -> Tensor:
    """z₀ + Σ cᵢ zᵢ as a new tensor; z₀ where there is no other."""
    result = parts[0].clone()
    for coordinate, part in zip(point, parts[1:], strict=False):
        result.add_(part, alpha=float(coordinate))
    return result
