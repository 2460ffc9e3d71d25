"""BatchNorm folded into the layer before it. Expected values: functional_call of the plain module, in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_landscape import Plane, Random, Snapshot
from lightning_landscape.accelerations import applied
from lightning_landscape.accelerations.equality import equal
from lightning_landscape.evaluators import Sequential
from lightning_landscape.evaluators.modes import BATCH_NORMS
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, LossFunction

POINTS = np.array([[0.0, 0.0], [0.4, -0.3], [-0.7, 0.9]])


class Net(nn.Module):
    """Layers in a row; the loss is the mean square of what comes out."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x


def loss(module: nn.Module, data: Tensor) -> Tensor:
    return (module(data) ** 2).flatten(1).mean(1)


def prepared(module: nn.Module, *shape: int) -> tuple[nn.Module, Plane, list[Batch]]:
    """The module in float64 with odd statistics, a plane in which everything moves, and two batches of that shape."""
    generator = torch.Generator().manual_seed(0)
    module = module.double().eval()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point():
            low = 0.5 if name.endswith("running_var") else -1.0
            tensor.data.uniform_(low, 2, generator=generator)
    snapshot = Snapshot.of(copy.deepcopy(module), buffers=True)
    plane = Plane(snapshot.params, Random(ignore=None)(snapshot, 2))
    data = [torch.randn(n, *shape, dtype=torch.float64, generator=generator) for n in (5, 3)]
    return module, plane, [Batch(x, len(x), i) for i, x in enumerate(data)]


def formula(module: nn.Module, plane: Plane, batches: list[Batch]) -> np.ndarray:
    """The mean loss at POINTS; a running variance stays positive."""
    tiny, values = torch.finfo(torch.float64).tiny, []
    for point in POINTS:
        moved = {
            n: sum((c * d[n] for c, d in zip(point, plane.directions, strict=True)), t) for n, t in plane.origin.items()
        }
        moved = {n: t.clamp(min=tiny) if n.endswith("running_var") else t for n, t in moved.items()}
        with torch.no_grad():
            each = [torch.func.functional_call(module, moved, (batch.data,)) for batch in batches]
        values.append(float(torch.cat([(x**2).flatten(1).mean(1) for x in each]).mean()))
    return np.array(values)


def measured(names: list[str], module: nn.Module, plane: Plane, batches: list[Batch]) -> np.ndarray:
    with applied(names, Sequential(module), batches) as (evaluator, converted), preserved():
        return np.array([row["loss"].value for row in evaluator(LossFunction(loss), plane, POINTS, converted)])


@pytest.fixture
def norms(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The channels of every norm that is computed on its own."""
    seen: list[int] = []
    own = nn.functional.batch_norm

    def counted(x: Tensor, *args: Any, **options: Any) -> Tensor:
        seen.append(x.shape[1])
        return own(x, *args, **options)

    monkeypatch.setattr(nn.functional, "batch_norm", counted)
    return seen


KINDS: dict[str, Any] = {
    "conv1d": ([nn.Conv1d(3, 4, 3, 2, 1), nn.BatchNorm1d(4)], (3, 9)),
    "conv2d": ([nn.Conv2d(2, 4, 3, padding="same", groups=2, bias=False), nn.BatchNorm2d(4)], (2, 6, 5)),
    "conv2d, no γ": ([nn.Conv2d(2, 3, 3, dilation=2), nn.BatchNorm2d(3, affine=False)], (2, 6, 7)),
    "conv3d": ([nn.Conv3d(1, 3, 2), nn.BatchNorm3d(3, eps=0.1)], (1, 4, 3, 3)),
    "transposed 1d": ([nn.ConvTranspose1d(3, 2, 3, bias=False), nn.BatchNorm1d(2)], (3, 5)),
    "transposed 2d": ([nn.ConvTranspose2d(3, 2, 3, 2, 1, 1), nn.BatchNorm2d(2)], (3, 4, 5)),
    "transposed 3d": ([nn.ConvTranspose3d(1, 2, 2, dilation=2), nn.BatchNorm3d(2)], (1, 3, 3, 3)),
    "linear": ([nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 5), nn.BatchNorm1d(5)], (4,)),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_no_norm_is_left_and_the_values_are_those_of_the_formula(kind: str, norms: list[int]) -> None:
    parts, shape = KINDS[kind]
    case = prepared(copy.deepcopy(Net(*parts)), *shape)
    expected = formula(*case)
    norms.clear()
    got = measured(["folded"], *case)
    np.testing.assert_allclose(got, expected, rtol=1e-11)
    in_all = len(case[2]) * len(POINTS) * sum(isinstance(part, BATCH_NORMS) for part in parts)
    assert len(norms) < in_all, "the norms of the first batch alone, on which the pairs are found"


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Twice(Net):
    """The same layer in front of two norms."""

    def forward(self, x: Tensor) -> Tensor:
        layer, first, second, *rest = self.parts
        x = first(layer(x)) + second(layer(x))
        for part in rest:
            x = part(x)
        return x


class Between(Net):
    """What a layer gives lives on, but the norm takes a sum with it, of the same shape."""

    def forward(self, x: Tensor) -> Tensor:
        layer, norm, *rest = self.parts
        kept = layer(x)
        x = norm(kept + x) + kept
        for part in rest:
            x = part(x)
        return x


def conv() -> nn.Module:
    return nn.Conv2d(2, 2, 1)


def hooked(part: nn.Module) -> nn.Module:
    part.register_forward_hook(lambda part, inputs, output: output + 1)
    return part


def with_own_forward(part: nn.Module) -> nn.Module:
    plain = part.forward
    part.forward = lambda x: plain(x) + 1
    return part


ALONE: dict[str, Any] = {
    "hook on the layer": lambda: Net(hooked(conv()), nn.BatchNorm2d(2)),
    "hook on the norm": lambda: Net(conv(), hooked(nn.BatchNorm2d(2))),
    "own forward": lambda: Net(with_own_forward(conv()), nn.BatchNorm2d(2)),
    "subclass": lambda: Net(Doubled(2, 2, 1), nn.BatchNorm2d(2)),
    "parametrization": lambda: Net(nn.utils.parametrizations.weight_norm(conv()), nn.BatchNorm2d(2)),
    "reflected": lambda: Net(nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(2)),
    "transposed in groups": lambda: Net(nn.ConvTranspose2d(2, 2, 1, groups=2), nn.BatchNorm2d(2)),
    "something between": lambda: Net(conv(), nn.ReLU(), nn.BatchNorm2d(2)),
    "a sum between": lambda: Between(conv(), nn.BatchNorm2d(2)),
    "norm first": lambda: Net(nn.BatchNorm2d(2), conv()),
    "two norms": lambda: Twice(conv(), nn.BatchNorm2d(2), nn.BatchNorm2d(2)),
    "batch statistics": lambda: Net(conv(), nn.BatchNorm2d(2, track_running_stats=False)),
}


@pytest.mark.parametrize("what", ALONE)
def test_what_others_have_a_hand_in_is_left_alone(what: str, norms: list[int]) -> None:
    """Behind it stands a pair that is folded: three channels."""
    net = ALONE[what]()
    net.parts.extend([nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3)])
    case = prepared(net, 2, 4, 5)
    expected = formula(*case)
    norms.clear()
    np.testing.assert_allclose(measured(["folded"], *case), expected, rtol=1e-11)
    passes = len(case[2]) * len(POINTS)
    assert norms.count(3) < passes <= norms.count(2)


def test_a_linear_layer_over_a_sequence_is_left_alone() -> None:
    """Its features are the last axis, those of the norm the second."""
    net = Net(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(9, 2), nn.BatchNorm1d(2))
    case = prepared(net, 3, 4)
    np.testing.assert_allclose(measured(["folded"], *case), formula(*case), rtol=1e-11)


def test_a_layer_whose_output_goes_elsewhere_too_is_found_out() -> None:
    """Which the trial compares."""

    class Skip(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.parts[0](x)
            return x + self.parts[1](x)

    module, plane, batches = prepared(Skip(conv(), nn.BatchNorm2d(2)), 2, 3, 3)
    plain = Sequential(module)
    with applied(["folded"], plain, batches) as (evaluator, _), preserved():
        (row,) = evaluator(LossFunction(loss), plane, POINTS[1:2], batches)
    with preserved():
        (expected,) = plain(LossFunction(loss), plane, POINTS[1:2], batches)
    assert not equal(row, expected)
    assert expected["loss"].value == pytest.approx(formula(module, plane, batches)[1], rel=1e-12)


@pytest.mark.parametrize("net", [Net(conv()), Net(nn.BatchNorm2d(2)), Net(conv(), nn.ReLU(), nn.BatchNorm2d(2))])
def test_without_a_pair_there_is_nothing_to_gain(net: nn.Module) -> None:
    case = prepared(net, 2, 3, 3)
    with pytest.raises(ValueError, match="no BatchNorm"):
        measured(["folded"], *case)


def test_no_hook_and_no_forward_stays(norms: list[int]) -> None:
    module, plane, batches = prepared(Net(conv(), nn.BatchNorm2d(2)), 2, 3, 3)
    measured(["folded"], module, plane, batches)
    assert not [part for part in module.modules() if "forward" in vars(part)]
    assert not [part for part in module.modules() if part._forward_hooks or part._forward_pre_hooks]
    module(batches[0].data)
    assert norms[-1] == 2


def test_a_forward_that_a_later_way_puts_on_sees_no_hooks() -> None:
    """They would be compiled with it."""
    module, plane, batches = prepared(Net(conv(), nn.BatchNorm2d(2)), 2, 3, 3)
    seen: list[int] = []

    def later(x: Tensor) -> Tensor:
        seen.append(sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()))
        return Net.forward(module, x)  # type: ignore[arg-type]

    with applied(["folded"], Sequential(module), batches) as (evaluator, _), preserved():
        vars(module)["forward"] = later
        list(evaluator(LossFunction(loss), plane, POINTS, batches))
        assert vars(module).pop("forward") is later
    assert seen == [0] * (1 + len(POINTS) * len(batches))


@pytest.mark.skipif(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 5), reason="costs the acceleration only")
@pytest.mark.parametrize("flat", [True, False])
def test_folded_and_compiled_together(flat: bool, norms: list[int]) -> None:
    """Also where the layers are the very children that are compiled."""
    module, plane, batches = prepared(Net(conv(), nn.BatchNorm2d(2), nn.ReLU()), 2, 3, 3)
    if flat:
        module = nn.Sequential(*module.parts)
        origin, *directions = [
            {name.removeprefix("parts."): tensor for name, tensor in params.items()}
            for params in (plane.origin, *plane.directions)
        ]
        plane = Plane(origin, tuple(directions))
    expected = formula(module, plane, batches)
    norms.clear()
    np.testing.assert_allclose(measured(["folded", "compiled"], module, plane, batches), expected, rtol=1e-11)
    assert len(norms) <= 3, "of the first batch alone"
    assert not [part for part in module.modules() if "forward" in vars(part)]
