"""The rules of layers with weights: linear, convolutional and embedding layers, and normalisations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .units import Label, Labels, join, pin
from .watch import Watch


def _linear(watch: Watch, output: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
    out, inside = watch.labels(weight)
    *batch, features = watch.labels(input)
    join(features, inside)
    watch.put(output, [*batch, _with_bias(watch, bias, out)])


def _convolution(
    watch: Watch,
    output: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: object = 1,
    padding: object = 0,
    dilation: object = 1,
    groups: int = 1,
) -> None:
    channel = input.ndim - weight.ndim + 1
    labels = list(watch.labels(input))
    out, inside = _channels(watch, weight)
    if groups == 1:
        join(labels[channel], inside)
    elif weight.shape[0] == groups:  # one filter a channel
        out = join(labels[channel], out)
    else:
        watch.refuse(f"a convolution in {groups} groups keeps each group apart")
    labels[channel] = _with_bias(watch, bias, out)
    watch.put(output, labels)


def _transposed_convolution(
    watch: Watch,
    output: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: object = 1,
    padding: object = 0,
    output_padding: object = 0,
    groups: int = 1,
    dilation: object = 1,
) -> None:
    if groups != 1:
        watch.refuse(f"a transposed convolution in {groups} groups keeps each group apart")
    channel = input.ndim - weight.ndim + 1
    labels = list(watch.labels(input))
    inside, out = _channels(watch, weight)
    join(labels[channel], inside)
    labels[channel] = _with_bias(watch, bias, out)
    watch.put(output, labels)


def _embedding(watch: Watch, output: Tensor, input: Tensor, weight: Tensor, *args: object, **options: object) -> None:
    words, features = watch.labels(weight)
    pin(words)
    watch.put(output, [*watch.labels(input), features])


def _batch_norm(
    watch: Watch,
    output: Tensor,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *args: object,
    **options: object,
) -> None:
    labels = list(watch.labels(input))
    for tensor in (running_mean, running_var, weight, bias):
        labels[1] = _with_bias(watch, tensor, labels[1])
    watch.put(output, labels)


def _layer_norm(
    watch: Watch,
    output: Tensor,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *args: object,
    **options: object,
) -> None:
    labels = list(watch.labels(input))
    first = input.ndim - len(normalized_shape)
    for tensor in (weight, bias):
        if isinstance(tensor, Tensor):
            labels[first:] = map(join, labels[first:], watch.labels(tensor))
    watch.put(output, labels)


def _group_norm(
    watch: Watch,
    output: Tensor,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *args: object,
    **options: object,
) -> None:
    if num_groups not in (1, input.shape[1]):
        watch.refuse(f"a normalisation of {num_groups} groups keeps each group apart")
    _batch_norm(watch, output, input, None, None, weight, bias)


def _prelu(watch: Watch, output: Tensor, input: Tensor, weight: Tensor) -> None:
    labels = list(watch.labels(input))
    if weight.numel() > 1:
        labels[1] = _with_bias(watch, weight, labels[1])
    watch.put(output, labels)


def _channels(watch: Watch, weight: Tensor) -> Labels:
    """The labels of the first two axes of a kernel; the places within it have an order."""
    labels = watch.labels(weight)
    for label in labels[2:]:
        pin(label)
    return labels[:2]


def _with_bias(watch: Watch, vector: Tensor | None, label: Label) -> Label:
    """The label of an axis along which a vector has one entry each."""
    return label if vector is None else join(label, watch.axis(vector, 0))


LAYERS: dict[Any, Callable[..., None]] = {
    F.linear: _linear,
    **dict.fromkeys([F.conv1d, F.conv2d, F.conv3d], _convolution),
    **dict.fromkeys([F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d], _transposed_convolution),
    F.embedding: _embedding,
    F.batch_norm: _batch_norm,
    F.instance_norm: _batch_norm,
    F.layer_norm: _layer_norm,
    **({F.rms_norm: _layer_norm, torch.rms_norm: _layer_norm} if hasattr(F, "rms_norm") else {}),
    F.group_norm: _group_norm,
    **dict.fromkeys([F.prelu, torch.prelu], _prelu),
}
