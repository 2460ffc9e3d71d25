"""Several points in one call. Expected values: a loop over functional_call, or a closed form."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_landscape.accelerations.small_batches import small_batches
from lightning_landscape.evaluators import Sequential, Vmapped, vmapped
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, LossFunction, Objective, Observation
from lightning_landscape.weights.plane import Plane

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
POINTS = np.linspace(-1, 1, 8)[:, None]
SQUARES = 2 * POINTS[:, 0] ** 2


def toy() -> nn.Module:
    module = nn.Module()
    module.w = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    return module


def run(objective: Any, batches: list[Batch] | None = None, at_once: int = 3) -> list[dict[str, Any]]:
    """At POINTS on the line through 0 along (1, 1)."""
    plane = Plane({"w": torch.zeros(2, dtype=torch.float64)}, ({"w": torch.ones(2, dtype=torch.float64)},))
    objective = objective if isinstance(objective, Objective) else LossFunction(objective)
    with preserved():
        return list(Vmapped(Sequential(toy()), at_once)(objective, plane, POINTS, batches or [Batch(None, 1)]))


@pytest.fixture
def one_by_one() -> None:
    """Says that a test is about points that can't be measured together."""


@pytest.fixture(autouse=True)
def _as_it_should_be(request, caplog) -> Iterator[None]:
    """What goes wrong in a chunk is measured one by one: right, but not what these tests are about."""
    caplog.set_level(logging.DEBUG, "lightning_landscape")
    yield
    told = " ".join(record.getMessage() for record in caplog.get_records("call"))
    assert ("one by one" in told) == ("one_by_one" in request.fixturenames)


def column(rows: list[dict[str, Any]], name: str = "loss", field: str = "value") -> np.ndarray:
    return np.array([getattr(row[name], field) for row in rows])


def parabola(module: nn.Module, data: Any) -> Tensor:
    return (module.w**2).sum()


@pytest.mark.parametrize("at_once", [2, 3, 11, 20])
def test_it_equals_the_naive_loop_over_uneven_batches(
    net, mean_cross_entropy, plane, points, batches, losses, dtype, at_once
):
    with preserved():
        evaluator = Vmapped(Sequential(net.eval()), at_once)
        rows = list(evaluator(LossFunction(mean_cross_entropy), plane, points, batches))
    np.testing.assert_allclose(column(rows), losses.mean(axis=1), rtol=TOLERANCE[dtype], atol=0)


def test_the_error_over_samples_is_the_textbook_one(net, cross_entropy, plane, points, batches, losses, dtype, student):
    with preserved():
        rows = list(Vmapped(Sequential(net.eval()), 4)(LossFunction(cross_entropy), plane, points, batches))
    expected = losses.std(axis=1, ddof=1) / np.sqrt(17) * student(17)
    np.testing.assert_allclose(column(rows, field="standard_error"), expected, rtol=10 * TOLERANCE[dtype])


def test_a_chunk_takes_one_call_a_batch():
    calls = []

    def counted(module: nn.Module, data: Any) -> Tensor:
        calls.append(module.w.shape)
        return parabola(module, data)

    np.testing.assert_allclose(column(run(counted)), SQUARES, rtol=1e-12)
    # Two chunks of three, the point that proves the first, the last two points, with one rehearsal for each of these.
    assert len(calls) == (1 + 2) + (1 + 1) + (1 + 2)
    assert set(calls) == {(2,)}, "the step sees the shapes of one point"


def test_several_metrics_reductions_and_plain_numbers():
    class Several(Objective):
        def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
            low = module.w.min() * batch.data
            return {"low": Observation(low, batch.size, "min"), "n": Observation(batch.data, batch.size)}

    rows = run(Several(), [Batch(1.0, 3), Batch(2.0, 1)])
    np.testing.assert_allclose(column(rows, "low"), np.minimum(POINTS, 2 * POINTS)[:, 0], rtol=1e-12)
    np.testing.assert_allclose(column(rows, "n"), 5 / 4, rtol=1e-12)


def test_every_chunk_starts_anew():
    class Counts(Objective):
        def start(self) -> None:
            self.calls = 0

        def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
            self.calls += 1
            return {"loss": Observation(module.w.sum() * self.calls, 1)}

    np.testing.assert_allclose(column(run(Counts(), [Batch(None, 1)] * 2)), 2 * POINTS[:, 0] * 1.5, rtol=1e-12)


def test_all_points_share_their_random_numbers():
    def noise(module: nn.Module, data: Any) -> Tensor:
        return module.w.sum() * 0 + torch.rand(()) + np.random.rand()  # noqa: NPY002

    first, *others = column(run(noise))
    with preserved():
        torch.manual_seed(42)
        np.random.seed(42)  # noqa: NPY002
        assert first == pytest.approx(float(torch.rand(())) + np.random.rand(), rel=1e-6)  # noqa: NPY002
    assert others == [first] * 7


def decides(module: nn.Module, data: Any) -> Tensor:
    return parabola(module, data) if float(module.w.sum()) < 1e9 else torch.zeros(())


def edits(module: nn.Module, data: Any) -> Tensor:
    data.mul_(0).add_(module.w)
    return (data**2).sum()


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("step", [decides, edits])
def test_what_can_not_be_done_for_several_points_is_done_for_each(step: Callable):
    batches = [Batch(torch.zeros(2, dtype=torch.float64), 1)]
    np.testing.assert_allclose(column(run(step, batches)), SQUARES, rtol=1e-12)


@pytest.mark.usefixtures("one_by_one")
def test_metrics_of_the_whole_set_are_those_of_each_point():
    class Whole(Objective):
        def start(self) -> None:
            self.seen: list[Any] = []

        def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
            self.seen.append((module.w**2).sum())
            return {"zero": Observation(0.0, 1)}

        def finish(self) -> dict[str, Any]:
            return {"loss": self.seen[0]}

    np.testing.assert_allclose(column(run(Whole())), SQUARES, rtol=1e-12)


@pytest.mark.usefixtures("one_by_one")
def test_a_step_that_raises_at_a_point_raises_there():
    def refuses(module: nn.Module, data: Any) -> Tensor:
        if module.w[0] > 0.5:
            raise ArithmeticError("too far")
        return parabola(module, data)

    plane = Plane({"w": torch.zeros(2, dtype=torch.float64)}, ({"w": torch.ones(2, dtype=torch.float64)},))
    near = int((POINTS[:, 0] <= 0.5).sum())
    with preserved():
        rows = Vmapped(Sequential(toy()), 3)(LossFunction(refuses), plane, POINTS, [Batch(None, 1)])
        seen = [next(rows) for _ in range(near)]
        np.testing.assert_allclose(column(seen), SQUARES[:near], rtol=1e-12)
        with pytest.raises(ArithmeticError, match="too far"):
            next(rows)


def test_buffers_that_the_plane_moves_are_those_of_each_point(dtype):
    """All of the first chunk have the same: its last point, which is measured both ways, would not tell."""
    module = nn.BatchNorm1d(2).to(dtype).eval()
    origin = {n: t.detach().clone() for n, t in module.state_dict().items() if t.is_floating_point()}
    zeros = {name: torch.zeros_like(tensor) for name, tensor in origin.items()}
    plane = Plane(
        origin, ({**zeros, "weight": torch.ones(2, dtype=dtype)}, {**zeros, "running_mean": origin["weight"]})
    )
    points = np.array([[1.0, y] for y in (0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0)])
    data = torch.full((3, 2), 2.0, dtype=dtype)
    with preserved():
        rows = list(
            Vmapped(Sequential(module), 4)(LossFunction(lambda m, x: m(x).sum()), plane, points, [Batch(data, 1)])
        )
    expected = 6 * (1 + points[:, 0]) * (2 - points[:, 1]) / np.sqrt(1 + module.eps)
    np.testing.assert_allclose(column(rows), expected, rtol=TOLERANCE[dtype])


def test_small_parts_are_proved_once_for_all_chunks(net, mean_cross_entropy, plane, batches):
    """At the origin and at one point more, whole and in parts, one by one."""
    calls = []

    def counted(module: nn.Module, data: Any) -> Tensor:
        calls.append(len(data[1]))
        return mean_cross_entropy(module, data)

    objective, data = (
        LossFunction(counted),
        [Batch(tuple(torch.cat([t] * 20) for t in batches[0].data), 20 * batches[0].size)],
    )
    points = np.random.default_rng(1).normal(size=(8, 2))
    with preserved(), small_batches(Sequential(net.eval()), data) as (evaluator, given):
        several = Vmapped(evaluator, 2)
        parts = -(-data[0].size // 64)
        first, second = (len(list(several(objective, plane, points, given))) and len(calls) for _ in range(2))
    # Whole and in parts, two points and a rehearsal each; then a rehearsal, four chunks, and a rehearsal and a point.
    proof, measured = (1 + 2) + (1 + 2 * parts), (1 + 4 * parts) + (1 + parts)
    assert first == proof + measured
    assert second - first == measured


@pytest.mark.usefixtures("one_by_one")
def test_what_differs_from_a_point_measured_alone_is_not_used(monkeypatch):
    def reversed_lanes(function: Callable, **options: Any) -> Callable:
        right = torch.func.vmap(function, **options)
        return lambda stacked: {name: value.flip(0) for name, value in right(stacked).items()}

    monkeypatch.setattr(vmapped, "vmap", reversed_lanes)
    np.testing.assert_allclose(column(run(parabola)), SQUARES, rtol=1e-12)
