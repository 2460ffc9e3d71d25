"""Directions towards other models: planes through two, three or more sets of weights."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..local_paths import local_path
from ..weights.parameters import Params, Snapshot, canonical_name, working_dtype
from ..weights.sharding import whole

Weights = nn.Module | Params | str | PathLike
KEYS = ("state_dict", "model_state_dict", "model")  # the names of the state dict in checkpoints


@dataclass(frozen=True, eq=False)
class Between:
    """One direction to each target: dᵢ = θᵢ − θ*, so that θ* + dᵢ is target i (Goodfellow et al. 2015, section 3).

    Args:
        targets: modules of the same shape as the snapshot's, mappings of names to tensors, or files that
            `torch.save` or Lightning wrote.

    >>> net, target = nn.Linear(2, 1), nn.Linear(2, 1)
    >>> (towards,) = Between((target,))(Snapshot.of(net), 1)
    >>> torch.allclose(net.weight + towards["weight"], target.weight)
    True
    """

    targets: tuple[Weights, ...]

    def __call__(self, snapshot: Snapshot, k: int) -> tuple[Params, ...]:
        """The k directions, in the snapshot's names, shapes and precision.

        Raises:
            ValueError: if there are not k targets. Or if one lacks a parameter, has another shape, or differs in what
                does not move.
        """
        if len(self.targets) != k:
            raise ValueError(
                f"targets holds {len(self.targets)} models, and the number of directions is {k}: give one target a "
                "direction."
            )
        module = getattr(snapshot, "module", None)
        directions = []
        for i, target in enumerate(self.targets):
            weights = weights_of(target)
            if module is not None:
                check_frozen(module, weights)
            directions.append(_difference(weights, snapshot.params, i))
        return tuple(directions)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the targets, if they are files."""
        files = [target for target in self.targets if isinstance(target, str | PathLike)]
        return tuple(Path(target).name for target in files) if len(files) == len(self.targets) else ()

    def recipe(self) -> dict[str, Any]:
        """The settings, as plain JSON values."""
        return {"kind": "between", "targets": len(self.targets)}


def weights_of(source: Weights) -> dict[str, Tensor]:
    """Every tensor of a model by its canonical name: parameters and buffers; nothing is copied.

    Args:
        source: a module, a mapping of names to tensors, or a file. A file holds a state dict, or a checkpoint with
            one under one of `KEYS`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a file holds something else, or can't be read without executing code in it.
    """
    if isinstance(source, nn.Module):
        named: Mapping[str, Any] = {**dict(source.named_parameters()), **dict(source.named_buffers())}
    elif isinstance(source, str | PathLike):
        path = local_path("target", source)
        named = state_dict_of(read_checkpoint(path), path)
    else:
        named = source
    return {canonical_name(n): value.detach() for n, value in named.items() if isinstance(value, Tensor)}


def state_dict_of(content: object, path: Path) -> Mapping[str, Any]:
    """The state dict that the content of a file is, or has under one of `KEYS`.

    Raises:
        ValueError: if it has none.
    """
    for key in KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(
            f"{path} holds no state dict: save model.state_dict(), or a mapping with one under one of "
            f"{', '.join(KEYS)}."
        )
    return content


def read_checkpoint(path: Path) -> Any:
    """The content of a file that `torch.save` wrote; nothing in it is executed."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than weights, such as hyper-parameters of classes of your own, or is damaged; it is "
            "not unpickled, since that could run code in it. If you trust it, give its weights: "
            f'torch.load("{path}", weights_only=False)["state_dict"].'
        ) from error
    except Exception as error:  # a damaged file makes torch raise nearly anything
        raise ValueError(
            f"{path} is damaged or is no checkpoint ({' '.join(str(error).split())}): give a file that torch.save "
            "wrote."
        ) from error


def check_frozen(net: nn.Module, target: Weights) -> None:
    """Check that a target does not differ from the net in frozen parameters, which do not move.

    Raises:
        ValueError: if it does.
    """
    frozen = {canonical_name(name): p for name, p in net.named_parameters() if not p.requires_grad}
    weights = weights_of(target) if frozen else {}
    for name, tensor in frozen.items():
        still = whole(tensor)
        if name in weights and not torch.equal(weights[name].to(still), still):
            raise ValueError(
                f"The target model differs in {name!r}, which is frozen (requires_grad=False) and would not move: "
                "call requires_grad_(True) on it."
            )


def _difference(target: Params, origin: Params, which: int) -> dict[str, Tensor]:
    missing = sorted(origin.keys() - target.keys())
    if missing:
        raise ValueError(
            f"Target model {which} has no {missing[0]!r}: it must be of the same architecture; it has "
            f"{', '.join(list(target)[:4])}, …"
        )
    result = {}
    for name, tensor in origin.items():
        tensor = whole(tensor)
        if target[name].shape != tensor.shape:
            raise ValueError(
                f"Target model {which} has shape {tuple(target[name].shape)} for {name!r}, the model has "
                f"{tuple(tensor.shape)}: they must be of the same architecture."
            )
        precise = working_dtype(tensor.dtype)
        end, start = target[name].to(tensor.device, precise), tensor.to(precise)
        result[name] = torch.where(end == start, 0, end - start)  # a mask of -inf has no difference
    return result
