"""A Hessian that has proved its symmetry, by the first way that does; else a refusal that names the layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ..evaluators.out_of_memory import is_out_of_memory
from ..objectives.base import Batch, CannotMeasureError, Objective
from .differences import GradientDifferences, in_float64
from .hessian import HessianOperator
from .operator import AsymmetryError, SymmetricOperator

Hessian = HessianOperator | GradientDifferences


@contextmanager
def proved_hessian(
    objective: Objective,
    module: nn.Module,
    batches: Sequence[Batch],
    params: Iterable[str] | None = None,
    *,
    seed: int = 42,
) -> Iterator[Hessian]:
    """A context with the Hessian of a mean loss, after its proof of symmetry.

    Double backward comes first. Its proof may fail, or torch may lack a second derivative. Then differences of
    gradients in float64 follow, with a proof of their own. At the end the module is as it was.

    Args:
        objective, module, batches, params, seed: as of `HessianOperator`.

    Raises:
        AsymmetryError: if both ways fail; the message names the kinds of layers.
        CannotMeasureError: if the loss has no curvature that could be measured.

    >>> from lightning_landscape.objectives.base import LossFunction
    >>> net = nn.Linear(2, 1, bias=False)
    >>> square = LossFunction(lambda net, batch: (net.weight**2).sum())
    >>> with proved_hessian(square, net, [Batch(None, 1)]) as hessian:
    ...     hessian.method, hessian.matvec(torch.tensor([1.0, -1.0])).tolist()
    ('double backward', [2.0, -2.0])
    """
    names = None if params is None else list(params)
    operator = HessianOperator(objective, module, batches, names, seed=seed)
    reason = _failure(operator)
    if names is None and not reason and not operator.is_used:
        raise CannotMeasureError(
            "The loss does not depend on the parameters of this module. Compute it with the model that is given."
        )
    if not reason and operator.custom:
        reason = _disagreement(operator, names)
    if not reason:
        try:
            yield operator
        finally:
            operator.release()
        return
    layers = asymmetric_layers(operator)
    operator.release()
    named = f" Found in {', '.join(layers)}." if layers else ""
    with in_float64(module, batches) as exact:
        yield _differences(objective, module, exact, names, seed, operator, f"{reason}{named}")


def _disagreement(operator: HessianOperator, names: list[str] | None, agreement: float = 1e-3) -> str:
    """The reason, in a sentence, why functions of a user's own have wrong second derivatives; empty where they do not.

    A function whose gradient counts as a constant gives a symmetric matrix that is not the Hessian. Differences of
    gradients tell.

    Args:
        operator: one that is symmetric.
        names: of the chosen parameters.
        agreement: the largest relative difference between products, of which float32 and differences have 1e-6.
    """
    passes, proof = operator.passes, operator.check_symmetry()
    functions = ", ".join(sorted(operator.custom))
    operator.release()  # torch would take the parameters for others after a change of their type
    try:
        with in_float64(passes.module, passes.batches) as exact:
            product = GradientDifferences(passes.objective, passes.module, exact, names, seed=operator.seed).matvec(
                proof.vectors[0]
            )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return f"The second derivative of {functions} can't be checked in float64: {_first_line(error)}"
    if float((product - proof.products[0]).norm()) <= agreement * float(product.norm()):
        return ""
    return f"{functions} has a wrong second derivative: products differ from differences of gradients."


def _differences(
    objective: Objective,
    module: nn.Module,
    batches: Sequence[Batch],
    names: list[str] | None,
    seed: int,
    double_backward: HessianOperator,
    reason: str,
    rounding: float = 1e-3,
) -> GradientDifferences:
    """Differences of gradients that have proved their symmetry.

    Args:
        rounding: the largest relative difference of the loss in float64, which is else that of another function.
    """
    refused = f"{reason} Nor do differences of gradients in float64 help: "
    advice = "Measure critical sharpness, which needs no second derivatives, or leave these layers out by params=."
    try:
        operator = GradientDifferences(objective, module, batches, names, seed=seed)
        operator.check_symmetry()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise AsymmetryError(f"{refused}{_first_line(error)} {advice}") from error
    before = double_backward.known_loss
    if before is not None and abs(operator.loss - before) > rounding * max(abs(before), abs(operator.loss)):
        raise AsymmetryError(f"{refused}the loss is {operator.loss:.6g} there, and {before:.6g} here. {advice}")
    return operator


def _failure(operator: SymmetricOperator) -> str:
    """The reason why an operator has no proof, in a sentence; empty where it has one."""
    try:
        operator.check_symmetry()
    except AsymmetryError as error:
        return str(error)
    except CannotMeasureError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise
        return f"torch gives no second derivatives of this step: {_first_line(error)}"
    return ""


def _first_line(error: Exception) -> str:
    return f"{str(error).strip().splitlines()[0].rstrip('.')}." if str(error).strip() else f"{type(error).__name__}."


def asymmetric_layers(operator: HessianOperator, at_most: int = 32) -> list[str]:
    """The layers whose own block of a Hessian is not symmetric, with their kinds, as "net.0 (weight_norm of Linear)".

    Args:
        operator: one whose proof has failed.
        at_most: the most layers that are tried, at two products each.
    """
    layers: dict[str, list[str]] = {}
    for name in operator.params:
        layers.setdefault(layer_of(name), []).append(name)
    wrong = []
    for layer, names in list(layers.items())[:at_most]:
        mask = torch.cat([
            torch.full((shape.numel(),), float(name in names), dtype=torch.float64, device=operator.device)
            for name, shape in operator.shapes.items()
        ])  # fmt: skip
        try:
            pair = torch.stack([mask * operator.random("layer", layer, i) for i in range(2)])
            if operator.prove(pair).asymmetry > operator.tolerance:
                wrong.append(f"{layer or 'the module'} ({_kind(operator.passes.module, layer)})")
        except RuntimeError:
            return []  # torch gives no product at all
    return wrong


def layer_of(name: str) -> str:
    """The name of the layer that owns a parameter, also of a parametrised one.

    >>> layer_of("net.0.parametrizations.weight.original0"), layer_of("net.2.bias"), layer_of("scale")
    ('net.0', 'net.2', '')
    """
    return name.split(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]


def _kind(module: nn.Module, layer: str) -> str:
    """The class of a layer, with the parametrisations on it."""
    try:
        part = module.get_submodule(layer)
    except AttributeError:  # the name in a compiled module is another one
        return "layer"
    lists = getattr(part, "parametrizations", {}).values()
    hooks = [type(hook).__name__ for hook in getattr(part, "_forward_pre_hooks", {}).values()]
    names = [type(step).__name__.strip("_") for steps in lists for step in steps] + hooks
    base = next((k.__name__ for k in type(part).__mro__ if not k.__name__.startswith("Parametrized")), "")
    return f"{' and '.join(names)} of {base}" if names else base
