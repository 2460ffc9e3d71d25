"""One process a core instead of one thread a core."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ..evaluators import Evaluator, Forked
from ..objectives.base import Batch
from ..weights.parameters import size_in_bytes

MOST_BYTES = 2**30  # of parameters in all workers of all data sets together


@contextmanager
def processes(evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """Points side by side in as many processes as there are threads, each with one. See `Forked`.

    What is compiled inside is compiled for one thread. Two processes of one thread did 1.25 (a small CNN), 0.93
    (ResNet-56) and 1.45 times (a small Transformer) as much as one of two threads on a machine that did nothing else;
    more where other programs run, for which threads wait and processes do not.

    Raises:
        ValueError: if there is one core, or the user wants one thread; on accelerators, whose state no fork can use;
            on other systems than Linux, whose libraries do not expect forks, or which have none.
    """
    if sys.platform != "linux":
        raise ValueError("only Linux forks safely")
    tensors = [*evaluator.module.parameters(), *evaluator.module.buffers()]
    if torch.cuda.is_initialized() or any(tensor.device.type != "cpu" for tensor in tensors):
        raise ValueError("an accelerator can't be used after a fork")
    threads = torch.get_num_threads()
    bytes_each = max(1, sum(size_in_bytes(tensor) for tensor in tensors))
    workers = MOST_BYTES // bytes_each
    together = min(threads, len(os.sched_getaffinity(0)), 1 + workers)
    if together < 2:
        raise ValueError("one core, or no memory for two copies of the parameters")
    try:
        torch.set_num_threads(1)
        yield Forked(evaluator, together, workers), batches
    finally:
        torch.set_num_threads(threads)
