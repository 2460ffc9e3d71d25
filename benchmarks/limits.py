"""What the machine can do: rates of matrix products, exponentials and copies, beside which the contenders stand."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_landscape.isolation.precision import preserve_matmul_precision


class Limit(NamedTuple):
    """One rate.

    Args:
        name: of the operation.
        rate: per second.
        unit: of the rate.
        error: the largest error of a product, as share of its largest value; None where there is none.
    """

    name: str
    rate: float
    unit: str
    error: float | None = None


PRODUCT, CONVOLUTION = "product, float32", "1×1 convolution, float32"


@torch.inference_mode()
def limits(size: int = 2048, seconds: float = 1.0) -> list[Limit]:
    """Measure all rates.

    Args:
        size: rows and columns of the matrices, a multiple of 64; exponentials and copies are of 16 · size² numbers.
        seconds: for each.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    found = [
        _product(PRODUCT + " (`torch.mm`, matmul precision highest)", lambda: torch.mm(a, b), exact, seconds),
        _product(PRODUCT + " (`torch.mm`, matmul precision medium)", _medium(a, b), exact, seconds),
        _product(CONVOLUTION + " (oneDNN)", _convolution(a, b), exact, seconds),
        _product("product, bfloat16 (`torch.mm`)", _half(a, b), exact, seconds),
    ]
    numbers = torch.randn(16 * size * size, generator=generator)
    other = torch.empty_like(numbers)
    exponentials = numbers.numel() / _fastest(lambda: torch.exp(numbers, out=other), seconds)
    copied = 2 * numbers.nbytes / _fastest(lambda: other.copy_(numbers), seconds)
    return [
        *found,
        Limit("exp, float32", exponentials, "numbers"),
        Limit("copy, read and written", copied, "bytes"),
    ]


def faster(some: Sequence[Limit], others: Sequence[Limit]) -> list[Limit]:
    """Of the same limits measured twice the faster ones: the machine was busy at the other time."""
    return [max(pair, key=lambda limit: limit.rate) for pair in zip(some, others, strict=True)]


def _medium(a: Tensor, b: Tensor) -> Callable[[], Tensor]:
    """`torch.mm` as it is where float32 products may be faster: on CPUs, oneDNN's way."""

    def product() -> Tensor:
        with preserve_matmul_precision():
            torch.set_float32_matmul_precision("medium")
            return torch.mm(a, b)

    return product


def _convolution(a: Tensor, b: Tensor) -> Callable[[], Tensor]:
    """The same product as a 1×1 convolution, a's rows being the pixels of four images: several go through oneDNN."""
    size = len(a)
    images = a.reshape(4, size // 64, 16, size).permute(0, 3, 1, 2)  # channels last
    kernel = b.t().reshape(size, size, 1, 1).contiguous(memory_format=torch.channels_last)
    return lambda: F.conv2d(images, kernel).permute(0, 2, 3, 1).reshape(size, size)


def _half(a: Tensor, b: Tensor) -> Callable[[], Tensor]:
    x, y = a.bfloat16(), b.bfloat16()
    return lambda: torch.mm(x, y)


def _product(name: str, product: Callable[[], Tensor], exact: Tensor, seconds: float) -> Limit:
    error = float((product().double() - exact).abs().max() / exact.abs().max())
    return Limit(name, 2 * len(exact) ** 3 / _fastest(product, seconds), "operations", error)


def _fastest(call: Callable[[], object], seconds: float) -> float:
    """The shortest time of a call: a limit is what the machine does when nothing else disturbs it."""
    call()
    deadline, best = time.perf_counter() + seconds, float("inf")
    while time.perf_counter() < deadline:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best
