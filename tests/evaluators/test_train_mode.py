"""Train mode: every evaluator and acceleration gives the values of a naive loop, or does not offer itself."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_landscape import Random, Snapshot
from lightning_landscape.accelerations import ACCELERATIONS
from lightning_landscape.accelerations.proof import proved
from lightning_landscape.accelerations.several_points import PointLimits, several_points
from lightning_landscape.accelerations.trial import Choice
from lightning_landscape.evaluators import EVALUATORS, Affine, Sequential, Vmapped
from lightning_landscape.evaluators.modes import is_training
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, CannotMeasureError, LossFunction
from lightning_landscape.weights.plane import Plane

SEED = 7
POINTS = np.array([[0.0, 0.0], [0.4, -0.3], [-0.7, 0.9], [0.0, 0.0], [-0.1, -0.6], [0.5, 0.5], [-1.0, 0.2], [0.3, 0.1]])
SIZES = (70, 66, 5)


class Noisy(nn.Module):
    """Noise in training only, as of a variational autoencoder."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x) if self.training else x


class Centred(nn.Module):
    """A norm of a user's own, by the batch in training."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0) if self.training else x


class Counting(nn.Module):
    """Draws codes towards what it sees, so that a batch depends on those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("code", torch.zeros(16))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.code += 0.1 * (x.detach().mean(0) - self.code)
        return x - self.code


NETS: dict[str, Callable[[], nn.Module]] = {
    "BatchNorm": lambda: nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)),
    "dropout": lambda: nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.4), nn.Linear(16, 4)),
    "noise": lambda: nn.Sequential(nn.Linear(6, 16), Noisy(), nn.Tanh(), nn.Linear(16, 4)),
    "a norm of one's own": lambda: nn.Sequential(nn.Linear(6, 16), Centred(), nn.Tanh(), nn.Linear(16, 4)),
    "a frozen norm": lambda: nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16).eval(), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4)
    ),
    "codes": lambda: nn.Sequential(nn.Linear(6, 16), Counting(), nn.ReLU(), nn.Linear(16, 4)),
    "spectral norm": lambda: nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(6, 16)), nn.Tanh(), nn.Linear(16, 4)
    ),
    "images": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.3),
        nn.Flatten(), nn.Linear(8, 4),
    ),
    "affine, with dropout": lambda: nn.Sequential(nn.Dropout(0.3), nn.Linear(6, 4)),
    "a frozen body": lambda: nn.Sequential(
        nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU()).requires_grad_(False), nn.Linear(16, 4)
    ),
    "a frozen body with dropout": lambda: nn.Sequential(
        nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.3)).requires_grad_(False), nn.Dropout(0.3), nn.Linear(16, 4)
    ),
}  # fmt: skip


def loss(module: nn.Module, data: Any) -> Tensor:
    return nn.functional.cross_entropy(module(data[0]), data[1])


@pytest.fixture(params=NETS)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Plane, list[Batch], np.ndarray]:
    """A net in train mode, a plane, batches, and the losses at POINTS."""
    torch.manual_seed(0)
    module = NETS[request.param]()
    data = [(torch.randn(n, 6), torch.randint(4, (n,))) for n in SIZES]
    snapshot = Snapshot.of(copy.deepcopy(module))
    plane = Plane(snapshot.params, Random(ignore=None)(snapshot, 2))
    return module, plane, [Batch(d, len(d[1]), i) for i, d in enumerate(data)], naive(module, plane, data)


def naive(module: nn.Module, plane: Plane, data: list[Any], points: np.ndarray = POINTS) -> np.ndarray:
    """The losses at the points: a fresh copy of the module at each, one seed, one batch after the other."""
    values = []
    for point in points:
        own = copy.deepcopy(module)
        with torch.no_grad():
            for name, parameter in own.named_parameters():
                if name in plane.origin:
                    for c, direction in zip(point, plane.directions, strict=True):
                        parameter += float(c) * direction[name]
        torch.manual_seed(SEED)
        with torch.no_grad():
            values.append(sum(float(loss(own, d)) * len(d[1]) for d in data) / sum(len(d[1]) for d in data))
    return np.array(values)


def column(rows: list[Any]) -> np.ndarray:
    return np.array([row["loss"].value for row in rows])


@pytest.fixture(autouse=True)
def _streams() -> Iterator[None]:
    """The random streams of others stay as they were."""
    with preserved():
        yield


@pytest.fixture
def _two_threads_on_two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever there are."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("way", [*EVALUATORS, "vmapped"])
def test_every_evaluator_equals_the_naive_loop(case: Any, way: str) -> None:
    module, plane, batches, expected = case
    make = EVALUATORS.get(way, lambda own, seed: Vmapped(Sequential(own, seed=seed), 4))
    evaluator = make(copy.deepcopy(module), seed=SEED)
    got = column(list(evaluator(LossFunction(loss), plane, POINTS, batches)))
    np.testing.assert_allclose(got, expected, rtol=2e-6)
    assert got[0] == got[3], "the same point has the same bits"


@pytest.mark.usefixtures("_two_threads_on_two_cores")
@pytest.mark.parametrize("name", [n for n in ACCELERATIONS if n not in ("compiled", "kept_memory")])
def test_what_is_proved_holds_at_all_points(case: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(ACCELERATIONS["several_points"], use=partial(several_points, limits=PointLimits(4, 4)))
    monkeypatch.setitem(ACCELERATIONS, "several_points", row)
    module, plane, batches, expected = case
    way = Sequential(copy.deepcopy(module), seed=SEED)
    objective = LossFunction(loss)
    with proved(Choice((name,)), way, plane, batches, lambda given: [(objective, given)]) as (fast, converted, _):
        got = column(list(fast(objective, plane, POINTS, converted)))
    np.testing.assert_allclose(got, expected, rtol=2e-6)


@pytest.mark.skipif(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 5), reason="this torch can't compile it")
@pytest.mark.parametrize("case", ["images"], indirect=True)
def test_so_does_what_is_compiled(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    test_what_is_proved_holds_at_all_points(case, "compiled", monkeypatch)


@pytest.mark.parametrize("case", ["BatchNorm"], indirect=True)
def test_batches_that_do_not_fit_are_not_cut(case: Any) -> None:
    module, plane, batches, _ = case
    evaluator = Sequential(module, seed=SEED)

    def crowded(module: nn.Module, data: Any) -> Tensor:
        if len(data[1]) > 50:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return loss(module, data)

    message = r"A batch of 70 samples does not fit into the memory\. In train mode.*smaller batches, or mode='eval'"
    with pytest.raises(CannotMeasureError, match=message):
        list(evaluator(LossFunction(crowded), plane, POINTS, batches))


def test_what_is_affine_under_one_mask_is_computed() -> None:
    """Else the evaluators above would prove nothing of it."""
    module = NETS["affine, with dropout"]()
    snapshot = Snapshot.of(copy.deepcopy(module))
    plane = Plane(snapshot.params, Random(ignore=None)(snapshot, 2))
    batches = [Batch((torch.randn(n, 6), torch.randint(4, (n,))), n, i) for i, n in enumerate(SIZES)]
    evaluator = Affine(Sequential(module, seed=SEED))
    list(evaluator(LossFunction(loss), plane, POINTS, batches))
    assert evaluator.method == "closed form"


class Restless(nn.Module):
    """A step that leaves the flags otherwise than it found them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.drop, self.still = nn.Parameter(torch.ones(())), nn.Dropout(0.5), nn.Dropout(0.5).eval()


def restless(module: Restless, data: Tensor) -> dict[str, Tensor]:
    flags = module.training, module.drop.training, module.still.training
    module.train(not module.training)
    module.still.train()
    seen = dict(zip(("all", "drop", "still"), map(torch.tensor, map(float, flags)), strict=True))
    return {"loss": module.weight**2, **seen}


@pytest.mark.parametrize("training", [True, False])
def test_every_batch_finds_the_flags_as_they_were(training: bool) -> None:
    module = Restless()
    if not training:
        module.eval()
    plane = Plane({"weight": torch.ones(())}, ({"weight": torch.ones(())},))
    rows = list(
        Sequential(module)(LossFunction(restless), plane, np.array([[0.0], [1.0]]), [Batch(torch.ones(1), 1)] * 3)
    )
    for row in rows:
        assert [row[name].value for name in ("all", "drop", "still")] == [training, training, 0]


def test_cudnn_whose_random_numbers_nobody_can_put_back_is_off_where_it_would_draw_some() -> None:
    def enabled(module: nn.Module, data: Tensor) -> Tensor:
        return torch.tensor(float(torch.backends.cudnn.enabled)) + 0 * module.weight_ih_l0.sum()

    assert torch.backends.cudnn.enabled
    for part, expected in [
        (nn.LSTM(2, 2, 2, dropout=0.1), 0), (nn.GRU(2, 2, 2, dropout=0.1).eval(), 1), (nn.LSTM(2, 2, 2), 1),
    ]:  # fmt: skip
        snapshot = Snapshot.of(copy.deepcopy(part))
        plane = Plane(snapshot.params, Random(ignore=None)(snapshot, 1))
        rows = list(Sequential(part)(LossFunction(enabled), plane, np.zeros((2, 1)), [Batch(torch.ones(1), 1)]))
        assert [row["loss"].value for row in rows] == [expected, expected]
        assert torch.backends.cudnn.enabled


def test_a_look_at_train_mode_leaves_nothing_behind() -> None:
    """Buffers, edited parameters, flags, autograd: the values in eval mode are those without the look, bit by bit."""

    class Edits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.norm = nn.Linear(6, 4), nn.BatchNorm1d(4)
            self.teacher = nn.Linear(6, 4).requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.teacher.weight.mul_(0.9)
                x = x.clone().requires_grad_()
                torch.autograd.grad(self.net(x).sum(), x)  # needs autograd
            return self.norm(self.net(x) + self.teacher(x))

    torch.manual_seed(0)
    module = Edits().eval()
    plane = Plane({"net.weight": module.net.weight.detach().clone()}, ({"net.weight": torch.ones(4, 6)},))
    batches = [Batch((torch.randn(n, 6), torch.randint(4, (n,))), n) for n in (9, 4)]
    points = np.array([[0.0], [0.5]])
    expected = column(list(Sequential(copy.deepcopy(module))(LossFunction(loss), plane, points, batches)))
    evaluator = Sequential(module)
    list(evaluator(LossFunction(loss), plane, points, batches))
    before = copy.deepcopy(module.state_dict())
    with evaluator.in_train_mode({}) as other:
        assert is_training(module)
        trained = column(list(other(LossFunction(loss), plane, points, batches)))
    assert not is_training(module)
    for name, tensor in module.state_dict().items():
        assert name == "net.weight" or torch.equal(tensor, before[name]), name
    assert np.abs(trained - expected).min() > 1e-3
    np.testing.assert_array_equal(column(list(evaluator(LossFunction(loss), plane, points, batches))), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_the_table_above_has_every_evaluator() -> None:
    assert set(EVALUATORS) == {"sequential", "affine", "forked"}
