"""Tensors, and the state of TorchScript modules, as they are now: put back in place as often as one likes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Remembered:
    """The values, sizes and memory of tensors; those without values (on "meta") are left alone.

    >>> tensor = torch.tensor([1.0, 2.0])
    >>> state = Remembered([tensor])
    >>> _ = tensor.resize_(3).fill_(7)
    >>> state.restore(); tensor
    tensor([1., 2.])
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        own = [tensor for tensor in tensors if not tensor.is_meta]
        plain = [tensor for tensor in own if tensor.layout is torch.strided and not tensor.is_nested]
        self._places = [(tensor, tensor.data, _place(tensor)) for tensor in plain]
        self._memories = [_once(place) for _, place, _ in self._places]
        self._values = [memory.clone() for memory in self._memories]
        ids = set(map(id, plain))
        self._others = [(tensor, tensor.detach().clone()) for tensor in own if id(tensor) not in ids]

    def restore(self) -> None:
        """Put all back."""
        for tensor, place, known in self._places:
            if _place(tensor) != known:  # a step may resize it, or give it another memory
                tensor.data = place
        with torch.no_grad():
            if self._memories:
                torch._foreach_copy_(self._memories, self._values)
            for tensor, values in self._others:
                tensor.copy_(values)


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """The address, shape, strides and type of a tensor's values."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _once(tensor: Tensor) -> Tensor:
    """All that a tensor has in memory, once: that of an expanded one can't be written otherwise."""
    for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor


class ScriptState:
    """The state of a tree's TorchScript modules beside parameters: buffers, numbers, lists, training flags.

    TorchScript modules keep this state outside of Python, where the attributes of their Python objects do not lead.
    """

    def __init__(self, module: nn.Module) -> None:
        self._attributes: list[tuple[Any, str, Any]] = []
        concrete: Any = torch._C.ConcreteModuleType
        for part in module.modules():
            if isinstance(part, torch.jit.ScriptModule):
                kinds = concrete.from_jit_type(part._c._type()).get_attributes()
                names = [name for name in kinds if name not in part._parameters.keys()]  # noqa: SIM118  # no dict
                self._attributes += [(part._c, name, part._c.getattr(name)) for name in names]
        self._tensors = Remembered(t for _, _, value in self._attributes for t in _tensors(value))

    def restore(self) -> None:
        """Put all back."""
        for owner, name, value in self._attributes:
            owner.setattr(name, value)
        self._tensors.restore()


def _tensors(value: Any) -> list[Tensor]:
    """The tensors in an attribute of a TorchScript module."""
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for item in items for tensor in _tensors(item)]
