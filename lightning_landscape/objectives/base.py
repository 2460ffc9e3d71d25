"""The base class of objectives, their batches and observations, and a user's function as an objective.

A module's own step is in lightning_step.py. Nothing in this file is about grids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..isolation.effects import EffectGuard
from .single_losses import SingleLosses


@dataclass(frozen=True, eq=False)
class Batch:
    """One frozen batch.

    Args:
        data: the loader's batch, on the module's device.
        size: B, its number of samples.
        index: its place in its loader.
        loader: the number of its loader, among several in turn.
        log_weight: Lightning's weight of its logged values, where that is not the number of samples.
        sample: of a batch of one sample, its place in the data set.
        drawn: the unit of random choice, whose spread gives the standard error. "samples": samples are drawn one by
            one, and batches are random groups of them. "ordered": samples are drawn, but batches are in order and
            differ by more than chance. "batches": whole batches are drawn, whose samples may be related.
    """

    data: Any
    size: int
    index: int = 0
    loader: int = 0
    log_weight: int | None = None
    sample: int = 0
    drawn: str = "samples"


def most_cautious(kinds: Iterable[str]) -> str:
    """The kind of `Batch.drawn`, among several, that assumes the least.

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
        value: shape () for the whole batch, or (B,) for its samples.
        weight: the number of samples behind `value`.
        reduce: the reduction over batches: "mean" (weighted), "sum", "min" or "max".
        each: values of the samples, shape (B,), where `value` is one number; their spread gives its standard error.
            Their mean is `value`, up to a term that is the same in all batches. `SingleLosses` computes them later.
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
        divisible: True if a batch that does not fit into the memory may come in parts.
    """

    divisible = True

    @property
    def alone(self) -> Objective:
        """The objective at one point: itself, unless it measures several points at once."""
        return self

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """Measure one batch for trial; changes that it leaves behind are undone."""

    def start(self) -> None:
        """Forget the previous point."""

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """The observations of one batch, by metric."""
        raise NotImplementedError

    def finish(self) -> dict[str, float]:
        """Metrics of the whole set that are no mean over batches, such as an AUROC."""
        return {}

    def main(self, names: list[str]) -> str:
        """The name of the loss among the measured names."""
        return names[0]

    def around(self) -> AbstractContextManager[None]:
        """A context for what is computed from the observations of a batch, such as a gradient."""
        return nullcontext()


class ObjectiveWrapper(Objective):
    """An objective around another one, with all its methods; subclasses replace some of them.

    Args:
        objective: the one that is measured.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective, self.divisible = objective, objective.divisible
        self.start, self.finish, self.main = objective.start, objective.finish, objective.main  # type: ignore[method-assign]
        self.around = objective.around  # type: ignore[method-assign]


class LossFunction(Objective):
    """A user's function as an objective.

    Args:
        function: ``(module, batch) -> Tensor``, or a mapping of names to tensors. Shape () is the mean over the
            batch. Shape (B,) is one value a sample, which also gives standard errors, and tiles in one pass.
        name: the name of a bare tensor, and of an entry called "loss".
        calls: objects with code of the user's that the function calls, such as the module.

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
