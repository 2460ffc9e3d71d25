"""Accelerations: faster ways to the same values. One file each, and one row in ACCELERATIONS, in the order of trial.

Each is a context: ``use(evaluator, batches)`` changes the probe or its surroundings, and gives the evaluator and the
batches to use. At its end all is as before. None is used before it has proved equal and faster on the module at hand
(`choose.py`). Rows of ON_REQUEST are tried where the user names one, and need not be equal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from ..evaluators import Evaluator
from ..isolation.effects import without_foreign_noise
from ..objectives.base import Batch
from .bf16 import bf16
from .channels_last import channels_last
from .compiled import compiled
from .folded import folded
from .kept_memory import kept_memory
from .matmul import fast_matmul
from .processes import processes
from .several_points import PointLimits, several_points
from .small_batches import small_batches

log = logging.getLogger(__name__)
Faster = tuple[Evaluator, Sequence[Batch]]


@dataclass(frozen=True)
class Compiler:
    """The seconds that a compiler takes before it gains anything, about.

    Args:
        first_call: once.
        per_shape: for each shape of the batches.
        per_module: for each module and shape.
        max_shapes: the maximum of shapes. Each is compiled by itself, and torch gives up at eight of one function.
    """

    first_call: float = 8.0
    per_shape: float = 1.0
    per_module: float = 0.08
    max_shapes: int = 4


@dataclass(frozen=True)
class Acceleration:
    """One row of the table.

    Args:
        use: the context.
        compiler: its time, if it compiles.
        replaces: the name of a row that can't be used with it.
        together_with: the name of a row with which it may gain where neither does alone.
        points: the number of points in one call; 0 if there is no such chunk.
        always: True if it costs nothing and changes no value: it is used without a trial wherever it applies.
        alone: True if it needs the machine for one process. Other rows change formats and kernels only. Processes that
            use the same ones round alike.
    """

    use: Callable[[Evaluator, Sequence[Batch]], AbstractContextManager[Faster]]
    compiler: Compiler | None = None
    replaces: str | None = None
    together_with: str | None = None
    points: int = 0
    always: bool = False
    alone: bool = False


ACCELERATIONS: dict[str, Acceleration] = {
    "small_batches": Acceleration(small_batches),
    "channels_last": Acceleration(channels_last),
    # After rows that copy the data, which would take all of this memory.
    "kept_memory": Acceleration(kept_memory, always=True),
    "fast_matmul": Acceleration(fast_matmul),
    "folded": Acceleration(folded),
    "several_points": Acceleration(several_points, points=PointLimits.points, alone=True),
    # Before the compiler, which then compiles for one thread. Several points are short of threads, processes of work.
    "processes": Acceleration(processes, together_with="several_points", alone=True),
    # No call of several points can be compiled.
    "compiled": Acceleration(compiled, compiler=Compiler(), replaces="several_points", alone=True),
}
ON_REQUEST: dict[str, Acceleration] = {"bf16": Acceleration(bf16)}

__all__ = ["ACCELERATIONS", "ON_REQUEST", "Acceleration", "Compiler", "Faster", "applied", "check_accelerate"]


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
def applied(
    names: Sequence[str], evaluator: Evaluator, batches: Sequence[Batch], *, always: bool = False
) -> Iterator[Faster]:
    """A context with all the named accelerations, nested; gives the evaluator and the batches to use.

    Args:
        names: rows of ACCELERATIONS or ON_REQUEST, which are used in the order of these tables.
        evaluator: the evaluator to accelerate.
        batches: the frozen data.
        always: use the rows that need no trial, too, where they apply.
    """
    with ExitStack() as stack:
        if names:
            stack.enter_context(without_foreign_noise())
        for name, row in {**ACCELERATIONS, **ON_REQUEST}.items():
            if name in names:
                evaluator, batches = stack.enter_context(row.use(evaluator, batches))
            elif row.always and always:
                try:
                    evaluator, batches = stack.enter_context(row.use(evaluator, batches))
                except ValueError as error:
                    log.debug("%s can't be used: %s", name, error)
        yield evaluator, batches
