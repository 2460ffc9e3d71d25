"""Changes of the learning rate, by the schedules of torch: those that jump, and those that change it at every step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from lightning_landscape.plots.marks import marks_of, rate_changes
from tests.plots.walks import walk

SCHEDULES = {
    "constant": (lambda o: lr_scheduler.LambdaLR(o, lambda step: 1.0), []),
    "two milestones": (lambda o: lr_scheduler.MultiStepLR(o, [30, 80]), [30, 80]),
    "halved": (lambda o: lr_scheduler.StepLR(o, 25, 0.5), [25, 50, 75]),
    "cosine": (lambda o: lr_scheduler.CosineAnnealingLR(o, 100), []),
    "exponential": (lambda o: lr_scheduler.ExponentialLR(o, 0.5), []),
    "warm-up": (lambda o: lr_scheduler.LinearLR(o, 1e-3, 1.0, 40), []),
    "restarts": (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 40, eta_min=1e-4), [40, 80]),
    "one cycle": (lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=101), []),
    "to zero": (lambda o: lr_scheduler.PolynomialLR(o, 99, 1.0), []),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_jump_is_a_mark_and_a_schedule_is_none(name: str) -> None:
    schedule, expected = SCHEDULES[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    scheduler, rates = schedule(optimizer), []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rate_changes(np.arange(100.0), np.array(rates)).tolist() == expected


def test_unknown_rates_have_no_jump_beside_them() -> None:
    rates = np.array([np.nan, 0.1, 0.1, 0.0, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert rate_changes(np.arange(9.0), rates).tolist() == [7.0]
    assert rate_changes(np.empty(0), np.empty(0)).tolist() == []
    assert rate_changes(np.arange(1.0), np.array([0.1])).tolist() == []


def test_marks_are_those_of_the_path_and_few() -> None:
    """Of the records from 0 to 50: a checkpoint at 60 is not on the path."""
    marks = marks_of(walk(checkpoints=np.array([20.0, 40.0, 60.0])))
    assert {name: steps.tolist() for name, steps in marks.items()} == {"checkpoint": [20, 40], "learning rate": [25]}
    assert [*marks_of(walk(checkpoints=np.linspace(0, 50, 200)))] == ["learning rate"]
    bare = walk(history={}, checkpoints=np.empty(0), metrics={"learning_rate": np.array([1, 1, 1, 0.1, 0.1, 0.1])})
    assert {name: steps.tolist() for name, steps in marks_of(bare).items()} == {"learning rate": [30]}
