"""The alignment of one model to another by permutations of its units, proved by its outputs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..directions.between import Weights, weights_of
from ..isolation.effects import replace_writers
from ..isolation.module_copy import module_copy
from ..isolation.rng import preserved
from ..objectives.batches import deep_copy
from ..objectives.criterion import Criterion, frozen_batches
from ..weights.parameters import Params, canonical_name, norm, tensors_in
from .attention import attend
from .layers import LAYERS
from .matching import match, reorder
from .shapes import BY_NAME
from .watch import watch


@dataclass(frozen=True, eq=False)
class Alignment:
    """A model with its units in the order that brings it nearest to another.

    Args:
        weights: its parameters and buffers by name, a target of `LossLandscape.compute_1d`.
        distance_before: the norm of the difference of the parameters, in the order that the model had.
        distance: the same in the new order.
        error: the largest change of an output that the new order makes, as a share of the largest one: rounding.
        moved: how many units changed their places.
    """

    weights: Params
    distance_before: float
    distance: float
    error: float
    moved: int


def align(net: nn.Module, target: Weights, dataloader: Iterable[Any]) -> Alignment:
    """The units of `target` in the order that brings its weights nearest to those of `net`.

    The order of the hidden units of a net has no meaning: there are many copies of each model. Weight matching
    chooses one of them (Git Re-Basin: Ainsworth et al. 2023). One forward pass of a copy shows which axes of which
    weights share an order. Then the outputs on a batch must be those of before. Neither model is changed.

    Args:
        net: the model that stays as it is.
        target: the one to reorder: a module of the same architecture, a mapping, or a checkpoint.
        dataloader: gives batches, pairs (inputs, targets) or inputs alone; the first one is used. The model is called
            with these inputs; with a mapping, as named arguments.

    Raises:
        ImportError: if scipy is not installed.
        ValueError: if a part of the module has no rule, or the outputs differ, or the target is of another
            architecture.

    >>> first = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> second = {name: w.clone() for name, w in first.state_dict().items()}
    >>> second |= {"0.weight": w[[2, 0, 1]] for w in [first[0].weight]} | {"0.bias": first[0].bias[[2, 0, 1]]}
    >>> second["2.weight"] = first[2].weight[:, [2, 0, 1]]
    >>> align(first, second, [torch.randn(5, 2)]).distance
    0.0
    """
    require_scipy("align")
    with preserved(), torch.inference_mode(False), torch.no_grad():
        with replace_writers():
            module = module_copy(getattr(net, "_orig_mod", net), {}).cpu().eval()
        (batch,) = frozen_batches(Criterion(nn.MSELoss()), dataloader, torch.device("cpu"), 0, 1)
        inputs = _inputs(batch.data)
        parameters = {canonical_name(name): parameter.detach() for name, parameter in module.named_parameters()}
        start = {name: tensor.clone() for name, tensor in parameters.items()}
        structure = watch(module, rule_of, lambda: _call(module, inputs))
        if not structure.blocks:
            raise ValueError(
                f"{type(net).__name__} has no hidden units whose order is free: there is nothing to align."
            )
        given = load(module, target)
        orders = match(structure, start, {name: given[name] for name in start})

        def reordered(weights: Params) -> dict[str, Tensor]:
            return {name: reorder(tensor, structure.ties.get(name, ()), orders) for name, tensor in weights.items()}

        aligned = reordered(given)
        return Alignment(
            aligned,
            _distance(start, given),
            _distance(start, aligned),
            _proved(module, [(weights, reordered(weights)) for weights in (given, _shaken(given, start))], inputs),
            sum(int((order != range(len(order))).sum()) for order in orders.values()),
        )


def require_scipy(function: str) -> None:
    """Raises ImportError if scipy is not installed."""
    if find_spec("scipy") is None:
        raise ImportError(f'{function} needs scipy: pip install "lightning-landscape[align]"')


def rule_of(function: object) -> Callable[..., None] | None:
    """The effect of a function on the order of units; None where nobody knows."""
    if function is F.multi_head_attention_forward:
        return attend
    return LAYERS.get(function) or BY_NAME.get(getattr(function, "__name__", "").strip("_"))


@torch.no_grad()
def load(module: nn.Module, source: Weights) -> dict[str, Tensor]:
    """Put the weights of a model into a module of the same architecture; give copies of all its tensors.

    Raises:
        ValueError: if one lacks a parameter, or has another shape.
    """
    given = weights_of(source)
    parameters = {canonical_name(name): parameter for name, parameter in module.named_parameters()}
    tensors = parameters | {canonical_name(name): buffer for name, buffer in module.named_buffers()}
    for name, tensor in tensors.items():
        if name in parameters and name not in given:
            raise ValueError(
                f"The target model has no {name!r}: it must be of the same architecture; it has "
                f"{', '.join(list(given)[:4])}, …"
            )
        if name in given and given[name].shape != tensor.shape:
            raise ValueError(
                f"The target model has shape {tuple(given[name].shape)} for {name!r}, the model has "
                f"{tuple(tensor.shape)}: they must be of the same architecture."
            )
        tensor.copy_(given.get(name, tensor))
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _inputs(data: object) -> object:
    return data[0] if isinstance(data, list | tuple) and len(data) in (1, 2) else data


def _call(module: nn.Module, inputs: object) -> object:
    twins = deep_copy(inputs)  # a module may edit its inputs
    return module(**twins) if isinstance(twins, Mapping) else module(twins)


def _distance(a: Params, b: Params) -> float:
    return norm({name: tensor.double() - b[name].double() for name, tensor in a.items()})


def _shaken(weights: Params, parameters: Params, share: float = 0.1, seed: int = 0) -> dict[str, Tensor]:
    """Weights with noise in the parameters, so that none of them is zero and hides another.

    Args:
        weights: parameters and buffers; these stay as they are.
        parameters: by their names.
        share: of the mean size of a parameter; a parameter that is zero gets noise of that size.
        seed: of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    shaken = dict(weights)
    for name in parameters:
        size = float(weights[name].double().square().mean()) ** 0.5 or 1.0
        noise = torch.randn(weights[name].shape, generator=generator, dtype=torch.float64)
        shaken[name] = (weights[name].double() + share * size * noise).to(weights[name].dtype)
    return shaken


def _proved(module: nn.Module, pairs: Sequence[tuple[Params, Params]], inputs: object) -> float:
    """The largest difference of outputs that pairs of weights make, as a share of the largest output.

    It is measured in float64 if the module can compute in it. There rounding is far below any other difference.

    Raises:
        ValueError: if it is more than the square root of the precision, or an output is not finite.
    """
    error, limit = float("nan"), 0.0
    for double in (True, False):
        probe, given = (copy.deepcopy(module).double(), _in_double(inputs)) if double else (module, inputs)
        try:
            outputs = [[_outputs(probe, weights, given) for weights in pair] for pair in pairs]
        except RuntimeError:  # it makes tensors of a type of its own
            if not double:
                raise
            continue
        differences = [_difference(first, second) for first, second in outputs]
        error = float(torch.tensor(differences, dtype=torch.float64).max())  # a NaN is the largest
        limit = torch.finfo(outputs[0][0][0].dtype).eps ** 0.5
        break
    if not error <= limit:
        raise ValueError(
            f"{type(module).__name__} can't be aligned: with its units in another order its outputs change by "
            f"{error:.2g} of the largest. A part of it depends on the order of units in a way that was not seen. Leave "
            "out align=True, or compare the models without it."
        )
    return error


def _difference(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """The largest difference of two lists of outputs, as a share of the largest output; NaN if one is not finite."""
    largest = max(float(tensor.abs().max()) for tensor in first) or 1.0
    differences = torch.stack([(p - q).abs().max() for p, q in zip(first, second, strict=True)])
    return float(differences.max()) / largest


def _outputs(module: nn.Module, weights: Params, inputs: object) -> list[Tensor]:
    load(module, weights)
    outputs = _call(module, inputs)
    numbers = [tensor for tensor in tensors_in(outputs) if tensor.is_floating_point() and tensor.numel()]
    if not numbers:
        raise ValueError(
            f"{type(module).__name__} returns {type(outputs).__name__} without a tensor of numbers: alignment is "
            "proved by the outputs of forward(). Give it one that returns tensors."
        )
    return numbers


def _in_double(inputs: object) -> object:
    if isinstance(inputs, Tensor):
        return inputs.double() if inputs.is_floating_point() else inputs
    if isinstance(inputs, Mapping):
        return {name: _in_double(value) for name, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return type(inputs)(_in_double(value) for value in inputs)
    return inputs
