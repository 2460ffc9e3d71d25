"""The trained weights of a module as one vector on the CPU, and their names in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ..weights.parameters import Snapshot, canonical_name


@dataclass(frozen=True)
class Place:
    """The place of a tensor in a vector of real numbers.

    Args:
        name: of the parameter or buffer.
        shape: of its real numbers; a complex one has a last dimension of 2.
        begin: the index of its first number.
        is_complex: whether it is.
    """

    name: str
    shape: tuple[int, ...]
    begin: int
    is_complex: bool = False

    @property
    def numbers(self) -> slice:
        """The part of the vector."""
        return slice(self.begin, self.begin + prod(self.shape))


class FlatWeights:
    """The trained parameters of a module, and the statistics of its BatchNorm, in the order of the module.

    Attributes:
        trained: the places of the parameters, which are kept as vectors in `dtype`.
        statistics: the places of the buffers.
        dtype: float64 if a parameter has it, else float32.

    Args:
        module: that is trained.

    Raises:
        ValueError: if it has parameters without a shape yet, none that is trained, or sparse ones.

    >>> flat = FlatWeights(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    >>> [place.name for place in flat.statistics], flat.size
    (['1.running_mean', '1.running_var'], 15)
    """

    def __init__(self, module: nn.Module) -> None:
        trained = Snapshot.view(module).params
        with_buffers = Snapshot.view(module, buffers=True).params
        for name, tensor in with_buffers.items():
            if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
                raise ValueError(f"{name} is sparse, nested or quantised, which no record of weights can hold.")
        self.trained = _places(trained)
        self.statistics = _places({name: tensor for name, tensor in with_buffers.items() if name not in trained})
        self._shapes = [(place.name, place.shape) for place in self.trained]
        self._live: list[nn.Parameter] = []  # those of the last `fits`: walking over a module takes longer than copying
        self._module: nn.Module | None = None
        is_wide = any(tensor.dtype in (torch.float64, torch.complex128) for tensor in trained.values())
        self.dtype = torch.float64 if is_wide else torch.float32

    @property
    def size(self) -> int:
        """The number of trained numbers."""
        return _end(self.trained)

    @property
    def statistics_size(self) -> int:
        """The number of statistics."""
        return _end(self.statistics)

    def fits(self, module: nn.Module) -> bool:
        """True if the module still trains the parameters that it trained.

        Call it before `take` when a hook may have put other parameters in the place of some.
        """
        now = [(canonical_name(n), p) for n, p in module.named_parameters() if p.requires_grad and not p.is_meta]
        fitting = [(name, _shape(parameter)) for name, parameter in now] == self._shapes
        self._live, self._module = ([p for _, p in now], module) if fitting else ([], None)
        return fitting

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_live": [], "_module": None}  # weights do not travel with it

    def take(self, module: nn.Module, into: Tensor | None = None) -> Tensor:
        """A copy of the parameters as a vector; into a vector of `size` numbers, if one is given."""
        result = torch.empty(self.size, dtype=self.dtype) if into is None else into
        if self._module is module:
            return _copy(self._live, result)
        chosen = {place.name for place in self.trained}
        named = ((canonical_name(name), parameter) for name, parameter in module.named_parameters())
        return _copy([parameter for name, parameter in named if name in chosen], result)

    def take_statistics(self, module: nn.Module) -> Tensor:
        """A copy of the statistics of BatchNorm as a vector in float32."""
        if not self.statistics:
            return torch.empty(0)
        chosen = {place.name for place in self.statistics}
        named = ((canonical_name(name), buffer) for name, buffer in module.named_buffers())
        return _copy([buffer for name, buffer in named if name in chosen], torch.empty(self.statistics_size))


def by_name(vector: Tensor, places: Sequence[Place]) -> dict[str, Tensor]:
    """The tensors in a vector by name, in its memory; complex ones as real numbers."""
    return {place.name: vector[place.numbers].view(place.shape) for place in places}


def _places(tensors: dict[str, Tensor]) -> tuple[Place, ...]:
    places, begin = [], 0
    for name, tensor in tensors.items():
        shape = _shape(tensor)
        places.append(Place(name, shape, begin, tensor.is_complex()))
        begin += prod(shape)
    return tuple(places)


def _end(places: Sequence[Place]) -> int:
    return places[-1].numbers.stop if places else 0


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor.detach()


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """The shape of a tensor's real numbers."""
    return (*tensor.shape, 2) if tensor.is_complex() else tuple(tensor.shape)


def _copy(tensors: Sequence[Tensor], result: Tensor, small: int = 2**16) -> Tensor:
    """Copy tensors into a vector one after the other; in one call up to `small` numbers on the CPU."""
    is_here = all(tensor.device.type == "cpu" and tensor.dtype == result.dtype for tensor in tensors)
    if is_here and 0 < result.numel() <= small:
        with torch.no_grad():
            return torch.cat([tensor.reshape(-1) for tensor in tensors], out=result)
    begin = 0
    for tensor in map(_real, tensors):
        result[begin : begin + tensor.numel()].copy_(tensor.reshape(-1))
        begin += tensor.numel()
    return result
