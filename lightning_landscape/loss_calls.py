"""Seeing which loss functions a step calls, and with what: recognition by the call, not by a name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

MEAN_LOSSES: tuple[Callable[..., Tensor], ...] = (
    F.cross_entropy,
    F.nll_loss,
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
    F.kl_div,
    F.poisson_nll_loss,
    F.gaussian_nll_loss,
    F.soft_margin_loss,
    F.multilabel_soft_margin_loss,
    F.multi_margin_loss,
    F.multilabel_margin_loss,
    F.hinge_embedding_loss,
    F.margin_ranking_loss,
    F.cosine_embedding_loss,
    F.triplet_margin_loss,
)
# By name, in order: faster than inspect.Signature.bind, which small batches would feel.
DEFAULTS = {
    function: {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    for function in MEAN_LOSSES
}
Call = tuple[Callable[..., Tensor], dict[str, Any], Tensor]  # a function, its bound arguments, what it returned
_lists: list[list[Call]] = []  # of the calls of `watched`, the innermost last
_own = False  # whether a call is ours


class LossCalls(TorchFunctionMode):
    """Sees every call of a loss of `torch.nn.functional` made inside, with its arguments, wherever it is imported.

    After a call, ``calls`` holds (function, bound arguments, returned tensor).

    >>> import torch
    >>> with LossCalls() as seen:
    ...     _ = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(torch.zeros(1, 3), torch.tensor([1]))
    >>> (function, arguments, result), = seen.calls
    >>> function.__name__, arguments["label_smoothing"], arguments["reduction"]
    ('cross_entropy', 0.1, 'mean')
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record, and change nothing."""
        function = _ORIGINALS.get(func, func)
        result = function(*args, **(kwargs or {}))
        if function in DEFAULTS and not _own:
            result = self.seen(result)
            self.calls.append((function, _bound(function, args, kwargs or {}), result))
        return result

    def seen(self, result: Tensor) -> Tensor:
        """What the step is given of a loss."""
        return result


def _bound(function: Callable[..., Tensor], args: Any, kwargs: Any) -> dict[str, Any]:
    given = dict(zip(DEFAULTS[function], args, strict=False)) | kwargs
    return DEFAULTS[function] | given


def _watching(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(function)
    def watch(*args: Any, **kwargs: Any) -> Tensor:
        result = function(*args, **kwargs)
        if _lists and not _own:
            _lists[-1].append((function, _bound(function, args, kwargs), result))
        return result

    return watch


_WATCHING = {function: _watching(function) for function in MEAN_LOSSES}
_ORIGINALS = {watch: function for function, watch in _WATCHING.items()}


@contextmanager
def watched(functions: Iterable[Callable[..., Tensor]]) -> Iterator[list[Call]]:
    """Sees the calls of these losses under their names in `torch.nn.functional`, and gives them as `LossCalls` does.

    `LossCalls` is asked at every operation, which small networks feel; this only where one of these is called. It
    does not see a call under a name that a module has imported for itself.

    >>> import torch
    >>> with watched([F.mse_loss]) as calls:
    ...     _ = F.mse_loss(torch.ones(2), torch.zeros(2))
    >>> len(calls)
    1
    """
    names = [function.__name__ for function in functions if getattr(F, function.__name__) is function]
    calls: list[Call] = []
    _lists.append(calls)
    try:
        for name in names:
            setattr(F, name, _WATCHING[getattr(F, name)])
        yield calls
    finally:
        for name in names:
            setattr(F, name, _ORIGINALS[getattr(F, name)])
        _lists.pop()


def before_reduction(call: Call) -> Tensor:
    """The losses that a call has reduced, in their own shape; they are not seen as another call."""
    global _own
    function, arguments, result = call
    if arguments["reduction"] == "none":
        return result
    before, _own = _own, True
    try:
        return function(**{**arguments, "reduction": "none"})
    finally:
        _own = before
