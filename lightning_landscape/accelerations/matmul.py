"""Matrix products by the library that is fastest on this machine: oneDNN beats MKL on many CPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ..evaluators import Evaluator
from ..objectives import Batch


@contextmanager
def fast_matmul(evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """Float32 matrix products may use another kernel: exact on most CPUs, bfloat16 or TF32 on some devices.

    The proof before its use keeps the exact ones only.

    Raises:
        ValueError: if the products are already allowed to.
    """
    before = torch.get_float32_matmul_precision()
    if before == "medium":
        raise ValueError("the matmul precision is medium already")
    try:
        torch.set_float32_matmul_precision("medium")
        yield evaluator, batches
    finally:
        torch.set_float32_matmul_precision(before)
