"""The direction in which the loss rises most: the gradient of the frozen data's mean loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from ..evaluators.gradient import mean_gradient
from ..objectives.base import CannotMeasureError
from ..weights.parameters import Params, Snapshot, norm
from .ignore import ignored_names, plain_ignore
from .random import Random, completed
from .site import Site


@dataclass(frozen=True, eq=False)
class Gradient:
    """∇L(θ*) of the mean loss of the frozen data, in the mode of the landscape. The loss rises to the right.

    Its length is that of the weights that move, ‖θ*‖. So has a filter-normalised random direction. Both axes have one
    scale then, and angles in a picture are those between weights.

    The second direction is random and orthogonal to it, as all further ones are. To first order, the loss changes
    along the first axis alone. The second shows nothing but curvature.

    Args:
        normalize: how the random directions are scaled, as in `Random`.
        ignore: the parameters that stay at rest. The gradient is that by the parameters that may move.
        seed: of the random directions, and of the random numbers that all points share.

    Attributes:
        labels: after a call, the directions in words.

    >>> from torch import nn, tensor
    >>> from ..objectives.base import Batch, LossFunction
    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.weight.data.copy_(tensor([[3.0, 4.0]]))
    >>> first = LossFunction(lambda module, batch: module.weight[0, 0])
    >>> (d,) = Gradient()(Site.at(Snapshot.of(net), net, first, [Batch(None, 1)]), 1)
    >>> d["weight"]  # (1, 0) in the length of the weights, 5
    tensor([[5., 0.]])
    """

    normalize: str = "filter"
    ignore: str | Sequence[str] | None = "biasbn"
    seed: int = 42
    labels: tuple[str, ...] = field(default=(), init=False, repr=False)
    needs: ClassVar[tuple[str, ...]] = ("gradient",)

    def __call__(self, site: Snapshot, k: int) -> tuple[Params, ...]:
        """The k directions.

        Raises:
            CannotMeasureError: if the loss has no gradient, or it is zero.
        """
        gradient = loss_gradient(site, self.seed)
        at_rest = ignored_names(site, self.ignore)
        moving = {name: tensor for name, tensor in gradient.items() if name not in at_rest}
        slope = norm(moving) if moving else 0.0
        if slope == 0:
            raise CannotMeasureError(
                "The gradient is zero: the weights that may move do not change the loss, or they are at a stationary "
                "point. Choose other directions, or ignore less."
            )
        scale = moving_length(site, at_rest) / slope
        first = completed({name: tensor * scale for name, tensor in moving.items()}, site)
        object.__setattr__(self, "labels", ("gradient", *["random"] * (k - 1)))
        return (first, *Random(self.normalize, self.ignore, seed=self.seed).beside((first,), site, k))

    def rehearse(self, site: Site) -> None:
        """Find out whether the loss has a gradient.

        Raises:
            CannotMeasureError: if not.
        """
        loss_gradient(site, self.seed)

    def recipe(self) -> dict[str, Any]:
        """The settings, as plain JSON values."""
        random = {"normalize": self.normalize, "seed": self.seed}
        return {"kind": "gradient", "ignore": plain_ignore(self.ignore), "random": random}


def loss_gradient(site: Snapshot, seed: int, *, dense: bool = True) -> dict[str, Tensor]:
    """The gradient of the mean loss of a site's data at its weights, by name.

    Args:
        site: with module, objective and batches.
        seed: of the random numbers that all points share.
        dense: sparse gradients as dense tensors.

    Raises:
        CannotMeasureError: if the loss has no gradient, or the site has no loss.
    """
    if not isinstance(site, Site) or site.module is None or site.objective is None or not site.batches:
        raise CannotMeasureError(
            "A gradient needs a loss and data: give a Site with module, objective and batches, or choose the kind by "
            "its name in LossLandscapeCallback or LossLandscape."
        )
    gradient = mean_gradient(site.module, site.objective, site.params, site.batches, seed)
    if not dense:
        return gradient
    return {
        name: (t if t.layout is site.params[name].layout else t.to_dense()).contiguous() for name, t in gradient.items()
    }


def moving_length(site: Snapshot, at_rest: frozenset[str]) -> float:
    """The length of the weights that move; 1 where they are all zero."""
    return norm({name: tensor for name, tensor in site.params.items() if name not in at_rest}) or 1.0
