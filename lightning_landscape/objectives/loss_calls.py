"""Records of the loss functions that a step calls, with their arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]
MEAN_LOSSES: tuple[Function, ...] = (
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
# Defaults by name, in order: inspect.Signature.bind would be slow for small batches.
DEFAULTS = {
    function: {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    for function in MEAN_LOSSES
}
Call = tuple[Function, dict[str, Any], Tensor]  # a function, its bound arguments, its result
ORIGINALS: dict[Function, Function] = {}  # the functions behind the wrappers of `reductions`
_hidden = 0  # the number of open `hidden` contexts


class LossCalls(TorchFunctionMode):
    """A recorder of calls of the losses of `torch.nn.functional`, under any name.

    Attributes:
        calls: (function, bound arguments, returned tensor) of each call.

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

    def __torch_function__(self, func: Function, types: object, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, and record the call."""
        function, kwargs = ORIGINALS.get(func, func), kwargs or {}
        result = function(*args, **kwargs)
        call = None if _hidden else self.call(function, args, kwargs, result)
        if call is not None:
            result = self.replaced(result)
            self.calls.append((call[0], call[1], result))
        return result

    def call(self, function: Function, args: Sequence[Any], kwargs: Mapping[str, Any], result: object) -> Call | None:
        """The record of a call (`loss_call`); no static method, which torch's compiler can't guard."""
        return loss_call(function, args, kwargs, result)

    def replaced(self, result: Tensor) -> Tensor:
        """The result that the step gets from a recorded call."""
        return result


def loss_call(function: Function, args: Sequence[Any], kwargs: Mapping[str, Any], result: object) -> Call | None:
    """The record of a call of one of MEAN_LOSSES, with all arguments by name; None for other calls."""
    names = DEFAULTS.get(function)
    if names is None or not isinstance(result, Tensor):
        return None
    return function, {**names, **dict(zip(names, args, strict=False)), **kwargs}, result


@contextmanager
def hidden() -> Iterator[None]:
    """Leave the calls inside out of all records."""
    global _hidden
    _hidden += 1
    try:
        yield
    finally:
        _hidden -= 1
