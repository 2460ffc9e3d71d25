"""Globals and attributes of classes that code reaches: what it changes is put back, what it makes stays for a pass."""

from __future__ import annotations

import copy
import functools
import io
import queue
import random
import types
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape.isolation.copying import LIMITS
from lightning_landscape.isolation.effects import EffectGuard, one_pass, restore_later
from lightning_landscape.isolation.effects.reachable import ReachableState

ITEMS: list[Any] = [1, [2]]
TABLE: dict[str, Any] = {"a": 1, "none": None}
NAMES = {"x"}
LAST: deque[int] = deque([1, 2], maxlen=2)
COUNTS: Counter[str] = Counter("ab")
NESTED: defaultdict[str, dict[str, list[int]]] = defaultdict(dict, {"a": {"b": [1]}})
MANY = list(range(LIMITS.items + 1))
NUMBER, MODEL, FILE = 1, None, io.StringIO()
JOBS: queue.Queue[int] = queue.Queue()
OTHER = types.ModuleType("other")
OTHER.total = 0  # type: ignore[attr-defined]
exec("rows = []\ndef add(row):\n    global total\n    rows.append(row)\n    total += 1", vars(OTHER))


class Tracker:
    shared: list[int] = []  # noqa: RUF012
    calls = 0

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.last = 0

    def log(self, row: int) -> None:
        self.rows.append(row)
        self.last = row
        self.new = row
        type(self).calls += 1
        self.shared.append(row)


TRACKER = Tracker()


def attribute() -> None:
    attribute.calls += 1  # type: ignore[attr-defined]


attribute.calls = 0  # type: ignore[attr-defined]


def rebind() -> None:
    global NUMBER, ITEMS
    NUMBER += 1
    ITEMS = [*ITEMS, 3]


def state() -> Any:
    return repr((
        ITEMS, TABLE, sorted(NAMES), LAST, COUNTS, NESTED, len(MANY), NUMBER, OTHER.rows, OTHER.total, vars(TRACKER),
        Tracker.shared, Tracker.calls, attribute.calls,  # type: ignore[attr-defined]
    ))  # fmt: skip


CHANGES: dict[str, Callable[[], Any]] = {
    "list": lambda: ITEMS.append(1) or ITEMS[1].append(3) or ITEMS.pop(0),
    "dict": lambda: TABLE.update(a=2) or TABLE.pop("none"),
    "set": lambda: NAMES.add("y") or NAMES.discard("x"),
    "deque": lambda: LAST.append(5),
    "counter": lambda: COUNTS.update("aab"),
    "nested": lambda: NESTED["a"]["b"].append(5),
    "long": lambda: MANY.extend([1, 2]),
    "rebinding": rebind,
    "a partial": functools.partial(rebind),
    "another module": lambda: OTHER.add(3),
    "an object": lambda: TRACKER.log(3),
    "a method": functools.partial(TRACKER.log, 4),
    "a function's attribute": lambda: attribute(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_changed_is_put_back(change: Callable[[], Any]) -> None:
    reached, before = ReachableState([change]), state()
    values = reached.read()
    change()
    assert state() != before
    reached.restore(values)
    reached.finish()
    assert state() == before


GENERATORS = [torch.Generator(), np.random.default_rng(0), np.random.RandomState(0), random.Random(0)]
TORCH, NUMPY, OLD, PYTHON = GENERATORS
SYSTEM = random.SystemRandom()


def draw() -> list[float]:
    SYSTEM.random()  # which has no state, and keeps nobody from restoring the others
    return [float(torch.rand((), generator=TORCH)), NUMPY.random(), OLD.rand(), PYTHON.random()]


def test_generators_start_anew_at_each_point_and_go_on_after_the_pass() -> None:
    state, guard = copy.deepcopy(OLD.get_state()[1]), EffectGuard(draw)
    with one_pass(restores=True):
        points = []
        for _ in range(2):
            guard.start()
            with guard:
                first = draw()
            with guard:
                points.append([first, draw()])
    assert points[0] == points[1]
    assert points[0][0] != points[0][1]
    assert (OLD.get_state()[1] == state).all()
    assert draw() == points[0][0]


def test_code_that_is_not_held_back_is_put_back_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    before = state()
    with one_pass(restores=True):
        restore_later(helps)
        restore_later(object())
        helps()
        assert state() != before
    assert state() == before
    assert capsys.readouterr().out == "heard\n"


def helps() -> None:
    print("heard")
    ITEMS.append(5)
    TABLE["new"] = 1
    rebind()


def test_an_object_that_refuses_to_be_put_back_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(list):
        def clear(self) -> None:
            raise KeyError("never")

    stubborn = Stubborn([1])
    with one_pass(restores=True):
        restore_later(stubborn)
        stubborn.append(2)
    assert "could not be restored: KeyError: 'never'" in caplog.text


def make() -> int:
    """A cache and a single object, made when they are first needed."""
    global MODEL
    if MODEL is None:
        MODEL = object()
    TABLE.setdefault("cache", MODEL)
    return id(TABLE["cache"])


def test_what_is_made_stays_for_a_pass() -> None:
    guard, before = EffectGuard(make), state()
    with one_pass(restores=True):
        with guard:
            first = make()
        with guard:
            assert make() == first
    assert state() == before
    assert MODEL is None
    with one_pass(restores=True), guard:  # it is another pass
        make()
    assert state() == before
    assert MODEL is None


def test_without_a_training_nothing_is_put_back() -> None:
    def count() -> None:
        Tracker.calls += 1

    before = Tracker.calls
    with one_pass(), EffectGuard(count):
        count()
    assert Tracker.calls == before + 1
    Tracker.calls = before


def test_what_a_function_closes_over_libraries_and_queues_stay() -> None:
    seen: list[int] = []

    def step() -> None:
        seen.append(1)
        JOBS.put(1)
        torch.of_this_test = 1  # type: ignore[attr-defined]

    with one_pass(restores=True), EffectGuard(step):
        step()
    assert seen == [1]
    assert JOBS.qsize() == 1
    assert torch.of_this_test == 1  # type: ignore[attr-defined]
    del torch.of_this_test  # type: ignore[attr-defined]


class Part(nn.Module):
    def forward(self, x: Any) -> Any:
        FILE.write("row")
        Tracker.shared.append(1)
        return x


def test_the_code_of_all_parts_of_a_module_counts_and_open_files_take_nothing() -> None:
    module = nn.Sequential(nn.ReLU(), nn.Sequential(Part()))
    assert ReachableState([module]).files == [FILE]
    with one_pass(restores=True), EffectGuard(module):
        module(torch.zeros(1))
    assert (FILE.getvalue(), Tracker.shared) == ("", [])
    FILE.write("ours")
    assert FILE.getvalue() == "ours"
    FILE.truncate(0)
