"""Results of collectives where there is one process only, and the words for those that have none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..objectives.base import CannotMeasureError

# What launchers say of a process's place; a variable that is not set stays so.
ENVIRONMENT = {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "NODE_RANK": "0"}
# Methods of a process group that ask nobody.
LOCAL = {"name", "getBackendName", "boxed", "unbox", "_id", "_backend_id", "_get_backend_name", "_has_hooks"}
NAMESPACES = ("c10d", "_c10d_functional", "symm_mem", "_dtensor")  # of torch's operators that communicate
WAITING = {"wait_tensor", "_wrap_tensor_autograd"}  # for what has begun before
UNCHANGED = {"allreduce", "allreduce_coalesced", "broadcast", "reduce"}
COPIED = {
    "allgather", "allgather_coalesced", "allgather_into_tensor_coalesced", "_allgather_base", "all_gather_single",
    "all_gather_single_coalesced", "gather", "gather_into_tensor", "gather_single", "scatter", "reduce_scatter",
    "reduce_scatter_tensor_coalesced", "_reduce_scatter_base", "reduce_scatter_single",
    "reduce_scatter_single_coalesced", "alltoall", "alltoall_base", "all_to_all_single",
}  # fmt: skip
WITHOUT_DATA = {"barrier", "monitored_barrier", "_start_coalescing", "_end_coalescing"}
MEETING = UNCHANGED | COPIED  # before these, sharded processes see whether all are still there
FUNCTIONAL = {
    "all_reduce", "all_reduce_coalesced", "all_gather_into_tensor", "all_gather_into_tensor_coalesced", "broadcast",
    "reduce_scatter_tensor", "reduce_scatter_tensor_coalesced", "all_to_all_single",
}  # fmt: skip


class CollectiveError(CannotMeasureError):
    """A step asks other processes for what no single process can give."""


def method_alone(name: str) -> Callable[..., Any]:
    """The stand-in for the method `name` of a process group."""
    if name in ("size", "rank"):
        return lambda group: int(name == "size")
    full = f"ProcessGroup.{name}"
    if name in UNCHANGED:
        return partial(_unchanged, full)
    if name in COPIED:
        return partial(_copied, full)
    return _over if name in WITHOUT_DATA else refused(full)


def operator_alone(namespace: str, name: str) -> Callable[..., Any]:
    """The stand-in for one of torch's operators that communicate."""
    kind = name.removesuffix("_out").removesuffix("_")
    full = f"torch.ops.{namespace}.{name}"
    if namespace == "_c10d_functional" and kind in FUNCTIONAL:
        return partial(_functional, full, kind)
    return refused(full)


def refused(name: str, how: str = "") -> Callable[..., Any]:
    """A stand-in that raises CollectiveError."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise CollectiveError(
            f"The step calls {name}{how}. While a landscape is measured, every process measures points of its own: it "
            "is the only one, has rank 0, and collectives act as in one process. This one can't. Leave it out there: "
            "if torch.distributed.get_world_size() > 1: …, asked in the step itself."
        )

    return refuse


def _unchanged(name: str, group: Any, tensors: Any, *options: Any, **named: Any) -> Any:
    """A sum of one, a broadcast to nobody: in place is what was there."""
    _check(name, (*options, *named.values()))
    return _over(_flat(tensors))


def _copied(name: str, group: Any, outputs: Any, inputs: Any, *options: Any, **named: Any) -> Any:
    """A gathering from nobody else: the outputs are the inputs."""
    _check(name, (*options, *named.values()))
    targets, sources = _flat(outputs), _flat(inputs)
    if [t.numel() for t in targets] != [t.numel() for t in sources]:
        shapes = [[tuple(t.shape) for t in some] for some in (sources, targets)]
        refused(name, f" with inputs of the shapes {shapes[0]} and outputs of the shapes {shapes[1]}")()
    with torch.no_grad():
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source.reshape(target.shape))
    return _over(targets)


def _functional(name: str, kind: str, given: Any, *options: Any, out: Tensor | None = None) -> Any:
    """A copy of what is given, or itself where it is to be edited."""
    expected = 0 if kind == "broadcast" else 1  # the number among the options is the root, else the group's size
    for number in options:
        if isinstance(number, int) and number != expected:
            refused(name, f" with {number} as the {'root' if kind == 'broadcast' else 'number of processes'}")()
    if out is not None:
        return out.copy_(given.reshape(out.shape))
    if name.endswith("_"):
        return given
    return given.clone() if isinstance(given, Tensor) else [tensor.clone() for tensor in given]


def _over(tensors: Any = (), *_: Any, **__: Any) -> Any:
    """The handle of a collective that is over."""
    result = _flat(tensors) if isinstance(tensors, Tensor | list | tuple) else []
    devices = {tensor.device for tensor in result if tensor.device.type != "cpu"}
    future: Any = torch.futures.Future(devices=list(devices))
    future.set_result(result)
    return torch._C._distributed_c10d._create_work_from_future(future)


def _check(name: str, options: Iterable[Any]) -> None:
    """Raises CollectiveError for another root than rank 0, and for a sum with a factor."""
    for option in options:
        number = option if isinstance(option, int) and not isinstance(option, bool) else 0
        root = getattr(option, "rootRank", number)
        if root != 0:
            refused(name, f" with rank {root} as the root")()
        operation = getattr(option, "reduceOp", option)
        if isinstance(operation, dist.ReduceOp) and operation == dist.ReduceOp.PREMUL_SUM:
            refused(name, " with a factor before the sum")()


def _flat(tensors: Any) -> list[Tensor]:
    """All tensors in nested lists."""
    return [tensors] if isinstance(tensors, Tensor) else [tensor for part in tensors for tensor in _flat(part)]
