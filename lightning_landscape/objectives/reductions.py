"""Seeing where a step takes the mean over a batch: in losses of `torch.nn.functional`, and in means of all numbers."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .loss_calls import MEAN_LOSSES, ORIGINALS, Call, LossCalls, bound, hidden


class Reductions(LossCalls):
    """Sees every call of a loss, as `LossCalls`, and every mean over all numbers of a tensor, as one of `torch.mean`.

    >>> with Reductions() as seen:
    ...     _ = (torch.arange(4.0) ** 2).mean()
    >>> (function, arguments, result), = seen.calls
    >>> arguments
    {'input': tensor([0., 1., 4., 9.]), 'reduction': 'mean'}
    """

    def call(self, function: Any, args: Any, kwargs: Any, result: Any) -> Call | None:
        """The record of a loss of MEAN_LOSSES or of a mean over all numbers; None for other calls."""
        return _call(function, args, kwargs, result)


def _call(function: Any, args: Any, kwargs: Any, result: Any) -> Call | None:
    if function not in _MEANS:
        return bound(function, args, kwargs, result) if function in _WATCHING else None
    numbers = args[0] if args else kwargs.get("input")
    is_whole = isinstance(numbers, Tensor) and isinstance(result, Tensor) and result.ndim == 0 < numbers.ndim
    return (torch.mean, {"input": numbers, "reduction": "mean"}, result) if is_whole else None


class _Here(threading.local):
    """Thread-local storage for the `Watched` that sees this thread's calls."""

    watched: Watched | None = None


_here = _Here()


def _watching(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def watch(*args: Any, **kwargs: Any) -> Any:
        watched = _here.watched
        if watched is None:
            return function(*args, **kwargs)
        _here.watched = None  # a function mode, or a tensor of another class, calls again what was called
        try:
            result = function(*args, **kwargs)
        finally:
            _here.watched = watched
        call = _call(function, args, kwargs, result)
        if call is not None:
            watched.calls.append(call)
        return result

    return watch


_MEANS: tuple[Callable[..., Any], ...] = (torch.mean, Tensor.mean)
_WATCHING: dict[Any, Any] = {function: _watching(function) for function in (*MEAN_LOSSES, *_MEANS)}
ORIGINALS.update({watching: function for function, watching in _WATCHING.items()})


class Watched:
    """Sees the calls of some functions, as `Reductions`, by the names that they have in torch.

    `Reductions` is asked at every operation, which small networks feel; this only where one of the functions is called.
    It does not see a call under a name that a module has imported for itself.

    Args:
        functions: of MEAN_LOSSES, or `torch.mean`.

    >>> with Watched([F.mse_loss]) as seen:
    ...     _ = F.mse_loss(torch.ones(2), torch.zeros(2))
    >>> len(seen.calls)
    1
    """

    def __init__(self, functions: Iterable[Callable[..., Tensor]]) -> None:
        losses = [(F, function.__name__, function) for function in functions if function is not torch.mean]
        means = [(torch, "mean", torch.mean), (Tensor, "mean", Tensor.mean)] if torch.mean in functions else []
        self._places: list[tuple[Any, str, Any]] = [*losses, *means]
        self.calls: list[Call] = []

    def __enter__(self) -> Watched:
        self.calls = []
        _here.watched = self
        for owner, name, function in self._places:
            if getattr(owner, name) is function:  # else it is somebody else's
                setattr(owner, name, _WATCHING[function])
        return self

    def __exit__(self, *error: object) -> None:
        for owner, name, function in self._places:
            if getattr(owner, name) is _WATCHING[function]:
                setattr(owner, name, function)
        _here.watched = None


def before_reduction(call: Call) -> Tensor:
    """The losses that a call has reduced, in their own shape."""
    function, arguments, result = call
    if function is torch.mean:
        return arguments["input"]
    if arguments["reduction"] == "none":
        return result
    with hidden():
        return function(**{**arguments, "reduction": "none"})
