"""Images and convolutions with the channels as the fastest axis, as CPUs and tensor cores like them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from ..evaluators import Evaluator
from ..objectives.base import Batch

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@contextmanager
def channels_last(evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """A change of strides, not of values.

    Raises:
        ValueError: if there is no two-dimensional convolution, which alone would gain.
    """
    module = evaluator.module
    if not any(isinstance(part, CONVOLUTIONS) for part in module.modules()):
        raise ValueError("no two-dimensional convolution")
    tensors = [*module.parameters(), *module.buffers()]
    before = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        yield evaluator, [replace(batch, data=apply_to_collection(batch.data, Tensor, _strided)) for batch in batches]
    finally:
        for tensor, data in zip(tensors, before, strict=True):
            tensor.data = data


def _strided(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
