"""Calls that may edit given tensors, with the line of the user's code that makes them."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

is_compiling = getattr(torch.compiler, "is_compiling", lambda: False)  # torch before 2.3 compiles under no mode
LIBRARIES = ("torch", "lightning", "pytorch_lightning", "lightning_fabric", "lightning_landscape", "torchmetrics")
SETTERS = ("__setitem__", "__set__", "set_")
DEPTH = 2  # of lists of tensors, as the foreach kernels take them


class EditWatch(TorchFunctionMode):
    """Sees calls made inside that may edit the memory of given tensors, also through `.data`, views and out=.

    Args:
        tensors: the name of each, and the tensor.

    Attributes:
        seen: of each such call, the tensor's name, the function, and where the user's code calls it.

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

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Records the call, and changes nothing."""
        kwargs = kwargs or {}
        if is_compiling():  # a compiler can't follow what is below, and makes no calls of its own
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        edits = (name.endswith("_") and not name.endswith("__")) or name in SETTERS
        for value in (args[:1] if edits else ()) + ((kwargs["out"],) if "out" in kwargs else ()):
            for tensor in _tensors(value):
                if (address := _address(tensor)) in self._names:
                    self.seen.append((self._names[address], name, caller()))
        return func(*args, **kwargs)


def caller() -> str:
    """The innermost line of the user's own code that is running, as "file.py:12"; "" if there is none."""
    for frame in reversed(traceback.extract_stack()):
        parts = Path(frame.filename).parts
        if "site-packages" in parts and not parts[parts.index("site-packages") + 1].startswith(LIBRARIES):
            return f"{parts[-1]}:{frame.lineno}"
        if "site-packages" not in parts and not frame.filename.startswith("<") and not _is_ours(frame.filename):
            return f"{parts[-1]}:{frame.lineno}"
    return ""


def _is_ours(filename: str) -> bool:
    return Path(filename).parent.is_relative_to(Path(__file__).parents[1])


def _tensors(value: Any, depth: int = 0) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple) and depth < DEPTH:
        for item in value:
            yield from _tensors(item, depth + 1)


def _address(tensor: Tensor) -> int:
    """The address of a tensor's memory; 0 if it has none of its own that can be told."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse, quantised by a backend, of another process
        return 0
