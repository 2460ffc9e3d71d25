"""Replay: the objective as it is, but the calls of modules that are affine in the point are answered from memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from ...objectives.base import Batch, Objective, Observation
from ...weights.parameters import canonical_name
from ...weights.plane import Plane
from .recording import Key, NotAffine, Seen, affine_parts, answered, at

TIMES = 3  # the bytes of what is recorded: what it and all that is made of it take at most


class Replay(Objective):
    """An objective in whose pass some calls of modules are not made: z₀ + Σ cᵢ zᵢ is what they return.

    Everything else runs as the user wrote it, with the parameters at the point: any loss, any metric. Batches that
    it does not know are measured in full.

    Args:
        objective: which is asked.
        memory: of each batch, by its id, the parts z₀, z₁, … of each call, shape (k + 1, …), or (1, …) where it does
            not depend on the point.

    Attributes:
        point: c, shape (k,); to be set before each point.
    """

    divisible = False  # a batch is known by its identity

    def __init__(self, objective: Objective, memory: dict[int, dict[Key, Tensor]]) -> None:
        self.objective, self.memory = objective, memory
        self.point = np.zeros(0)

    def bytes(self) -> int:
        """The memory of the kept tensors in bytes."""
        return sum(parts.nbytes for calls in self.memory.values() for parts in calls.values())

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """Rehearse the objective."""
        self.objective.rehearse(module, batch)

    def start(self) -> None:
        """Start the objective."""
        self.objective.start()

    def finish(self) -> dict[str, float]:
        """The objective's metrics of the whole set."""
        return self.objective.finish()

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """The objective's observations, with remembered module calls answered from memory."""
        memory = self.memory.get(id(batch), {})
        calls: dict[nn.Module, int] = {}

        def answer(part: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            key = (part, calls.get(part, 0))
            calls[part] = key[1] + 1
            return at(memory[key], self.point) if key in memory else forward(*args, **kwargs)

        with answered(list(dict.fromkeys(part for part, _ in memory)), answer):
            return self.objective(module, batch)


def memory_of(passes: Sequence[Sequence[Seen]], where: np.ndarray) -> dict[int, dict[Key, Tensor]]:
    """The memory of a `Replay`, from passes at the origin, at a point on each axis and at others.

    Raises:
        NotAffine: if a watched output is not affine.
    """
    memory = {}
    for seen in zip(*passes, strict=True):
        if any(s.outputs.keys() != seen[0].outputs.keys() for s in seen):
            raise NotAffine("modules are called another number of times at other points")
        memory[id(seen[0].batch)] = {
            key: affine_parts([s.outputs[key] for s in seen], where) for key in seen[0].outputs
        }
    return memory


def candidates(module: nn.Module, plane: Plane) -> list[nn.Module]:
    """The modules whose outputs may be worth to remember: with parameters, and not inside of one that rests."""
    moving = moving_parameters(module, plane)
    found, waiting = [], [module]
    while waiting:
        part = waiting.pop()
        own = {id(parameter) for parameter in part.parameters()}
        if own and part not in found and not _is_metric(part):
            found.append(part)
            if own & moving:
                waiting += part.children()
    return found


def worth_remembering(passes: Sequence[Sequence[Seen]], where: np.ndarray, moving: set[int]) -> list[nn.Module]:
    """The outermost watched modules whose outputs do not depend on the point, or are affine in it.

    Those that move count only where they hold all parameters that move: the response of a first layer saves nothing.

    Raises:
        NotAffine: if there is none.
    """
    ranks: dict[nn.Module, int] = {}  # of the parts: 1 for a constant, 2 for an affine function, 3 for neither
    inside: dict[nn.Module, set[nn.Module | None]] = {}
    for seen in zip(*passes, strict=True):
        for key, outer in seen[0].inside.items():
            try:
                rank = min(2, len(affine_parts([s.outputs.get(key) for s in seen], where)))
            except NotAffine:
                rank = 3
            ranks[key[0]] = max(rank, ranks.get(key[0], 0))
            inside.setdefault(key[0], set()).add(outer[0] if outer is not None else None)

    def outermost(most: int) -> list[nn.Module]:
        good = {part for part, rank in ranks.items() if rank <= most}

        def shadowed(part: nn.Module) -> bool:  # a call inside of a remembered one is not made
            return all(outer is not None and (outer in good or shadowed(outer)) for outer in inside[part])

        return [part for part in good if not shadowed(part)]

    chosen = outermost(2)
    held = {id(parameter) for part in chosen for parameter in part.parameters()}
    if not moving <= held:
        chosen = outermost(1)
    if not chosen:
        raise NotAffine("no part of the module is constant or affine")
    return chosen


def moving_parameters(module: nn.Module, plane: Plane) -> set[int]:
    """The ids of the module's parameters that a direction moves."""
    moving = {name for name in plane.origin if any(bool(d[name].any()) for d in plane.directions)}
    return {id(parameter) for name, parameter in module.named_parameters() if canonical_name(name) in moving}


def _is_metric(part: nn.Module) -> bool:
    return hasattr(part, "compute") and hasattr(part, "update")
