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


def test_larger_ones_are_not() -> None:
    with pytest.raises(ValueError, match="not so small"), several_points(Sequential(nn.Linear(256, 256)), []):
        pass


def test_those_with_convolutions_are_not() -> None:
    with pytest.raises(ValueError, match="convolutions"), several_points(Sequential(nn.Conv1d(1, 1, 1)), []):
        pass
