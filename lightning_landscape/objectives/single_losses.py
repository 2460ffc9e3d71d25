"""The losses of single samples behind the calls of loss functions on a batch, computed on demand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .loss_calls import Call
from .reductions import before_reduction

BY_WEIGHTS = (F.cross_entropy, F.nll_loss)  # whose mean counts each target with the weight of its class
CONSTANTS = ("weight", "pos_weight")  # arguments of losses without a row for each sample


class SingleLosses:
    """Σ cₖ ℓₖ for each sample of a batch, where ℓₖ are the losses of call k before their mean.

    Args:
        size: B.
        calls: of loss functions, without a graph.
        terms: cₖ by the number of the call.
        by_weights: the numbers of the calls with a weighted mean (`is_by_weights`).
    """

    __slots__ = ("by_weights", "calls", "size", "terms")

    def __init__(self, size: int, calls: Sequence[Call], terms: dict[int, float], by_weights: set[int]) -> None:
        self.size, self.calls, self.terms, self.by_weights = size, calls, terms, by_weights

    def tensor(self) -> Tensor | None:
        """Shape (B,); None where a loss has no whole number of values a sample."""
        total: Tensor | None = None
        for k, factor in self.terms.items():
            losses = (_by_weights if k in self.by_weights else _plain)(self.calls[k], self.size)
            if losses is None:
                return None
            losses = losses if factor == 1 else factor * losses
            total = losses if total is None else total + losses
        return total


def at_once(each: Tensor | SingleLosses | None) -> Tensor | None:
    """The losses of single samples as a tensor; None if unknown."""
    return each.tensor() if isinstance(each, SingleLosses) else each


def without_graph(call: Call) -> Call:
    """The call with detached tensors."""
    function, arguments, result = call
    return function, {n: v.detach() if isinstance(v, Tensor) else v for n, v in arguments.items()}, result.detach()


def rows(losses: Tensor, size: int) -> Tensor | None:
    """Losses before their mean as one row a sample; None where there is no whole number of them a sample."""
    if losses.ndim == 0 or losses.numel() == 0 or losses.numel() % size:
        return None
    return losses.reshape(size, -1).to(torch.promote_types(losses.dtype, torch.float32))


def is_by_weights(call: Call, size: int) -> bool:
    """True if the mean of a loss on a batch of `size` is weighted, and samples may weigh differently."""
    function, arguments, _ = call
    if function not in BY_WEIGHTS or arguments["reduction"] != "mean" or arguments["target"].is_floating_point():
        return False
    is_ignored = arguments["target"] == arguments["ignore_index"]
    return arguments["weight"] is not None or is_ignored.numel() > size or bool(is_ignored.any())


def _plain(call: Call, size: int) -> Tensor | None:
    losses = rows(before_reduction(_classes_first(call)), size)
    if losses is None or losses.shape[1] == 1:
        return None if losses is None else losses[:, 0]
    return losses.sum(1) if call[1]["reduction"] in ("sum", "batchmean") else losses.mean(1)


def _by_weights(call: Call, size: int) -> Tensor | None:
    """The contribution of each sample to a weighted mean r = Σ a / Σ w: r + (a − r w) B / Σ w."""
    losses, weights = rows(before_reduction(call), size), rows(_weights(call), size)
    if losses is None or weights is None:
        return None
    numerator, weight = losses.sum(1), weights.to(losses).sum(1)
    total = weight.sum()
    mean = numerator.sum() / total
    return mean + (numerator - mean * weight) * (size / total)


def _weights(call: Call) -> Tensor:
    """The weight of each target in the mean of a classifying loss."""
    _, arguments, _ = call
    target, weight = arguments["target"], arguments["weight"]
    counts = target != arguments["ignore_index"]
    return counts if weight is None else weight[target.masked_fill(~counts, 0)] * counts


def joined(batches: Sequence[SingleLosses]) -> Tensor | None:
    """The losses of all samples of several batches, by one call of the loss; None where one can't give them.

    For small batches, many calls would take longer than the computation. Only the last bits differ from theirs.
    """
    terms, by_weights, sizes = batches[0].terms, batches[0].by_weights, [batch.size for batch in batches]
    k = next(iter(terms))
    function, constants, _ = batches[0].calls[k]
    if len(terms) > 1 or k in by_weights or constants["reduction"] == "none":
        return None
    arguments = [batch.calls[k][1] for batch in batches]
    together = dict(constants)
    for name, value in constants.items():
        values = [of_batch[name] for of_batch in arguments]
        if not isinstance(value, Tensor):
            if values.count(value) < len(values):
                return None
        elif name not in CONSTANTS and _are_rows([tensor.shape for tensor in values], sizes):
            together[name] = torch.cat(values)
        else:
            return None
    losses = _plain((function, together, batches[0].calls[k][2]), sum(sizes))
    return losses if losses is None or terms[k] == 1 else terms[k] * losses


def _are_rows(shapes: Sequence[torch.Size], sizes: Sequence[int]) -> bool:
    """True if the shapes have the same number of rows a sample, and rows of one shape."""
    kinds = {(len(shape), shape[1:], shape[0] / size) for shape, size in zip(shapes, sizes, strict=True) if shape}
    return len(kinds) == 1 and all(shapes)


def _classes_first(call: Call) -> Call:
    """A cross-entropy of n samples as one of a single sample of n pixels, for up to 64 classes.

    The softmax over so few numbers takes several times as long where they are the last axis.
    """
    function, arguments, result = call
    if function is not F.cross_entropy or arguments["reduction"] == "none":
        return call
    scores, target = arguments["input"], arguments["target"]
    if scores.ndim != 2 or target.ndim != 1 or scores.shape[1] > 64:
        return call
    return function, arguments | {"input": scores.t().contiguous()[None], "target": target[None]}, result
