"""The trained weights of a module as one vector on the CPU, and their names in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

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
        everything = Snapshot.view(module, buffers=True).params
        for name, tensor in everything.items():
            if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
                raise ValueError(f"{name} is sparse, nested or quantised, which no record of weights can hold.")
        self.trained = _places(trained)
        self.statistics = _places({name: tensor for name, tensor in everything.items() if name not in trained})
        wide = torch.promote_types(torch.float32, torch.float64)
        is_wide = any(tensor.dtype in (torch.float64, torch.complex128) for tensor in trained.values())
        self.dtype = wide if is_wide else torch.float32

    @property
    def size(self) -> int:
        """The number of trained numbers."""
        return _end(self.trained)

    @property
    def statistics_size(self) -> int:
        """The number of statistics."""
        return _end(self.statistics)

    def fits(self, module: nn.Module) -> bool:
        """True if the module still trains the parameters that it trained."""
        now = [(canonical_name(n), p) for n, p in module.named_parameters() if p.requires_grad and not p.is_meta]
        return len(now) == len(self.trained) and all(
            name == place.name and parameter.numel() << place.is_complex == prod(place.shape)
            for (name, parameter), place in zip(now, self.trained, strict=True)
        )

    def take(self, module: nn.Module, into: Tensor | None = None) -> Tensor:
        """A copy of the parameters as a vector; into a vector of `size` numbers, if one is given."""
        result = torch.empty(self.size, dtype=self.dtype) if into is None else into
        live = {canonical_name(name): parameter.detach() for name, parameter in module.named_parameters()}
        return _copy(live, self.trained, result)

    def take_statistics(self, module: nn.Module) -> Tensor:
        """A copy of the statistics of BatchNorm as a vector in float32."""
        live = {canonical_name(name): buffer.detach() for name, buffer in module.named_buffers()}
        return _copy(live, self.statistics, torch.empty(self.statistics_size))


def by_name(vector: Tensor, places: Sequence[Place]) -> dict[str, Tensor]:
    """The tensors in a vector by name, in its memory; complex ones as real numbers."""
    return {place.name: vector[place.numbers].view(place.shape) for place in places}


def _places(tensors: dict[str, Tensor]) -> tuple[Place, ...]:
    places, begin = [], 0
    for name, tensor in tensors.items():
        shape = (*tensor.shape, 2) if tensor.is_complex() else tuple(tensor.shape)
        places.append(Place(name, shape, begin, tensor.is_complex()))
        begin += prod(shape)
    return tuple(places)


def _end(places: Sequence[Place]) -> int:
    return places[-1].numbers.stop if places else 0


def _copy(live: dict[str, Tensor], places: Sequence[Place], result: Tensor) -> Tensor:
    for place in places:
        tensor = live[place.name]
        real = torch.view_as_real(tensor.resolve_conj()) if place.is_complex else tensor
        result[place.numbers].view(place.shape).copy_(real)
    return result
