"""Which networks are measured several points at once."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from lightning_landscape.accelerations.several_points import several_points
from lightning_landscape.evaluators import Sequential, Vmapped
from lightning_landscape.objectives.base import Batch


def test_small_ones_are() -> None:
    with several_points(Sequential(nn.Linear(511, 1024)), []) as (evaluator, _):
        assert isinstance(evaluator, Vmapped)
        assert evaluator.at_once == 32


@pytest.mark.parametrize("device, most", [("cpu", (2**9, 2**10 - 1)), ("meta", (2**12, 2**10 - 1))])
def test_larger_ones_are_not(device: str, most: tuple[int, int]) -> None:
    """A linear layer has rows × columns weights, and as many biases as rows."""
    rows, columns = most
    with several_points(Sequential(nn.Linear(columns, rows, device=device)), []):
        pass
    with (
        pytest.raises(ValueError, match="not so small"),
        several_points(Sequential(nn.Linear(columns + 1, rows, device=device)), []),
    ):
        pass


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d])
def test_convolutions_have_fewer_points(kind: type[nn.Module]) -> None:
    with several_points(Sequential(kind(1, 1, 1)), []) as (evaluator, _):
        assert evaluator.at_once == 16


@pytest.mark.parametrize("kind", [nn.Conv3d, nn.ConvTranspose2d])
def test_those_without_a_rule_are_together_only_on_accelerators(kind: type[nn.Module]) -> None:
    with several_points(Sequential(kind(1, 1, 1, device="meta")), []) as (evaluator, _):
        assert evaluator.at_once == 32
    with pytest.raises(ValueError, match="convolutions"), several_points(Sequential(kind(1, 1, 1)), []):
        pass


@pytest.mark.parametrize(
    "module, sample, most",
    [
        (nn.Conv2d(3, 32, 1), (3, 32, 32), 256),  # 16 points x 32 x 32 x 32 numbers of 4 bytes are 2 MiB a sample
        (nn.Sequential(nn.Conv1d(1, 4, 1), nn.Conv1d(4, 16, 1)), (1, 1024), 512),
        (nn.Sequential(nn.Linear(256, 64), nn.Linear(64, 512)), (256,), 8192),  # 32 points x 512 are 64 KiB
        (nn.Sequential(nn.Embedding(9, 16), nn.Linear(16, 64)), (256,), 256),
    ],
)
def test_batches_that_would_fill_the_memory_are_refused(module: nn.Module, sample: tuple[int, ...], most: int) -> None:
    """No layer may return more than half a GiB, about."""
    fits, fills = (Batch(torch.zeros(1).expand(size, *sample), size) for size in (most, most + 1))
    with several_points(Sequential(module), [fits]):
        pass
    with pytest.raises(ValueError, match="memory"), several_points(Sequential(module), [fits, fills]):
        pass


def test_large_samples_are_not_convolved_together_on_a_cpu() -> None:
    """Their activations at 16 points would fill the memory, and take as long as one by one."""
    small, large = (Batch((torch.zeros(5, 2, 64, side), torch.zeros(5)), 5) for side in (63, 64))
    for module, refused in [
        (nn.Conv2d(2, 1, 1), True),
        (nn.Conv2d(2, 1, 1, device="meta"), False),
        (nn.Linear(2, 1), False),
    ]:
        with several_points(Sequential(module), [small]):
            pass
        expectation = pytest.raises(ValueError, match="samples") if refused else nullcontext()
        with expectation, several_points(Sequential(module), [small, large]):
            pass
