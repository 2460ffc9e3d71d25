"""Collectives in a world of one process: their results, and the errors of those that have no result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from ..objectives.base import CannotMeasureError
from ..weights.parameters import tensors_in

Tensors: TypeAlias = "Tensor | Sequence[Tensors]"  # a tensor, or nested lists of tensors

# The values of the variables by which launchers describe a process. A variable that is not set stays unset.
ENVIRONMENT = {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "NODE_RANK": "0"}
# Methods of a process group that do not communicate.
LOCAL = {"name", "getBackendName", "boxed", "unbox", "_id", "_backend_id", "_get_backend_name", "_has_hooks"}
NAMESPACES = ("c10d", "_c10d_functional", "symm_mem", "_dtensor")  # of torch's operators that communicate
WAITING = {"wait_tensor", "_wrap_tensor_autograd"}  # they wait for an earlier collective
# Methods of a process group whose outputs, in one process, are their inputs: in place, and in other tensors.
UNCHANGED = {"allreduce", "allreduce_coalesced", "broadcast", "reduce"}
COPIED = {
    "allgather", "allgather_coalesced", "allgather_into_tensor_coalesced", "_allgather_base", "all_gather_single",
    "all_gather_single_coalesced", "gather", "gather_into_tensor", "gather_single", "scatter", "reduce_scatter",
    "reduce_scatter_tensor_coalesced", "_reduce_scatter_base", "reduce_scatter_single",
    "reduce_scatter_single_coalesced", "alltoall", "alltoall_base", "all_to_all_single",
}  # fmt: skip
WITHOUT_DATA = {"barrier", "monitored_barrier", "_start_coalescing", "_end_coalescing"}
MEETING = UNCHANGED.union(COPIED)  # sharded processes synchronise before these
FUNCTIONAL = {  # operators that give new tensors
    "all_reduce", "all_reduce_coalesced", "all_gather_into_tensor", "all_gather_into_tensor_coalesced", "broadcast",
    "reduce_scatter_tensor", "reduce_scatter_tensor_coalesced", "all_to_all_single",
}  # fmt: skip


class CollectiveError(CannotMeasureError):
    """A collective in a step has no result without other processes."""


def method_alone(name: str) -> Callable[..., Any]:
    """The stand-in for the method `name` of a process group."""
    if name in ("size", "rank"):
        return lambda group: int(name == "size")
    full = f"ProcessGroup.{name}"
    if name in UNCHANGED:
        return partial(_keep_in_place, full)
    if name in COPIED:
        return partial(_copy_inputs, full)
    return _finished_work if name in WITHOUT_DATA else refusal(full)


def operator_alone(namespace: str, name: str) -> Callable[..., Any]:
    """The stand-in for one of torch's operators that communicate."""
    kind = name.removesuffix("_out").removesuffix("_")
    full = f"torch.ops.{namespace}.{name}"
    if namespace == "_c10d_functional" and kind in FUNCTIONAL:
        return partial(_copy_input, full, kind)
    return refusal(full)


def refusal(name: str, detail: str = "") -> Callable[..., Any]:
    """A stand-in that raises CollectiveError."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise CollectiveError(
            f"The step calls {name}{detail}. While a landscape is measured, each process measures its share of the "
            "points alone: the world size is 1, the rank is 0, and collectives act as in one process. This one can't. "
            "Skip it with `if torch.distributed.get_world_size() > 1:` in the step itself."
        )

    return refuse


def _keep_in_place(name: str, group: object, tensors: Tensors, *options: object, **named: object) -> Any:
    """Stand in for a reduction or a broadcast, which leaves the tensors of a single process as they are."""
    _check_options(name, (*options, *named.values()))
    return _finished_work(tensors)


def _copy_inputs(name: str, group: object, outputs: Tensors, inputs: Tensors, *options: object, **named: object) -> Any:
    """Stand in for a gathering or a scattering, whose outputs in a single process are its inputs."""
    _check_options(name, (*options, *named.values()))
    targets, sources = list(tensors_in(outputs)), list(tensors_in(inputs))
    if [t.numel() for t in targets] != [t.numel() for t in sources]:
        shapes = [[tuple(t.shape) for t in tensors] for tensors in (sources, targets)]
        refusal(name, f" with inputs of the shapes {shapes[0]} and outputs of the shapes {shapes[1]}")()
    with torch.no_grad():
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source.reshape(target.shape))
    return _finished_work(targets)


def _copy_input(
    name: str, kind: str, tensors: Tensor | list[Tensor], *options: object, out: Tensor | None = None
) -> Tensor | list[Tensor]:
    """Stand in for a functional collective: the result is a copy of its input, or the input of one in place."""
    expected = 0 if kind == "broadcast" else 1  # the number among the options is the root, else the group's size
    for number in options:
        if isinstance(number, int) and number != expected:
            refusal(name, f" with {number} as the {'root' if kind == 'broadcast' else 'number of processes'}")()
    if out is not None and isinstance(tensors, Tensor):
        return out.copy_(tensors.reshape(out.shape))
    if name.endswith("_"):
        return tensors
    return tensors.clone() if isinstance(tensors, Tensor) else [tensor.clone() for tensor in tensors]


def _finished_work(tensors: object = (), *_: object, **__: object) -> Any:
    """The handle (`dist.Work`) of a collective that is finished."""
    result = list(tensors_in(tensors))
    devices = {tensor.device for tensor in result if tensor.device.type != "cpu"}
    future: Any = torch.futures.Future(devices=list(devices))
    future.set_result(result)
    return torch._C._distributed_c10d._create_work_from_future(future)


def _check_options(name: str, options: Iterable[object]) -> None:
    """Raises CollectiveError for another root than rank 0, and for a sum with a factor."""
    for option in options:
        number = option if isinstance(option, int) and not isinstance(option, bool) else 0
        root = getattr(option, "rootRank", number)
        if root != 0:
            refusal(name, f" with rank {root} as the root")()
        operation = getattr(option, "reduceOp", option)
        if isinstance(operation, dist.ReduceOp) and operation == dist.ReduceOp.PREMUL_SUM:
            refusal(name, " with a factor before the sum")()
