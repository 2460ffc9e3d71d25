"""The gradient of a mean loss over frozen batches, at given weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..isolation.rng import preserved
from ..objectives.base import Batch, CannotMeasureError, Objective, Observation
from ..weights.parameters import Params, canonical_name, working_dtype
from ..weights.plane import Plane
from ..weights.sharding import is_sharded, zero
from .out_of_memory import is_out_of_memory
from .sequential import Sequential

T = TypeVar("T")


def mean_gradient(
    module: nn.Module, objective: Objective, params: Params, batches: Sequence[Batch], seed: int = 42
) -> dict[str, Tensor]:
    """∇L(θ) of L = Σ n_b L_b / Σ n_b, the mean loss over batches of n_b samples each.

    It is the gradient of the surface at its centre: the module's mode, its random numbers and the care for its state
    are those of `Sequential`. Buffers, flags and gradients of the module are put back.

    Args:
        module: a copy that may be moved; it stays at θ.
        objective: whose main loss is derived.
        params: θ by name. Names that are no trainable parameters of the module have no gradient.
        batches: the frozen data.
        seed: of the random numbers of every point.

    Returns:
        The gradients by name, at least in float32, sparse where autograd gives sparse ones. A parameter that the
        loss does not depend on is left out.

    Raises:
        CannotMeasureError: if the loss has no gradient, or the parameters are sharded.

    L(w) = w² on the batches 1 and 3 of 1 and 3 samples, each times w²:

    >>> from lightning_landscape.objectives.base import LossFunction
    >>> net = nn.Linear(1, 1, bias=False)
    >>> square = LossFunction(lambda module, batch: batch * module.weight.square().sum())
    >>> data = [Batch(torch.tensor(1.0), 1), Batch(torch.tensor(3.0), 3)]
    >>> mean_gradient(net, square, {"weight": torch.tensor([[2.0]])}, data)  # (1 · 1 + 3 · 3) / 4 · 2 w
    {'weight': tensor([[10.]])}
    """
    if is_sharded(module):
        raise CannotMeasureError(
            "The gradient of a module whose parameters are sharded (FSDP2) is not supported: choose directions that "
            "need none, such as 'random' or 'pca'."
        )
    derived = _Derived(objective, params)
    evaluator = Sequential(module, seed=seed, with_autograd=True)
    resting = {name: zero(tensor, working_dtype(tensor.dtype)) for name, tensor in params.items()}
    with preserved(), torch.inference_mode(False):
        try:
            next(iter(evaluator(derived, Plane(params, (resting,)), np.zeros((1, 1)), batches)))
        finally:
            evaluator.put_back()
            objective.start()
    return {name: total / derived.weight for name, total in derived.totals.items()}


class _Derived(Objective):
    """An objective that adds up the gradients of its main loss.

    Args:
        objective: the one that is derived.
        params: names the parameters.

    Attributes:
        totals: Σ n_b ∇L_b by name, since `start`.
        weight: Σ n_b; 1 for a loss that is a sum over batches.
    """

    def __init__(self, objective: Objective, params: Params) -> None:
        self.objective, self.divisible, self.params = objective, objective.divisible, params
        self.totals: dict[str, Tensor] = {}
        self.weight = 0.0

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """See `Objective`."""
        self.objective.rehearse(module, batch)

    def start(self) -> None:
        """See `Objective`."""
        self.objective.start()
        self.totals, self.weight = {}, 0.0

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """The observations, after their gradients are added."""
        with self.objective.around():
            with graphs_retained():
                observed = self.objective(module, batch)
            if not observed:
                raise CannotMeasureError("The step neither returns a loss nor logs anything: there is no gradient.")
            name = self.objective.main(list(observed))
            self._add(module, name, observed[name])
        return observed

    def finish(self) -> dict[str, float]:
        """See `Objective`."""
        return self.objective.finish()

    def _add(self, module: nn.Module, name: str, observed: Observation) -> None:
        value = observed.value
        if observed.reduce not in ("mean", "sum") or not isinstance(value, Tensor) or not value.requires_grad:
            raise CannotMeasureError(
                f"{name} has no gradient: it is a number, detached, or logged only. Let the step return its loss as a "
                "tensor with its graph, or choose directions that need no gradient, such as 'random' or 'pca'."
            )
        is_mean = observed.reduce == "mean"
        number = value.mean() if is_mean else value.sum()
        weight = float(observed.weight) if is_mean else 1.0
        named = {canonical_name(key): parameter for key, parameter in module.named_parameters()}
        parameters = {key: named[key] for key in self.params if key in named and named[key].requires_grad}
        try:
            gradients = torch.autograd.grad(number, list(parameters.values()), allow_unused=True)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise CannotMeasureError(_reason(name, error)) from error
        for key, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                scaled = weight * gradient.detach().to(working_dtype(gradient.dtype))
                self.totals[key] = self.totals[key] + scaled if key in self.totals else scaled
        self.weight = self.weight + weight if is_mean else 1.0


def _reason(name: str, error: RuntimeError) -> str:
    """Why autograd has no gradient, and what to do."""
    advice = "Choose directions that need no gradient, such as 'random' or 'pca'."
    if "inplace" in str(error):
        return f"The step edits weights after it has computed {name}, of which autograd has no gradient then. {advice}"
    return f"{name} has no gradient ({' '.join(str(error).split())}). {advice}"


@contextmanager
def graphs_retained() -> Iterator[None]:
    """A context in which a step's own derivatives leave their graphs, for one more."""
    originals = {name: getattr(torch.autograd, name) for name in ("backward", "grad")}
    for name, function in originals.items():
        setattr(torch.autograd, name, _retaining(function))
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(torch.autograd, name, function)


def _retaining(function: Callable[..., T]) -> Callable[..., T]:
    """A function of `torch.autograd` that retains the graph, whatever it is told."""
    signature = inspect.signature(function)

    def call(*args: object, **options: object) -> T:
        bound = signature.bind(*args, **options)
        bound.arguments["retain_graph"] = True
        return function(*bound.args, **bound.kwargs)

    return call
