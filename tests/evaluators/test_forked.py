"""Worker processes: their values and their ends. Expected values: a closed form, or one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_landscape.evaluators import Forked, Sequential
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, LossFunction, Objective, Observation
from lightning_landscape.weights.plane import Plane

from .._limits import HANG

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")

HERE = os.getpid()
POINTS = np.linspace(-1, 1, 12)[:, None]
SQUARES = 2 * POINTS[:, 0] ** 2  # Σ θ² at θ = (c, c)
BATCHES = [Batch(None, 1)]


def line() -> Plane:
    return Plane({"w": torch.zeros(2, dtype=torch.float64)}, ({"w": torch.ones(2, dtype=torch.float64)},))


def toy() -> nn.Module:
    module = nn.Module()
    module.w = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    return module


def parabola(module: nn.Module, data: Any) -> dict[str, Tensor | float]:
    """Σ θ², and which process says so."""
    return {"loss": (module.w**2).sum(), "pid": float(os.getpid())}


@pytest.fixture
def stream() -> Iterator[Callable]:
    """The rows {name: value} of an objective at POINTS, one by one, from a new evaluator or the given one."""

    def rows(function: Callable, processes: int = 3, evaluator: Forked | None = None) -> Iterator[dict[str, float]]:
        evaluator = evaluator or Forked(Sequential(toy()), processes)
        for row in evaluator(LossFunction(function), line(), POINTS, BATCHES):
            yield {name: value for name, (value, _) in row.items()}

    with preserved():
        yield rows


def column(rows: list[dict[str, float]], name: str = "loss") -> np.ndarray:
    return np.array([row[name] for row in rows])


def children(of: str = "self") -> set[int]:
    """The processes that one has started and not waited for, as the system knows them."""
    return {int(pid) for task in Path(f"/proc/{of}/task").glob("*/children") for pid in task.read_text().split()}


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


# values


def test_each_process_measures_every_third_point(stream):
    rows = list(stream(parabola))
    np.testing.assert_allclose(column(rows), SQUARES, rtol=1e-12)
    pids = column(rows, "pid").tolist()
    assert pids[0] == HERE
    assert len(set(pids[:3])) == 3
    assert pids == pids[:3] * 4


def test_the_bits_are_those_of_one_process(net, plane, points, batches, mean_cross_entropy):
    with preserved():
        objective = LossFunction(mean_cross_entropy)
        expected = list(Sequential(net.eval())(objective, plane, points, batches))
        assert list(Forked(Sequential(net), 2)(objective, plane, points, batches)) == expected


def test_all_processes_share_their_random_numbers(stream):
    def noise(module: nn.Module, data: Any) -> dict[str, Tensor | float]:
        return {"loss": torch.rand(()) + np.random.rand(), "pid": float(os.getpid())}  # noqa: NPY002

    rows = list(stream(noise))
    assert len(set(column(rows))) == 1
    assert len(set(column(rows, "pid"))) == 3


def test_what_is_measured_side_by_side_stays_together():
    class Pairs(Sequential):
        at_once = 2

    evaluator = Forked(Pairs(toy()), 2)
    assert evaluator.at_once == 4
    with preserved():
        rows = list(evaluator(LossFunction(parabola), line(), POINTS, BATCHES))
    np.testing.assert_allclose([row["loss"].value for row in rows], SQUARES, rtol=1e-12)
    assert [row["pid"].value == HERE for row in rows] == [True, True, False, False] * 3


def test_few_points_are_not_worth_a_fork():
    with preserved():
        rows = list(Forked(Sequential(toy()), 2)(LossFunction(parabola), line(), POINTS[:3], BATCHES))
    assert [row["pid"].value for row in rows] == [HERE] * 3


def test_streams_may_take_turns_on_one_module(stream):
    evaluator = Forked(Sequential(toy()), 2)
    cubes = stream(lambda module, data: {"loss": (module.w**3).sum()}, evaluator=evaluator)
    both = list(zip(stream(parabola, evaluator=evaluator), cubes, strict=True))
    np.testing.assert_allclose([a["loss"] for a, _ in both], SQUARES, rtol=1e-12)
    np.testing.assert_allclose([b["loss"] for _, b in both], 2 * POINTS[:, 0] ** 3, rtol=1e-12)


def test_workers_are_a_few_points_ahead_and_no_more(stream):
    calls = torch.zeros(1).share_memory_()

    def counted(module: nn.Module, data: Any) -> dict[str, Tensor | float]:
        if os.getpid() != HERE:
            calls.add_(1)
        return parabola(module, data)

    rows = stream(counted, processes=2)
    next(rows)
    most = 1 + 2  # the rehearsal
    deadline = time.monotonic() + HANG
    while calls < most and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert calls == most < len(POINTS) / 2
    rows.close()


# nothing happens to the parent


def test_what_a_worker_does_is_not_seen_here(stream):
    seen = []

    def notes(module: nn.Module, data: Any) -> dict[str, Tensor | float]:
        seen.append(os.getpid())
        return parabola(module, data)

    list(stream(notes))
    assert set(seen) == {HERE}
    assert len(seen) == 4 + 1  # its share, and the rehearsal


def test_a_worker_has_one_thread_and_no_handlers_of_its_parent(stream):
    def tells(module: nn.Module, data: Any) -> dict[str, Tensor | float]:
        return {
            "threads": float(torch.get_num_threads()),
            "handles SIGTERM": float(callable(signal.getsignal(signal.SIGTERM))),
            "ignores SIGINT": float(signal.getsignal(signal.SIGINT) == signal.SIG_IGN),
            "first to go": float(Path("/proc/self/oom_score_adj").read_text()),
        }

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    torch.set_num_threads(2)
    try:
        here, there = list(stream(tells, processes=2))[:2]
    finally:
        torch.set_num_threads(1)
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)
    assert list(here.values())[:3] == [2, 1, 0]
    assert list(there.values()) == [1, 0, 1, 1000]


RUN = """
    import atexit, os, sys, time
    import numpy as np, torch
    from torch import nn
    from lightning_landscape.evaluators import Forked, Sequential
    from lightning_landscape.objectives.base import Batch, LossFunction
    from lightning_landscape.weights.plane import Plane

    here = os.getpid()

    def loss(module, data):
        if os.getpid() != here:
            {in_a_worker}
        return module.weight.sum()

    net = nn.Linear(1, 1, bias=False)
    plane = Plane({{"weight": torch.zeros(1, 1)}}, ({{"weight": torch.ones(1, 1)}},))
    points = np.linspace(-1, 1, 8)[:, None]
    rows = Forked(Sequential(net), 2)(LossFunction(loss), plane, points, [Batch(None, 1)])
    {then}
"""


def program(in_a_worker: str, then: str) -> subprocess.Popen:
    code = textwrap.dedent(RUN).format(in_a_worker=in_a_worker, then=then)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_no_worker_prints_or_ends_for_its_parent():
    then = "print('once'); atexit.register(print, 'at exit'); seen = [next(rows) for _ in range(7)]; time.sleep(1); "
    then += "print(len([*seen, *rows]))"  # the worker has ended by itself
    output, _ = program("print('-' * 10_000)", then).communicate(timeout=HANG)
    lines = [part for part in output.replace("-", "").split("\n") if part]
    assert lines == ["once", "8", "at exit"]


def test_no_worker_outlives_a_parent_that_is_killed():
    process = program("time.sleep(0.05)", "next(rows); print('started', flush=True); time.sleep(10_000)")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    workers = children(str(process.pid))
    assert len(workers) == 1
    process.kill()
    process.communicate(timeout=HANG)
    deadline = time.monotonic() + HANG
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "a worker waits for a parent that is no more"
        time.sleep(0.05)


# what goes wrong


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_a_step_that_raises_at_a_point_raises_here_when_it_is_asked_for(stream, processes):
    def refuses(module: nn.Module, data: Any) -> dict[str, Tensor | float]:
        if module.w[0] > 0.4:
            raise ArithmeticError(f"too far, says {os.getpid()}")
        return parabola(module, data)

    rows, seen = stream(refuses, processes), []
    with pytest.raises(ArithmeticError, match=f"too far, says {HERE}"):
        seen.extend(row["loss"] for row in rows)
    rows = stream(refuses, processes)
    near = int((POINTS[:, 0] <= 0.4).sum())
    np.testing.assert_allclose([next(rows)["loss"] for _ in range(near)], SQUARES[:near], rtol=1e-12)
    with pytest.raises(ArithmeticError, match=f"too far, says {HERE}"):
        next(rows)


def test_a_worker_that_is_killed_is_replaced_by_its_parent(stream):
    evaluator = Forked(Sequential(toy()), 2)
    rows = stream(parabola, evaluator=evaluator)
    seen = [next(rows) for _ in range(2)]
    assert seen[1]["pid"] != HERE
    os.kill(int(seen[1]["pid"]), signal.SIGKILL)
    seen += rows
    np.testing.assert_allclose(column(seen), SQUARES, rtol=1e-12)
    assert (column(seen[7:], "pid") == HERE).all()  # the third and the fifth may have been sent already
    again = list(stream(parabola, evaluator=evaluator))
    assert (column(again, "pid") == HERE).all(), "the memory may be full: no other worker is started"


@pytest.mark.parametrize("how", ["raises", "exits", "hangs"])
def test_a_worker_that_fails_is_replaced_by_its_parent(how, stream):
    def fails(module: nn.Module, data: Any) -> dict[str, Tensor | float]:
        if os.getpid() != HERE and module.w[0] > 0:
            if how == "raises":
                raise RuntimeError("not in a fork")
            if how == "exits":
                sys.exit(3)
            time.sleep(10_000)
        return parabola(module, data)

    evaluator = Forked(Sequential(toy()), 2, patience=0.5)
    started = time.monotonic()
    rows = list(stream(fails, evaluator=evaluator))
    assert time.monotonic() - started < HANG
    np.testing.assert_allclose(column(rows), SQUARES, rtol=1e-12)
    assert (column(rows, "pid") == HERE).tolist() == [True, False] * 3 + [True] * 6
    again = list(stream(parabola, evaluator=evaluator))
    assert (column(again, "pid") == HERE).all() == (how == "hangs")


def test_a_system_without_room_for_a_worker_does_without(stream, monkeypatch):
    def refused() -> int:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refused)
    rows = list(stream(parabola))
    np.testing.assert_allclose(column(rows), SQUARES, rtol=1e-12)
    assert (column(rows, "pid") == HERE).all()


def test_batches_that_do_not_fit_in_a_worker_are_not_cut_there():
    """Its values would be sums of other parts than those of the points before."""

    class Full(Objective):
        def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
            if os.getpid() != HERE and batch.size > 2 and module.w[0] > 0:
                raise RuntimeError("out of memory")
            return {"loss": Observation((module.w**2).sum(), batch.size), "pid": Observation(os.getpid(), batch.size)}

    evaluator = Forked(Sequential(toy()), 2)
    with preserved():
        rows = list(evaluator(Full(), line(), POINTS, [Batch(torch.zeros(4), 4)]))
    np.testing.assert_allclose([row["loss"].value for row in rows], SQUARES, rtol=1e-12)
    assert [row["pid"].value == HERE for row in rows] == [True, False] * 3 + [True] * 6
    assert evaluator.parts is None


def test_a_stream_that_is_closed_early_leaves_no_worker(stream):
    def slow_there(module: nn.Module, data: Any) -> dict[str, Tensor | float]:
        if os.getpid() != HERE and module.w[0] != 0:  # not in the rehearsal
            time.sleep(10_000)
        return parabola(module, data)

    before, evaluator = children(), Forked(Sequential(toy()), 3)
    rows = stream(slow_there, evaluator=evaluator)
    next(rows)
    assert len(children() - before) == 2
    started = time.monotonic()
    rows.close()
    assert children() == before
    assert time.monotonic() - started < HANG
    again = list(stream(parabola, evaluator=evaluator))
    assert len(set(column(again, "pid"))) == 3, "nothing had gone wrong"


def test_an_error_in_the_hands_of_the_caller_leaves_no_worker(stream):
    before = children()
    with pytest.raises(KeyError, match="the disk"):  # noqa: PT012
        for _ in stream(parabola):
            raise KeyError("the disk is full")
    assert children() == before
