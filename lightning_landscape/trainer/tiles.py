"""Single samples: their own losses on the plane, and what the module says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..evaluators import Sequential
from ..landscape import Sample
from ..objectives.base import Batch, Objective, Observation
from ..objectives.batches import leaves
from ..objectives.loss_calls import LossCalls
from ..weights.plane import Plane
from .frozen import FrozenData

BINARY = (F.binary_cross_entropy, F.binary_cross_entropy_with_logits)
CLASSIFYING = (F.cross_entropy, F.nll_loss, *BINARY)
TOLERANCE = 1e-5  # of the one-pass losses against each sample alone, relative, float32
THUMBNAIL_PIXELS = 64


class EachSample(Objective):
    """The main loss of every tile sample as a metric of its own, named by the sample's place 0, 1, ….

    Given single-sample batches, it is the objective itself. Given one batch of all samples, it asks the loss
    function that the step called for the losses before their mean: one pass instead of B, for losses of
    `torch.nn.functional` whose mean the step returns, and for objectives that give (B,) themselves.

    Args:
        objective: the objective of the surface.
        main: the name of its loss.
        places: of each batch's samples, by ``id(batch)``.
    """

    divisible = False  # batches are known by their identity

    def __init__(self, objective: Objective, main: str, places: dict[int, list[int]]) -> None:
        self.objective, self.main_name, self.places = objective, main, places
        self.singles: list[Batch] = []

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """Rehearse the objective of the surface."""
        self.objective.rehearse(module, batch)

    def start(self) -> None:
        """Start the objective of the surface."""
        self.objective.start()

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """One observation a sample.

        Raises:
            NotSeparable: if the losses of a batch can't be told apart.
        """
        places = self.places[id(batch)]
        with LossCalls() as seen:
            observed = self.objective(module, batch).get(self.main_name)
        loss = observed.value if observed is not None else float("nan")
        if batch.size == 1:
            losses = [loss]
        elif isinstance(loss, Tensor) and loss.shape == (batch.size,):
            losses = list(loss)
        else:
            try:
                losses = list(_before_the_mean(loss, seen.calls, batch.size))
            except NotSeparable:
                if not self.singles:
                    raise
                observed_singly = [self.objective(module, b).get(self.main_name) for b in self.singles]
                losses = [float("nan") if o is None else o.value for o in observed_singly]
        return {str(place): Observation(value, 1) for place, value in zip(places, losses, strict=True)}


class NotSeparable(Exception):
    """The loss of a batch can't be split into those of its samples."""


def _before_the_mean(loss: Any, calls: list[Any], size: int) -> Tensor:
    for function, arguments, result in reversed(calls):
        # The step may detach or reshape what the function gave it; the number tells which call it was.
        scalar = isinstance(loss, Tensor) and result.numel() == 1
        same = scalar and torch.allclose(loss, result.reshape(()), rtol=0, atol=0, equal_nan=True)
        if same and arguments["reduction"] == "mean":
            parts = function(**{**arguments, "reduction": "none"})  # a call that others may see
            if parts.numel() % size == 0:
                return parts.reshape(size, -1).mean(dim=1)
    raise NotSeparable


def tile_stream(
    evaluator: Sequential, objective: Objective, main: str, plane: Plane, data: FrozenData
) -> tuple[EachSample, list[Batch]]:
    """The objective and the batches of the tiles.

    All samples go in one batch if that proves equal, else each goes alone. The one-batch form is tried at the origin
    and at a point off the axes against every sample alone.
    """
    single = EachSample(objective, main, {id(b): [i] for i, b in enumerate(data.singles)})
    if data.together is not None and len(data.singles) > 1:
        together = EachSample(objective, main, {id(data.together): list(range(len(data.singles)))})
        points = np.array([[0.0] * plane.ndim, [0.37 - 0.2 * i for i in range(plane.ndim)]])
        try:
            expected = _table(evaluator, single, plane, points, data.singles)
            got = _table(evaluator, together, plane, points, [data.together])
        except Exception:  # noqa: BLE001  # not separable; or a step that refuses the point off the axes
            return single, data.singles
        sizes = np.abs(expected[np.isfinite(expected)])
        if np.allclose(got, expected, rtol=TOLERANCE, atol=TOLERANCE * sizes.max(initial=0.0), equal_nan=True):
            together.singles = data.singles  # for a point at which the step goes another way
            return together, [data.together]
    return single, data.singles


def _table(
    evaluator: Sequential,
    objective: EachSample,
    plane: Plane,
    points: NDArray[np.float64],
    batches: list[Batch],
) -> NDArray[np.float64]:
    rows = evaluator(objective, plane, points, batches)
    return np.array([[row[str(i)].value for i in range(len(row))] for row in rows])


def describe(
    evaluator: Sequential, objective: Objective, main: str, plane: Plane, singles: Sequence[Batch]
) -> tuple[Sample, ...]:
    """The facts about each sample at the origin: its loss, class, prediction, probability and picture."""
    origin = np.zeros((1, plane.ndim))
    result = []
    for batch in singles:
        watch = _Watch(objective)
        measured = next(iter(evaluator(watch, plane, origin, [batch])))
        label, prediction, probability = classification(watch.calls)
        result.append(Sample(batch.sample, measured[main].value, label, prediction, probability, thumbnail(batch.data)))
    return tuple(result)


class _Watch(Objective):
    """An objective whose calls of loss functions are remembered."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.calls: list[Any] = []
        self.start, self.finish = objective.start, objective.finish  # type: ignore[method-assign]

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        with LossCalls() as seen:
            observations = self.objective(module, batch)
        self.calls = seen.calls
        return observations


def classification(calls: list[Any]) -> tuple[int | None, int | None, float | None]:
    """(y, ŷ, probability of ŷ) of one sample from the loss functions called on it; None where it is no class.

    Exactly one classifying call is asked for: of several heads nobody knows which one speaks.

    >>> with LossCalls() as seen:
    ...     _ = F.cross_entropy(torch.tensor([[0.0, 0.0, 100.0]]), torch.tensor([1]))
    >>> classification(seen.calls)
    (1, 2, 1.0)
    """
    found = []
    for function, arguments, _ in calls:
        if function not in CLASSIFYING:
            continue
        scores, target = arguments["input"].detach(), arguments["target"].detach()
        if function in (F.cross_entropy, F.nll_loss):
            single = scores.ndim == 2 and len(scores) == 1 and target.shape == (1,)
            if single and 0 <= int(target) < scores.shape[1] and int(target) != arguments["ignore_index"]:
                chances = scores.double().softmax(1) if function is F.cross_entropy else scores.double().exp()
                found.append((int(target), int(chances.argmax()), float(chances.max())))
        elif function in BINARY and scores.numel() == target.numel() == 1 and float(target) in (0.0, 1.0):
            chance = float(scores if function is F.binary_cross_entropy else scores.double().sigmoid())
            found.append((int(target), int(chance > 0.5), max(chance, 1 - chance)))
    return found[0] if len(found) == 1 else (None, None, None)


def thumbnail(data: Any) -> NDArray[np.uint8] | None:
    """The picture in a single-sample batch, shape (height, width, 3), stretched to 0–255; or None.

    A picture is the first tensor, if its shape is (1, channels, height, width) with 1, 3 or 4 channels and at
    least 4 pixels a side; sides over 64 pixels are thinned out.

    >>> thumbnail([torch.rand(1, 1, 8, 8), torch.tensor([3])]).shape
    (8, 8, 3)
    >>> thumbnail(torch.rand(1, 20)) is None
    True
    """
    first = next((leaf for leaf in leaves(data) if isinstance(leaf, Tensor)), None)
    if first is None or first.ndim != 4 or first.shape[1] not in (1, 3, 4) or min(first.shape[2:]) < 4:
        return None
    picture = first[0, :3].detach().double().cpu()
    stride = -(-max(picture.shape[1:]) // THUMBNAIL_PIXELS)
    picture = picture[:, ::stride, ::stride].nan_to_num(0.0, 0.0, 0.0)
    low, high = picture.min(), picture.max()
    stretched = (picture - low) / (high - low).clamp(min=1e-12) * 255
    return stretched.round().to(torch.uint8).permute(1, 2, 0).expand(-1, -1, 3).contiguous().numpy()
