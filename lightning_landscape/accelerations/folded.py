"""BatchNorm folded into the layer in front of it: in eval mode both are one affine map."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from ..evaluators import Evaluator, EvaluatorWrapper, Stream
from ..objectives.base import Batch, Objective
from ..weights.plane import Plane

CONVOLUTIONS: dict[type, Callable[..., Tensor]] = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
TRANSPOSED: dict[type, Callable[..., Tensor]] = {
    nn.ConvTranspose1d: F.conv_transpose1d,
    nn.ConvTranspose2d: F.conv_transpose2d,
    nn.ConvTranspose3d: F.conv_transpose3d,
}
LAYERS = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
Layer: TypeAlias = Any  # one of LAYERS, whose attributes nn.Module does not declare
Norm: TypeAlias = Any  # one of NORMS
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@contextmanager
def folded(evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """Each layer computes the output of its norm.

    It is s W x + s b + β − s μ with s = γ / √(σ² + ε).
    The folded weights are made anew at every pass, which is cheap beside a convolution. So γ, β and the statistics may
    move as well. The first batch shows which norm follows which layer. Layers and norms with hooks or
    parametrizations, and subclasses, are left alone.

    Raises:
        ValueError: if no layer is followed by a norm that can be folded, at the latest at the first point.
    """
    parts = list(evaluator.module.modules())
    layers = [part for part in parts if type(part) in LAYERS and _is_simple(part)]
    norms = [part for part in parts if type(part) in NORMS and _is_simple(part) and part.running_mean is not None]
    if not layers or not norms:
        raise ValueError("no BatchNorm behind a layer")
    with ExitStack() as until_the_end:
        yield _Folded(evaluator, layers, norms, until_the_end), batches


class _Folded(EvaluatorWrapper):
    """An evaluator that folds when it sees its first batch, and unfolds when `until_the_end` closes."""

    def __init__(
        self, inner: Evaluator, layers: list[nn.Module], norms: list[nn.Module], until_the_end: ExitStack
    ) -> None:
        super().__init__(inner)
        self._layers, self._norms, self._until_the_end = layers, norms, until_the_end
        self._forwards = [(vars(part), vars(part).get("forward")) for part in inner.module.modules()]
        self._is_folded = False

    def __call__(self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]) -> Stream:
        if not self._is_folded:
            origin = np.zeros((self.at_once, plane.ndim))
            with self._original_forwards(), _followers(self._layers, self._norms) as pairs:
                next(iter(self.inner(objective, plane, origin, batches[:1])))
            if not pairs:
                raise ValueError("no BatchNorm is called on what a layer returns")
            for layer, norm in pairs.items():
                self._patch(layer, partial(_layer_and_norm, layer, norm))
                self._patch(norm, _identity)
            self._is_folded = True
        yield from self.inner(objective, plane, points, batches)

    def _patch(self, part: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
        vars(part)["forward"] = forward
        self._until_the_end.callback(vars(part).pop, "forward", None)

    @contextmanager
    def _original_forwards(self) -> Iterator[None]:
        """A context without the forwards of later accelerations: hooks in a compiled one would compile it anew."""
        present = [(attributes, attributes.get("forward")) for attributes, _ in self._forwards]
        _set_forwards(self._forwards)
        try:
            yield
        finally:
            _set_forwards(present)


def _set_forwards(forwards: list[tuple[dict[str, Any], Any]]) -> None:
    for attributes, forward in forwards:
        attributes.pop("forward", None)
        if forward is not None:
            attributes["forward"] = forward


def _is_simple(part: nn.Module) -> bool:
    """True if a part's forward pass is plain: not replaced, no hooks, zero padding, one group if transposed."""
    tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if "forward" in vars(part) or any(vars(part)[table] for table in tables):
        return False
    if type(part) in TRANSPOSED and getattr(part, "groups", 1) > 1:
        return False
    return getattr(part, "padding_mode", "zeros") == "zeros"


@contextmanager
def _followers(layers: list[nn.Module], norms: list[nn.Module]) -> Iterator[dict[nn.Module, nn.Module]]:
    """A context whose value is filled at its end with the norm of each layer.

    A norm counts if it is called on every output of its layer, and on nothing else.
    """
    calls: Counter[nn.Module] = Counter()
    pairs: Counter[tuple[nn.Module, nn.Module]] = Counter()
    latest: dict[nn.Module, weakref.ref[Tensor]] = {}
    result: dict[nn.Module, nn.Module] = {}

    def after(part: nn.Module, inputs: object, output: Tensor) -> None:
        if part in layers:
            calls[part] += 1
            latest[part] = weakref.ref(output)

    def before(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if part not in norms:
            return
        calls[part] += 1
        for layer, output in latest.items():
            fits = type(layer) is not nn.Linear or inputs[0].ndim == 2  # else the features are not the channels
            if output() is inputs[0] and fits and not part.training:
                pairs[layer, part] += 1

    with ExitStack() as hooks:  # for all modules: an objective takes away hooks of a single module before each point
        hooks.callback(register_module_forward_hook(after).remove)
        hooks.callback(register_module_forward_pre_hook(before).remove)
        yield result
    result.update({layer: norm for (layer, norm), count in pairs.items() if count == calls[layer] == calls[norm]})


def _layer_and_norm(layer: Layer, norm: Norm, inputs: Tensor) -> Tensor:
    """The output of the layer followed by the norm, computed by one layer with scaled weights."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    mean = norm.running_mean if layer.bias is None else norm.running_mean - layer.bias
    bias = -mean * scale if norm.bias is None else norm.bias - mean * scale
    kind = type(layer)
    channels = [1] * layer.weight.ndim
    channels[kind in TRANSPOSED] = -1
    weight = layer.weight * scale.reshape(channels)
    if kind in TRANSPOSED:
        shape = layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation
        return TRANSPOSED[kind](inputs, weight, bias, *shape)
    if kind in CONVOLUTIONS:
        return CONVOLUTIONS[kind](inputs, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    return F.linear(inputs, weight, bias)


def _identity(inputs: Tensor) -> Tensor:
    """The output of a norm that its layer computes."""
    return inputs
