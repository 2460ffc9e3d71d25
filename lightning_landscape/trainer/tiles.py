"""Tiles: the losses of single samples on the plane, and the module's predictions for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..evaluators import Sequential
from ..landscape import Sample
from ..objectives.base import Batch, Objective, Observation
from ..objectives.batches import leaves
from ..objectives.loss_calls import Call, LossCalls
from ..weights.plane import Plane
from .frozen import FrozenData

BINARY = (F.binary_cross_entropy, F.binary_cross_entropy_with_logits)
CLASSIFYING = (F.cross_entropy, F.nll_loss, *BINARY)


class EachSample(Objective):
    """The main loss of every tile as a metric of its own, named by the tile's place 0, 1, ….

    Given single-sample batches, it is the objective itself. Given one batch of all tiles, it takes one pass instead
    of B. This works for losses of `torch.nn.functional` whose mean the step returns: they are called again without
    their mean. It works too for objectives that give (B,) themselves.

    Args:
        objective: the objective of the surface.
        main: the name of its loss.
        places: of each batch's tiles, by ``id(batch)``.
    """

    divisible = False  # batches are known by their identity

    def __init__(self, objective: Objective, main: str, places: dict[int, list[int]]) -> None:
        self.objective, self.main_name, self.places = objective, main, places
        self.rehearse, self.start = objective.rehearse, objective.start  # type: ignore[method-assign]
        self.singles: list[Batch] = []

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """One observation a tile.

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
                losses = list(_separate_losses(loss, seen.calls, batch.size))
            except NotSeparable:
                if not self.singles:
                    raise
                observations = [self.objective(module, b).get(self.main_name) for b in self.singles]
                losses = [float("nan") if o is None else o.value for o in observations]
        return {str(place): Observation(value, 1) for place, value in zip(places, losses, strict=True)}


class NotSeparable(Exception):
    """The loss of a batch can't be split into those of its samples."""


def _separate_losses(loss: Tensor | float, calls: Sequence[Call], size: int) -> Tensor:
    """The losses of the samples, whose mean one of these calls has given."""
    for function, arguments, result in reversed(calls):
        if not isinstance(loss, Tensor) or result.numel() != 1 or arguments["reduction"] != "mean":
            continue
        # The step may detach or reshape the result of the function; the number tells which call it was.
        if torch.allclose(loss, result.reshape(()), rtol=0, atol=0, equal_nan=True):
            losses = function(**{**arguments, "reduction": "none"})  # a call that other function modes may see
            if losses.numel() % size == 0:
                return losses.reshape(size, -1).mean(dim=1)
    raise NotSeparable


def tile_stream(
    evaluator: Sequential, objective: Objective, main: str, plane: Plane, data: FrozenData, tolerance: float = 1e-5
) -> tuple[EachSample, list[Batch]]:
    """The objective and the batches of the tiles.

    All tiles go in one batch if that proves equal, else each goes alone. The one-batch form is tried at the origin
    and at a point off the axes against every tile alone.

    Args:
        evaluator: measures the trial.
        objective: the objective of the surface.
        main: the name of its loss.
        plane: on which the tiles lie.
        data: of the surface, with the tiles.
        tolerance: relative, in float32.
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
        scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
        if np.allclose(got, expected, rtol=tolerance, atol=tolerance * scale, equal_nan=True):
            together.singles = data.singles  # for a point at which the step goes another way
            return together, [data.together]
    return single, data.singles


def _table(
    evaluator: Sequential, objective: EachSample, plane: Plane, points: NDArray[np.float64], batches: list[Batch]
) -> NDArray[np.float64]:
    """The losses of shape (points, tiles)."""
    rows = evaluator(objective, plane, points, batches)
    return np.array([[row[str(i)].value for i in range(len(row))] for row in rows])


def describe(
    evaluator: Sequential, objective: Objective, main: str, plane: Plane, singles: Sequence[Batch]
) -> tuple[Sample, ...]:
    """The loss, class, prediction, probability and picture of each tile at the origin."""
    origin = np.zeros((1, plane.ndim))
    result = []
    for batch in singles:
        watched = _WatchedObjective(objective)
        values = next(iter(evaluator(watched, plane, origin, [batch])))
        label, prediction, probability = classification(watched.calls)
        result.append(Sample(batch.sample, values[main].value, label, prediction, probability, thumbnail(batch.data)))
    return tuple(result)


class _WatchedObjective(Objective):
    """An objective whose calls of loss functions are remembered."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.calls: list[Call] = []
        self.start, self.finish = objective.start, objective.finish  # type: ignore[method-assign]

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        with LossCalls() as seen:
            observations = self.objective(module, batch)
        self.calls = seen.calls
        return observations


def classification(calls: Sequence[Call]) -> tuple[int | None, int | None, float | None]:
    """(y, ŷ, probability of ŷ) of one sample from the loss functions called on it; None where it is no class.

    Exactly one call must classify: of several heads, nobody knows which one to ask.

    >>> with LossCalls() as seen:
    ...     _ = F.cross_entropy(torch.tensor([[0.0, 0.0, 100.0]]), torch.tensor([1]))
    >>> classification(seen.calls)
    (1, 2, 1.0)
    """
    results = []
    for function, arguments, _ in calls:
        if function not in CLASSIFYING:
            continue
        scores, target = arguments["input"].detach(), arguments["target"].detach()
        if function in (F.cross_entropy, F.nll_loss):
            single = scores.ndim == 2 and len(scores) == 1 and target.shape == (1,)
            if single and 0 <= int(target) < scores.shape[1] and int(target) != arguments["ignore_index"]:
                chances = scores.double().softmax(1) if function is F.cross_entropy else scores.double().exp()
                results.append((int(target), int(chances.argmax()), float(chances.max())))
        elif function in BINARY and scores.numel() == target.numel() == 1 and float(target) in (0.0, 1.0):
            chance = float(scores if function is F.binary_cross_entropy else scores.double().sigmoid())
            results.append((int(target), int(chance > 0.5), max(chance, 1 - chance)))
    return results[0] if len(results) == 1 else (None, None, None)


def thumbnail(data: object, pixels: int = 64) -> NDArray[np.uint8] | None:
    """The picture in a single-sample batch, shape (height, width, 3), stretched to 0–255; or None.

    A picture is the first tensor, if its shape is (1, channels, height, width). It must have 1, 3 or 4 channels and
    at least 4 pixels a side.

    Args:
        data: the batch.
        pixels: sides over so many are thinned out.

    >>> thumbnail([torch.rand(1, 1, 8, 8), torch.tensor([3])]).shape
    (8, 8, 3)
    >>> thumbnail(torch.rand(1, 20)) is None
    True
    """
    first = next((leaf for leaf in leaves(data) if isinstance(leaf, Tensor)), None)
    if first is None or first.ndim != 4 or first.shape[1] not in (1, 3, 4) or min(first.shape[2:]) < 4:
        return None
    picture = first[0, :3].detach().double().cpu()
    stride = -(-max(picture.shape[1:]) // pixels)
    picture = picture[:, ::stride, ::stride].nan_to_num(0.0, 0.0, 0.0)
    low, high = picture.min(), picture.max()
    stretched = (picture - low) / (high - low).clamp(min=1e-12) * 255
    return stretched.round().to(torch.uint8).permute(1, 2, 0).expand(-1, -1, 3).contiguous().numpy()
