"""BatchNorm folded into the layer in front of it: in eval mode both are one affine map."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from ..evaluators import Around, Evaluator, Measurement
from ..objectives.base import Batch, Objective
from ..weights.plane import Plane

CONVOLUTIONS: dict[type, Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}
TRANSPOSED: dict[type, Callable[..., Tensor]] = {
    nn.ConvTranspose1d: F.conv_transpose1d,
    nn.ConvTranspose2d: F.conv_transpose2d,
    nn.ConvTranspose3d: F.conv_transpose3d,
}
LAYERS = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@contextmanager
def folded(evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """Each layer computes what its norm would make of it, s W x + s b + β − s μ with s = γ / √(σ² + ε).

    The folded weights are made at every pass out of the present ones, which is cheap beside a convolution: so γ, β
    and the statistics may move as well. Which norm follows which layer is seen on the first batch. Layers and norms
    with hooks or parametrizations, and subclasses, are left alone.

    Raises:
        ValueError: if no layer is followed by a norm that can be folded; where that is not seen before, at the first
            point.
    """
    parts = list(evaluator.module.modules())
    layers = [part for part in parts if type(part) in LAYERS and _is_simple(part)]
    norms = [part for part in parts if type(part) in NORMS and _is_simple(part) and part.running_mean is not None]
    if not layers or not norms:
        raise ValueError("no BatchNorm behind a layer")
    with ExitStack() as until_the_end:
        yield _Folded(evaluator, layers, norms, until_the_end), batches


class _Folded(Around):
    """An evaluator that folds when it sees its first batch, and unfolds when `until_the_end` closes."""

    def __init__(
        self, inner: Evaluator, layers: list[nn.Module], norms: list[nn.Module], until_the_end: ExitStack
    ) -> None:
        super().__init__(inner)
        self._layers, self._norms, self._until_the_end = layers, norms, until_the_end
        self._forwards = [(vars(part), vars(part).get("forward")) for part in inner.module.modules()]
        self._is_folded = False

    def __call__(
        self, objective: Objective, plane: Plane, points: np.ndarray, batches: Sequence[Batch]
    ) -> Generator[dict[str, Measurement], None, None]:
        """See `Evaluator`."""
        if not self._is_folded:
            origin = np.zeros((self.at_once, plane.ndim))
            with self._as_they_were(), _followers(self._layers, self._norms) as pairs:
                next(iter(self.inner(objective, plane, origin, batches[:1])))
            if not pairs:
                raise ValueError("no BatchNorm is called on what a layer returns")
            for layer, norm in pairs.items():
                self._put(layer, partial(_both, layer, norm))
                self._put(norm, _neither)
            self._is_folded = True
        yield from self.inner(objective, plane, points, batches)

    def _put(self, part: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
        vars(part)["forward"] = forward
        self._until_the_end.callback(vars(part).pop, "forward", None)

    @contextmanager
    def _as_they_were(self) -> Iterator[None]:
        """Without the forwards that later ways have put on: hooks in a compiled one would compile it anew."""
        present = [attributes.get("forward") for attributes, _ in self._forwards]
        _set_forwards(self._forwards)
        try:
            yield
        finally:
            _set_forwards([(a, forward) for (a, _), forward in zip(self._forwards, present, strict=True)])


def _set_forwards(forwards: list[tuple[dict[str, Any], Any]]) -> None:
    for attributes, forward in forwards:
        attributes.pop("forward", None)
        if forward is not None:
            attributes["forward"] = forward


def _is_simple(part: Any) -> bool:
    """True if a part's forward pass is plain: not replaced, no hooks, zero padding, one group if transposed."""
    tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if "forward" in vars(part) or any(vars(part)[table] for table in tables):
        return False
    if type(part) in TRANSPOSED and part.groups > 1:
        return False
    return getattr(part, "padding_mode", "zeros") == "zeros"


@contextmanager
def _followers(layers: list[nn.Module], norms: list[nn.Module]) -> Iterator[dict[nn.Module, nn.Module]]:
    """Fills up, on leaving, with the norm of each layer: the only one, called on every output and on nothing else."""
    calls: Counter[nn.Module] = Counter()
    pairs: Counter[tuple[nn.Module, nn.Module]] = Counter()
    latest: dict[nn.Module, weakref.ref[Tensor]] = {}
    result: dict[nn.Module, nn.Module] = {}

    def after_layer(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        calls[layer] += 1
        latest[layer] = weakref.ref(output)

    def before_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls[norm] += 1
        for layer, output in latest.items():
            fits = type(layer) is not nn.Linear or inputs[0].ndim == 2  # else the features are not the channels
            if output() is inputs[0] and fits and not norm.training:
                pairs[layer, norm] += 1

    def after(part: nn.Module, inputs: Any, output: Any) -> None:
        if part in layers:
            after_layer(part, inputs, output)

    def before(part: nn.Module, inputs: Any) -> None:
        if part in norms:
            before_norm(part, inputs)

    with ExitStack() as hooks:  # for all modules: what an objective finds on its own, it puts back before each point
        hooks.callback(register_module_forward_hook(after).remove)
        hooks.callback(register_module_forward_pre_hook(before).remove)
        yield result
    result.update({layer: norm for (layer, norm), count in pairs.items() if count == calls[layer] == calls[norm]})


def _both(layer: Any, norm: Any, inputs: Tensor) -> Tensor:
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


def _neither(inputs: Tensor) -> Tensor:
    """The norm is in its layer already."""
    return inputs
