"""Batches in small parts. Expected values: the naive loop over whole batches, or a closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_landscape import Plane
from lightning_landscape.accelerations.small_batches import small_batches
from lightning_landscape.evaluators import Sequential
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, LossFunction

POINTS = np.array([[0.0], [0.5], [-2.0]])


class Line(nn.Module):
    """One weight, at 1."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones((), dtype=torch.float64))


PLANE = Plane({"w": torch.ones((), dtype=torch.float64)}, ({"w": torch.ones((), dtype=torch.float64)},))


def batches(*sizes: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    data = [torch.randn(size, dtype=torch.float64, generator=generator) for size in sizes]
    return [Batch(x, len(x), i) for i, x in enumerate(data)]


class Seen:
    """A function of (module, data) that remembers the sizes it was given."""

    def __init__(self, function: Any) -> None:
        self.function, self.sizes = function, []

    def __call__(self, module: Any, data: Tensor) -> Any:
        self.sizes.append(len(data))
        return self.function(module, data)


def run(function: Any, given: list[Batch], calls: int = 1) -> tuple[Seen, list[float]]:
    """The values of the last of some calls, and the sizes it has seen."""
    seen = Seen(function)
    objective = LossFunction(seen)
    with small_batches(Sequential(Line()), given) as (evaluator, converted), preserved():
        for _ in range(calls):
            seen.sizes.clear()
            values = [row["loss"].value for row in evaluator(objective, PLANE, POINTS, converted)]
    return seen, values


def mean_square(module: Any, data: Tensor) -> Tensor:
    return ((module.w * data) ** 2).mean()


def test_means_are_measured_in_parts_of_64_and_a_rest() -> None:
    given = batches(150, 64, 100, 7)
    seen, values = run(mean_square, given, calls=2)
    whole = float(torch.cat([batch.data for batch in given]).square().mean())
    np.testing.assert_allclose(values, (1 + POINTS[:, 0]) ** 2 * whole, rtol=1e-13)
    once = [64, 64, 22, 64, 64, 36, 7]
    assert seen.sizes == [64, *once * 3], "after a rehearsal; the proof is made once"


def masked(module: Any, data: Tensor) -> Tensor:
    """A mean over those above −1: of parts with different numbers of them, no mean over samples."""
    return ((module.w * data) ** 2)[data > -1].mean()


def at_origin(module: Any, data: Tensor) -> Tensor:
    """A mean everywhere else, as a loss that turns where it is small: |L − b| + b."""
    return mean_square(module, data) * (len(data) if module.w == 1 else 1)


def off_axes(module: Any, data: Tensor) -> Tensor:
    """A mean at the origin alone."""
    return mean_square(module, data) * (1 if module.w == 1 else len(data))


@pytest.mark.parametrize("function", [masked, at_origin, off_axes])
def test_what_is_no_mean_over_samples_is_measured_whole(function: Any) -> None:
    given = batches(130, 90)
    seen, values = run(function, given)
    expected = []
    for (x,) in POINTS:
        module = Line()
        module.w.data += float(x)
        expected.append(sum(function(module, b.data).item() * b.size for b in given) / 220)
    np.testing.assert_allclose(values, expected, rtol=1e-13)
    assert seen.sizes[-7:] == [130, *[130, 90] * 3]


def test_what_holds_of_one_surface_is_not_taken_for_another() -> None:
    """The loss of the validation may be masked, that of the training not."""
    given = batches(130, 90)
    seen = Seen(masked)
    with small_batches(Sequential(Line()), given) as (evaluator, _), preserved():
        list(evaluator(LossFunction(mean_square), PLANE, POINTS, given))
        list(evaluator(LossFunction(seen), PLANE, POINTS, given))
    assert seen.sizes[-6:] == [130, 90] * 3


def test_a_last_batch_that_differs_tells() -> None:
    """Two batches would not: their masks take nothing away."""
    given = batches(128, 128, 100)
    for batch in given[:2]:
        batch.data.abs_()
    seen, _ = run(masked, given)
    assert seen.sizes[-3:] == [128, 128, 100]


def test_a_step_that_refuses_a_part_is_measured_whole() -> None:
    def refusing(module: Any, data: Tensor) -> Tensor:
        if len(data) < 70:
            raise ValueError("too few for me")
        return mean_square(module, data)

    seen, values = run(refusing, batches(80, 70))
    assert seen.sizes[-2:] == [80, 70]
    assert np.isfinite(values).all()


def test_batches_that_must_stay_whole_do() -> None:
    given = batches(100)
    objective = LossFunction(mean_square)
    objective.divisible = False
    seen: list[int] = []
    objective.function = lambda module, data: seen.append(len(data)) or mean_square(module, data)
    with small_batches(Sequential(Line()), given) as (evaluator, converted), preserved():
        list(evaluator(objective, PLANE, POINTS, converted))
    assert set(seen) == {100}


def test_it_is_not_for_small_batches_nor_for_other_devices() -> None:
    with pytest.raises(ValueError, match="small already"), small_batches(Sequential(Line()), batches(64, 3)):
        pass
    with pytest.raises(ValueError, match="not on a CPU"), small_batches(Sequential(Line().to("meta")), batches(65)):
        pass
