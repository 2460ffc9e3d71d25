"""Accelerations: faster ways to the same values. One file a way, one row in ACCELERATIONS, in the order of trial.

Each is a context: ``way(module, batches)`` changes the probe, or what it runs in, and gives the batches to use; at its
end all is as before. None is used before it has proved equal and faster on the module at hand (`choose.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from torch import nn

from ..objectives import Batch
from .channels_last import channels_last
from .compiled import compiled
from .matmul import fast_matmul

Way = Callable[[nn.Module, Sequence[Batch]], AbstractContextManager[Sequence[Batch]]]

ACCELERATIONS: dict[str, Way] = {
    "channels_last": channels_last,
    "fast_matmul": fast_matmul,
    "compiled": compiled,
}

__all__ = ["ACCELERATIONS", "Way", "applied"]


@contextmanager
def applied(names: Sequence[str], module: nn.Module, batches: Sequence[Batch]) -> Iterator[Sequence[Batch]]:
    """All the named accelerations, one in the other; gives the batches to use."""
    with ExitStack() as stack:
        for name in names:
            batches = stack.enter_context(ACCELERATIONS[name](module, batches))
        yield batches
