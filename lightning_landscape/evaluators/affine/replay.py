"""Replay: the objective as it is, with the calls of modules that are affine in the point answered from memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from ...objectives.base import Batch, Objective, Observation
from ...weights.parameters import canonical_name
from ...weights.plane import Plane
from ..base import ObjectiveWrapper
from .recording import Call, NotAffine, Seen, affine_parts, at, patched_forwards


class Replay(ObjectiveWrapper):
    """An objective that returns z₀ + Σ cᵢ zᵢ for some calls of modules, without making them.

    Everything else runs as the user wrote it, with the parameters at the point: any loss, any metric. Batches that
    it does not know are measured in full.

    Args:
        objective: the objective inside.
        memory: by the id of each batch, the parts z₀, z₁, … of each call. A part has shape (k + 1, …), or (1, …) where
            the call does not depend on the point.

    Attributes:
        point: c, shape (k,); to be set before each point.
    """

    def __init__(self, objective: Objective, memory: dict[int, dict[Call, Tensor]]) -> None:
        super().__init__(objective)
        self.memory, self.point = memory, np.zeros(0)

    def bytes(self) -> int:
        """The size of the memory in bytes."""
        return sum(parts.nbytes for calls in self.memory.values() for parts in calls.values())

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """The objective's observations, with remembered module calls answered from memory."""
        memory = self.memory.get(id(batch), {})
        counts: dict[nn.Module, int] = {}

        def answer(part: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            call = (part, counts.get(part, 0))
            counts[part] = call[1] + 1
            return at(memory[call], self.point) if call in memory else forward(*args, **kwargs)

        with patched_forwards(list(dict.fromkeys(part for part, _ in memory)), answer):
            return self.objective(module, batch)


def memory_of(passes: Sequence[Sequence[Seen]], probes: np.ndarray) -> dict[int, dict[Call, Tensor]]:
    """The memory of a `Replay`, from passes at probes as of `affine_parts`.

    Raises:
        NotAffine: if a watched output is not affine.
    """
    memory = {}
    for seen in zip(*passes, strict=True):
        if any(s.outputs.keys() != seen[0].outputs.keys() for s in seen):
            raise NotAffine("modules are called another number of times at other points")
        calls = seen[0].outputs
        memory[id(seen[0].batch)] = {call: affine_parts([s.outputs[call] for s in seen], probes) for call in calls}
    return memory


def candidates(module: nn.Module, plane: Plane) -> list[nn.Module]:
    """The modules whose outputs may be worth remembering.

    They have parameters, are no metrics, and do not lie inside a module of which no parameter moves.
    """
    moving = moving_parameters(module, plane)
    result, waiting = [], [module]
    while waiting:
        part = waiting.pop()
        parameters = {id(parameter) for parameter in part.parameters()}
        is_metric = hasattr(part, "compute") and hasattr(part, "update")
        if parameters and part not in result and not is_metric:
            result.append(part)
            if parameters & moving:
                waiting += part.children()
    return result


def worth_remembering(passes: Sequence[Sequence[Seen]], probes: np.ndarray, moving: set[int]) -> list[nn.Module]:
    """The outermost watched modules whose outputs do not depend on the point, or are affine in it.

    Affine ones count only if all parameters that move are in them: the output of a first layer alone saves nothing.

    Raises:
        NotAffine: if there is none.
    """
    ranks: dict[nn.Module, int] = {}  # of the parts: 1 for a constant, 2 for an affine function, 3 for neither
    callers: dict[nn.Module, set[nn.Module | None]] = {}
    for seen in zip(*passes, strict=True):
        for call, outer in seen[0].inside.items():
            try:
                rank = min(2, len(affine_parts([s.outputs.get(call) for s in seen], probes)))
            except NotAffine:
                rank = 3
            ranks[call[0]] = max(rank, ranks.get(call[0], 0))
            callers.setdefault(call[0], set()).add(outer[0] if outer is not None else None)

    def outermost(max_rank: int) -> list[nn.Module]:
        remembered = {part for part, rank in ranks.items() if rank <= max_rank}

        def is_skipped(part: nn.Module) -> bool:  # a call inside of a remembered one is not made
            return all(outer is not None and (outer in remembered or is_skipped(outer)) for outer in callers[part])

        return [part for part in remembered if not is_skipped(part)]

    chosen = outermost(2)
    if not moving <= {id(parameter) for part in chosen for parameter in part.parameters()}:
        chosen = outermost(1)
    if not chosen:
        raise NotAffine("no part of the module is constant or affine")
    return chosen


def moving_parameters(module: nn.Module, plane: Plane) -> set[int]:
    """The ids of the module's parameters that a direction moves."""
    moving = {name for name in plane.origin if any(bool(d[name].any()) for d in plane.directions)}
    return {id(parameter) for name, parameter in module.named_parameters() if canonical_name(name) in moving}
