"""Parameters of which every process holds a part (DTensor, FSDP2): made whole one at a time, cut again, put to rest.

All that is said here of "all processes" is a collective: each must call it, in the same order.
"""

from __future__ import annotations

import inspect
import sys
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from .lockstep import together

_FSDP = ("torch.distributed.fsdp", "torch.distributed._composable")


def is_part(tensor: Tensor) -> bool:
    """True if a tensor is a DTensor, of which this process holds a part."""
    return hasattr(tensor, "full_tensor")


def is_sharded(module: nn.Module) -> bool:
    """True if the processes share the parameters of a module among them."""
    return any(map(_is_fsdp, module.modules())) or any(map(is_part, module.parameters()))


def local(tensor: Tensor) -> Tensor:
    """The memory that this process holds of a tensor, detached; all of it where it is not sharded."""
    tensor = tensor.detach()
    return tensor.to_local() if is_part(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor, which all processes gather; itself where it is not sharded."""
    if not is_part(tensor):
        return tensor
    together()
    return tensor.detach().full_tensor()  # type: ignore[attr-defined]


def cut(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, cut as `like` is; itself where `like` is not sharded.

    All processes hold the same `tensor`.
    """
    if not is_part(like) or is_part(tensor):
        return tensor
    together()
    distribute = sys.modules[type(like).__module__].distribute_tensor  # its home depends on the version of torch
    # Every process has the numbers; before torch 2.7 rank 0 sends them anyway.
    own = {"src_data_rank": None} if "src_data_rank" in inspect.signature(distribute).parameters else {}
    return distribute(tensor, like.device_mesh, like.placements, **own)  # type: ignore[attr-defined]


def zero(like: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros in the shape of `like`, and sharded as it is, that take no memory.

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
    """The class of a module as it was written: `fully_shard` puts one of its own before it.

    >>> author_class(nn.Linear(2, 3)).__name__
    'Linear'
    """
    return next(c for c in type(module).__mro__ if not c.__module__.startswith(_FSDP))


def fsdp_parts(module: nn.Module) -> list[Any]:
    """The modules that `fully_shard` was called on."""
    return [part for part in module.modules() if _is_fsdp(part)]


def _is_fsdp(part: nn.Module) -> bool:
    return hasattr(part, "_get_fsdp_state")


class AtRest:
    """The state of `fully_shard` between two forward passes, in the whole of a module tree.

    Making one puts every parameter into its sharded form. `restore` does it again, also where a forward pass has
    ended in an error, and puts all that FSDP has noted since back: its lazy initialisation, the order of the
    forward passes that the next backward pass would go by.
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
            elif _is_note(value):
                self._objects.append((vars(value), dict(vars(value))))
                waiting += vars(value).values()

    def restore(self) -> None:
        """Every parameter in its sharded form, and FSDP as it was. No collective: each process may call it alone."""
        interrupted = False
        for attributes, kept in self._objects:
            if "_training_state" in kept:  # in the middle of a forward pass, FSDP's own reshard would do nothing
                interrupted |= attributes["_training_state"] is not kept["_training_state"]
                attributes["_training_state"] = kept["_training_state"]
        if interrupted and torch.cuda.is_initialized():
            torch.cuda.synchronize()  # what FSDP still gathers into is let go below
        for part in self._parts:
            part.reshard()
        for attributes, kept in self._objects:
            attributes.clear()
            attributes.update(kept)
        for container, items in self._containers:
            container.clear()
            container.extend(items) if isinstance(container, list) else container.update(items)


def _is_note(value: Any) -> bool:
    """True if a value is an object of FSDP's own that is no module, constant or class."""
    return (
        type(value).__module__.startswith(_FSDP)
        and hasattr(value, "__dict__")
        and not isinstance(value, nn.Module | Enum | type)
    )
