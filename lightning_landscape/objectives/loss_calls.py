"""Seeing which loss functions a step calls, and with what: recognition by the call, not by a name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
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
ORIGINALS: dict[Any, Any] = {}  # what a function mode is to take a stand-in of ours for (`reductions`)
_hidden = 0  # how many `hidden` there are


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

    def __enter__(self) -> LossCalls:
        self.calls = []
        super().__enter__()
        return self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record, and change nothing."""
        function, kwargs = ORIGINALS.get(func, func), kwargs or {}
        result = function(*args, **kwargs)
        call = None if _hidden else self.call(function, args, kwargs, result)
        if call is not None:
            result = self.given(result)
            self.calls.append((call[0], call[1], result))
        return result

    def call(self, function: Any, args: Any, kwargs: Any, result: Any) -> Call | None:
        """The record of a call, or None if the call is no loss of MEAN_LOSSES."""
        return bound(function, args, kwargs, result) if function in DEFAULTS else None

    def given(self, result: Tensor) -> Tensor:
        """The result that the step gets from a recorded call."""
        return result


def bound(function: Callable[..., Tensor], args: Any, kwargs: Any, result: Tensor) -> Call:
    """A call of one of MEAN_LOSSES with all its arguments by name."""
    names = DEFAULTS[function]
    return function, {**names, **dict(zip(names, args, strict=False)), **kwargs}, result


@contextmanager
def hidden() -> Iterator[None]:
    """Calls inside are ours, and are not remembered."""
    global _hidden
    _hidden += 1
    try:
        yield
    finally:
        _hidden -= 1
