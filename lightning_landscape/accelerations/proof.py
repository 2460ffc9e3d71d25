"""The proof of what was chosen: on all data, before any value of it is used."""

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
    choice: Choice, way: Evaluator, plane: Plane, batches: Sequence[Batch], pairs: Pairs
) -> Iterator[tuple[Evaluator, Sequence[Batch], Choice]]:
    """Apply the choice if it gives equal values on all data; else apply nothing of it.

    The choice was tried on a few batches of one data set. Other batches may take another path through the module, in
    which another layer precedes a norm. Other batches may also have shapes that no compiler likes. Nothing is proved
    of bfloat16, whose error is measured (`bf16`).

    Args:
        choice: of `choose`.
        way: what is made faster.
        plane: on which is measured.
        batches: all that is measured, one data set after the other.
        pairs: gives each objective with those of the given batches (the same, or in the form that the ways like) on
            which it is to be equal.

    Yields:
        The evaluator and the batches to use, and what was chosen of it: all, or nothing.
    """
    point = off_axes(plane, 1)
    with ExitStack() as until_the_end:
        exact = choice.names and not set(choice.names) & ON_REQUEST.keys()
        try:
            expected = [next(iter(way(own, plane, point, given))) for own, given in pairs(batches)] if exact else []
            fast, converted = until_the_end.enter_context(applied(choice.names, way, batches, always=choice.always))
            got = [next(iter(fast(own, plane, point, given))) for own, given in pairs(converted)] if exact else []
            good = all(map(equal, expected, got))
        except Exception as error:  # noqa: BLE001  # a compiler may raise anything; what is the step's own comes again
            log.debug("%s: %s", type(error).__name__, error)
            good = False
        if good:
            yield fast, converted, choice
            return
    log.debug("%s are not used: they do not hold on all data", ", ".join(choice.names))
    nothing = Choice(tried=choice.tried, always=choice.always)
    with applied((), way, batches, always=choice.always) as (plain, converted):
        yield plain, converted, nothing
