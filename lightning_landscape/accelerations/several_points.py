"""Several points in one call: for networks so small that a call costs more than its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from ..evaluators import Evaluator, Vmapped
from ..objectives import Batch

POINTS = 32
MOST_NUMBERS = 2**16  # parameters: larger ones keep a CPU busy by themselves, and chunks of them take memory
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@contextmanager
def several_points(evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """Chunks of 32 points through `Vmapped`.

    Measured on one thread: a 64-32-32-10 perceptron gains 2.5× with batches of 16 samples, 2× with 32 and
    1.3× with 128; convolutions lose (0.7–0.9×, and no more than by themselves when compiled too). Not measured on
    any GPU.

    Raises:
        ValueError: for networks that are not small, or have convolutions.
    """
    module = evaluator.module
    if sum(parameter.numel() for parameter in module.parameters()) > MOST_NUMBERS:
        raise ValueError("not so small that calls cost more than numbers")
    if any(isinstance(part, CONVOLUTIONS) for part in module.modules()):
        raise ValueError("convolutions of several points are slower")
    yield Vmapped(evaluator, POINTS), batches
