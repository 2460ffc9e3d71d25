"""Out of memory: batches in halves, where the values of a batch are the means of those of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ..objectives.base import Batch, CannotMeasureError
from ..objectives.batch_samples import IndivisibleError, rows
from .base import Measurement, Measurements


def is_out_of_memory(error: Exception) -> bool:
    """True if an error says that an accelerator had no memory left.

    >>> is_out_of_memory(RuntimeError("MPS backend out of memory")), is_out_of_memory(ValueError())
    (True, False)
    """
    known = isinstance(error, torch.cuda.OutOfMemoryError)  # of every accelerator since torch 2.5
    return known or (isinstance(error, RuntimeError) and "out of memory" in str(error))


def pieces(batch: Batch, size: int) -> list[Batch]:
    """A batch in parts of `size` samples, the last of which may have fewer.

    Raises:
        IndivisibleError: if its samples can't be told apart.
    """
    if batch.size <= size:
        return [batch]
    parts = []
    for start in range(0, batch.size, size):
        stop = min(start + size, batch.size)
        data = rows(batch.data, start, stop, batch.size)
        weight = None if batch.log_weight is None else round(batch.log_weight * (stop - start) / batch.size)
        parts.append(replace(batch, data=data, size=stop - start, log_weight=weight))
    return parts


def halves(batch: Batch) -> list[Batch]:
    """A batch of B samples as two of ⌈B/2⌉ and ⌊B/2⌋; one of a single sample as itself.

    Raises:
        CannotMeasureError: if its samples can't be told apart.
    """
    try:
        return pieces(batch, -(-batch.size // 2))
    except IndivisibleError as error:
        raise _too_large(batch.size, str(error)) from error


def halved(
    batches: Sequence[Batch], measure: Callable[[Sequence[Batch]], Measurements], proof_samples: int = 64
) -> list[Batch]:
    """All batches in halves, as often as the largest needs to fit, after a proof that this changes no value.

    Args:
        batches: the batches that did not fit.
        measure: gives the measurements of a point over some batches.
        proof_samples: the least number of samples in the proof, where there are so many.

    Raises:
        CannotMeasureError: if single samples do not fit either, or a value is no mean over samples.
    """
    fitting: list[Batch] = list(batches)
    while any(batch.size > 1 for batch in fitting):
        fitting = [half for batch in fitting for half in halves(batch)]
        largest_first = sorted(fitting, key=lambda batch: -batch.size)
        proof = largest_first[: 1 + proof_samples // largest_first[0].size]
        try:
            whole = measure(proof)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            continue
        parts = measure([pair for batch in proof for pair in _pairs(batch)])
        unequal = [name for name in whole if not _are_close(whole[name], parts.get(name))]
        if unequal or proof[0].size == 1:
            why = f"{unequal[0]!r} of a batch is no mean over its samples." if unequal else "only single samples fit."
            raise _too_large(max(batch.size for batch in batches), why)
        return fitting
    raise CannotMeasureError(
        "A single sample does not fit into the memory beside the training. Measure a checkpoint without one instead: "
        "Trainer.validate with this callback."
    )


def _too_large(size: int, why: str) -> CannotMeasureError:
    return CannotMeasureError(
        f"A batch of {size} samples does not fit into the memory, and it can't be measured in parts: {why} Give the "
        "loader smaller batches."
    )


def _pairs(batch: Batch) -> list[Batch]:
    """The parts of two samples, where a value that is no mean over samples shows most; of one, for two samples."""
    parts = [batch]
    while max(part.size for part in parts) > max(1, min(2, batch.size - 1)):
        parts = [half for part in parts for half in halves(part)]
    return parts


def _are_close(a: Measurement, b: Measurement | None) -> bool:
    """True if two values are equal within the rounding of TF32 and half precision."""
    return b is not None and bool(np.isclose(a.value, b.value, rtol=1e-3, atol=0, equal_nan=True))
