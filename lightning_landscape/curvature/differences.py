"""The Hessian by differences of gradients in float64, for layers whose second derivatives are wrong or missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..objectives.base import Batch, CannotMeasureError, Objective
from ..objectives.batches import as_float64
from .gradients import loss_and_gradient
from .hessian import chosen_parameters
from .operator import SymmetricOperator
from .passes import Passes


class GradientDifferences(SymmetricOperator):
    """The Hessian of the mean loss by central differences, Hv ≈ (g(θ + εv) − g(θ − εv)) / 2ε for ‖v‖ = 1.

    It needs first derivatives only, two passes a product. In float64 with ε = 1e-5 it is right to 4e-10 for smooth
    losses. In float32 it is not: differences of gradients were 1 % to 62 % off. Enter it inside `in_float64`.

    Args:
        objective, module, batches, params, seed: as of `HessianOperator`; the batches in float64.
        step: ε; near the cube root of the rounding of float64, where the sum of both errors is least.
    """

    method = "differences of gradients in float64"

    def __init__(
        self,
        objective: Objective,
        module: nn.Module,
        batches: Sequence[Batch],
        params: Iterable[str] | None = None,
        *,
        seed: int = 42,
        step: float = 1e-5,
    ) -> None:
        self.params = chosen_parameters(module, params)
        super().__init__(self.params, seed)
        self.passes, self.step = Passes(objective, module, batches, seed), step
        self.passes.rehearse()
        self._origin = [parameter.detach().clone() for parameter in self.params.values()]
        self.loss, self.gradient = self._measure()

    def multiply(self, vectors: Tensor) -> Tensor:
        """See `SymmetricOperator`."""
        rows = []
        for vector in vectors:
            length = float(vector.norm()) or 1.0
            ahead, behind = (self._gradient_at(sign * self.step / length, vector) for sign in (1, -1))
            rows.append((ahead - behind) * (length / (2 * self.step)))
        return torch.stack(rows)

    def _gradient_at(self, distance: float, vector: Tensor) -> Tensor:
        parameters = list(self.params.values())
        try:
            with torch.no_grad():
                for parameter, start, piece in zip(parameters, self._origin, self.named(vector).values(), strict=True):
                    parameter.copy_(start + distance * piece)
            return self._measure()[1]
        finally:
            with torch.no_grad():
                for parameter, start in zip(parameters, self._origin, strict=True):
                    parameter.copy_(start)

    def _measure(self) -> tuple[float, Tensor]:
        """Loss and gradient where the module is."""
        return loss_and_gradient(self.passes, self.params, self.device)


@contextmanager
def in_float64(module: nn.Module, batches: Sequence[Batch]) -> Iterator[list[Batch]]:
    """A context in which the numbers of a module are float64, as are new tensors; it gives such batches.

    Args:
        module: a copy that is ours; at the end its tensors are the earlier ones.
        batches: the frozen data, which are copied.

    Raises:
        CannotMeasureError: if the device has no float64.

    >>> net = nn.Linear(2, 1)
    >>> with in_float64(net, [Batch(torch.ones(3, 2), 3)]) as batches:
    ...     net(batches[0].data).dtype
    torch.float64
    >>> net.weight.dtype
    torch.float32
    """
    tensors = [*module.parameters(), *module.buffers()]
    originals = [(tensor, tensor.data) for tensor in tensors if tensor.is_floating_point()]
    if any(tensor.device.type == "mps" for tensor in tensors):
        raise CannotMeasureError("Differences of gradients need float64, which this device has not.")
    default = torch.get_default_dtype()
    try:
        for tensor, data in originals:
            tensor.data = data.to(torch.float64)
        torch.set_default_dtype(torch.float64)  # a step may make tensors
        yield [replace(batch, data=as_float64(batch.data)) for batch in batches]
    finally:
        torch.set_default_dtype(default)
        for tensor, data in originals:
            tensor.grad = None
            tensor.data = data
