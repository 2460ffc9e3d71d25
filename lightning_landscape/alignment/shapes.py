"""The rules of functions without weights: elementwise ones, pooling, reductions and reshapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

from torch import Tensor

from ..weights.parameters import tensors_in
from .units import Label, Placed
from .watch import Watch, join_all

# Names of functions, without the underscores of methods in place and of operators.
ELEMENTWISE = """
relu relu6 leaky_relu rrelu elu selu celu gelu silu mish softplus softsign tanh sigmoid logsigmoid hardtanh hardswish
hardsigmoid hardshrink softshrink tanhshrink threshold abs neg exp log log1p expm1 sqrt rsqrt square reciprocal sin cos
erf sign clamp pow add radd iadd sub rsub isub mul rmul imul div truediv rtruediv itruediv true_divide maximum minimum
where masked_fill addcmul addcdiv lerp
"""
UNCHANGED = """
clone contiguous detach to float double half bfloat16 type type_as cpu requires_grad dropout alpha_dropout
feature_dropout feature_alpha_dropout dropout1d dropout2d dropout3d softmax log_softmax softmin normalize zeros_like
ones_like
"""
SPATIAL = """
pad interpolate max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
"""
EXPANSIONS = "expand expand_as broadcast_to repeat"
REDUCTIONS = "mean sum amax amin logsumexp std var"
RESHAPES = "flatten view reshape squeeze unsqueeze unflatten view_as reshape_as"


def _elementwise(watch: Watch, output: Tensor, *args: Any, **options: Any) -> None:
    operands = [tensor for tensor in tensors_in([args, options]) if tensor.ndim]
    labels: list[Label] = []
    for back in range(output.ndim, 0, -1):
        meeting = [tensor for tensor in operands if tensor.ndim >= back and tensor.shape[-back] == output.shape[-back]]
        labels.append(join_all(watch.labels(tensor)[-back] for tensor in meeting) if meeting else None)
    watch.put(output, labels)


def _unchanged(watch: Watch, output: Tensor, input: Tensor, *args: Any, **options: Any) -> None:
    watch.put(output, watch.labels(input))


def _same_size(watch: Watch, output: Tensor, input: Tensor, *args: Any, **options: Any) -> None:
    """The rule of functions along axes without units, and of those that repeat such axes."""
    added: list[Label] = [None] * (output.ndim - input.ndim)
    labels = added + list(watch.labels(input))
    for label, size in zip(labels, output.shape, strict=True):
        if label is not None and label.size != size:
            watch.refuse("it changes the number of units along an axis")
    watch.put(output, labels)


def _reduction(
    watch: Watch,
    output: Tensor,
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    **options: Any,
) -> None:
    dims = range(input.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    left_out = {d % input.ndim for d in dims}
    labels = [None if d in left_out else label for d, label in enumerate(watch.labels(input))]
    reduced = labels if output.ndim == input.ndim else [x for d, x in enumerate(labels) if d not in left_out]
    watch.put(output, reduced)


def _reshape(watch: Watch, output: Tensor, input: Tensor, *args: Any, **options: Any) -> None:
    labels: list[Label] = [None] * output.ndim
    for before, after in _blocks(input.shape, output.shape):
        with_units = [i for i in before if watch.labels(input)[i] is not None]
        if not with_units:
            continue
        if len(with_units) > 1 or len(after) > 1:
            watch.refuse("it splits the units of an axis over several, or merges two kinds of units")
        (which,) = with_units
        label: Any = watch.labels(input)[which]
        outer, inner = (math.prod(input.shape[i] for i in side) for side in _sides(before, which))
        labels[after[0]] = Placed(label.units, outer * label.outer, label.inner * inner)
    watch.put(output, labels)


def _sides(axes: Sequence[int], which: int) -> tuple[list[int], list[int]]:
    return [i for i in axes if i < which], [i for i in axes if i > which]


def _blocks(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The groups of axes that a reshape turns into each other; axes of one entry are left out.

    >>> _blocks((5, 4, 3, 3), (5, 36))
    [([0], [0]), ([1, 2, 3], [1])]
    """
    left = [i for i, size in enumerate(before) if size != 1]
    right = [i for i, size in enumerate(after) if size != 1]
    blocks = []
    while left and right:
        p, q = [left.pop(0)], [right.pop(0)]
        while (a := math.prod(before[i] for i in p)) != (b := math.prod(after[i] for i in q)):
            (p.append(left.pop(0)) if a < b else q.append(right.pop(0)))
        blocks.append((p, q))
    return blocks


def _permute(watch: Watch, output: Tensor, input: Tensor, *dims: Any, **options: Any) -> None:
    order = dims[0] if dims and not isinstance(dims[0], int) else dims or options["dims"]
    watch.put(output, [watch.labels(input)[d] for d in order])


def _transpose(watch: Watch, output: Tensor, input: Tensor, dim0: int = 0, dim1: int = 1) -> None:
    labels = list(watch.labels(input))
    if input.ndim > 1:
        labels[dim0], labels[dim1] = labels[dim1], labels[dim0]
    watch.put(output, labels)


def _index(watch: Watch, output: Tensor, input: Tensor, key: object) -> None:
    keys = list(key) if isinstance(key, tuple) else [key]
    if any(isinstance(k, Tensor | list) for k in keys):
        watch.refuse("it picks entries by their place")
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        spread = input.ndim - sum(k is not None for k in keys) + 1
        keys[at : at + 1] = [slice(None)] * spread
    labels: list[Label] = []
    given = iter(watch.labels(input))
    for k in keys:
        label = None if k is None else next(given)
        if label is not None and k != slice(None):
            watch.refuse("it picks units by their place")
        if not isinstance(k, int):
            labels.append(label)
    watch.put(output, [*labels, *given])


def _concatenate(watch: Watch, output: Tensor, tensors: Sequence[Tensor], dim: int = 0, **options: Any) -> None:
    labels: list[Label] = []
    for axis in range(output.ndim):
        meeting = [watch.labels(tensor)[axis] for tensor in tensors]
        if axis != dim % output.ndim:
            labels.append(join_all(meeting))
            continue
        if any(label is not None for label in meeting):
            watch.refuse("it puts several kinds of units side by side along an axis")
        labels.append(None)
    watch.put(output, labels)


def _matmul(watch: Watch, output: Tensor, input: Tensor, other: Tensor) -> None:
    if input.ndim < 2 or other.ndim < 2:
        watch.refuse("it multiplies with a vector of units")
    p, q = watch.labels(input), watch.labels(other)
    join_all([p[-1], q[-2]])
    batch = [join_all([a, b]) if a or b else None for a, b in zip_longest(p[-3::-1], q[-3::-1])][::-1]
    watch.put(output, [*batch, p[-2], q[-1]])


BY_NAME: dict[str, Callable[..., None]] = {
    **dict.fromkeys(ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys(UNCHANGED.split(), _unchanged),
    **dict.fromkeys([*SPATIAL.split(), *EXPANSIONS.split()], _same_size),
    **dict.fromkeys(REDUCTIONS.split(), _reduction),
    **dict.fromkeys(RESHAPES.split(), _reshape),
    "permute": _permute,
    **dict.fromkeys(["transpose", "swapaxes", "t"], _transpose),
    "getitem": _index,
    **dict.fromkeys(["cat", "concat", "concatenate"], _concatenate),
    **dict.fromkeys(["matmul", "mm"], _matmul),
}
