"""Objectives for a plain module, from a loss module, a loss function or a metrics function."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from ..isolation.effects import EffectGuard, replace_writers
from ..isolation.module_copy import module_copy
from ..isolation.rng import seed_streams
from .base import Batch, CannotMeasureError, LossFunction, Objective, Observation
from .batch_samples import counted, counting, has_own_way, length_of, way_of
from .batches import deep_copy, generators_at, leaves, own_copy

LOSS, ACCURACY = "train_loss", "train_acc"
CLASSIFYING = (nn.CrossEntropyLoss, nn.NLLLoss)
BINARY = (nn.BCELoss, nn.BCEWithLogitsLoss)
MODELS = ("model", "net", "network", "module")
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

    The mean over all batches is what the criterion would give for all data as one batch: where classes weigh
    differently or targets are ignored, a batch counts by its weights, not by its samples. Where a module of torch's
    can give the losses of single samples, they give the standard error.
    """

    def __init__(self, criterion: Callable[[Any, Any], Tensor]) -> None:
        self.criterion = criterion
        self._held_back = EffectGuard(criterion)
        how = getattr(criterion, "reduction", "mean")
        self.reduce = "sum" if how == "sum" else "mean"
        self._single: Any = None
        if how == "mean" and type(criterion).__module__ == nn.CrossEntropyLoss.__module__:
            self._single = copy.copy(criterion)
            self._single.reduction = "none"

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """See whether the losses of single samples give the mean back."""
        if self._single is None or isinstance(self.criterion, CLASSIFYING):
            return
        inputs, targets = pair(batch.data)
        with self._held_back:
            outputs = module(inputs)
            parts, whole = self._single(outputs, targets), self.criterion(outputs, targets)
        divisible = parts.ndim > 0 and parts.shape[0] == batch.size
        if not divisible or not torch.allclose(_per_sample(parts).mean(), whole, rtol=1e-5, atol=0, equal_nan=True):
            self._single = None

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """See `Objective`.

        Raises:
            CannotMeasureError: if the batch is no pair, or the criterion gives neither a scalar nor a value a sample.
        """
        inputs, targets = pair(batch.data)
        with self._held_back:
            outputs = module(inputs)
            observed = {LOSS: self._loss(outputs, targets, batch.size)}
        right = self._right(outputs, targets)
        return observed if right is None else {**observed, ACCURACY: right}

    def _loss(self, outputs: Any, targets: Any, size: int) -> Observation:
        if self._single is not None and isinstance(self.criterion, CLASSIFYING) and outputs.ndim >= 2:
            return self._classes(outputs, targets)
        loss = (self._single or self.criterion)(outputs, targets)
        if isinstance(loss, Tensor) and loss.numel() == 1:
            return Observation(loss.reshape(()), size, self.reduce)
        if isinstance(loss, Tensor) and loss.shape[:1] == (size,):
            return Observation(_per_sample(loss), size)
        raise CannotMeasureError(
            f"criterion={self.criterion!r} gives {getattr(loss, 'shape', type(loss).__name__)} for a batch of {size}: "
            "give one that returns a scalar, or one value a sample."
        )

    def _classes(self, outputs: Tensor, targets: Tensor) -> Observation:
        """The loss of a classifier, with the sum of the weights by which torch divides it."""
        losses = self._single(outputs, targets)
        counted, weight = _counted(self.criterion, targets), self._single.weight
        even = targets.is_floating_point() or (weight is None and bool(counted.all()))
        if even:
            return Observation(_per_sample(losses), counted.numel())
        total = counted.sum() if weight is None else weight[targets[counted]].sum()
        return Observation(losses.sum() / total if total else losses.new_zeros(()), float(total))

    def _right(self, outputs: Any, targets: Any) -> Observation | None:
        """The share that is classified rightly, in percent; None where that has no sense."""
        if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
            return None
        if isinstance(self.criterion, CLASSIFYING) and outputs.ndim >= 2:
            counted = _counted(self.criterion, targets)
            classes = targets.argmax(1) if targets.is_floating_point() else targets
            right = 100.0 * (outputs.argmax(1) == classes).float()
            if counted.all():
                return Observation(_per_sample(right), counted.numel())
            count = int(counted.sum())
            return Observation(right[counted].mean() if count else right.new_zeros(()), count)
        if isinstance(self.criterion, BINARY) and outputs.shape == targets.shape:
            positive = outputs > (0.5 if isinstance(self.criterion, nn.BCELoss) else 0.0)
            return Observation(_per_sample(100.0 * (positive == (targets > 0.5)).float()), len(targets))
        return None


def _counted(criterion: Any, targets: Tensor) -> Tensor:
    """A mask of the targets that a classifier's loss counts, one entry for each sample or pixel."""
    if targets.is_floating_point():  # probabilities of the classes, along dimension 1
        return torch.ones_like(targets[:, 0], dtype=torch.bool)
    return targets != criterion.ignore_index


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
        self._held_back = EffectGuard(function)

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """See `Objective`; ``batch.data`` is the loader.

        Raises:
            CannotMeasureError: if the function returns no mapping of names to numbers.
        """
        with self._held_back:
            result = self.function(module, batch.data, self.use_cuda)
        if not isinstance(result, Mapping) or not result:
            raise CannotMeasureError(
                f"criterion returned {type(result).__name__}: a function (net, dataloader, use_cuda) must return a "
                "dict of metric names to numbers."
            )
        numbers = {name: v.detach() if isinstance(v, Tensor) else v for name, v in result.items()}
        return {f"{LOSS}_{name}": Observation(float(value), batch.size) for name, value in numbers.items()}


class Unspoilt(Objective):
    """An objective whose batches stay as they are: one that edits them, or asks for their gradients, gets copies.

    Args:
        objective: the one that is measured.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective, self.divisible = objective, objective.divisible
        self.start, self.finish, self.main = objective.start, objective.finish, objective.main  # type: ignore[method-assign]
        self._edits = False

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """See whether the objective leaves a copy of the batch as it is."""
        twin = replace(batch, data=deep_copy(batch.data))
        before, kept = _states(twin.data), leaves(twin.data)  # kept alive, so that no id is used again
        self.objective.rehearse(module, twin)
        self.objective(module, twin)
        self._edits = _states(twin.data) != before
        del kept

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """See `Objective`."""
        return self.objective(module, replace(batch, data=deep_copy(batch.data)) if self._edits else batch)


def _states(data: Any) -> list[tuple[Any, ...]]:
    """The identity of every leaf, and for a tensor its version and its `requires_grad`."""
    return [(id(v), v._version, v.requires_grad) if isinstance(v, Tensor) else (id(v),) for v in leaves(data)]


class FrozenLoader(list[Any]):
    """Batches in place of a data loader: the same ones at every point; other attributes are the loader's own.

    Args:
        batches: what every iteration gives.
        loader: the user's.
    """

    def __init__(self, batches: Iterable[Any], loader: Any) -> None:
        super().__init__(batches)
        self._loader = loader

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenLoader:
        return FrozenLoader(copy.deepcopy(list(self), memo), self._loader)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._loader, name)


def pair(data: Any) -> tuple[Any, Any]:
    """Inputs and targets of a batch.

    Raises:
        CannotMeasureError: if it is no sequence of two.
    """
    if not _is_pair(data):
        many = f"{type(data).__name__} of {len(data)}" if isinstance(data, list | tuple) else type(data).__name__
        raise CannotMeasureError(
            f"The loader gives {many}, not pairs (inputs, targets): give a criterion (model, inputs, targets) -> "
            "loss, where inputs is the whole batch and targets None for such data."
        )
    return data[0], data[1]


def _is_pair(data: Any) -> bool:
    return isinstance(data, list | tuple) and len(data) == 2


def of_three(function: Callable[[nn.Module, Any, Any], Any]) -> Callable[[nn.Module, Any], Any]:
    """``(model, inputs, targets)`` as a function of ``(model, batch)``; data that is no pair comes without targets."""

    def of_batch(module: nn.Module, data: Any) -> Any:
        if _is_pair(data):
            return function(module, *data)
        alone = isinstance(data, list | tuple) and len(data) == 1  # as of a TensorDataset of one tensor
        return function(module, data[0] if alone else data, None)

    return of_batch


def recognised(criterion: Any, use_cuda: bool = False) -> tuple[Objective, str]:
    """The objective that a criterion stands for, and in words which one it is.

    Args:
        criterion: a loss module; a function of (outputs, targets); of (model, inputs, targets); or of
            (net, dataloader, use_cuda). The last two are told apart by their parameters' names: "loader" in the
            second, or "cuda" in the third.
        use_cuda: what the last kind is told.

    Raises:
        TypeError: if it is nothing of these.

    >>> recognised(nn.MSELoss())[1]
    'a loss of (outputs, targets)'
    >>> recognised(lambda net, dataloader, use_cuda: {})[1]
    'metrics of (net, dataloader, use_cuda)'
    >>> recognised(lambda model, inputs, targets: 0)[1]
    'a loss of (model, inputs, targets)'
    """
    if not callable(criterion) or isinstance(criterion, type):
        raise TypeError(
            f"criterion={criterion!r} is neither a loss module nor a function: give e.g. nn.CrossEntropyLoss()."
        )
    of_pair = "a loss of (outputs, targets)"
    known = next((module for function, module in MODULES.items() if function is criterion), None)
    if known is not None:
        return Criterion(known()), of_pair
    try:
        own = criterion.forward if isinstance(criterion, nn.Module) else criterion
        parameters = list(inspect.signature(own).parameters.values())
    except (TypeError, ValueError):  # written in C
        return Criterion(criterion), of_pair
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name.lower() for p in positional]
    needed = sum(p.default is p.empty for p in positional)
    if len(names) >= 3 and ("loader" in names[1] or "cuda" in names[2]):
        return MetricsFunction(criterion, use_cuda), "metrics of (net, dataloader, use_cuda)"
    if needed == 3 or (len(names) >= 3 and names[0] in MODELS):
        return LossFunction(of_three(criterion), LOSS), "a loss of (model, inputs, targets)"
    if needed == 2 or any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return Criterion(criterion), of_pair
    raise TypeError(
        f"criterion takes {needed} arguments: give a function of (outputs, targets), of (model, inputs, targets), or "
        "of (net, dataloader, use_cuda)."
    )


def copies(net: nn.Module, criterion: Any, device: torch.device) -> tuple[nn.Module, Any]:
    """The net and its criterion on a device, ours to move; a loss module that holds the net holds the copy.

    Args:
        net: the user's; of a compiled one, what was compiled.
        criterion: a loss module is copied, a function is not.
        device: where to.
    """
    loss = criterion if isinstance(criterion, nn.Module) else None
    both = nn.ModuleList([getattr(net, "_orig_mod", net), *([] if loss is None else [loss])])
    with replace_writers():
        twin = module_copy(both, {}).to(device)
    probe, *own = twin.children()
    return probe, own[0] if own else criterion


def frozen_batches(
    objective: Objective, loader: Any, device: torch.device, seed: int, most: int | None = None
) -> list[Batch]:
    """The first batches of a loader, read once; call it inside `rng.preserved`.

    Args:
        objective: for one of the whole set there is one batch, a `FrozenLoader`.
        loader: its order is that of `seed`.
        device: where to keep them.
        seed: of the order.
        most: how many; None for all.

    Raises:
        CannotMeasureError: if there are none, or nothing says when to stop.
    """
    if most is None and length_of(loader) is None:
        raise CannotMeasureError(
            f"The data loader ({type(loader).__name__}) has no length, it may never end: give max_batches."
        )
    seed_streams(seed)
    collates = isinstance(loader, DataLoader) and loader.batch_sampler is not None and not has_own_way(loader)
    with generators_at(loader, seed), torch.enable_grad():  # inputs may want gradients
        batches = list(islice(counted(iter(counting(loader) if collates else loader)), most))
        data = [own_copy(batch.data, device) for batch in batches]
    if not data:
        raise CannotMeasureError("The data loader is empty, so there is no loss to measure.")
    if isinstance(objective, MetricsFunction):
        return [Batch(FrozenLoader(data, loader), sum(batch.size for batch in batches))]
    is_ordered = isinstance(loader, DataLoader) and way_of(loader.sampler) is SequentialSampler.__iter__
    drawn = "ordered" if is_ordered else "samples"
    return [Batch(d, batch.size, i, drawn=drawn) for i, (d, batch) in enumerate(zip(data, batches, strict=True))]


def population_of(loader: Any) -> int | None:
    """The number of samples that a loader draws from at random, none twice; None where it is unknown.

    >>> from torch.utils.data import DataLoader
    >>> population_of(DataLoader(range(9), shuffle=True)), population_of(DataLoader(range(9)))
    (9, None)
    """
    sampler = loader.sampler if isinstance(loader, DataLoader) and not has_own_way(loader) else None
    shuffles = way_of(sampler) is RandomSampler.__iter__ and not sampler.replacement  # type: ignore[union-attr]
    return len(loader.dataset) if shuffles else None
