"""The Hessian of a mean loss, by double backward through the objective itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..evaluators.affine.recording import available_bytes
from ..objectives.base import Batch, CannotMeasureError, Objective
from ..weights.parameters import Snapshot, canonical_name, same_bits
from .operator import SymmetricOperator, flat
from .passes import BatchLoss, Passes, factor_of, shares


class HessianOperator(SymmetricOperator):
    """The Hessian H of the mean loss over frozen batches, Σ_b (n_b / N) ∇²ℓ_b, with respect to chosen parameters.

    A product is a derivative of the gradient: Hv = ∇(gᵀv) (Pearlmutter 1994). The objective is called as it is: a
    module's own step may take dictionaries, log, branch, and differentiate by its inputs. The first pass gives loss and
    gradient as well. The graphs of the gradients are kept where they fit, and a product takes 1.4 gradients then. It
    takes 2.4 where they do not, unless several vectors are multiplied at once.

    At kinks (ReLU, max-pooling) H is the curvature of the pieces. The curvature of a slice over many of them may be
    larger.

    Args:
        objective: what is measured; its main value is the loss.
        module: a copy that is ours, at the weights in question, in its mode and on its device.
        batches: the frozen data.
        params: the names of the parameters; None for all that are trained. The others do not move.
        seed: of random vectors, and of the random numbers that all passes share.
        memory: the most bytes for graphs; at most a quarter of what is free is taken.

    Raises:
        CannotMeasureError: if there is no such parameter, or the module is sharded.

    Attributes:
        is_used: True if the loss was found to depend on any of the parameters.
        custom: the names of a user's autograd functions in the loss, whose second derivatives nobody knows.

    The mean of ½ (w x)² has the second derivative mean(x²). Here x is 1, 2 and 3:

    >>> from lightning_landscape.objectives.base import LossFunction
    >>> net = nn.Linear(1, 1, bias=False)
    >>> batches = [Batch(torch.tensor([[1.0], [2.0]]), 2), Batch(torch.tensor([[3.0]]), 1)]
    >>> operator = HessianOperator(LossFunction(lambda net, x: 0.5 * net(x).square().mean()), net, batches)
    >>> round(operator.matvec(torch.ones(1)).item(), 4)
    4.6667
    """

    method = "double backward"

    def __init__(
        self,
        objective: Objective,
        module: nn.Module,
        batches: Sequence[Batch],
        params: Iterable[str] | None = None,
        *,
        seed: int = 42,
        memory: int = 2**32,
    ) -> None:
        self.params = chosen_parameters(module, params)
        super().__init__(self.params, seed)
        self.passes, self.memory = Passes(objective, module, batches, seed), memory
        self._kept: list[list[Tensor]] | None = None  # the gradients of each batch, with their graphs
        self._shares: list[float] = []
        self._loss, self._gradient = 0.0, torch.empty(0)
        self.is_used, self.custom = False, set[str]()

    @property
    def known_loss(self) -> float | None:
        """The mean loss, where the first pass has given it; else None."""
        return self._loss if self._shares else None

    @property
    def loss(self) -> float:
        """The mean loss."""
        self._begin()
        return self._loss

    @property
    def gradient(self) -> Tensor:
        """The gradient of the mean loss, shape (P,), float64."""
        self._begin()
        return self._gradient

    def multiply(self, vectors: Tensor) -> Tensor:
        """See `SymmetricOperator`."""
        self._begin()
        parts = [self._parts(vector) for vector in vectors]
        result = torch.zeros_like(vectors)

        def add(place: int, gradients: Sequence[Tensor], keep: bool) -> None:
            for row, vector in enumerate(parts):
                last = not keep and row == len(parts) - 1
                result[row].add_(self._derivative(gradients, vector, last), alpha=self._shares[place])

        if self._kept is not None:
            with self.passes.kernels():
                for place, gradients in enumerate(self._kept):
                    add(place, gradients, keep=True)
            return result
        places = iter(range(len(self._shares)))
        self.passes.each(lambda loss: add(next(places), self._gradients(loss), keep=False))
        return result

    def release(self) -> None:
        """Free the graphs; a later product makes them again."""
        self._kept, self._shares = None, []

    def _begin(self) -> None:
        """The first pass, which gives loss and gradient, and keeps the graphs if they fit."""
        if self._shares:
            return
        before = [parameter.detach().clone() for parameter in self.params.values()]
        self.passes.rehearse()
        keeps = self._graph_bytes() <= available_bytes(next(iter(self.params.values())).device, self.memory)
        losses: list[BatchLoss] = []
        graphs: list[list[Tensor]] = []
        total = torch.zeros(self.size, dtype=torch.float64, device=self.device)

        def visit(loss: BatchLoss) -> None:
            self.custom |= custom_functions(loss.value)
            gradients = self._gradients(loss, graph=keeps)
            losses.append(BatchLoss(loss.value.detach(), loss.weight))
            total.add_(flat(gradients, self.device), alpha=factor_of(loss.weight))
            if keeps:
                graphs.append(gradients)

        self.passes.each(visit)
        if not all(map(same_bits, before, (parameter.detach() for parameter in self.params.values()))):
            raise CannotMeasureError(
                "The step edits the weights, so that they are at another point after each batch: a Hessian is of one "
                "point. Leave that to on_train_batch_end or to the optimiser."
            )
        self._shares, self._kept = shares([loss.weight for loss in losses]), graphs if keeps else None
        self._loss = sum(f * float(loss.value) for f, loss in zip(self._shares, losses, strict=True))
        self._gradient = total * (self._shares[0] / factor_of(losses[0].weight))

    def _graph_bytes(self) -> float:
        """An upper bound of the memory of all graphs: that of all results on the first batch, in proportion."""
        seen = _ResultBytes()
        with seen:
            self.passes.each(lambda loss: void(self._gradients(loss)), count=1)
        return seen.count * self.passes.samples / self.passes.batches[0].size

    def _gradients(self, loss: BatchLoss, graph: bool = True) -> list[Tensor]:
        parameters = list(self.params.values())
        gradients = torch.autograd.grad(loss.value, parameters, create_graph=graph, allow_unused=True)
        self.is_used |= any(gradient is not None for gradient in gradients)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]

    def _derivative(self, gradients: Sequence[Tensor], vector: Sequence[Tensor], last: bool) -> Tensor:
        """∇(gᵀv) of one batch; the graph is free afterwards if it is the last vector."""
        pairs = [(g, v) for g, v in zip(gradients, vector, strict=True) if g.requires_grad]
        if not pairs:  # linear in every parameter
            return torch.zeros(self.size, dtype=torch.float64, device=self.device)
        derivative = torch.autograd.grad(
            [g for g, _ in pairs], list(self.params.values()), [v for _, v in pairs],
            retain_graph=not last, allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        return flat(derivative, self.device)

    def _parts(self, vector: Tensor) -> list[Tensor]:
        """A vector in the shapes and types of the parameters."""
        return [piece.to(p.device, p.dtype) for piece, p in zip(self.named(vector).values(), self.params.values())]  # noqa: B905


def chosen_parameters(module: nn.Module, names: Iterable[str] | None) -> dict[str, nn.Parameter]:
    """Parameters by canonical name, in the module's order; all that are trained if `names` is None.

    Raises:
        CannotMeasureError: if there is no such parameter, or one is complex.
    """
    known = {canonical_name(name): parameter for name, parameter in module.named_parameters()}
    selected = set(Snapshot.view(module).params if names is None else names)
    if unknown := sorted(selected - known.keys()):
        raise CannotMeasureError(f"params names {unknown[:3]}, which are not in the module: {', '.join(known)[:200]}.")
    chosen = {name: parameter for name, parameter in known.items() if name in selected}
    if any(parameter.is_complex() for parameter in chosen.values()):
        raise CannotMeasureError("The module has complex parameters, whose Hessian is not computed.")
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    return chosen


def custom_functions(loss: Tensor) -> set[str]:
    """The names of all subclasses of `torch.autograd.Function`, and of functions of extensions, behind a loss.

    >>> custom_functions((2 * torch.ones(1, requires_grad=True)).sum())
    set()
    """
    found, seen, waiting = set[str](), set[object](), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction) or "CppNode" in node.name():
            found.add(node.name().removesuffix("Backward"))
        waiting += [following for following, _ in node.next_functions]
    return found


def void(value: object) -> None:
    """Let go of a value."""


class _ResultBytes(TorchDispatchMode):
    """A count of the bytes of all results of operations, views aside."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        """Call the operation, and add the bytes of its results."""
        result = func(*args, **(kwargs or {}))
        known = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in known:
                self.count += tensor.untyped_storage().nbytes()
        return result
