"""The proof of a choice: on all data, before any value of it is used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from ..evaluators import Evaluator
from ..objectives.base import Batch, Objective
from ..weights.plane import Plane
from . import ON_REQUEST, applied
from .equality import equal, off_axes
from .trial import Choice

log = logging.getLogger(__name__)
Pairs = Callable[[Sequence[Batch]], Sequence[tuple[Objective, Sequence[Batch]]]]


@contextmanager
def proved(
    choice: Choice,
    evaluator: Evaluator,
    plane: Plane,
    batches: Sequence[Batch],
    pairs: Pairs,
    any_fails: Callable[[bool], bool] = bool,
) -> Iterator[tuple[Evaluator, Sequence[Batch], Choice]]:
    """Apply the choice if it gives equal values on all data; else apply nothing of it.

    The choice was tried on a few batches of one data set. Other batches may take another path through the module, in
    which another layer precedes a norm. Other batches may also have shapes that no compiler likes. Nothing is proved
    of bfloat16, whose error is measured (`bf16`).

    Args:
        choice: of `choose`.
        evaluator: the evaluator to accelerate.
        plane: origin and k directions.
        batches: all frozen data, one data set after the other.
        pairs: gives each objective with its share of such batches, on which the values must be equal. The batches are
            those given here, or their converted form.
        any_fails: tells the processes that share the points if the proof fails here; gives True if it fails in any.
            Then none of them uses the choice.

    Yields:
        The evaluator and the batches to use, and the part of the choice that holds: all, or nothing.
    """
    point = off_axes(plane, 1)
    with ExitStack() as stack:
        is_exact = choice.names and not set(choice.names) & ON_REQUEST.keys()
        try:
            expected = [next(iter(evaluator(o, plane, point, b))) for o, b in pairs(batches)] if is_exact else []
            fast, converted = stack.enter_context(applied(choice.names, evaluator, batches, always=choice.always))
            got = [next(iter(fast(o, plane, point, b))) for o, b in pairs(converted)] if is_exact else []
            is_equal = all(map(equal, expected, got))
        except Exception as error:  # noqa: BLE001  # a compiler may raise anything; an error of the step comes again
            log.debug("%s: %s", type(error).__name__, error)
            is_equal = False
        if not any_fails(not is_equal):
            yield fast, converted, choice
            return
    log.debug("%s are not used: they do not hold on all data", ", ".join(choice.names))
    with applied((), evaluator, batches, always=choice.always) as (plain, converted):
        yield plain, converted, Choice(always=choice.always)
