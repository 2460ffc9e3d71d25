"""Matrix products by the library that is fastest on this machine: oneDNN beats MKL on many CPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ..evaluators import Evaluator
from ..isolation.precision import matmul_precision, preserve_matmul_precision
from ..objectives.base import Batch


@contextmanager
def fast_matmul(evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """Float32 matrix products with any kernel: exact on most CPUs, bfloat16 or TF32 on some devices.

    The proof before its use keeps the exact ones only.

    Raises:
        ValueError: if any kernel is allowed already, or the user has set each backend by itself.
    """
    before = matmul_precision()
    if before is None or before == "medium":
        raise ValueError(f"the matmul precision is {before or 'set for each backend'} already")
    with preserve_matmul_precision():
        torch.set_float32_matmul_precision("medium")
        yield evaluator, batches
