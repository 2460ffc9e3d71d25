"""Saved states of tensors and of TorchScript modules, which can be restored in place any number of times."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..weights.parameters import tensors_in


class SavedTensors:
    """The saved values, sizes and memory of tensors, except of those on "meta".

    >>> tensor = torch.tensor([1.0, 2.0])
    >>> state = SavedTensors([tensor])
    >>> _ = tensor.resize_(3).fill_(7)
    >>> state.restore(); tensor
    tensor([1., 2.])
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._dense: list[tuple[Tensor, Tensor, tuple[Any, ...]]] = []
        self._other: list[tuple[Tensor, Tensor]] = []
        for tensor in tensors:
            if tensor.is_meta:
                continue
            if tensor.layout is torch.strided and not tensor.is_nested:
                self._dense.append((tensor, tensor.data, _geometry(tensor)))
            else:
                self._other.append((tensor, tensor.detach().clone()))
        self._memories = [_without_repetition(data) for _, data, _ in self._dense]
        self._values = [memory.clone() for memory in self._memories]

    def restore(self) -> None:
        """Restore all tensors."""
        for tensor, data, geometry in self._dense:
            if _geometry(tensor) != geometry:  # a step may resize it, or give it another memory
                tensor.data = data
        with torch.no_grad():
            if self._memories:
                torch._foreach_copy_(self._memories, self._values)
            for tensor, values in self._other:
                tensor.copy_(values)


def _geometry(tensor: Tensor) -> tuple[Any, ...]:
    """The address, shape, strides and type of the values of a tensor."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _without_repetition(tensor: Tensor) -> Tensor:
    """The view of a tensor with each of its numbers once; an expanded tensor can't be written."""
    for dim, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor


class ScriptState:
    """The saved state of the TorchScript modules in a module: buffers, numbers, lists, training flags.

    TorchScript stores this state outside of Python, where the attributes of the Python objects do not lead.
    """

    def __init__(self, module: nn.Module) -> None:
        self._attributes: list[tuple[Any, str, Any]] = []
        concrete: Any = torch._C.ConcreteModuleType
        for part in module.modules():
            if isinstance(part, torch.jit.ScriptModule):
                kinds = concrete.from_jit_type(part._c._type()).get_attributes()
                names = [name for name in kinds if name not in part._parameters.keys()]  # noqa: SIM118  # no dict
                self._attributes += [(part._c, name, part._c.getattr(name)) for name in names]
        self._tensors = SavedTensors(tensors_in([value for _, _, value in self._attributes]))

    def restore(self) -> None:
        """Restore all attributes."""
        for owner, name, value in self._attributes:
            owner.setattr(name, value)
        self._tensors.restore()
