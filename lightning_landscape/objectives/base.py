"""The base class of objectives, their batches and observations, and a user's function as an objective.

A module's own step is in lightning_step.py. Nothing in this file is about grids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..isolation.effects import EffectGuard
from .single_losses import SingleLosses


@dataclass(frozen=True, eq=False)
class Batch:
    """One frozen batch.

    Args:
        data: what the data loader gave, on the module's device.
        size: B, its number of samples.
        index: its place in its loader.
        loader: which of several sequential loaders it is from.
        log_weight: what Lightning weighs its logged values by, where that is not the number of samples.
        sample: of a batch of one sample, its place in the data set.
        drawn: what chance has chosen, whose spread tells the standard error: "samples", and put them together, so that
            that of the batches tells it too; "ordered" samples, in batches that differ by more than chance; or whole
            "batches", whose samples may have more in common than chance.
    """

    data: Any
    size: int
    index: int = 0
    loader: int = 0
    log_weight: int | None = None
    sample: int = 0
    drawn: str = "samples"


def most_cautious(kinds: Iterable[str]) -> str:
    """The kind of `Batch.drawn`, among several, that allows the fewest conclusions.

    >>> most_cautious(["samples", "ordered"])
    'ordered'
    """
    found = set(kinds)
    return next(kind for kind in ("batches", "ordered", "samples") if kind in found)


class CannotMeasureError(ValueError):
    """An error for a measurement that is impossible until the user changes something."""


class Observation(NamedTuple):
    """The value of one metric on one batch, with its weight.

    Args:
        value: shape () for the batch as a whole, or (B,) for its samples.
        weight: how many samples `value` stands for.
        reduce: how the batches are put together: "mean" (weighted), "sum", "min" or "max".
        each: where `value` is one number, those of the samples, whose spread tells its standard error. Their mean is
            `value`, but for what is the same in all batches. Shape (B,), or what they are computed from when they are
            asked for.
    """

    value: Tensor | float
    weight: float
    reduce: str = "mean"
    each: Tensor | SingleLosses | None = None


class Objective:
    """A measurement of batches, called by an evaluator.

    The evaluator calls `rehearse` once. At each point the evaluator calls `start`, the objective on every
    batch, then `finish`.

    Attributes:
        divisible: whether a batch may be given in parts where it does not fit into the memory.
    """

    divisible = True

    @property
    def alone(self) -> Objective:
        """The objective at one point: itself, unless it is at several at once."""
        return self

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """See on one batch what the objective needs; what it leaves behind is put back."""

    def start(self) -> None:
        """Forget the point before."""

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """The observations of one batch, by metric."""
        raise NotImplementedError

    def finish(self) -> dict[str, float]:
        """Metrics of the whole set, which no mean over batches gives (an AUROC, say)."""
        return {}

    def main(self, names: list[str]) -> str:
        """The name of the loss among the measured names."""
        return names[0]


class LossFunction(Objective):
    """A user's function as an objective.

    Args:
        function: ``(module, batch) -> Tensor`` or a mapping of names to tensors, each of shape () (the mean
            over the batch) or (B,) (one value a sample: gives the standard error over samples, and tiles in
            one pass).
        name: the name of a bare tensor, and of an entry called "loss".
        calls: the module or whatever else the function calls, whose code is the user's too.

    >>> import torch
    >>> mse = LossFunction(lambda module, batch: (module(batch) ** 2).mean(), name="train_loss")
    >>> mse(nn.Identity(), Batch(torch.tensor([1.0, 3.0]), size=2))
    {'train_loss': Observation(value=tensor(5.), weight=2, reduce='mean', each=None)}
    """

    def __init__(self, function: Callable[[Any, Any], Any], name: str = "loss", calls: Iterable[Any] = ()) -> None:
        self.function, self.name = function, name
        self._held_back = EffectGuard(function, *calls)

    def start(self) -> None:
        """See `Objective`."""
        self._held_back.start()

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """See `Objective`.

        Raises:
            TypeError: if the function returns something else.
            ValueError: if a tensor is neither of shape () nor (B,).
        """
        with self._held_back:
            result = self.function(module, batch.data)
        named = result if isinstance(result, Mapping) else {self.name: result}
        observations = {}
        for name, value in named.items():
            if not isinstance(value, Tensor | float | int):
                raise TypeError(
                    f"objective returned {type(value).__name__} for {name!r}: return a tensor, or a mapping of "
                    "names to tensors."
                )
            if isinstance(value, Tensor) and value.ndim and value.shape not in ((batch.size,), (1,)):
                raise ValueError(
                    f"objective returned shape {tuple(value.shape)} for {name!r}: return shape () or one value a "
                    f"sample, ({batch.size},)."
                )
            observations[self.name if name == "loss" else str(name)] = Observation(value, batch.size)
        return observations

    def main(self, names: list[str]) -> str:
        """The bare tensor or the entry "loss", else the first."""
        return self.name if self.name in names else names[0]
