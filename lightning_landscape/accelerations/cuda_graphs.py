"""The forward passes as CUDA graphs: a small model on a GPU waits for the launches of its kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from ..evaluators import Evaluator
from ..objectives.base import Batch
from .compiled import remade


@contextmanager
def cuda_graphs(evaluator: Evaluator, batches: Sequence[Batch]) -> Iterator[tuple[Evaluator, Sequence[Batch]]]:
    """`compiled` with ``mode="reduce-overhead"``: each pass is recorded once for each shape, and replayed.

    A replay reads the weights where they lie, and they are moved in place. It writes its results where the replay
    before has left its own, so that these are copied before anybody sees them. This was written without a GPU at
    hand: there, the trial alone says whether it is right and worth it.

    Raises:
        ValueError: if the module is not on a CUDA device, or is compiled already.
    """
    if any(tensor.device.type != "cuda" for tensor in evaluator.module.parameters()):
        raise ValueError("the module is not on a CUDA device")
    with remade(evaluator.module, _replayed):
        yield evaluator, batches


def _replayed(forward: Callable[..., Any]) -> Callable[..., Any]:
    graph = torch.compile(forward, fullgraph=True, dynamic=False, mode="reduce-overhead")

    def replay(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # as a part of a larger graph
            return graph(*args, **kwargs)
        torch.compiler.cudagraph_mark_step_begin()
        return apply_to_collection(graph(*args, **kwargs), Tensor, Tensor.clone)

    return replay
