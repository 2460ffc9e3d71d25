"""Worker processes: their values, their ends. Expected values: a closed form, or Sequential's own in one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_landscape.evaluators import Forked, Sequential, forked
from lightning_landscape.objectives import Batch, LossFunction, Objective, Observation
from lightning_landscape.plane import Plane
from lightning_landscape.rng import preserved

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")

POINTS = np.linspace(-1, 1, 12)[:, None]
SQUARES = 2 * POINTS[:, 0] ** 2  # Σ θ² over the θ = (c, c) of `parabola`


def line() -> Plane:
    return Plane({"w": torch.zeros(2)}, ({"w": torch.ones(2)},))


def toy() -> nn.Module:
    module = nn.Module()
    module.w = nn.Parameter(torch.zeros(2))
    return module


def parabola(module: nn.Module, data: None) -> dict[str, Tensor | float]:
    """Σ θ², and which process says so."""
    return {"loss": (module.w.double() ** 2).sum(), "pid": float(os.getpid())}


def run(function: Callable, processes: int = 3, **options) -> list[dict[str, float]]:
    with preserved():
        evaluator = Forked(Sequential(toy(), **options), processes)
        rows = evaluator(LossFunction(function), line(), POINTS, [Batch(None, 1)])
        return [{name: value for name, (value, _) in row.items()} for row in rows]


def losses(rows: list[dict[str, float]]) -> np.ndarray:
    return np.array([row["loss"] for row in rows])


def children() -> set[int]:
    """The processes that this one has started and not waited for, as the system knows them."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


def in_a_worker(parent: int = os.getpid()) -> bool:
    return os.getpid() != parent


# values


def test_each_process_measures_every_third_point():
    rows = run(parabola)
    np.testing.assert_allclose(losses(rows), SQUARES, rtol=1e-6)  # float32 coordinates
    pids = [row["pid"] for row in rows]
    assert pids[0] == os.getpid()
    assert len(set(pids[:3])) == 3
    assert pids == pids[:3] * 4


def test_the_bits_are_those_of_one_process(net, plane, points, batches, mean_cross_entropy):
    with preserved():
        objective = LossFunction(mean_cross_entropy)
        expected = list(Sequential(net.eval())(objective, plane, points, batches))
        assert list(Forked(Sequential(net), 2)(objective, plane, points, batches)) == expected


def test_points_side_by_side_stay_together():
    """An evaluator that takes two points at once gets its share in pairs."""

    class Pairs(Sequential):
        at_once = 2

    evaluator = Forked(Pairs(toy()), 2)
    assert evaluator.at_once == 4
    with preserved():
        rows = list(evaluator(LossFunction(parabola), line(), POINTS, [Batch(None, 1)]))
    np.testing.assert_allclose([row["loss"].value for row in rows], SQUARES, rtol=1e-6)
    own = [row["pid"].value == os.getpid() for row in rows]
    assert own == [True, True, False, False] * 3


def test_few_points_are_not_worth_a_fork():
    evaluator = Forked(Sequential(toy()), 2)
    with preserved():
        rows = list(evaluator(LossFunction(parabola), line(), POINTS[:3], [Batch(None, 1)]))
    assert {row["pid"].value for row in rows} == {os.getpid()}


def test_a_worker_does_not_change_what_is_here():
    seen = []

    def notes(module: nn.Module, data: None) -> Tensor:
        seen.append(os.getpid())
        return module.w.sum()

    threads = torch.get_num_threads()
    run(notes)
    assert set(seen) == {os.getpid()}
    assert len(seen) == 4 + 2  # its share, and two rehearsals
    assert torch.get_num_threads() == threads


def test_a_worker_has_one_thread_and_no_handlers_of_its_parent():
    def objective(module: nn.Module, data: None) -> dict[str, float]:
        return {
            "threads": float(torch.get_num_threads()),
            "handled": float(callable(signal.getsignal(signal.SIGTERM))),
            "interruptible": float(signal.getsignal(signal.SIGINT) != signal.SIG_IGN),
            "first to go": float(Path("/proc/self/oom_score_adj").read_text()),
        }

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    torch.set_num_threads(2)
    try:
        here, there = run(objective, 2)[:2]
    finally:
        torch.set_num_threads(1)
        signal.signal(signal.SIGTERM, before)
    assert here == {"threads": 2, "handled": 1, "interruptible": 1, "first to go": here["first to go"]}
    assert there == {"threads": 1, "handled": 0, "interruptible": 0, "first to go": 1000}


# what goes wrong


def test_a_point_at_which_the_step_raises_raises_here_and_not_before():
    def refuses(module: nn.Module, data: None) -> Tensor:
        if module.w[0] > 0.5:  # from the tenth point on
            raise ArithmeticError(f"too far, says {os.getpid()}")
        return (module.w.double() ** 2).sum()

    expected = int((POINTS[:, 0] <= 0.5).sum())
    for processes in (2, 3, 5):
        evaluator = Forked(Sequential(toy()), processes)
        rows = evaluator(LossFunction(refuses), line(), POINTS, [Batch(None, 1)])
        seen = []
        with preserved(), pytest.raises(ArithmeticError, match=f"too far, says {os.getpid()}"):
            seen += [row["loss"].value for row in rows]
        # A list is added to only when it is whole: take them one by one.
        with preserved(), pytest.raises(ArithmeticError):  # noqa: PT012
            for row in evaluator(LossFunction(refuses), line(), POINTS, [Batch(None, 1)]):
                seen.append(row["loss"].value)
        np.testing.assert_allclose(seen, SQUARES[:expected], rtol=1e-6)


@pytest.mark.parametrize("how", ["raises", "is killed", "exits", "hangs", "sends what can't be sent"])
def test_a_worker_that_fails_is_replaced_by_its_parent(how, monkeypatch):
    monkeypatch.setattr(forked, "PATIENCE", 0.5)

    def fails_there(module: nn.Module, data: None) -> dict[str, Tensor | float]:
        if in_a_worker() and module.w[0] > 0:
            if how == "raises":
                raise RuntimeError("not in a fork")
            if how == "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "exits":
                os._exit(3)
            if how == "hangs":
                time.sleep(60)
        return parabola(module, data)

    class Unsendable(LossFunction):
        def finish(self) -> dict[str, float]:
            return {"loss": _Local(1.0)} if in_a_worker() else {}

    class _Local(float):
        """A class that only this function knows can't be pickled."""

        def __float__(self) -> float:
            raise TypeError("no number")

    rows = None
    with preserved():
        objective = (Unsendable if how.startswith("sends") else LossFunction)(fails_there)
        rows = list(Forked(Sequential(toy()), 3)(objective, line(), POINTS, [Batch(None, 1)]))
    np.testing.assert_allclose([row["loss"].value for row in rows], SQUARES, rtol=1e-6)
    here = [row["pid"].value == os.getpid() for row in rows]
    assert here[7:] == [True] * 5  # the sixth is the parent's, of the seventh the worker knows nothing
