"""Copies of the user's objects share no state with them."""

from __future__ import annotations

import io
import random
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape.isolation.copying import LIMITS, ReadOnceError, private_copy


class Data:
    """What data sets keep: arrays, counters, generators, a lock, a transform that is a module, functions."""

    def __init__(self) -> None:
        self.x, self.counts, self.order = torch.arange(5.0), np.zeros(3), list(range(300))
        self.rng, self.python, self.lock = np.random.default_rng(0), random.Random(0), threading.Lock()
        self.transform = nn.Dropout()
        self.log: list[int] = []
        self.note = lambda value: self.log.append(value)

    def read(self) -> None:
        self.x += 1
        self.counts += 1
        self.order.reverse()
        self.rng.random()
        self.python.random()
        self.transform.p = 0.9
        self.note(1)


def state(data: Data) -> Any:
    return (
        data.x.tolist(), data.counts.tolist(), data.order, data.rng.bit_generator.state, data.python.getstate(),
        data.transform.p, data.log,
    )  # fmt: skip


def test_reading_the_copy_leaves_no_trace_in_the_original() -> None:
    original, untouched = Data(), Data()
    twin = private_copy(original)
    twin.read()
    assert state(original) == state(untouched)
    assert state(twin) != state(untouched)
    assert twin.lock is original.lock
    assert twin.log == [1]


def test_large_arrays_are_shared() -> None:
    original = Data()
    original.x = torch.zeros(LIMITS.array_bytes // 4 + 1)
    assert private_copy(original).x.data_ptr() == original.x.data_ptr()


def test_a_function_with_state_in_its_closure() -> None:
    rng, seen = np.random.default_rng(0), [0]

    def collate(samples: Any) -> float:
        seen[0] += 1
        return float(rng.random())

    before = rng.bit_generator.state
    private_copy(collate)([])
    assert seen == [0]
    assert rng.bit_generator.state == before


def test_what_can_only_be_read_once() -> None:
    class Holds:
        def __init__(self, thing: Any) -> None:
            self.thing = thing

    for once in ((i for i in range(3)), io.BufferedReader(io.BytesIO(b"x"))):
        assert private_copy(Holds(once)).thing is once
        with pytest.raises(ReadOnceError, match="can only be read once"):
            private_copy(Holds(once), may_read_once=False)
