"""Parameters that are sharded over processes (DTensor, FSDP2): gathered one at a time, sharded again, restored.

A function that mentions "all processes" is a collective: each process calls it, in the same order.
"""

from __future__ import annotations

import inspect
import sys
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from .lockstep import synchronize_ranks

_FSDP = ("torch.distributed.fsdp", "torch.distributed._composable")


def is_part(tensor: Tensor) -> bool:
    """True if a tensor is a DTensor: this process holds a part of it."""
    return hasattr(tensor, "full_tensor")


def is_sharded(module: nn.Module) -> bool:
    """True if the parameters of a module are divided among the processes."""
    return any(map(_is_fsdp, module.modules())) or any(map(is_part, module.parameters()))


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, detached; the whole of one that is not sharded."""
    tensor = tensor.detach()
    return tensor.to_local() if is_part(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor, gathered from all processes; the tensor itself where it is not sharded."""
    if not is_part(tensor):
        return tensor
    synchronize_ranks()
    return tensor.detach().full_tensor()  # type: ignore[attr-defined]


def cut(tensor: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that belongs to this process, sharded as `like`.

    All processes hold the same `tensor`. It is returned unchanged where `like` is not sharded.
    """
    if not is_part(like) or is_part(tensor):
        return tensor
    synchronize_ranks()
    distribute = sys.modules[type(like).__module__].distribute_tensor  # the module depends on the version of torch
    # Every process has the numbers; before torch 2.7 rank 0 sends them anyway.
    options = {"src_data_rank": None} if "src_data_rank" in inspect.signature(distribute).parameters else {}
    return distribute(tensor, like.device_mesh, like.placements, **options)  # type: ignore[attr-defined]


def zero(like: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros in the shape of `like`, sharded as `like`, that take no memory.

    >>> zero(torch.ones(2, 3), torch.float32).stride()
    (0, 0)
    """
    part = local(like)
    zeros = torch.zeros((), dtype=dtype, device=part.device).expand(part.shape)
    if not is_part(like):
        return zeros
    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    return type(like).from_local(  # type: ignore[attr-defined]
        zeros, mesh, placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def author_class(module: nn.Module) -> type[nn.Module]:
    """The class of a module as its author wrote it, without the subclass that `fully_shard` makes.

    >>> author_class(nn.Linear(2, 3)).__name__
    'Linear'
    """
    return next(c for c in type(module).__mro__ if not c.__module__.startswith(_FSDP))


def fsdp_parts(module: nn.Module) -> list[Any]:
    """The parts of a module that `fully_shard` was called on."""
    return [part for part in module.modules() if _is_fsdp(part)]


def _is_fsdp(part: nn.Module) -> bool:
    return hasattr(part, "_get_fsdp_state")


class FSDPState:
    """The state of `fully_shard` between two forward passes, for a module and all its parts.

    The constructor puts every parameter into its sharded form. `restore` does so again, also after a forward pass
    that ended in an error. It also restores the records of FSDP: its lazy initialisation, and the order of the
    forward passes that the next backward pass would follow.
    """

    def __init__(self, module: nn.Module) -> None:
        self._parts = fsdp_parts(module)
        for part in self._parts:
            part.reshard()
        self._objects: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._containers: list[tuple[Any, Any]] = []
        seen: set[int] = set()
        waiting: list[Any] = [part._get_fsdp_state() for part in self._parts]
        while waiting:
            value = waiting.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, list | dict | set):
                self._containers.append((value, value.copy()))
                waiting += value.values() if isinstance(value, dict) else value
            elif _is_record(value):
                self._objects.append((vars(value), dict(vars(value))))
                waiting += vars(value).values()

    def restore(self) -> None:
        """Restore the sharded form of every parameter, and FSDP's records. Each process may call it alone."""
        interrupted = False
        for attributes, saved in self._objects:
            if "_training_state" in saved:  # in the middle of a forward pass, the reshard of FSDP would do nothing
                interrupted |= attributes["_training_state"] is not saved["_training_state"]
                attributes["_training_state"] = saved["_training_state"]
        if interrupted and torch.cuda.is_initialized():
            torch.cuda.synchronize()  # the code below frees memory that FSDP may still gather into
        for part in self._parts:
            part.reshard()
        for attributes, saved in self._objects:
            attributes.clear()
            attributes.update(saved)
        for container, items in self._containers:
            container.clear()
            container.extend(items) if isinstance(container, list) else container.update(items)


def _is_record(value: object) -> bool:
    """True if a value is an object of FSDP that is no module, constant or class."""
    is_fsdp = type(value).__module__.startswith(_FSDP) and hasattr(value, "__dict__")
    return is_fsdp and not isinstance(value, nn.Module | Enum | type)
