"""Several points in one call: for networks so small that a call costs more than its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from ..evaluators import Evaluator, Vmapped
from ..objectives import Batch

POINTS = 32
MOST_NUMBERS = 2**16  # parameters on a CPU: larger networks keep it busy by themselves
MOST_ELSEWHERE = 2**22  # on an accelerator, where a network must be larger for that: 1 GiB at most for all points
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@contextmanager
def several_points(evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """Chunks of 32 points through `Vmapped`.

    Measured on one thread: a 64-32-32-10 perceptron gains 2.5× with batches of 16 samples, 2× with 32 and
    1.3× with 128. Convolutions lose on a CPU (0.7–0.9×, and no more than by themselves when compiled too). Written by
    hand as one grouped convolution, a small CNN at two to eight points gained nothing there either: a sample takes
    33 µs in both ways, and 27 µs when both are compiled, on two threads with `channels_last` and `kept_memory`. On
    accelerators, of which none was at hand, the trial alone says.

    Raises:
        ValueError: for networks that are not small; on a CPU, for those with convolutions.
    """
    module = evaluator.module
    here = all(parameter.device.type == "cpu" for parameter in module.parameters())
    if sum(parameter.numel() for parameter in module.parameters()) > (MOST_NUMBERS if here else MOST_ELSEWHERE):
        raise ValueError("not so small that calls cost more than numbers")
    if here and any(isinstance(part, CONVOLUTIONS) for part in module.modules()):
        raise ValueError("convolutions of several points are slower")
    yield Vmapped(evaluator, POINTS), batches
