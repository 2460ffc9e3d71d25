"""Accelerations: faster ways to the same values. One file a way, one row in ACCELERATIONS, in the order of trial.

Each is a context: ``way(evaluator, batches)`` changes the probe, or what it runs in, and gives the evaluator and the
batches to use; at its end all is as before. None is used before it has proved equal and faster on the module at hand
(`choose.py`; kept memory: not slower). Those of ON_REQUEST are tried where the user names one, and need not be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from ..evaluators import Evaluator
from ..objectives.base import Batch
from .bf16 import bf16
from .channels_last import channels_last
from .compiled import compiled
from .cuda_graphs import cuda_graphs
from .folded import folded
from .kept_memory import kept_memory
from .matmul import fast_matmul
from .processes import processes
from .several_points import several_points
from .small_batches import small_batches

Faster = tuple[Evaluator, Sequence[Batch]]
Way = Callable[[Evaluator, Sequence[Batch]], AbstractContextManager[Faster]]

ACCELERATIONS: dict[str, Way] = {
    "small_batches": small_batches,
    "channels_last": channels_last,
    "kept_memory": kept_memory,  # inside what makes copies of the data, which would take all of it
    "fast_matmul": fast_matmul,
    "folded": folded,
    "several_points": several_points,
    "processes": processes,  # before what compiles, which is then for one thread
    "cuda_graphs": cuda_graphs,
    "compiled": compiled,
}
ON_REQUEST: dict[str, Way] = {"bf16": bf16}

__all__ = ["ACCELERATIONS", "ON_REQUEST", "Faster", "Way", "applied", "check_accelerate"]


def check_accelerate(accelerate: bool | str) -> None:
    """Raises ValueError unless it is True, False or a row of ON_REQUEST.

    >>> check_accelerate("fp16")
    Traceback (most recent call last):
    ValueError: accelerate='fp16' is unknown; the choices are True, False, 'bf16'.
    """
    if not isinstance(accelerate, bool) and accelerate not in tuple(ON_REQUEST):
        choices = ", ".join(map(repr, (True, False, *ON_REQUEST)))
        raise ValueError(f"accelerate={accelerate!r} is unknown; the choices are {choices}.")


@contextmanager
def applied(names: Sequence[str], evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[Faster]:
    """All the named accelerations, one in the other; gives the evaluator and the batches to use."""
    with ExitStack() as stack:
        for name in names:
            evaluator, batches = stack.enter_context({**ACCELERATIONS, **ON_REQUEST}[name](evaluator, batches))
        yield evaluator, batches
