"""Detection of calls that may edit certain tensors, with the line of the user's code that makes each call."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..weights.parameters import tensors_in

is_compiling = getattr(torch.compiler, "is_compiling", lambda: False)  # torch before 2.3 compiles under no mode
LIBRARIES = ("torch", "lightning", "pytorch_lightning", "lightning_fabric", "lightning_landscape", "torchmetrics")
SETTERS = ("__setitem__", "__set__", "set_")


class EditWatch(TorchFunctionMode):
    """A mode that records calls that may edit the memory of tensors, also through `.data`, views and ``out=``.

    Args:
        tensors: pairs of a name and a tensor.

    Attributes:
        seen: for each such call the name of the tensor, the function, and the line of the user's code.

    >>> import torch
    >>> weight = torch.ones(2)
    >>> with EditWatch([("weight", weight)]) as watch:
    ...     _ = weight.data.clamp_(-1, 1); _ = weight + 1
    >>> [(name, function) for name, function, _ in watch.seen]
    [('weight', 'clamp_')]
    """

    def __init__(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        super().__init__()
        self._names = {address: name for name, tensor in tensors if (address := _address(tensor))}
        self.seen: list[tuple[str, str, str]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record the call, and pass it on."""
        kwargs = kwargs or {}
        if is_compiling():  # a compiler can't follow the code below, and only traces the call
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        edits = (name.endswith("_") and not name.endswith("__")) or name in SETTERS
        for tensor in tensors_in([args[:1] if edits else (), kwargs.get("out")]):
            if (address := _address(tensor)) in self._names:
                self.seen.append((self._names[address], name, caller()))
        return func(*args, **kwargs)


def caller() -> str:
    """The innermost running line of the user's code, as "file.py:12"; "" if there is none."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if "site-packages" in path.parts:
            is_users = not path.parts[path.parts.index("site-packages") + 1].startswith(LIBRARIES)
        else:
            is_users = not frame.filename.startswith("<") and not path.parent.is_relative_to(Path(__file__).parents[1])
        if is_users:
            return f"{path.name}:{frame.lineno}"
    return ""


def _address(tensor: Tensor) -> int:
    """The address of the memory of a tensor; 0 if it has none, or an unknown one."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse, quantised by a backend, of another process
        return 0
