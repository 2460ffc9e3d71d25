"""Points side by side in the channels. Expected values: the same function, called for one point after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

from lightning_landscape.evaluators import Sequential, Vmapped, grouped
from lightning_landscape.evaluators.grouped import Grouped
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import LossFunction

POINTS = 3


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def check(function: Callable[..., Tensor], *arguments: Tensor | None, of_points: tuple[int, ...]) -> None:
    """Whether it is equal for all points at once, where the named arguments have a first axis of points."""
    dims = tuple(0 if i in of_points else None for i in range(len(arguments)))
    with Grouped():
        together = vmap(function, dims)(*arguments)
    for point in range(POINTS):
        own = [a[point] if i in of_points and a is not None else a for i, a in enumerate(arguments)]
        torch.testing.assert_close(together[point], function(*own), rtol=1e-12, atol=1e-12)


@pytest.fixture
def ruled(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each call that has a rule, whether it fits."""
    calls: list[bool] = []

    def seen(rule: Callable[..., Any]) -> Callable[..., Any]:
        def own(*args: Any, **kwargs: Any) -> Any:
            done = rule(*args, **kwargs)
            calls.append(done is not None)
            return done

        return own

    monkeypatch.setattr(grouped, "RULES", {f: (seen(rule), ndims) for f, (rule, ndims) in grouped.RULES.items()})
    return calls


CONVOLUTIONS = [(F.conv1d, (7,), (3,)), (F.conv2d, (7, 6), (3, 1))]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("of_points", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("convolution, size, kernel", CONVOLUTIONS)
def test_convolutions(
    convolution: Any,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    groups: int,
    of_points: tuple[int, ...],
    channels_last: bool,
    ruled: list[bool],
) -> None:
    shapes = [(5, 4, *size), (6, 4 // groups, *kernel), (6,)]
    given = [numbers(*([POINTS] if i in of_points else []), *shape) for i, shape in enumerate(shapes)]
    if channels_last:
        given[0] = given[0].movedim(given[0].ndim - len(size) - 1, -1).contiguous().movedim(-1, -len(size) - 1)
    check(lambda x, w, b: convolution(x, w, b, 2, 1, groups=groups), *given, of_points=of_points)
    check(lambda x, w, b: convolution(x, w, b, padding="same", groups=groups), *given, of_points=of_points)
    assert ruled == [True, True]


def test_a_convolution_without_bias(ruled: list[bool]) -> None:
    check(F.conv2d, numbers(2, 3, 5, 5), numbers(POINTS, 4, 3, 2, 2), of_points=(1,))
    assert ruled == [True]


@pytest.mark.parametrize("pool", ["avg_pool", "max_pool", "adaptive_avg_pool", "adaptive_max_pool"])
@pytest.mark.parametrize("ndim", [1, 2])
def test_poolings(pool: str, ndim: int, ruled: list[bool]) -> None:
    function = getattr(F, f"{pool}{ndim}d")
    check(lambda x: function(x, 2), numbers(POINTS, 2, 4, *[6] * ndim), of_points=(0,))
    assert ruled == [True]


def test_the_indices_of_a_pooling_are_left_to_vmap(ruled: list[bool]) -> None:
    check(lambda x: F.max_pool2d(x, 2, return_indices=True)[1], numbers(POINTS, 2, 4, 6, 6), of_points=(0,))
    assert not ruled


@pytest.mark.parametrize("of_points", [(0,), (3, 4), (0, 3, 4), (0, 1, 2, 3, 4), (1,)])
@pytest.mark.parametrize("size", [(), (5,), (5, 4)])
def test_norms(size: tuple[int, ...], of_points: tuple[int, ...], ruled: list[bool]) -> None:
    shapes = [(2, 4, *size), (4,), (4,), (4,), (4,)]
    given = [numbers(*([POINTS] if i in of_points else []), *shape) for i, shape in enumerate(shapes)]
    given[2] = given[2].square() + 0.1
    check(F.batch_norm, *given, of_points=of_points)
    assert ruled == [True] * bool(size)


@pytest.mark.parametrize("size", [(5,), (5, 4)])
def test_norms_without_weights(size: tuple[int, ...], ruled: list[bool]) -> None:
    given = numbers(POINTS, 2, 4, *size), numbers(4), numbers(4).square() + 0.1
    check(F.batch_norm, *given, of_points=(0,))
    assert ruled == [True]


def test_the_statistics_of_a_batch_are_left_to_vmap(ruled: list[bool]) -> None:
    check(lambda x: F.batch_norm(x, None, None, training=True), numbers(POINTS, 4, 2, 3, 3), of_points=(0,))
    assert ruled == [False]


def test_a_single_image_and_names_of_arguments_are_left_to_vmap(ruled: list[bool]) -> None:
    check(F.conv2d, numbers(3, 5, 5), numbers(POINTS, 4, 3, 2, 2), of_points=(1,))
    check(lambda x, w: F.conv2d(input=x, weight=w), numbers(1, 3, 5, 5), numbers(POINTS, 4, 3, 2, 2), of_points=(1,))
    assert not ruled


def test_what_is_for_one_point_only_is_as_ever(ruled: list[bool]) -> None:
    images, weight = numbers(2, 3, 5, 5), numbers(4, 3, 2, 2)
    with Grouped():
        together = vmap(lambda shift: F.conv2d(images, weight) + shift)(numbers(POINTS))
        alone = F.conv2d(images, weight)
    assert not ruled
    torch.testing.assert_close(together[1], alone + numbers(POINTS)[1])


def test_points_of_points_and_gradients_are_left_to_vmap(ruled: list[bool]) -> None:
    images, weights = numbers(2, 3, 5, 5), numbers(2, POINTS, 4, 3, 2, 2)

    def squares(weight: Tensor) -> Tensor:
        return F.conv2d(images, weight).square().sum()

    with Grouped():
        twice = vmap(vmap(lambda image, weight: F.conv2d(image[None], weight), (0, None)), (None, 0))(
            images, weights[0]
        )
        slopes = vmap(grad(squares))(weights[0])
    assert not ruled
    torch.testing.assert_close(twice[1, 1], F.conv2d(images[1:], weights[0, 1]))
    torch.testing.assert_close(slopes[1], grad(squares)(weights[0, 1]))


def test_no_number_is_moved_between_two_layers() -> None:
    """What a layer gets is where the one before, and a function of each number, have left it."""
    images = numbers(5, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    first = numbers(POINTS * 4, 3, 3, 3).contiguous(memory_format=torch.channels_last).unflatten(0, (POINTS, 4))
    second = numbers(POINTS, 4, 4, 3, 3)
    mean, variance = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)

    def stays(x: Tensor) -> Tensor:
        merged = grouped._merged(x, 1, POINTS)
        assert merged.data_ptr() == grouped.functorch.get_unwrapped(x).data_ptr()
        assert merged.is_contiguous(memory_format=torch.channels_last)
        return x

    def net(a: Tensor, b: Tensor) -> Tensor:
        x = stays(F.conv2d(images, a, padding=1).relu())
        y = stays(x + stays(F.conv2d(x, b, padding=1)))
        return stays(F.max_pool2d(stays(F.batch_norm(y, mean, variance)), 2))

    with Grouped():
        assert vmap(net)(first, second).shape == (POINTS, 5, 4, 3, 3)


def test_points_in_one_call_take_the_rules(
    net: Any, mean_cross_entropy: Any, plane: Any, points: Any, batches: Any, ruled: list[bool]
) -> None:
    with preserved():
        list(Vmapped(Sequential(net.eval()), len(points))(LossFunction(mean_cross_entropy), plane, points, batches))
    assert ruled == [True] * 2 * (1 + len(batches)), "a convolution and a norm, of the rehearsal and of each batch"


def test_tensors_of_other_kinds_are_left_to_their_own_rules(ruled: list[bool]) -> None:
    class Doubled(Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            with torch._C.DisableTorchFunctionSubclass():
                return 2 * func(*args, **(kwargs or {}))

    images, shifts = numbers(2, 3, 5, 5), numbers(POINTS)
    weight = numbers(4, 3, 2, 2).as_subclass(Doubled)
    with Grouped():
        together = vmap(lambda shift: F.conv2d(images + shift, weight))(shifts)
    assert not ruled
    expected = 2 * F.conv2d(images + shifts[1], weight.as_subclass(Tensor))
    torch.testing.assert_close(together[1].as_subclass(Tensor), expected)
