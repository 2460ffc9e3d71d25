"""Kept memory: fewer pages to clear, as the system counts them; the bits of every value; nothing left behind."""

from __future__ import annotations

import copy
import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape import Random, Snapshot
from lightning_landscape.accelerations.kept_memory import kept_memory
from lightning_landscape.evaluators import Sequential
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, LossFunction
from lightning_landscape.weights.plane import Plane

from .._limits import HANG

PROGRAM = Path(__file__).with_name("_faults.py")
# As glibc begins; it gives back less once a program has freed larger blocks.
AT_FIRST = {"MALLOC_MMAP_THRESHOLD_": str(2**17), "MALLOC_TRIM_THRESHOLD_": str(2**17)}
GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


@pytest.mark.skipif(not GLIBC, reason="about glibc")
def test_pages_are_cleared_once_and_given_back() -> None:
    own = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # of another allocator
    environment = {**own, **AT_FIRST, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], capture_output=True, text=True, timeout=HANG, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    pages = 10 * 2**20 / os.sysconf("SC_PAGE_SIZE")  # of ten tensors of a megabyte each
    assert found["outside"] > pages / 2
    assert found["inside"] < pages / 20
    assert found["meanwhile"] < 14e6, "ten tensors"
    assert found["left"] < 2e6


@pytest.mark.skipif(not GLIBC, reason="about glibc")
def test_values_are_the_same_to_the_bit() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
        data = [Batch((torch.randn(50, 3, 8, 8), torch.randint(4, (50,))), 50, i) for i in range(2)]
    snapshot = Snapshot.of(copy.deepcopy(net))
    plane = Plane(snapshot.params, Random()(snapshot, 2))
    objective = LossFunction(lambda module, batch: nn.functional.cross_entropy(module(batch[0]), batch[1]))
    points = np.array([[0.0, 0.0], [0.4, -0.3], [-1.0, 0.9]])

    def values() -> list[float]:
        with kept_memory(Sequential(net), data) as (evaluator, batches), preserved():
            return [row["loss"].value for row in evaluator(objective, plane, points, batches)]

    with preserved():
        expected = [row["loss"].value for row in Sequential(net)(objective, plane, points, data)]
    assert values() == expected


def entered(net: nn.Module) -> None:
    with kept_memory(Sequential(net), []):
        pass


def library(**functions: Any) -> Any:
    """In place of the C library."""
    return lambda name: SimpleNamespace(**functions)


def test_it_is_for_glibc_and_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if GLIBC:
        with pytest.raises(ValueError, match="not on a CPU"):
            entered(nn.Linear(2, 2).to("meta"))
        monkeypatch.setattr(ctypes, "PyDLL", library())
        with pytest.raises(ValueError, match="glibc"):
            entered(nn.Linear(2, 2))
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ValueError, match="glibc"):
        entered(nn.Linear(2, 2))


@pytest.mark.skipif(not GLIBC, reason="about glibc")
@pytest.mark.parametrize(
    "blocks, end",
    [
        pytest.param(lambda n: n * 2**17 if n < 100 else None, 101 * 2**17, id="no more memory"),
        pytest.param(lambda n: n * 2**17, 10**12, id="somewhere else"),
        pytest.param(lambda n: n * 2**17, 100, id="above the heap"),
    ],
)
def test_where_the_last_block_is_not_the_end_all_are_freed(
    blocks: Any, end: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under a limit, with another allocator, or in another thread."""
    given: list[int | None] = []
    freed: list[int | None] = []

    def malloc(size: int) -> int | None:
        given.append(blocks(len(given) + 1))
        return given[-1]

    def free(block: int | None) -> None:
        freed.append(block)

    functions = {"malloc": malloc, "free": free, "sbrk": lambda n: end, "malloc_trim": lambda n: 1}
    monkeypatch.setattr(ctypes, "PyDLL", library(**functions))
    with pytest.raises(ValueError, match="does not end"):
        entered(nn.Linear(2, 2))
    assert len(given) > 100
    assert sorted(b or 0 for b in freed) == sorted(b or 0 for b in given)
