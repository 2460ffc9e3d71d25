"""Records of the means that a step takes over a batch: losses of `torch.nn.functional`, and means of all numbers."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .loss_calls import MEAN_LOSSES, ORIGINALS, Call, Function, LossCalls, hidden, loss_call


class Reductions(LossCalls):
    """A recorder of losses, as `LossCalls`, and of means over all numbers of a tensor.

    Such a mean is recorded as a call of `torch.mean`.

    >>> with Reductions() as seen:
    ...     _ = (torch.arange(4.0) ** 2).mean()
    >>> (function, arguments, result), = seen.calls
    >>> arguments
    {'input': tensor([0., 1., 4., 9.]), 'reduction': 'mean'}
    """

    def call(self, function: Function, args: Sequence[Any], kwargs: Mapping[str, Any], result: object) -> Call | None:
        """The record of a call (`reduction_call`)."""
        return reduction_call(function, args, kwargs, result)


def reduction_call(function: Function, args: Sequence[Any], kwargs: Mapping[str, Any], result: object) -> Call | None:
    """The record of a loss of MEAN_LOSSES or of a mean over all numbers; None for other calls."""
    if function not in _MEANS:
        return loss_call(function, args, kwargs, result)
    numbers = args[0] if args else kwargs.get("input")
    if isinstance(numbers, Tensor) and isinstance(result, Tensor) and result.ndim == 0 < numbers.ndim:
        return torch.mean, {"input": numbers, "reduction": "mean"}, result
    return None


class _ThreadState(threading.local):
    """Thread-local storage of the `Watched` that records this thread's calls."""

    watched: Watched | None = None


_thread = _ThreadState()


def _watching(function: Function) -> Function:
    @functools.wraps(function)
    def watch(*args: Any, **kwargs: Any) -> Any:
        watched = _thread.watched
        if watched is None:
            return function(*args, **kwargs)
        _thread.watched = None  # function modes and subclasses of Tensor repeat the call
        try:
            result = function(*args, **kwargs)
        finally:
            _thread.watched = watched
        call = reduction_call(function, args, kwargs, result)
        if call is not None:
            watched.calls.append(call)
        return result

    return watch


_MEANS: tuple[Function, ...] = (torch.mean, Tensor.mean)
_WATCHING: dict[Function, Function] = {function: _watching(function) for function in (*MEAN_LOSSES, *_MEANS)}
ORIGINALS.update({watching: function for function, watching in _WATCHING.items()})


class Watched:
    """A recorder of calls of chosen functions, as `Reductions`, under their names in torch.

    `Reductions` runs at every operation, which is slow for small networks; `Watched` runs in these functions alone.
    Calls under names that a module has imported are not recorded.

    Args:
        functions: of MEAN_LOSSES, or `torch.mean`.

    >>> with Watched([F.mse_loss]) as seen:
    ...     _ = F.mse_loss(torch.ones(2), torch.zeros(2))
    >>> len(seen.calls)
    1
    """

    calls: list[Call]

    def __init__(self, functions: Iterable[Function]) -> None:
        losses = [(F, function.__name__, function) for function in functions if function is not torch.mean]
        means = [(torch, "mean", torch.mean), (Tensor, "mean", Tensor.mean)] if torch.mean in functions else []
        self._places: list[tuple[Any, str, Any]] = [*losses, *means]

    def __enter__(self) -> Watched:
        self.calls = []
        _thread.watched = self
        for owner, name, function in self._places:
            if getattr(owner, name) is function:  # else it is somebody else's
                setattr(owner, name, _WATCHING[function])
        return self

    def __exit__(self, *error: object) -> None:
        for owner, name, function in self._places:
            if getattr(owner, name) is _WATCHING[function]:
                setattr(owner, name, function)
        _thread.watched = None


def before_reduction(call: Call) -> Tensor:
    """The losses of a call before its reduction, in the shape that the function gives them."""
    function, arguments, result = call
    if function is torch.mean:
        return arguments["input"]
    if arguments["reduction"] == "none":
        return result
    with hidden():
        return function(**{**arguments, "reduction": "none"})
