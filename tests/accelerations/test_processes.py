"""When a module is measured by several processes, and when not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape.accelerations import applied
from lightning_landscape.accelerations.processes import processes
from lightning_landscape.evaluators import Forked, Sequential
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, LossFunction
from lightning_landscape.weights.plane import Plane

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")


@pytest.fixture(autouse=True)
def _four_threads_on_three_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@linux
def test_there_is_a_process_a_core_with_one_thread() -> None:
    with processes(Sequential(nn.Linear(2, 2)), []) as (evaluator, _):
        assert isinstance(evaluator, Forked)
        assert evaluator.processes == 3
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4


@linux
def test_what_is_compiled_here_runs_in_the_workers() -> None:
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 5):
        pytest.skip("this torch can't compile it, which costs the acceleration only")

    def objective(module: nn.Module, data: torch.Tensor) -> dict[str, Any]:
        return {"loss": module(data).double().sum(), "pid": float(os.getpid())}

    net = nn.Sequential(nn.Linear(4, 512), nn.ReLU(), nn.Linear(512, 3, bias=False)).eval().requires_grad_(False)
    data = torch.linspace(-1, 1, 4096).reshape(1024, 4)  # enough for inductor to share it between threads
    origin = {"2.weight": net[2].weight.clone()}
    plane = Plane(origin, ({"2.weight": torch.ones_like(origin["2.weight"])},))
    points = np.linspace(-1, 1, 9)[:, None]
    with torch.no_grad():
        inner = net[1](net[0](data)).double()
        expected = [float((inner @ (origin["2.weight"].double() + c).T).sum()) for c in points[:, 0]]
    ways = applied(["processes", "compiled"], Sequential(net), [Batch(data, 1024)])
    with preserved(), ways as (evaluator, batches):
        rows = list(evaluator(LossFunction(objective), plane, points, batches))
    np.testing.assert_allclose([row["loss"].value for row in rows], expected, rtol=1e-6)
    pids = [row["pid"].value for row in rows]
    assert len(set(pids)) == 3
    assert pids[:3] == pids[6:], "a worker hung, and was replaced"


@linux
def test_who_wants_one_thread_gets_one_process() -> None:
    torch.set_num_threads(1)
    with pytest.raises(ValueError, match="one core"), processes(Sequential(nn.Linear(2, 2)), []):
        pass


@linux
def test_the_workers_parameters_are_bounded() -> None:
    module = nn.Linear(99, 1)  # 100 numbers of four bytes
    with processes(Sequential(module), [], max_bytes=799) as (evaluator, _):
        assert isinstance(evaluator, Forked)
        assert evaluator.processes == 2
    with pytest.raises(ValueError, match="two copies"), processes(Sequential(module), [], max_bytes=399):
        pass


@linux
@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_they_are_bounded_over_all_data_sets(workers: int) -> None:
    """As two surfaces and the tiles, whose streams take turns."""
    net, here, points = nn.Linear(99, 1).requires_grad_(False), os.getpid(), np.linspace(-1, 1, 12)[:, None]
    plane = Plane({"bias": torch.zeros(1)}, ({"bias": torch.ones(1)},))
    objective = LossFunction(lambda net, data: {"loss": net.bias.sum(), "pid": float(os.getpid())})
    with preserved(), processes(Sequential(net), [], max_bytes=400 * workers + 399) as (evaluator, _):
        for _ in range(2):  # those of the first time are gone
            streams = [evaluator(objective, plane, points, [Batch(None, 1)]) for _ in range(3)]
            rows = [row for turn in zip(*streams, strict=True) for row in turn]
            np.testing.assert_allclose([row["loss"].value for row in rows], np.repeat(points[:, 0], 3), rtol=1e-6)
            assert len({row["pid"].value for row in rows} - {here}) == workers


@linux
def test_an_accelerator_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = nn.Linear(2, 2, device="meta")
    with pytest.raises(ValueError, match="after a fork"), processes(Sequential(elsewhere), []):
        pass
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(ValueError, match="after a fork"), processes(Sequential(nn.Linear(2, 2)), []):
        pass


def test_other_systems_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ValueError, match="Linux"), processes(Sequential(nn.Linear(2, 2)), []):
        pass
