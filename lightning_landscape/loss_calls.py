"""Seeing which loss functions a step calls, and with what: recognition by the call, not by a name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
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
)
# By name, in order: faster than inspect.Signature.bind, which small batches would feel.
DEFAULTS = {
    function: {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    for function in MEAN_LOSSES
}


class LossCalls(TorchFunctionMode):
    """Sees every call of a mean-reduced loss of `torch.nn.functional` made inside, with its arguments.

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
        self.calls: list[tuple[Callable[..., Tensor], dict[str, Any], Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record, and change nothing."""
        result = func(*args, **(kwargs or {}))
        if func in DEFAULTS:
            given = dict(zip(DEFAULTS[func], args, strict=False)) | (kwargs or {})
            self.calls.append((func, DEFAULTS[func] | given, result))
        return result
