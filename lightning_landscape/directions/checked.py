"""Checks of directions before a point is measured, with errors that say what to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from ..weights.parameters import Params, tensor_norm, working_dtype
from .site import Site


def checked_directions(directions: Callable[[Site, int], Any], site: Site, k: int) -> tuple[Params, ...]:
    """The k directions that a callable ``(site, k)`` gives.

    Raises:
        ValueError: if they are not k, or one does not fit the weights, is not finite or moves nothing.

    >>> from torch import nn
    >>> from ..weights.parameters import Snapshot
    >>> checked_directions(lambda site, k: site.params, Snapshot.of(nn.Linear(1, 1)), 2)
    Traceback (most recent call last):
    ValueError: directions gave a single dict, and 2 are needed: return a tuple of 2 mappings from names to tensors.
    """
    given = directions(site, k)
    advice = f"return a tuple of {k} mapping{'s' * (k > 1)} from names to tensors."
    if isinstance(given, Mapping | Tensor | str) or not isinstance(given, Iterable):
        raise ValueError(f"directions gave a single {type(given).__name__}, and {k} are needed: {advice}")
    result = tuple(given)
    if len(result) != k:
        raise ValueError(f"directions gave {len(result)}, and {k} are needed: {advice}")
    for i, direction in enumerate(result):
        if not isinstance(direction, Mapping):
            raise ValueError(f"Direction {i} is of type {type(direction).__name__}: {advice}")
        _check_names(i, direction, site.params)
        _check_tensors(i, direction, site.params)
        _check_length(i, direction)
    return result


def _check_names(i: int, direction: Params, params: Params) -> None:
    names = ", ".join(list(params)[:6])
    if missing := params.keys() - direction.keys():
        raise ValueError(
            f"Direction {i} has nothing for {sorted(missing)[0]!r}: give a tensor for each of the {len(params)} "
            f"trained parameters ({names}). Zeros keep one fixed."
        )
    if odd := direction.keys() - params.keys():
        raise ValueError(
            f"Direction {i} names {sorted(odd)[0]!r}, which is no trained parameter: leave it out. The trained "
            f"parameters are {names}."
        )


def _check_tensors(i: int, direction: Params, params: Params) -> None:
    for name, weight in params.items():
        tensor = direction[name]
        if not isinstance(tensor, Tensor):
            raise ValueError(f"Direction {i} has {type(tensor).__name__} for {name!r}: give a tensor.")
        allowed = {weight.dtype, working_dtype(weight.dtype)}
        for what, has, needed in (
            ("shape", tuple(tensor.shape), (tuple(weight.shape),)),
            ("device", tensor.device, (weight.device,)),
            ("dtype", tensor.dtype, allowed),
        ):
            if has not in needed:
                raise ValueError(
                    f"Direction {i} has {what} {has} for {name!r}, the parameter has "
                    f"{' or '.join(map(str, needed))}: make it like site.params[{name!r}]."
                )


def _check_length(i: int, direction: Params) -> None:
    lengths = {name: tensor_norm(tensor) for name, tensor in direction.items()}
    odd = next((name for name, length in lengths.items() if not math.isfinite(length)), None)
    if odd is not None:
        raise ValueError(f"Direction {i} is NaN or infinite in {odd!r}: give finite numbers.")
    if not any(lengths.values()):
        raise ValueError(
            f"Direction {i} is zero: it moves nothing. Give one that moves a weight, or a target of other weights."
        )
