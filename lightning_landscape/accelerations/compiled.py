"""The forward passes compiled by `torch.compile`: pays for long passes only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import nn

from ..evaluators import Evaluator
from ..objectives.base import Batch


@contextmanager
def compiled(evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """The forward of the module and of its children, each as one graph, for the shapes at hand.

    Whole graphs only: pieces would be cached beside the user's own compiled ones and count against their limit.

    Raises:
        ValueError: if the module is compiled already.
    """
    with remade(evaluator.module, partial(torch.compile, fullgraph=True, dynamic=False)):
        yield evaluator, batches


@contextmanager
def remade(module: nn.Module, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """The forwards of a module and of its children replaced by what `make` makes of them.

    Raises:
        ValueError: if the module is compiled already.
    """
    own = [part for part in (module, *module.children()) if "forward" not in vars(part)]
    if not own or any(isinstance(part, torch._dynamo.OptimizedModule) for part in module.modules()):
        raise ValueError("the module is compiled already")
    try:
        for part in own:
            part.forward = make(_apart(part))
        # Said, so that a cache on disk gives no code for another number of threads, which would hang in a fork.
        with torch._inductor.config.patch({"cpp.threads": torch.get_num_threads()}):
            yield
    finally:
        for part in own:
            vars(part).pop("forward", None)


def _apart(part: nn.Module) -> Callable[..., Any]:
    """The forward of a module as a method with code of its own: the compiler keeps its notes by the code."""
    plain = type(part).forward
    if not isinstance(plain, FunctionType):
        raise ValueError(f"the forward of {type(part).__name__} is no plain function")
    code: CodeType = plain.__code__.replace(co_name=f"{plain.__name__}_of_a_landscape")
    twin = FunctionType(code, plain.__globals__, plain.__name__, plain.__defaults__, plain.__closure__)
    twin.__kwdefaults__ = plain.__kwdefaults__
    return MethodType(twin, part)
