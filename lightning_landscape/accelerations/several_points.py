"""Several points in one call: for networks so small that a call costs more than its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from ..evaluators import Evaluator, Vmapped
from ..objectives.base import Batch
from ..objectives.batches import leaves

POINTS = 32
GROUPS = 16  # points of one grouped convolution, whose activations outgrow the caches sooner
MOST_NUMBERS = 2**19  # parameters on a CPU: larger networks keep it busy by themselves
MOST_ELSEWHERE = 2**22  # on an accelerator, where a network must be larger for that: 1 GiB at most for all points
LARGEST = 2**13  # numbers of a sample, where a CPU convolves them: so do larger ones
MOST_BYTES = 2**29  # of what the widest layer returns, about: a CPU's memory has no error to be caught
GROUPED = (nn.Conv1d, nn.Conv2d)
OTHERS = (nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@contextmanager
def several_points(evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """Chunks of 32 points through `Vmapped`; of 16, each layer as one grouped convolution, where there are any.

    A sample at a point took, on two threads, with `channels_last` and `kept_memory` where they gain:

    | µs | one by one | together | together, `processes` |
    |---|---|---|---|
    | perceptron 784-128-10, batches of 64 | 3.6 | 2.6 | 2.1 |
    | perceptron 64-200-200-10, 64 | 3.2 | 1.7 | 1.3 |
    | digits, convolutions 1-16-32 with norms, 64 | 9.3 | 5.7 | 4.6 |
    | the same, 16 | 21.6 | 8.5 | 5.3 |
    | MNIST, convolutions 1-6-16 and linear 120-84, 64 | 30.5 | 25.9 | 19.6 |
    | the same, 16 | 41.4 | 21.9 | 17.6 |
    | CIFAR, convolutions 3-16-32-32, 64 | 37 | 53 | 45 |

    Raises:
        ValueError: for networks that are not small; on a CPU, for those that convolve large samples, or in three
            dimensions, or transposed, and for batches that would take much memory.
    """
    module = evaluator.module
    here = all(parameter.device.type == "cpu" for parameter in module.parameters())
    if sum(parameter.numel() for parameter in module.parameters()) > (MOST_NUMBERS if here else MOST_ELSEWHERE):
        raise ValueError("not so small that calls cost more than numbers")
    grouped = any(isinstance(part, GROUPED) for part in module.modules())
    if here and any(isinstance(part, OTHERS) for part in module.modules()):
        raise ValueError("such convolutions of several points are slower")
    if here and grouped and any(_numbers(batch) > LARGEST * batch.size for batch in batches):
        raise ValueError("the samples are not so small that calls cost more than numbers")
    together = GROUPS if grouped else POINTS
    if here and any(4 * together * _widest(module, _numbers(batch)) > MOST_BYTES for batch in batches):
        raise ValueError("the activations of several points would take too much memory")
    yield Vmapped(evaluator, together), batches


def _widest(module: nn.Module, numbers: int) -> float:
    """An estimate of the most numbers that any layer returns, for `numbers` numbers in the input.

    Convolutions are taken to have no strides. Linear layers and embeddings count only where there are no convolutions.
    """
    parts = list(module.modules())
    widths = [(part.in_channels, part.out_channels) for part in parts if isinstance(part, GROUPED)] or [
        (part.in_features, part.out_features) if isinstance(part, nn.Linear) else (1, part.embedding_dim)
        for part in parts
        if isinstance(part, nn.Linear | nn.Embedding)
    ]
    return numbers / widths[0][0] * max(width for _, width in widths) if widths else numbers


def _numbers(batch: Batch) -> int:
    return sum(leaf.numel() for leaf in leaves(batch.data) if isinstance(leaf, Tensor))
