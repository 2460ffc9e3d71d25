"""The normalisations of a raw direction D by the weights W (Li et al. 2018, section 4, and its code)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from ..weights.parameters import FilterLayout, Params, Snapshot, filter_norms, norm, tensor_norm
from ..weights.sharding import cut, local, whole

EPSILON = 1e-10  # Li et al.: keeps a filter of zero noise at zero


def _filter(d: Tensor, w: Tensor, layout: FilterLayout) -> Tensor:
    if d.ndim <= 1:
        return TENSOR_WISE["layer"](d, w, layout)
    return layout.scale(d, filter_norms(w, layout) / (filter_norms(d, layout) + EPSILON))


def _dfilter(d: Tensor, w: Tensor, layout: FilterLayout) -> Tensor:
    if d.ndim <= 1:
        return TENSOR_WISE["dlayer"](d, w, layout)
    return layout.scale(d, 1 / (filter_norms(d, layout) + EPSILON))


TENSOR_WISE: dict[str, Callable[[Tensor, Tensor, FilterLayout], Tensor]] = {
    "filter": _filter,  # D_i ‖W_i‖ / (‖D_i‖ + 1e-10), i a filter
    "layer": lambda d, w, layout: d * (tensor_norm(w) / (tensor_norm(d) + EPSILON)),  # D ‖W‖ / (‖D‖ + 1e-10)
    "weight": lambda d, w, layout: d * w,  # D ⊙ W
    "dfilter": _dfilter,  # D_i / (‖D_i‖ + 1e-10)
    "dlayer": lambda d, w, layout: d / (tensor_norm(d) + EPSILON),  # D / (‖D‖ + 1e-10)
    "none": lambda d, w, layout: d,  # D
}
# "model" needs all tensors at once: D ‖θ‖ / ‖D‖ with norms over every perturbed tensor.
NORMALIZATIONS = (*TENSOR_WISE, "model")


def check_normalization(normalize: str) -> None:
    """Check the name of a normalisation.

    Raises:
        ValueError: if it is not one of NORMALIZATIONS.
    """
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"normalize={normalize!r} is unknown; the choices are {', '.join(NORMALIZATIONS)}.")


def rescale(direction: Params, snapshot: Snapshot, normalize: str) -> None:
    """Rescale a direction by the weights of the tensors it names, in their own memory.

    Tensors of at most one dimension have no filters: "filter" and "dfilter" treat each as one.

    Args:
        direction: raw noise for some of the snapshot's parameters.
        snapshot: the weights W and how they split into filters.
        normalize: one of NORMALIZATIONS.

    Raises:
        ValueError: if `normalize` is unknown.
    """
    check_normalization(normalize)
    if normalize == "model":
        factor = norm({name: snapshot.params[name] for name in direction}) / (norm(direction) + EPSILON)
        for tensor in direction.values():
            local(tensor).mul_(factor)
        return
    scaled = TENSOR_WISE[normalize]
    for name, tensor in direction.items():
        weight = whole(snapshot.params[name]).to(tensor.dtype)
        # The result has no name, which would keep it in memory until the next one is computed.
        local(tensor).copy_(local(cut(scaled(whole(tensor), weight, snapshot.filters[name]), like=tensor)))


def dead_filters(snapshot: Snapshot, names: Iterable[str]) -> int:
    """The number of filters of the named weights (2 dims or more) that are exactly zero.

    The normalisation "filter" leaves zero filters at rest.

    >>> import torch
    >>> weight = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    >>> dead_filters(Snapshot({"w": weight}, {"w": FilterLayout()}), ["w"])
    1
    """
    weights = [(snapshot.params[name], snapshot.filters[name]) for name in names]
    return sum(int((filter_norms(w, layout) == 0).sum()) for w, layout in weights if w.ndim > 1)
