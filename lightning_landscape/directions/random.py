"""Random directions: Gaussian noise rescaled by the weights (Li et al. 2018, section 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..isolation.rng import keyed_seed
from ..weights.parameters import CHUNK, Params, Snapshot, dot, exact, norm, working_dtype
from ..weights.sharding import cut, local, whole, zero
from .ignore import ignored_names, plain_ignore
from .normalize import check_normalization, rescale

VECTORS = ("random", "copy")


@dataclass(frozen=True)
class Random:
    """k directions of Gaussian noise, rescaled by the weights.

    The raw noise of a tensor depends on (seed, direction, parameter name, shape) alone. It is drawn on the CPU in
    float32. So two checkpoints of one model, or two ranks, share their raw directions.

    Where only k numbers may move, the directions are their axes, normalised alike. Where that gives zero, the length
    is 1. So y = w x + b has its surface over w and b with ``ignore=None``.

    Args:
        normalize: ``"filter"`` (Li et al.'s), ``"layer"``, ``"weight"``, ``"dfilter"``, ``"dlayer"``,
            ``"model"`` or ``"none"``; the formulas stand in `normalize.py`.
        ignore: the parameters that stay at rest, as in `ignored_names`.
        orthogonalize: make the directions orthogonal (Gram–Schmidt in float64), then normalise again, three
            times; the remaining cosine is in the landscape's recipe.
        seed: of the noise.
        vectors: the directions of tensors of at most one dimension that are not ignored: noise, or a
            ``"copy"`` of the weights as in Li et al.'s code. All directions share this copy.

    Raises:
        ValueError: for an unknown `normalize` or `vectors`.

    >>> snapshot = Snapshot.of(torch.nn.Linear(3, 2))
    >>> d, e = Random(seed=0)(snapshot, 2)
    >>> bool(torch.isclose(d["weight"].norm(dim=1), snapshot.params["weight"].norm(dim=1)).all())
    True
    >>> d["bias"]
    tensor([0., 0.])
    """

    normalize: str = "filter"
    ignore: str | Sequence[str] | None = "biasbn"
    orthogonalize: bool = False
    seed: int = 42
    vectors: Literal["random", "copy"] = "random"

    def __post_init__(self) -> None:
        check_normalization(self.normalize)
        if self.vectors not in VECTORS:
            raise ValueError(f"vectors={self.vectors!r} is unknown; the choices are {', '.join(VECTORS)}.")

    def __call__(self, snapshot: Snapshot, k: int) -> tuple[Params, ...]:
        """The k directions, with the names and shapes of ``snapshot.params``.

        Raises:
            ValueError: if a pattern of `ignore` matches nothing, or too few weights may move.
        """
        at_rest = ignored_names(snapshot, self.ignore)
        moving = [name for name in snapshot.params if name not in at_rest]
        if sum(_numbers(snapshot.params[name]).numel() for name in moving) == k:
            return tuple(completed(self._axis(snapshot, moving, i), snapshot) for i in range(k))
        directions = [self._noise(snapshot, moving, i) for i in range(k)]
        for direction in directions:
            self._rescale(direction, snapshot)
        self._check(directions)
        if self.orthogonalize:
            self._orthogonalize(directions, snapshot)
            self._check(directions)
        return tuple(completed(direction, snapshot) for direction in directions)

    def beside(self, leading: Sequence[Params], snapshot: Snapshot, k: int) -> tuple[Params, ...]:
        """Random directions that make leading ones k, orthogonal to them and to each other.

        Their noise is that of the same places among k random directions.

        Raises:
            ValueError: as when called.
        """
        at_rest = ignored_names(snapshot, self.ignore)
        moving = [name for name in snapshot.params if name not in at_rest]
        fixed = [{name: direction[name] for name in moving} for direction in leading]
        directions = [self._noise(snapshot, moving, i) for i in range(len(leading), k)]
        for direction in directions:
            self._rescale(direction, snapshot)
        self._check(directions, first=len(leading))
        fixed = [direction for direction in fixed if norm(direction) > 0]
        self._orthogonalize(directions, snapshot, fixed)
        for i, direction in enumerate(directions):  # once more, without the rescaling that tilts them
            _project_out(direction, [*fixed, *directions[:i]])
        self._check(directions, first=len(leading))
        return tuple(completed(direction, snapshot) for direction in directions)

    def _orthogonalize(
        self,
        directions: Sequence[dict[str, Tensor]],
        snapshot: Snapshot,
        fixed: Sequence[Params] = (),
        rounds: int = 3,
        rounding: float = 1e-6,
    ) -> None:
        """Make directions orthogonal to each other and to `fixed` ones, in their own memory.

        Each normalisation tilts them a little again, hence several rounds of Gram–Schmidt. `rounding` is the share of a
        direction outside the span of the earlier ones that may be float32 noise.
        """
        for _ in range(rounds):
            for i, direction in enumerate(directions):
                length = norm(direction)
                _project_out(direction, [*fixed, *directions[:i]])
                if norm(direction) <= rounding * length:
                    raise ValueError(
                        f"Direction {i + len(fixed)} cannot be made orthogonal to the {i + len(fixed)} before it: too "
                        f"few weights may move for k={len(fixed) + len(directions)} directions. Give fewer directions, "
                        "ignore less, or orthogonalize=False."
                    )
                self._rescale(direction, snapshot)

    def _check(self, directions: Sequence[Params], first: int = 0) -> None:
        for i, direction in enumerate(directions, start=first):
            length = norm(direction)
            if not math.isfinite(length):
                raise ValueError(
                    f"Direction {i} is not finite, since some weights are NaN or infinite: measure weights from before "
                    "they became so."
                )
            if length == 0:
                raise ValueError(
                    f"Direction {i} is zero: every weight that may move is zero, and normalize="
                    f"{self.normalize!r} scales by the weights. Try normalize='dfilter' or ignore=None."
                )

    def recipe(self) -> dict[str, Any]:
        """The settings, as plain JSON values."""
        return {"kind": "random", **asdict(self), "ignore": plain_ignore(self.ignore)}

    def _noise(self, snapshot: Snapshot, names: list[str], direction: int) -> dict[str, Tensor]:
        noise = {}
        for name in names:
            weight = snapshot.params[name]
            generator = torch.Generator().manual_seed(keyed_seed(self.seed, direction, name))
            drawn = torch.complex64 if weight.is_complex() else torch.float32
            raw = torch.randn(weight.shape, generator=generator, dtype=drawn)
            noise[name] = cut(raw.to(weight.device, working_dtype(weight.dtype)), like=weight)
        return noise

    def _axis(self, snapshot: Snapshot, names: list[str], which: int) -> dict[str, Tensor]:
        """The direction that moves one of the numbers of the named parameters."""
        axis, place = {}, which
        for name in names:
            weight = snapshot.params[name]
            raw = torch.zeros(weight.shape, dtype=working_dtype(weight.dtype))
            numbers = _numbers(raw)
            if 0 <= place < len(numbers):
                numbers[place] = 1.0
            place -= len(numbers)
            axis[name] = cut(raw.to(weight.device), like=weight)
        scaled = {name: tensor.clone() for name, tensor in axis.items()}
        rescale(scaled, snapshot, self.normalize)
        if not norm(scaled):
            return axis
        self._check([scaled], first=which)
        return scaled

    def _rescale(self, direction: dict[str, Tensor], snapshot: Snapshot) -> None:
        rescale(direction, snapshot, self.normalize)
        if self.vectors == "copy":
            for name, tensor in direction.items():
                if tensor.ndim <= 1:
                    local(tensor).copy_(local(snapshot.params[name]))


def _numbers(tensor: Tensor) -> Tensor:
    """The real numbers of a tensor, shape (n,), as a view where possible."""
    tensor = whole(tensor)
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).reshape(-1)


def _project_out(direction: Params, earlier: Sequence[Params]) -> None:
    """Subtract from `direction`, in its own memory, its components along the earlier ones."""
    for other in earlier:
        share = dot(other, direction) / dot(other, other)
        for name, tensor in direction.items():
            pieces, along_pieces = (local(t).view(-1).split(CHUNK) for t in (tensor, other[name]))
            for part, along in zip(pieces, along_pieces, strict=True):
                part.copy_(exact(part) - share * exact(along))


def completed(direction: dict[str, Tensor], snapshot: Snapshot) -> dict[str, Tensor]:
    """The direction over all parameters; those at rest get a zero that takes no memory."""
    return {
        name: direction[name] if name in direction else zero(weight, working_dtype(weight.dtype))
        for name, weight in snapshot.params.items()
    }
