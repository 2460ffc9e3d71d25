"""What every acceleration promises: the values of the plain evaluator, and a module that is as it was."""

from __future__ import annotations

import copy
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape import Random, Snapshot, accelerations
from lightning_landscape.accelerations import ACCELERATIONS, Acceleration, applied
from lightning_landscape.accelerations.choose import choose, fastest
from lightning_landscape.accelerations.proof import proved
from lightning_landscape.accelerations.several_points import PointLimits, several_points
from lightning_landscape.accelerations.trial import Choice, TrialSettings, time_points
from lightning_landscape.evaluators import EvaluatorWrapper, Measurement, Sequential
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, LossFunction
from lightning_landscape.weights.plane import Plane

from .._formula import rounds_products

POINTS = np.array([[0.0, 0.0], [0.4, -0.3], [-0.7, 0.9], [0.2, 0.8], [-0.1, -0.6]])
LINUX = {"processes", "kept_memory"}
ELSEWHERE = LINUX if sys.platform != "linux" else set()  # refuse this net
HERE = [name for name in ACCELERATIONS if name not in ELSEWHERE]


@pytest.fixture(autouse=True)
def _two_threads_on_two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever there are."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 9, 4)
    ).eval()


def loss(module: nn.Module, data: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(module(data[0]), data[1])


@pytest.fixture
def case() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = net()
        module[1].running_var.uniform_(0.5, 2)
        data = [(torch.randn(n, 3, 8, 8), torch.randint(4, (n,))) for n in (80, 80, 5)]
    snapshot = Snapshot.of(copy.deepcopy(module))
    plane = Plane(snapshot.params, Random()(snapshot, 2))
    return module, plane, [Batch(d, len(d[1]), i) for i, d in enumerate(data)]


def formula(module: nn.Module, plane: Plane, batches: list[Batch]) -> np.ndarray:
    """The loss at POINTS by functional_call, in float64."""
    values = []
    for point in POINTS:
        params = {
            n: sum((c * d[n] for c, d in zip(point, plane.directions, strict=True)), t) for n, t in plane.origin.items()
        }
        with torch.no_grad():
            losses = [
                nn.functional.cross_entropy(
                    torch.func.functional_call(module, params, (b.data[0],)), b.data[1], reduction="sum"
                )
                for b in batches
            ]
        values.append(float(sum(x.double() for x in losses)) / sum(b.size for b in batches))
    return np.array(values)


def state(module: nn.Module) -> list[Any]:
    tensors = [*module.parameters(), *module.buffers()]
    return [(id(t), t.detach().clone(), t.stride()) for t in tensors] + [sorted(vars(m)) for m in module.modules()]


@pytest.mark.parametrize("name", HERE)
def test_the_values_are_those_of_the_formula_and_the_module_is_as_it_was(
    name: str, case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(ACCELERATIONS["several_points"], use=partial(several_points, limits=PointLimits(grouped_points=2)))
    monkeypatch.setitem(ACCELERATIONS, "several_points", row)
    if name == "compiled" and tuple(map(int, torch.__version__.split(".")[:2])) < (2, 5):
        pytest.skip("this torch can't compile it, which costs the acceleration only")
    if name == "fast_matmul" and rounds_products():
        pytest.skip("this CPU makes such products in bfloat16, which costs the acceleration only")
    module, plane, batches = case
    expected = formula(module, plane, batches)
    before, precision = state(module), torch.get_float32_matmul_precision()
    with applied([name], Sequential(module), batches) as (evaluator, converted), preserved():
        rows = list(evaluator(LossFunction(loss), plane, POINTS, converted))
    np.testing.assert_allclose([row["loss"].value for row in rows], expected, rtol=1e-6)
    assert torch.get_float32_matmul_precision() == precision
    for old, new in zip(before, state(module), strict=True):
        if isinstance(old, tuple):  # the weights were moved, but their homes and strides are the same
            assert old[0] == new[0]
            assert old[2] == new[2]
        else:
            assert old == new


def test_a_module_is_as_it_was_after_an_error(case: Any) -> None:
    module, _, batches = case
    before = state(module)
    with pytest.raises(KeyError, match="the step"), applied(HERE, Sequential(module), batches):
        raise KeyError("the step")
    assert [entry[2] for entry in before if isinstance(entry, tuple)] == [
        entry[2] for entry in state(module) if isinstance(entry, tuple)
    ]
    assert "forward" not in vars(module)


ROWS = dict(ACCELERATIONS)


def pretend(monkeypatch: pytest.MonkeyPatch, **ways: Any) -> None:
    """Put other ways in place of those there are."""
    rows = {name: replace(ROWS.get(name, Acceleration(use)), use=use) for name, use in ways.items()}
    for module in (accelerations, accelerations.choose, accelerations.trial):
        monkeypatch.setattr(module, "ACCELERATIONS", rows)


@contextmanager
def wrong(evaluator: Any, batches: Any) -> Any:
    """Half of the data, in half of the time."""
    yield evaluator, [Batch((b.data[0][::2], b.data[1][::2]), len(b.data[1][::2])) for b in batches]


@contextmanager
def wrong_beside(evaluator: Any, batches: Any) -> Any:
    """Two points at once, of which the second is wrong."""

    class Two(Sequential):
        at_once = 2

        def __call__(self, *args: Any) -> Any:
            for i, row in enumerate(super().__call__(*args)):
                yield row if i % 2 == 0 else {name: m._replace(value=m.value + 1e-5) for name, m in row.items()}

    evaluator.module.wait = False
    yield Two(evaluator.module), batches
    evaluator.module.wait = True


@contextmanager
def failing(evaluator: Any, batches: Any) -> Any:
    raise RuntimeError("no compiler here")
    yield


@contextmanager
def nothing(evaluator: Any, batches: Any) -> Any:
    yield evaluator, batches


class Slow(nn.Module):
    """Waits, unless it is told that it need not."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.wait = inner, True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(30 if self.wait else 1):
            result = self.inner(x)
        return result


def named(name: str) -> Any:
    """A way that its evaluator has the name of, after those inside."""

    @contextmanager
    def way(evaluator: Any, batches: Any) -> Iterator[Any]:
        outer = EvaluatorWrapper(evaluator)
        outer.names = (*getattr(evaluator, "names", ()), name)
        yield outer, batches

    return way


@contextmanager
def quick(evaluator: Any, batches: Any) -> Any:
    evaluator.module.wait = False
    yield evaluator, batches
    evaluator.module.wait = True


def chosen(case: Any, points: int, function: Any = loss) -> Any:
    module, _, batches = case
    slow = Slow(module).eval()
    snapshot = Snapshot.of(copy.deepcopy(slow))
    plane = Plane(snapshot.params, Random()(snapshot, 2))
    with preserved():
        return choose(Sequential(slow), LossFunction(function), plane, batches, points)


def test_what_is_equal_and_faster_is_chosen(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, wrong=wrong, wrong_beside=wrong_beside, failing=failing, nothing=nothing, quick=quick)
    choice = chosen(case, 10_000_000)
    assert "quick" in choice.names
    assert not {"wrong", "wrong_beside", "failing"} & set(choice.names)
    assert choice.speedup["quick"] > 3


def test_what_costs_nothing_is_used_without_a_trial(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []

    def row(name: str, is_refused: bool) -> Acceleration:
        @contextmanager
        def use(evaluator: Any, batches: Any) -> Iterator[Any]:
            if is_refused:
                raise ValueError("not here")
            used.append(name)
            yield evaluator, batches

        return Acceleration(use, always=True)

    rows = {"free": row("free", False), "refused": row("refused", True)}
    for module in (accelerations, accelerations.choose, accelerations.trial):
        monkeypatch.setattr(module, "ACCELERATIONS", rows)
    choice = chosen(case, 10_000)
    assert choice.names == ()
    assert choice.always
    assert used == ["free"]  # where the plain way is timed
    module, plane, batches = case
    evaluator, objective = Sequential(module), LossFunction(loss)
    for accelerate in (choice, Choice()):
        with (
            preserved(),
            proved(accelerate, evaluator, plane, batches, lambda given: [(objective, given)]) as (fast, *_),
        ):
            assert fast is evaluator
    assert used == ["free"] * 2  # not where nothing may be faster


def test_nothing_is_tried_where_the_step_edits_its_weights(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another evaluator keeps the parameters elsewhere, where the edit of one point would stay for the next."""

    def clips(module: nn.Module, data: Any) -> Any:
        for parameter in module.parameters():
            parameter.data.clamp_(-0.1, 0.1)
        return loss(module, data)

    pretend(monkeypatch, quick=quick)
    module, _, batches = case
    slow = Slow(module).eval()
    plane = Plane(Snapshot.of(copy.deepcopy(slow)).params, Random()(Snapshot.of(copy.deepcopy(slow)), 2))
    reference = Sequential(slow)
    with preserved():
        next(reference(LossFunction(clips), plane, POINTS, batches))
        assert fastest(reference, LossFunction(clips), plane, batches, 10_000_000) == (reference, Choice())


def test_nothing_is_tried_where_it_would_not_pay(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    @contextmanager
    def seen(evaluator: Any, batches: Any) -> Any:
        called.append(1)
        yield evaluator, batches

    def counted(module: nn.Module, data: Any) -> torch.Tensor:
        steps.append(1)
        return loss(module, data)

    steps: list[int] = []
    pretend(monkeypatch, seen=seen)
    assert chosen(case, 9, counted).names == ()
    assert not called
    assert not steps
    assert chosen(case, 200, counted).names == ()
    assert 0 < len(steps) <= 4, "one point on two batches, and the rehearsals before it"
    assert not called
    chosen(case, 100_000)
    assert called


def test_compiling_is_not_tried_for_short_passes(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, compiled=quick)
    assert chosen(case, 300).names == ()
    assert chosen(case, 10_000_000).names == ("compiled",)


@pytest.mark.parametrize("layers, sizes, tried", [(1, 1, True), (300, 1, False), (60, 1, True), (60, 4, False)])
def test_compiling_takes_time_for_each_layer_and_shape(
    layers: int, sizes: int, tried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of points that take 1,000 s together, 3 % are 30 s."""
    assert compiles(layers, sizes, 1000, monkeypatch) == tried


def test_nothing_is_compiled_for_many_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler gives up at eight of one function, in the middle of a point."""
    assert compiles(1, 4, 10**6, monkeypatch)
    assert not compiles(1, 5, 10**6, monkeypatch)


def compiles(layers: int, sizes: int, seconds: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether it is tried for batches of so many sizes and points that take so many seconds in all."""
    used: list[str] = []

    @contextmanager
    def compiling(evaluator: Any, batches: Any) -> Any:
        used.append("compiled")
        yield evaluator, batches

    pretend(monkeypatch, compiled=compiling)
    monkeypatch.setattr(accelerations.trial, "first_seconds", lambda *args: 1.0)
    monkeypatch.setattr(accelerations.trial, "time_points", lambda *args: ([{"loss": Measurement(1.0, 0.0)}], 1.0))
    monkeypatch.setattr(accelerations.trial, "largest_batches", lambda batches, count: (list(batches), 1.0))
    net = nn.Sequential(*(nn.Identity() for _ in range(layers)), nn.Linear(2, 3)).eval()
    snapshot = Snapshot.of(copy.deepcopy(net))
    data = [Batch((torch.ones(n % sizes + 1, 2), torch.zeros(n % sizes + 1).long()), n % sizes + 1) for n in range(10)]
    choose(Sequential(net), LossFunction(loss), Plane(snapshot.params, Random()(snapshot, 2)), data, seconds)
    return bool(used)


@pytest.mark.parametrize("at_once, takes, kept", [(1, 0.9, True), (1, 0.97, False), (2, 0.9, False), (2, 0.8, True)])
def test_points_side_by_side_must_gain_more(
    case: Any, at_once: int, takes: float, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def way(evaluator: Any, batches: Any) -> Iterator[Any]:
        yield EvaluatorWrapper(evaluator), batches

    def seconds(evaluator: Any, *args: Any) -> Any:
        plain = isinstance(evaluator, Sequential)
        return [{"loss": Measurement(1.0, 0.0)}] * (1 if plain else at_once), 1.0 if plain else takes

    pretend(monkeypatch, processes=way)
    monkeypatch.setattr(accelerations.trial, "first_seconds", lambda *args: 1.0)
    monkeypatch.setattr(accelerations.trial, "time_points", seconds)
    assert bool(chosen(case, 10_000).names) == kept


@pytest.mark.parametrize(
    "seconds, kept",
    [
        ({"several_points": 0.5, "compiled": 0.4}, {"compiled": 2.5}),
        ({"several_points": 0.5, "compiled": 0.6}, {"several_points": 2.0}),
        ({"several_points": 0.5, "way": 0.4}, {"several_points": 2.0, "way": 1.25}),
    ],
)
def test_what_is_compiled_takes_the_place_of_several_points(
    seconds: dict[str, float], kept: dict[str, float], case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call under `torch.func.vmap` can be compiled: it would be measured one by one, under a wrong name."""
    tried: list[tuple[str, ...]] = []

    def timed(evaluator: Any, *args: Any) -> Any:
        names = getattr(evaluator, "names", ())
        tried.append(names)
        return [{"loss": Measurement(1.0, 0.0)}], seconds[names[-1]] if names else 1.0

    pretend(monkeypatch, **{name: named(name) for name in seconds})
    monkeypatch.setattr(accelerations.trial, "first_seconds", lambda *args: 1.0)
    monkeypatch.setattr(accelerations.trial, "time_points", timed)
    choice = chosen(case, 100_000)
    assert choice.speedup == kept
    assert list(choice.names) == list(kept)
    assert ("several_points", "compiled") not in tried


GAIN = [1.0, 0.5, 1.0]  # seconds before, with a way, and before it again


@pytest.mark.parametrize(
    "names, times, kept",
    [
        (["way"], GAIN, ["way"]),
        (["way"], [1.0, 0.9, 0.82], []),  # a neighbour has left since the first
        (["way"], [1.0, 1.1, 1.5], ["way"]),  # one has come
        (["way"], [1.0, 1.6], []),
        (["way", "other"], [1.0, 1.0, 0.8, 0.74, 0.8], ["other"]),  # each beside what was timed around it
        (["way", "other"], [1.0, 0.5, RuntimeError("no compiler"), 0.6, 1.0], ["other"]),
    ],
)
def test_what_was_before_is_timed_before_and_after(
    names: list[str], times: list[Any], kept: list[str], case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(times)

    def timed(*args: Any) -> Any:
        seconds = next(left)
        if isinstance(seconds, Exception):
            raise seconds
        return [{"loss": Measurement(1.0, 0.0)}], seconds

    pretend(monkeypatch, **dict.fromkeys(names, nothing))
    monkeypatch.setattr(accelerations.trial, "first_seconds", lambda *args: 1.0)
    monkeypatch.setattr(accelerations.trial, "time_points", timed)
    assert list(chosen(case, 10_000).names) == kept


@pytest.mark.parametrize(
    "ahead, points, slow, expected",
    [
        (False, 3, [2], 0.0),  # of three rounds the fastest
        (False, 9, [1, 4, 5, 6, 7, 9], 0.0),  # of nine the fastest three
        (False, 9, [1, 4, 5, 6, 7, 8, 9], 0.01),
        (True, 3, [2], 0.01),  # all
        (True, 8, [1, 2], 0.0),  # of eight the faster half
        (True, 8, [1, 8], 0.0075),
    ],
)
def test_rounds_that_live_on_others_are_timed_together(
    ahead: bool, points: int, slow: list[int], expected: float, case: Any
) -> None:
    """A round of several processes may take what was worked for before it; any other never does."""
    _, plane, batches = case

    class Bursts(EvaluatorWrapper):
        works_ahead = ahead

        def __call__(self, *arguments: Any) -> Any:
            for turn in range(1 + points):
                time.sleep(0.03 if turn in slow else 0.0)
                yield {}

    _, seconds = time_points(Bursts(Sequential(net())), LossFunction(loss), plane, batches, points, TrialSettings())
    assert expected <= seconds < expected + 0.005


@pytest.mark.parametrize(
    "at_once, asked, points",
    [(1, 3, 4), (2, 3, 8), (32, 3, 96), (1, 20, 21), (2, 21, 22), (32, 100, 128)],
)
def test_a_trial_of_many_points_at_once_has_fewer_rounds(case: Any, at_once: int, asked: int, points: int) -> None:
    """Of one round to begin with and three, or of one and two; further ones where there is time for them."""
    _, plane, batches = case
    taken = []

    class Counted(EvaluatorWrapper):
        @property
        def at_once(self) -> int:
            return at_once

        def __call__(self, *arguments: Any) -> Any:
            while True:
                taken.append(1)
                yield {}

    time_points(Counted(Sequential(net())), LossFunction(loss), plane, batches, asked, TrialSettings())
    assert len(taken) == points


@pytest.mark.parametrize(
    "seconds, kept",
    [
        ((1.0, 1.2, 0.5), {"several_points": 1.0, "processes": 2.0}),  # neither gains alone
        ((1.25, 0.8, 0.4), {"several_points": 2.0, "processes": 1.25}),  # the second does, the first beside it
        ((0.5, 0.4, 0.1), {"several_points": 2.0, "processes": 1.25}),  # both do in their order, and are tried once
        ((1.0, 1.2, 0.9), {}),
        ((1.6, 1.2, 0.5), {}),  # one is hopeless, and they are not tried together
    ],
)
def test_several_points_and_processes_are_tried_together_too(
    seconds: tuple[float, float, float], kept: dict[str, float], case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points of so few numbers are short of work for two threads, and processes short of it for their calls."""
    tried: list[tuple[str, ...]] = []

    several, processes = "several_points", "processes"
    times = {(): 1.0, (several,): seconds[0], (processes,): seconds[1], (several, processes): seconds[2]}
    if seconds[0] < 1:
        times[several, processes] = seconds[1]

    def timed(evaluator: Any, *args: Any) -> Any:
        tried.append(getattr(evaluator, "names", ()))
        return [{"loss": Measurement(1.0, 0.0)}] * (2 if tried[-1] else 1), times[tried[-1]]

    pretend(monkeypatch, several_points=named(several), processes=named(processes))
    monkeypatch.setattr(accelerations.trial, "first_seconds", lambda *args: 1.0)
    monkeypatch.setattr(accelerations.trial, "time_points", timed)
    choice = chosen(case, 100_000)
    assert choice.speedup == kept
    assert list(choice.names) == list(kept)
    assert tried.count((several, processes)) == (seconds[0] < 1.5)


def test_on_quick_batches_more_of_them_are_tried(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they fit into the share of the time: what a way does once a point counts as it does on all batches."""
    module, plane, batches = case
    many = [Batch(batches[0].data, batches[0].size, i) for i in range(50)]
    asked: list[tuple[int, int]] = []

    def timed(evaluator: Any, objective: Any, plane: Any, given: Any, points: int, settings: Any) -> Any:
        asked.append((len(given), points))
        return [{"loss": Measurement(1.0, 0.0)}], 1.0

    pretend(monkeypatch)
    monkeypatch.setattr(accelerations.trial, "time_points", timed)
    for once, points in [(1.0, 10**6), (1e-3, 10**6), (1e-3, 800), (1e-3, 400), (1.0, 800)]:
        monkeypatch.setattr(accelerations.trial, "first_seconds", lambda *args, once=once: once)
        choose(Sequential(module), LossFunction(loss), plane, many, points)
    # 3 % of 800 points on all 50 batches are as many as 600 on two and 200 on six; of 400 points, as 200 on three.
    assert asked == [(2, 20), (10, 40), (6, 4), (3, 4), (2, 12)]


@pytest.mark.parametrize("points, times, tried", [(4900, [], True), (4600, [], False), (4600, [1.45, 2.0], False)])
def test_several_points_are_tried_where_even_slow_ones_are_affordable(
    points: int, times: list[float], tried: bool, case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three chunks of 32 points and three rounds, 1.5 times as long as one by one, are 148.5 points; 3 % of 4,900 on
    165 samples are 152 on the 160 of a trial, of 4,600 they are 142. What others' work has lengthened does not count.
    """
    seen: list[tuple[str, ...]] = []
    left = iter([1.0, *times])

    def timed(evaluator: Any, *args: Any) -> Any:
        seen.append(getattr(evaluator, "names", ()))
        return [{"loss": Measurement(1.0, 0.0)}], next(left, 1.0)

    ways = {"way": named("way")} if times else {}
    pretend(monkeypatch, **ways, several_points=named("several_points"))
    monkeypatch.setattr(accelerations.trial, "first_seconds", lambda *args: 1.0)
    monkeypatch.setattr(accelerations.trial, "time_points", timed)
    chosen(case, points)
    assert (("several_points",) in seen) == tried
