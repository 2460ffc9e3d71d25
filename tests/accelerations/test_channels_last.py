"""Images with the channels last: what a step edits lies in another memory than before."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from lightning_landscape.accelerations.channels_last import channels_last
from lightning_landscape.evaluators import Sequential
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, LossFunction
from lightning_landscape.weights.plane import Plane


def test_what_a_step_edits_is_put_back_there() -> None:
    """A momentum encoder, and a buffer of images."""
    module = nn.Module()
    module.w = nn.Parameter(torch.zeros(1))
    module.encoder = nn.Conv2d(3, 2, 2, bias=False).requires_grad_(False)
    module.register_buffer("seen", torch.zeros(2, 3, 4, 4))
    nn.init.zeros_(module.encoder.weight)

    def step(module: Any, data: Any) -> dict[str, Any]:
        module.encoder.weight.data.add_(1)
        module.seen.add_(1)
        return {"encoder": module.encoder.weight.mean(), "seen": module.seen.mean()}

    plane, points = Plane({"w": torch.zeros(1)}, ({"w": torch.ones(1)},)), np.zeros((4, 1))
    objective, batches, evaluator = LossFunction(step), [Batch(torch.zeros(1, 3, 4, 4), 1)], Sequential(module)
    with preserved():
        next(iter(evaluator(objective, plane, points, batches)))  # what is edited is known from here
        with channels_last(evaluator, batches) as (fast, converted):
            assert module.encoder.weight.is_contiguous(memory_format=torch.channels_last)
            rows = list(fast(objective, plane, points, converted))
        rows += evaluator(objective, plane, points, batches)
    assert [(row["encoder"].value, row["seen"].value) for row in rows] == [(1, 1)] * 8
