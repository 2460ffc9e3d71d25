"""Several points in one call: for networks so small that a call costs more than its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from ..evaluators import Evaluator, Vmapped
from ..objectives.base import Batch
from ..objectives.batches import leaves

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)  # which `Grouped` has a rule for
SLOW_CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class PointLimits:
    """The number of points in one call, and the limits of networks that gain by several.

    Args:
        points: in one call, without convolutions.
        grouped_points: in one call with convolutions, whose activations outgrow the caches sooner.
        cpu_parameters: the maximum on a CPU: larger networks keep it busy by themselves.
        accelerator_parameters: the maximum elsewhere, where busy networks are larger: 1 GiB at most for all points.
        sample_numbers: the maximum of numbers in a sample that a CPU convolves: larger ones keep it busy, too.
        layer_bytes: the maximum that the widest layer returns, about: a CPU out of memory raises nothing.
    """

    points: int = 32
    grouped_points: int = 16
    cpu_parameters: int = 2**19
    accelerator_parameters: int = 2**22
    sample_numbers: int = 2**13
    layer_bytes: int = 2**29


DEFAULT = PointLimits()


@contextmanager
def several_points(
    evaluator: Evaluator, batches: Sequence[Batch], limits: PointLimits = DEFAULT
) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """Chunks of 32 points through `Vmapped`; of 16, each layer as one grouped convolution, where there are any.

    On two threads, small perceptrons took 0.5 to 0.7 of the time, and small convolutional nets 0.4 to 0.85. A net for
    samples of CIFAR's size took 1.4 times as long.

    Raises:
        ValueError: for networks that are not small. On a CPU also for batches that would take much memory. There also
            for convolutions of large samples or without a rule.
    """
    module = evaluator.module
    is_cpu = all(parameter.device.type == "cpu" for parameter in module.parameters())
    max_parameters = limits.cpu_parameters if is_cpu else limits.accelerator_parameters
    if sum(parameter.numel() for parameter in module.parameters()) > max_parameters:
        raise ValueError("not so small that calls cost more than numbers")
    is_grouped = any(isinstance(part, CONVOLUTIONS) for part in module.modules())
    points = limits.grouped_points if is_grouped else limits.points
    if is_cpu:
        if any(isinstance(part, SLOW_CONVOLUTIONS) for part in module.modules()):
            raise ValueError("such convolutions of several points are slower")
        if is_grouped and any(_numbers(batch) > limits.sample_numbers * batch.size for batch in batches):
            raise ValueError("the samples are not so small that calls cost more than numbers")
        if any(4 * points * _widest(module, _numbers(batch)) > limits.layer_bytes for batch in batches):
            raise ValueError("the activations of several points would take too much memory")
    yield Vmapped(evaluator, points), batches


def _widest(module: nn.Module, numbers: int) -> float:
    """An estimate of the numbers that the widest layer returns, for `numbers` numbers in the input.

    Convolutions are taken to have no strides. Linear layers and embeddings count only where there are no convolutions.
    """
    parts = list(module.modules())
    widths = [(part.in_channels, part.out_channels) for part in parts if isinstance(part, CONVOLUTIONS)] or [
        (part.in_features, part.out_features) if isinstance(part, nn.Linear) else (1, part.embedding_dim)
        for part in parts
        if isinstance(part, nn.Linear | nn.Embedding)
    ]
    return numbers / widths[0][0] * max(width for _, width in widths) if widths else numbers


def _numbers(batch: Batch) -> int:
    return sum(leaf.numel() for leaf in leaves(batch.data) if isinstance(leaf, Tensor))
