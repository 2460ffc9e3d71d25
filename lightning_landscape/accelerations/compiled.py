"""The forward passes compiled by `torch.compile`, which pays for long passes only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    module = evaluator.module
    parts = [part for part in (module, *module.children()) if "forward" not in vars(part)]
    if not parts or any(isinstance(part, torch._dynamo.OptimizedModule) for part in module.modules()):
        raise ValueError("the module is compiled already")
    try:
        for part in parts:
            part.forward = torch.compile(_separate_forward(part), fullgraph=True, dynamic=False)
        # A cache on disk must give no code for another number of threads, which would hang in a fork.
        with torch._inductor.config.patch({"cpp.threads": torch.get_num_threads()}):
            yield evaluator, batches
    finally:
        for part in parts:
            vars(part).pop("forward", None)


def _separate_forward(part: nn.Module) -> Callable[..., Any]:
    """The forward of a module as a method with separate code, by which the compiler keeps its notes."""
    plain = type(part).forward
    if not isinstance(plain, FunctionType):
        raise ValueError(f"the forward of {type(part).__name__} is no plain function")
    code: CodeType = plain.__code__.replace(co_name=f"{plain.__name__}_of_a_landscape")
    twin = FunctionType(code, plain.__globals__, plain.__name__, plain.__defaults__, plain.__closure__)
    twin.__kwdefaults__ = plain.__kwdefaults__
    return MethodType(twin, part)
