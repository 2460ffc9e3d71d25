"""Recording: the loss calls and module outputs in a pass of an objective, and the test that they are affine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...objectives.base import Batch, Objective, Observation
from ...objectives.loss_calls import LossCalls
from ...objectives.single_losses import at_once
from ...weights.parameters import size_in_bytes
from ..base import ObjectiveWrapper

T = TypeVar("T")
LossCall = tuple[Callable[..., Tensor], dict[str, Any], Tensor]
Call = tuple[nn.Module, int]  # a module, and the number of its earlier calls on the batch


class NotAffine(Exception):
    """An error that rules out an affine way to measure; its message says why."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A record of one batch at one point: its observations, loss calls and module outputs.

    Args:
        batch: the batch.
        observations: of the objective.
        losses: the calls of loss functions, in order.
        outputs: of the watched modules, in the order in which their calls began; None for other types than floating
            tensors.
        inside: the watched call around each of these calls.
    """

    batch: Batch
    observations: dict[str, Observation]
    losses: list[LossCall]
    outputs: dict[Call, Tensor | None] = field(default_factory=dict)
    inside: dict[Call, Call | None] = field(default_factory=dict)


class Recording(ObjectiveWrapper):
    """An objective that records each batch of a pass.

    Args:
        objective: the objective inside.
        watched: the modules whose outputs to keep.
        max_bytes: the maximum to keep over all passes.
        nested: keep the outputs of calls inside of watched calls, too.

    Attributes:
        seen: of the last pass, in the order of the batches.
    """

    def __init__(
        self, objective: Objective, watched: Sequence[nn.Module] = (), *, max_bytes: int, nested: bool = False
    ) -> None:
        super().__init__(objective)
        self.watched, self.nested, self.free_bytes = watched, nested, max_bytes
        self.seen: list[Seen] = []

    def start(self) -> None:
        """Start the objective, and forget the last pass."""
        self.seen = []
        super().start()

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """The objective's observations, which are also recorded in `seen`.

        Raises:
            NotAffine: if there is too much to keep.
        """
        outputs: dict[Call, Tensor | None] = {}
        inside: dict[Call, Call | None] = {}
        open_calls: list[Call] = []
        counts: dict[nn.Module, int] = {}

        def watch(part: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if open_calls and not self.nested:
                return forward(*args, **kwargs)
            call = (part, counts.get(part, 0))
            counts[part] = call[1] + 1
            inside[call], outputs[call] = (open_calls[-1] if open_calls else None), None
            open_calls.append(call)
            try:
                result = forward(*args, **kwargs)
            finally:
                open_calls.pop()
            if isinstance(result, Tensor) and result.is_floating_point():
                outputs[call] = self._copy(result, may_change=True)
            return result

        with patched_forwards(self.watched, watch), LossCalls() as loss_calls:
            observations = self.objective(module, batch)
        losses = [
            (function, {name: self._copy(value) for name, value in arguments.items()}, self._copy(result))
            for function, arguments, result in loss_calls.calls
        ]
        copies = {
            name: o._replace(value=self._copy(o.value), each=self._copy(at_once(o.each)))
            for name, o in observations.items()
        }
        self.seen.append(Seen(batch, copies, losses, outputs, inside))
        return observations

    def _copy(self, value: T, may_change: bool = False) -> T:
        """A tensor without its graph and the other bytes of its memory; its values are copied if they may change."""
        if not isinstance(value, Tensor):
            return value
        self.free_bytes -= size_in_bytes(value)
        if self.free_bytes < 0:
            raise NotAffine("there is too much to keep in memory")
        tensor = value.detach()
        is_view = tensor.layout is torch.strided and tensor.untyped_storage().nbytes() > tensor.nbytes
        return cast("T", tensor.clone() if may_change or is_view else tensor)


def available_bytes(device: torch.device, max_bytes: int) -> int:
    """A quarter of the free memory of a device, where that is known and less than `max_bytes`."""
    free = 4 * max_bytes
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + cached
    elif device.type == "cpu":
        with suppress(OSError, StopIteration):  # other systems than Linux do not say
            lines = Path("/proc/meminfo").read_text().splitlines()
            free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return min(max_bytes, free // 4)


@contextmanager
def patched_forwards(parts: Sequence[nn.Module], answer: Callable[..., Any]) -> Iterator[None]:
    """A context in which ``answer(module, forward, *args)`` replaces the `forward` of each of these modules."""
    originals = [vars(part).get("forward") for part in parts]
    try:
        for part in parts:
            vars(part)["forward"] = partial(answer, part, part.forward)
        yield
    finally:
        for part, forward in zip(parts, originals, strict=True):
            vars(part).pop("forward", None)
            if forward is not None:
                vars(part)["forward"] = forward


def affine_parts(values: Sequence[Tensor | None], probes: np.ndarray, roundings: int = 128) -> Tensor:
    """z₀, …, z_k of an affine function z(c) = z₀ + Σ cᵢ zᵢ that is known at some points.

    Args:
        values: at each point.
        probes: shape (m, k), m > k + 1: the origin, one point on each axis, and further points.
        roundings: the allowed error in roundings of the largest value; TF32 and bfloat16 err by more.

    Returns:
        Shape (k + 1, …); (1, …) where all values are the same to the bit.

    Raises:
        NotAffine: if the values at the further points do not follow from the first k + 1.

    >>> line = [torch.tensor(v) for v in (1.0, 3.0, 7.0)]
    >>> affine_parts(line, np.array([[0.0], [0.5], [1.5]]))
    tensor([1., 4.])
    >>> affine_parts([v**2 for v in line], np.array([[0.0], [0.5], [1.5]]))
    Traceback (most recent call last):
    lightning_landscape.evaluators.affine.recording.NotAffine: not affine in the point
    """
    tensors = [value for value in values if value is not None]
    first = tensors[0] if tensors else torch.zeros(())
    if len(tensors) < len(probes) or any(t.shape != first.shape or t.dtype != first.dtype for t in tensors):
        raise NotAffine("not of the same kind at all points")
    if all(torch.equal(t, first) for t in tensors[1:]):
        return first[None]
    if first.dtype not in (torch.float32, torch.float64):
        raise NotAffine(f"rounded to {first.dtype}")
    k = probes.shape[1]
    parts = torch.stack([first, *((t - first) / probes[i + 1, i] for i, t in enumerate(tensors[1 : k + 1]))])
    size = max(float(t.abs().max()) for t in tensors)
    for point, seen in zip(probes[k + 1 :], tensors[k + 1 :], strict=True):
        # NaN <= … is false: values that are not finite are not affine.
        if not float((at(parts, point) - seen).abs().max()) <= roundings * torch.finfo(first.dtype).eps * size:
            raise NotAffine("not affine in the point")
    return parts


def at(parts: Tensor, point: np.ndarray) -> Tensor:
    """z₀ + Σ cᵢ zᵢ as a new tensor; z₀ where there is no other part."""
    result = parts[0].clone()
    for coordinate, part in zip(point, parts[1:], strict=False):
        result.add_(part, alpha=float(coordinate))
    return result
