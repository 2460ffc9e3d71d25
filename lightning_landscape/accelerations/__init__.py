"""Accelerations: faster ways to the same values. One file a way, one row in ACCELERATIONS, in the order of trial.

Each is a context: ``way(evaluator, batches)`` changes the probe, or what it runs in, and gives the evaluator and the
batches to use; at its end all is as before. None is used before it has proved equal and faster on the module at hand
(`choose.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from ..evaluators import Evaluator
from ..objectives import Batch
from .channels_last import channels_last
from .compiled import compiled
from .folded import folded
from .matmul import fast_matmul
from .small_batches import small_batches

Faster = tuple[Evaluator, Sequence[Batch]]
Way = Callable[[Evaluator, Sequence[Batch]], AbstractContextManager[Faster]]

ACCELERATIONS: dict[str, Way] = {
    "small_batches": small_batches,
    "channels_last": channels_last,
    "fast_matmul": fast_matmul,
    "folded": folded,
    "compiled": compiled,
}

__all__ = ["ACCELERATIONS", "Faster", "Way", "applied"]


@contextmanager
def applied(names: Sequence[str], evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[Faster]:
    """All the named accelerations, one in the other; gives the evaluator and the batches to use."""
    with ExitStack() as stack:
        for name in names:
            evaluator, batches = stack.enter_context(ACCELERATIONS[name](evaluator, batches))
        yield evaluator, batches
