"""Which networks are measured several points at once."""

from __future__ import annotations

import pytest
from torch import nn

from lightning_landscape.accelerations.several_points import several_points
from lightning_landscape.evaluators import Sequential, Vmapped


def test_small_ones_are() -> None:
    with several_points(Sequential(nn.Linear(255, 256)), []) as (evaluator, _):
        assert isinstance(evaluator, Vmapped)
        assert evaluator.at_once == 32


@pytest.mark.parametrize("device, most", [("cpu", (256, 255)), ("meta", (2**12, 2**10 - 1))])
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


def test_those_with_convolutions_are_where_they_may_gain() -> None:
    with several_points(Sequential(nn.Conv1d(1, 1, 1, device="meta")), []) as (evaluator, _):
        assert evaluator.at_once == 32
    with pytest.raises(ValueError, match="convolutions"), several_points(Sequential(nn.Conv1d(1, 1, 1)), []):
        pass
