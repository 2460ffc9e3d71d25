"""Objectives for a plain module, from a loss module, a loss function or a metrics function."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from ..isolation.effects import EffectGuard, replace_writers
from ..isolation.module_copy import module_copy
from ..isolation.rng import seed_streams
from .base import Batch, CannotMeasureError, LossFunction, Objective, ObjectiveWrapper, Observation
from .batch_samples import counted, counting, iter_method, length_of, replaces_iteration
from .batches import copy_to, deep_copy, generators_at, leaf_states, leaves

LOSS, ACCURACY = "train_loss", "train_acc"
CLASSIFYING = (nn.CrossEntropyLoss, nn.NLLLoss)
BINARY = (nn.BCELoss, nn.BCEWithLogitsLoss)
MODELS = ("model", "net", "network", "module")
MODULES: dict[Callable[..., Tensor], type[nn.Module]] = {  # loss functions and their modules
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

    The mean over all batches equals the criterion of all data as one batch. A batch counts by its samples; where
    classes have weights or targets are ignored, by the weights of its targets. The losses of single samples, which
    modules of torch can give, tell the standard error.
    """

    def __init__(self, criterion: Callable[[Any, Any], Tensor]) -> None:
        self.criterion = criterion
        self._held_back = EffectGuard(criterion)
        reduction = getattr(criterion, "reduction", "mean")
        self.reduce = "sum" if reduction == "sum" else "mean"
        self._single: Any = None  # the criterion with reduction="none"
        if reduction == "mean" and type(criterion).__module__ == nn.CrossEntropyLoss.__module__:
            self._single = copy.copy(criterion)
            self._single.reduction = "none"

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """Check that the mean of the losses of single samples is the criterion's."""
        if self._single is None or isinstance(self.criterion, CLASSIFYING):
            return
        inputs, targets = inputs_and_targets(batch.data)
        with self._held_back:
            outputs = module(inputs)
            parts, whole = self._single(outputs, targets), self.criterion(outputs, targets)
        divisible = parts.ndim > 0 and parts.shape[0] == batch.size
        if not divisible or not torch.allclose(_per_sample(parts).mean(), whole, rtol=1e-5, atol=0, equal_nan=True):
            self._single = None

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """See `Objective`.

        Raises:
            CannotMeasureError: if the batch is no pair, or the criterion gives neither one value nor one a sample.
        """
        inputs, targets = inputs_and_targets(batch.data)
        with self._held_back:
            outputs = module(inputs)
            observed = {LOSS: self._loss(outputs, targets, batch.size)}
        accuracy = self._accuracy(outputs, targets)
        return observed if accuracy is None else {**observed, ACCURACY: accuracy}

    def _loss(self, outputs: object, targets: object, size: int) -> Observation:
        if self._single is not None and self._are_scores(outputs) and isinstance(targets, Tensor):
            return self._class_loss(outputs, targets)
        loss = (self._single or self.criterion)(outputs, targets)
        if isinstance(loss, Tensor) and loss.numel() == 1:
            return Observation(loss.reshape(()), size, self.reduce)
        if isinstance(loss, Tensor) and loss.shape[:1] == (size,):
            return Observation(_per_sample(loss), size)
        raise CannotMeasureError(
            f"criterion={self.criterion!r} gives {getattr(loss, 'shape', type(loss).__name__)} for a batch of {size}: "
            "give one that returns a scalar, or one value a sample."
        )

    def _are_scores(self, outputs: object) -> TypeGuard[Tensor]:
        """True for the scores of a batch that a classifier's loss takes, classes along dimension 1."""
        return isinstance(self.criterion, CLASSIFYING) and isinstance(outputs, Tensor) and outputs.ndim >= 2

    def _class_loss(self, outputs: Tensor, targets: Tensor) -> Observation:
        """The loss of a classifier, with the sum of the weights by which torch divides it."""
        losses = self._single(outputs, targets)
        counted, weight = _counted(self._single, targets), self._single.weight
        if targets.is_floating_point() or (weight is None and bool(counted.all())):
            return Observation(_per_sample(losses), counted.numel())
        total = counted.sum() if weight is None else weight[targets[counted]].sum()
        return Observation(losses.sum() / total if total else losses.new_zeros(()), float(total))

    def _accuracy(self, outputs: object, targets: object) -> Observation | None:
        """The accuracy in percent; None where the criterion is no classifier's."""
        if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
            return None
        if self._are_scores(outputs):
            counted = _counted(self.criterion, targets)
            classes = targets.argmax(1) if targets.is_floating_point() else targets
            percent = 100.0 * (outputs.argmax(1) == classes).float()
            if counted.all():
                return Observation(_per_sample(percent), counted.numel())
            count = int(counted.sum())
            return Observation(percent[counted].mean() if count else percent.new_zeros(()), count)
        if isinstance(self.criterion, BINARY) and outputs.shape == targets.shape:
            positive = outputs > (0.5 if isinstance(self.criterion, nn.BCELoss) else 0.0)
            return Observation(_per_sample(100.0 * (positive == (targets > 0.5)).float()), len(targets))
        return None


def _counted(criterion: Callable[..., Tensor], targets: Tensor) -> Tensor:
    """A mask of the targets that a classifier's loss counts, one entry for each sample or pixel."""
    if targets.is_floating_point():  # probabilities of the classes, along dimension 1
        return torch.ones_like(targets[:, 0], dtype=torch.bool)
    return targets != getattr(criterion, "ignore_index")  # noqa: B009


def _per_sample(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1).mean(dim=1)


class MetricsFunction(Objective):
    """A function ``(net, dataloader, use_cuda) -> dict`` as an objective of the whole frozen set at once.

    The metrics are called ``train_loss_<name>``. They have no standard error, since the batches are not seen singly.
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


class Unspoilt(ObjectiveWrapper):
    """An objective that gets copies of its batches, if it edits them or requires gradients of them."""

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective)
        self._edits = False

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """Find out, on a copy of a batch, if the objective edits it."""
        twin = replace(batch, data=deep_copy(batch.data))
        before, originals = leaf_states(twin.data), leaves(twin.data)  # kept alive, so that no id is used again
        self.objective.rehearse(module, twin)
        self.objective(module, twin)
        self._edits = leaf_states(twin.data) != before
        del originals

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """See `Objective`."""
        return self.objective(module, replace(batch, data=deep_copy(batch.data)) if self._edits else batch)


class FrozenLoader(list[Any]):
    """Frozen batches in place of a data loader; other attributes are those of the loader.

    Args:
        batches: the batches of every iteration.
        loader: the user's.
    """

    def __init__(self, batches: Iterable[Any], loader: Iterable[Any]) -> None:
        super().__init__(batches)
        self._loader = loader

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenLoader:
        return FrozenLoader(copy.deepcopy(list(self), memo), self._loader)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._loader, name)


def inputs_and_targets(data: object) -> tuple[Any, Any]:
    """Inputs and targets of a batch.

    Raises:
        CannotMeasureError: if it is no sequence of two.
    """
    if not _is_pair(data):
        kind = f"{type(data).__name__} of {len(data)}" if isinstance(data, list | tuple) else type(data).__name__
        raise CannotMeasureError(
            f"The loader gives {kind}, not pairs (inputs, targets): give a criterion (model, inputs, targets) -> "
            "loss, where inputs is the whole batch and targets None for such data."
        )
    return data[0], data[1]


def _is_pair(data: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    return isinstance(data, list | tuple) and len(data) == 2


def of_three(function: Callable[[nn.Module, Any, Any], Any]) -> Callable[[nn.Module, Any], Any]:
    """A function of ``(model, inputs, targets)`` as one of ``(model, batch)``; targets are None without a pair."""

    def of_batch(module: nn.Module, data: object) -> Any:
        if _is_pair(data):
            return function(module, *data)
        if isinstance(data, list | tuple) and len(data) == 1:  # as of a TensorDataset of one tensor
            data = data[0]
        return function(module, data, None)

    return of_batch


def objective_of(criterion: Callable[..., Any], use_cuda: bool = False) -> tuple[Objective, str]:
    """The objective of a criterion, and its kind in words.

    Args:
        criterion: a loss module; or a function of (outputs, targets), of (model, inputs, targets), or of
            (net, dataloader, use_cuda). The last has "loader" in the name of its second parameter, or "cuda" in that
            of its third.
        use_cuda: the third argument of that last kind.

    Raises:
        TypeError: if the criterion is of another kind.

    >>> objective_of(nn.MSELoss())[1]
    'a loss of (outputs, targets)'
    >>> objective_of(lambda net, dataloader, use_cuda: {})[1]
    'metrics of (net, dataloader, use_cuda)'
    >>> objective_of(lambda model, inputs, targets: 0)[1]
    'a loss of (model, inputs, targets)'
    """
    if not callable(criterion) or isinstance(criterion, type):
        raise TypeError(
            f"criterion={criterion!r} is neither a loss module nor a function: give e.g. nn.CrossEntropyLoss()."
        )
    of_pair = "a loss of (outputs, targets)"
    module = next((module for function, module in MODULES.items() if function is criterion), None)
    if module is not None:
        return Criterion(module()), of_pair
    try:
        called = criterion.forward if isinstance(criterion, nn.Module) else criterion
        parameters = list(inspect.signature(called).parameters.values())
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


def copy_together(
    net: nn.Module, criterion: Callable[..., Any], device: torch.device
) -> tuple[nn.Module, Callable[..., Any]]:
    """Copies of the net and its criterion on a device; a loss module that holds the net holds the copy.

    Args:
        net: the user's; of a compiled module, the original is copied.
        criterion: a loss module is copied, a function is not.
        device: the device of the copies.
    """
    losses = [criterion] if isinstance(criterion, nn.Module) else []
    both = nn.ModuleList([getattr(net, "_orig_mod", net), *losses])
    with replace_writers():
        probe, *copied = module_copy(both, {}).to(device).children()
    return probe, copied[0] if copied else criterion


def frozen_batches(
    objective: Objective, loader: Iterable[Any], device: torch.device, seed: int, max_batches: int | None = None
) -> list[Batch]:
    """The first batches of a loader, read once; call it inside `rng.preserved`.

    Args:
        objective: a `MetricsFunction` gets one batch, a `FrozenLoader` of all.
        loader: the user's.
        device: the device of the batches.
        seed: of the loader's order.
        max_batches: None for all.

    Raises:
        CannotMeasureError: if the loader is empty, or has no length and `max_batches` is None.
    """
    if max_batches is None and length_of(loader) is None:
        raise CannotMeasureError(
            f"The data loader ({type(loader).__name__}) has no length and may never end: give max_batches."
        )
    seed_streams(seed)
    source = loader
    if isinstance(loader, DataLoader) and loader.batch_sampler is not None and not replaces_iteration(loader):
        source = counting(loader)
    with generators_at(loader, seed), torch.enable_grad():  # inputs may want gradients
        batches = list(islice(counted(source), max_batches))
        data = [copy_to(batch.data, device) for batch in batches]
    if not data:
        raise CannotMeasureError(
            "The data loader is empty, so there is no loss to measure: give one with at least one batch."
        )
    if isinstance(objective, MetricsFunction):
        return [Batch(FrozenLoader(data, loader), sum(batch.size for batch in batches))]
    is_ordered = isinstance(loader, DataLoader) and iter_method(loader.sampler) is SequentialSampler.__iter__
    drawn = "ordered" if is_ordered else "samples"
    return [Batch(d, batch.size, i, drawn=drawn) for i, (d, batch) in enumerate(zip(data, batches, strict=True))]


def population_of(loader: Iterable[Any]) -> int | None:
    """The number of samples from which a loader draws at random without replacement; None if unknown.

    >>> from torch.utils.data import DataLoader
    >>> population_of(DataLoader(range(9), shuffle=True)), population_of(DataLoader(range(9)))
    (9, None)
    """
    if not isinstance(loader, DataLoader) or replaces_iteration(loader):
        return None
    sampler = loader.sampler
    if isinstance(sampler, RandomSampler) and iter_method(sampler) is RandomSampler.__iter__:
        return None if sampler.replacement else len(loader.dataset)  # type: ignore[arg-type]
    return None
