"""Several points as one grouped convolution: under `vmap`, images and series with the channels of all points."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch._C import _functorch as functorch  # its public face, a Function with a rule, takes 0.25 ms a call
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]  # of torch
Numbers = int | str | tuple[int, ...]  # a stride, a padding or a dilation


class Grouped(TorchFunctionMode):
    """Inside, convolutions, poolings and batch norms lay the points of a `vmap` side by side in the channels.

    An image of C channels at P points is one of P·C channels. A convolution becomes one of P times as many groups.
    Poolings and norms work on each channel by itself. `vmap` alone would move all numbers at each layer. With
    ``channels_last`` the channels of all points are the fastest axis. Series (N, C, L) are laid out likewise. Outside
    of `vmap`, and for functions without a rule here, nothing changes. A ``view`` that merges the channels with another
    axis raises, since the two are no longer adjacent; a ``reshape`` does not.

    >>> import torch
    >>> from torch.func import vmap
    >>> images, weights = torch.randn(8, 3, 6, 6), torch.randn(5, 4, 3, 2, 2)
    >>> with Grouped():
    ...     together = vmap(lambda weight: torch.conv2d(images, weight))(weights)
    >>> torch.allclose(together[2], torch.conv2d(images, weights[2]), atol=1e-5)
    True
    """

    def __torch_function__(
        self, func: Function, types: Collection[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        """Take the rule for this function, where there is one and it fits."""
        kwargs = kwargs or {}
        rule, ndims = RULES.get(func, (None, ()))
        fits = bool(args) and isinstance(args[0], Tensor) and args[0].ndim in ndims
        if rule is None or not fits or not {Tensor, Parameter}.issuperset(types):  # others have rules of their own
            return func(*args, **kwargs)
        wrapped = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and _is_wrapped(a)]
        levels = {functorch.maybe_get_level(tensor) for tensor in wrapped}
        if len(levels) != 1 or not all(map(_is_simple, wrapped)):
            return func(*args, **kwargs)
        points = functorch.get_unwrapped(wrapped[0]).shape[functorch.maybe_get_bdim(wrapped[0])]
        result = rule(points, func, *args, **kwargs)
        return func(*args, **kwargs) if result is None else functorch._add_batch_dim(*result, levels.pop())


Result = tuple[Tensor, int] | None  # a result and its axis of points; None where a rule does not fit


def _convolution(
    points: int,
    func: Function,
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Numbers = 1,
    padding: Numbers = 0,
    dilation: Numbers = 1,
    groups: int = 1,
) -> Result:
    if not _is_wrapped(weight) and not _is_wrapped(bias):  # more images for the same weights
        merged = func(_merged(images, 0, points), weight, bias, stride, padding, dilation, groups)
        return merged.unflatten(0, (points, -1)), 0
    if _is_wrapped(images) or groups > 1:
        images, groups = _merged(images, 1, points), groups * points
    bias = None if bias is None else _merged(bias, 0, points)
    merged = func(images, _merged(weight, 0, points), bias, stride, padding, dilation, groups)
    return merged.unflatten(1, (points, -1)), 1


def _pooling(points: int, func: Function, images: Tensor, *args: Any, **kwargs: Any) -> Result:
    return func(_merged(images, 1, points), *args, **kwargs).unflatten(1, (points, -1)), 1


def _norm(
    points: int,
    func: Function,
    images: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Result:
    if training:  # the running statistics, one for all points, would move
        return None
    vectors = [None if v is None else _merged(v, 0, points) for v in (mean, variance, weight, bias)]
    merged = func(_merged(images, 1, points), *vectors, False, momentum, eps)
    return merged.unflatten(1, (points, -1)), 1


SERIES, IMAGES = (3,), (4,)
RULES: dict[Function, tuple[Callable[..., Result], tuple[int, ...]]] = {
    F.conv1d: (_convolution, SERIES),
    F.conv2d: (_convolution, IMAGES),
    F.avg_pool1d: (_pooling, SERIES),
    F.avg_pool2d: (_pooling, IMAGES),
    F.max_pool1d: (_pooling, SERIES),
    F.max_pool2d: (_pooling, IMAGES),
    F.adaptive_avg_pool1d: (_pooling, SERIES),
    F.adaptive_avg_pool2d: (_pooling, IMAGES),
    F.adaptive_max_pool1d: (_pooling, SERIES),
    F.adaptive_max_pool2d: (_pooling, IMAGES),
    F.batch_norm: (_norm, SERIES + IMAGES),
}


def _is_wrapped(tensor: Tensor | None) -> bool:
    return tensor is not None and functorch.is_functorch_wrapped_tensor(tensor)


def _is_simple(tensor: Tensor) -> bool:
    """True if a tensor holds the values of several points, with no other functorch wrapper inside."""
    return functorch.is_batchedtensor(tensor) and not _is_wrapped(functorch.get_unwrapped(tensor))


def _merged(tensor: Tensor, dim: int, points: int) -> Tensor:
    """The points laid into an axis, point after point; of what is one for all points, a copy for each."""
    if _is_wrapped(tensor):
        tensor = functorch.get_unwrapped(tensor).movedim(functorch.maybe_get_bdim(tensor), dim)
    else:
        tensor = tensor.unsqueeze(dim).expand(*tensor.shape[:dim], points, *tensor.shape[dim:])
    return tensor.flatten(dim, dim + 1)
