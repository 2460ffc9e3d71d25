"""What users measure a plain module with, as an objective: a loss module, a loss function, a metrics function."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .objectives import Batch, CannotMeasureError, LossFunction, Objective, Observation

log = logging.getLogger(__name__)
LOSS, ACCURACY = "train_loss", "train_acc"
CLASSIFYING = (nn.CrossEntropyLoss, nn.NLLLoss)
BINARY = (nn.BCELoss, nn.BCEWithLogitsLoss)
MODULES: dict[Any, type[nn.Module]] = {  # functions that are known better as modules
    F.cross_entropy: nn.CrossEntropyLoss,
    F.nll_loss: nn.NLLLoss,
    F.binary_cross_entropy: nn.BCELoss,
    F.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    F.mse_loss: nn.MSELoss,
    F.l1_loss: nn.L1Loss,
}


class Criterion(Objective):
    """A loss of (outputs, targets): ``train_loss``, and ``train_acc`` in percent where the loss is a classifier's.

    Args:
        criterion: a loss module such as `nn.CrossEntropyLoss`, or a function such as `F.mse_loss`.

    Where a module's losses before their mean give its mean back, they are measured one by one, which gives the
    standard error over samples.
    """

    def __init__(self, criterion: Callable[[Any, Any], Tensor]) -> None:
        self.criterion = criterion
        self.reduce = "sum" if getattr(criterion, "reduction", "mean") == "sum" else "mean"
        self._single: nn.Module | None = None
        if isinstance(criterion, nn.Module) and getattr(criterion, "reduction", None) == "mean":
            self._single = copy.deepcopy(criterion)
            self._single.reduction = "none"  # type: ignore[assignment]

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """See whether the losses of single samples give the mean back: not where classes weigh differently."""
        if self._single is None:
            return
        inputs, targets = pair(batch.data)
        outputs = module(inputs)
        parts, whole = self._single(outputs, targets), self.criterion(outputs, targets)
        divisible = parts.ndim > 0 and parts.shape[0] == batch.size
        if not divisible or not torch.allclose(_per_sample(parts).mean(), whole, rtol=1e-5, atol=0, equal_nan=True):
            self._single = None

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """See `Objective`.

        Raises:
            CannotMeasureError: if the batch is no pair, or the criterion gives no scalar.
        """
        inputs, targets = pair(batch.data)
        outputs = module(inputs)
        if self._single is not None:
            loss = _per_sample(self._single(outputs, targets))
        else:
            loss = self.criterion(outputs, targets)
            if not isinstance(loss, Tensor) or loss.numel() not in (1, batch.size):
                raise CannotMeasureError(
                    f"criterion={self.criterion!r} gives {getattr(loss, 'shape', type(loss).__name__)} for a batch of "
                    f"{batch.size}: give one that returns a scalar, or one value a sample."
                )
            loss = loss.reshape(()) if loss.numel() == 1 else loss.reshape(-1)
        right = self._right(outputs, targets)
        observed = {LOSS: Observation(loss, batch.size, self.reduce)}
        return observed if right is None else {**observed, ACCURACY: Observation(100.0 * right, batch.size)}

    def _right(self, outputs: Any, targets: Any) -> Tensor | None:
        """Whether each sample is classified rightly, shape (B,), 0 or 1; None where that has no sense."""
        if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
            return None
        if isinstance(self.criterion, CLASSIFYING) and outputs.ndim >= 2:
            classes = targets.argmax(1) if targets.is_floating_point() else targets
            counted = classes != getattr(self.criterion, "ignore_index", -100)
            right = (outputs.argmax(1) == classes) & counted
            return _per_sample(right.float()) if counted.all() else None
        if isinstance(self.criterion, BINARY) and outputs.shape == targets.shape:
            positive = outputs > (0.5 if isinstance(self.criterion, nn.BCELoss) else 0.0)
            return _per_sample((positive == (targets > 0.5)).float())
        return None


def _per_sample(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1).mean(dim=1)


class MetricsFunction(Objective):
    """``(net, dataloader, use_cuda) -> dict``: measured over the whole frozen set at once.

    The metrics are called ``train_loss_<name>``; what varies over the batches stays the function's own affair, so
    there is no standard error.
    """

    divisible = False

    def __init__(self, function: Callable[[nn.Module, Any, bool], Mapping[str, Any]], use_cuda: bool) -> None:
        self.function, self.use_cuda = function, use_cuda

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """See `Objective`; ``batch.data`` is the loader.

        Raises:
            CannotMeasureError: if the function returns no mapping of names to numbers.
        """
        result = self.function(module, batch.data, self.use_cuda)
        if not isinstance(result, Mapping) or not result:
            raise CannotMeasureError(
                f"criterion returned {type(result).__name__}: a function (net, dataloader, use_cuda) must return a "
                "dict of metric names to numbers."
            )
        return {f"{LOSS}_{name}": Observation(float(value), batch.size) for name, value in result.items()}


class FrozenLoader:
    """Batches in place of a data loader: the same ones at every point; other attributes are the loader's own.

    Args:
        batches: what every iteration gives.
        loader: the user's.
    """

    def __init__(self, batches: Sequence[Any], loader: Any) -> None:
        self._batches, self._loader = batches, loader

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._loader, name)


def pair(data: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch.

    Raises:
        CannotMeasureError: if it is no sequence of at least two.
    """
    if not isinstance(data, list | tuple) or len(data) < 2:
        raise CannotMeasureError(
            f"The loader gives {type(data).__name__}, not pairs (inputs, targets): give a criterion "
            "(model, inputs, targets) -> loss, where targets is None for such data."
        )
    return data[0], data[1]


def of_three(function: Callable[[nn.Module, Any, Any], Any]) -> Callable[[nn.Module, Any], Any]:
    """``(model, inputs, targets)`` as a function of ``(model, batch)``; data without targets gives None for them."""

    def of_batch(module: nn.Module, data: Any) -> Any:
        inputs, targets = pair(data) if isinstance(data, list | tuple) and len(data) > 1 else (data, None)
        return function(module, inputs, targets)

    return of_batch


def recognised(criterion: Any, use_cuda: bool) -> Objective:
    """The objective that a criterion stands for; which one is said in the log.

    Args:
        criterion: a loss module; a function of (outputs, targets); of (model, inputs, targets); or of
            (net, dataloader, use_cuda). The last two are told apart by their parameters' names: "loader" in the
            second, or "cuda" in the third.
        use_cuda: what the last kind is told.

    Raises:
        TypeError: if it is nothing of these.

    >>> type(recognised(nn.MSELoss(), False)).__name__
    'Criterion'
    >>> type(recognised(lambda net, dataloader, use_cuda: {}, False)).__name__
    'MetricsFunction'
    >>> type(recognised(lambda model, inputs, targets: 0, False)).__name__
    'LossFunction'
    """
    objective, kind = _recognised(criterion, use_cuda)
    log.info("criterion %s is measured as %s", getattr(criterion, "__name__", criterion), kind)
    return objective


def _recognised(criterion: Any, use_cuda: bool) -> tuple[Objective, str]:
    if not callable(criterion):
        raise TypeError(f"criterion={criterion!r} is not callable: give a loss module or a function.")
    if isinstance(criterion, nn.Module):
        return Criterion(criterion), "a loss of (outputs, targets)"
    if criterion in MODULES:
        return Criterion(MODULES[criterion]()), "a loss of (outputs, targets)"
    try:
        parameters = list(inspect.signature(criterion).parameters.values())
    except (TypeError, ValueError):  # written in C
        return Criterion(criterion), "a loss of (outputs, targets)"
    needed = [
        p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) == 2:
        return Criterion(criterion), "a loss of (outputs, targets)"
    if len(needed) != 3:
        raise TypeError(
            f"criterion takes {len(needed)} arguments: give a function of (outputs, targets), of "
            "(model, inputs, targets), or of (net, dataloader, use_cuda)."
        )
    if "loader" in needed[1].lower() or "cuda" in needed[2].lower():
        return MetricsFunction(criterion, use_cuda), "metrics of (net, dataloader, use_cuda)"
    return LossFunction(of_three(criterion), LOSS), "a loss of (model, inputs, targets)"
