"""The direction of the optimisers' next step, which copies of them take."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..isolation.rng import preserved
from ..objectives.base import CannotMeasureError
from ..weights.parameters import Params, Snapshot, norm, working_dtype
from .gradient import loss_gradient
from .ignore import plain_ignore
from .random import Random, completed
from .site import Site


@dataclass(frozen=True, eq=False)
class Update:
    """The optimisers' next update: θ* + d is where their next step leads, with the gradient of the frozen data.

    Copies of the optimisers take the step, with copies of their states: momentum, moments, weight decay, the learning
    rate of the moment. So the direction differs from the gradient as far as the optimiser turns it. All parameters move
    that the optimisers move. Clipping by the Trainer is left out.

    Further directions are random, of the length of the update, and orthogonal to it.

    Args:
        normalize: how the random directions are scaled, before they get the update's length.
        ignore: the parameters that stay at rest in the random directions.
        seed: of the random directions, and of the random numbers that all points share.

    Attributes:
        labels: after a call, the directions in words.

    >>> from ..objectives.base import Batch, LossFunction
    >>> net = nn.Linear(1, 1, bias=False)
    >>> _ = net.weight.data.fill_(3.0)
    >>> square = LossFunction(lambda module, batch: module.weight.square().sum())
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.25)
    >>> (d,) = Update()(Site.at(Snapshot.of(net), net, square, [Batch(None, 1)], optimizers=[sgd]), 1)
    >>> d["weight"]  # −0.25 · 2 · 3
    tensor([[-1.5000]])
    """

    normalize: str = "filter"
    ignore: str | Sequence[str] | None = "biasbn"
    seed: int = 42
    labels: tuple[str, ...] = field(default=(), init=False, repr=False)
    needs: ClassVar[tuple[str, ...]] = ("gradient", "optimizers")

    def __call__(self, site: Snapshot, k: int) -> tuple[Params, ...]:
        """The k directions.

        Raises:
            CannotMeasureError: if there are no optimisers, a copy of one can't step, or the step moves nothing.
        """
        first = self._step(site)
        length = norm(first)
        if length == 0:
            rates = [group.get("lr") for optimizer in _optimizers(site) for group in optimizer.param_groups]
            raise CannotMeasureError(
                f"The next update moves nothing (learning rates {', '.join(map(str, rates))}). With rates of 0, "
                "measure while the weights still move (every_n_epochs). With other rates, the optimisers hold no "
                "weights of the loss. Or choose directions='gradient'."
            )
        beside = Random(self.normalize, self.ignore, seed=self.seed).beside((first,), site, k)
        words = ", ".join(dict.fromkeys(type(optimizer).__name__ for optimizer in _optimizers(site)))
        object.__setattr__(self, "labels", (f"update by {words}", *["random"] * (k - 1)))
        return (first, *(_scaled(direction, length / norm(direction)) for direction in beside))

    def rehearse(self, site: Site) -> None:
        """Find out whether copies of the optimisers can step; that nothing moves yet is no error.

        Raises:
            CannotMeasureError: if not.
        """
        self._step(site)

    def recipe(self) -> dict[str, Any]:
        """The settings, as plain JSON values."""
        random = {"normalize": self.normalize, "ignore": plain_ignore(self.ignore), "seed": self.seed}
        return {"kind": "update", "random": random}

    def _step(self, site: Snapshot) -> Params:
        return next_update(site, self.seed)


def next_update(site: Snapshot, seed: int) -> Params:
    """The next update d of the optimisers of a site, which leads to θ + d; by parameter, zeros where nothing moves.

    Args:
        site: a `Site` with optimisers, objective and batches.
        seed: of the random numbers that all points share.

    Raises:
        CannotMeasureError: if there are no optimisers, or a copy of one can't step.
    """
    optimizers = _optimizers(site)
    assert isinstance(site, Site)  # which has optimisers
    gradient = loss_gradient(site, seed, dense=False)
    after = next_weights(optimizers, site.trained, site.params, gradient)
    difference = {}
    for name, weight in after.items():
        precise = working_dtype(weight.dtype)
        difference[name] = (weight.to(precise) - site.params[name].to(precise)).contiguous()
    return completed(difference, site)


def _optimizers(site: Snapshot) -> Sequence[Optimizer]:
    optimizers = site.optimizers if isinstance(site, Site) else ()
    if not optimizers:
        raise CannotMeasureError(
            "directions='update' needs the optimisers that train these weights, and there are none here. Averaged "
            "weights, those of a checkpoint, Trainer.validate and Trainer.test have none. LossLandscape takes them: "
            "optimizers=[optimizer]. Else choose directions='gradient'."
        )
    return optimizers


def _scaled(direction: Params, factor: float) -> Params:
    """The direction times a factor; zeros that take no memory stay so."""
    return {name: t if not any(t.stride()) and t.numel() > 1 else t * factor for name, t in direction.items()}


def next_weights(
    optimizers: Sequence[Optimizer], trained: Mapping[str, Tensor], params: Params, gradient: Params
) -> dict[str, Tensor]:
    """The weights after the next step of the optimisers, one after the other. Nothing of theirs is changed.

    Args:
        optimizers: each is copied with its state.
        trained: the parameters that they hold, by name.
        params: the weights from which they step, by name.
        gradient: by name; a parameter without one is left alone, as in a training.

    Returns:
        The weights of the parameters in `params` that the optimisers hold.

    Raises:
        CannotMeasureError: if an optimiser can't be copied, its copy can't step, or it holds none of the parameters.
    """
    twins: dict[str, nn.Parameter] = {}
    for name, parameter in trained.items():
        if name in params:
            twins[name] = twin = nn.Parameter(params[name].detach().clone(), parameter.requires_grad)
            twin.grad = gradient[name].to(twin.dtype) if name in gradient else None
    names = {id(parameter): name for name, parameter in trained.items() if name in twins}
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    moved = {names[id(parameter)] for group in groups for parameter in group["params"] if id(parameter) in names}
    if not moved:
        raise CannotMeasureError(
            "The optimisers hold none of the parameters that are measured: give those that train this very module."
        )
    memo: dict[int, Any] = {id(parameter): twins[name] for name, parameter in trained.items() if name in twins}
    with preserved(), torch.no_grad():
        for optimizer in optimizers:
            _take_step(optimizer, memo)
    return {name: twins[name].detach() for name in params if name in moved}


def _take_step(optimizer: Optimizer, memo: dict[int, Any]) -> None:
    """Let a copy of an optimiser step; the memo of `copy.deepcopy` has the parameters of the copy."""
    kind = type(optimizer).__name__
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise CannotMeasureError(
            f"directions='update': {kind} computes the loss at several weights in each step, so that its step is no "
            "function of one gradient. Choose directions='gradient', or another optimiser."
        )
    try:
        _twin_of(optimizer, memo).step()
    except Exception as error:
        raise CannotMeasureError(
            f"directions='update': a copy of {kind} can't step with the gradient of the frozen data "
            f"({type(error).__name__}: {error}). Choose directions='gradient', or another optimiser."
        ) from error


def _twin_of(optimizer: Optimizer, memo: dict[int, Any]) -> Any:
    """A copy of an optimiser and of its state, without hooks and without methods that a scheduler has replaced.

    `copy.deepcopy` of an optimiser leaves out what its class keeps beside the state.
    """
    twin: Any = object.__new__(type(optimizer))
    memo[id(optimizer)] = twin
    functions = (FunctionType, MethodType, BuiltinFunctionType)
    for name, value in vars(optimizer).items():
        if isinstance(value, functions) and hasattr(type(optimizer), name):
            continue
        vars(twin)[name] = type(value)() if name.endswith("_hooks") else copy.deepcopy(value, memo)
    return twin
