"""CUDA graphs without a GPU: a compiler whose graphs write every result where the one before lay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_landscape import Plane
from lightning_landscape.accelerations import compiled, cuda_graphs
from lightning_landscape.evaluators import Sequential
from lightning_landscape.isolation.rng import preserved
from lightning_landscape.objectives.base import Batch, LossFunction

DATA = [torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [5.0]])]
BATCHES = [Batch(data, 2, i) for i, data in enumerate(DATA)]
POINTS = np.array([[0.0], [0.5]])


class Overwriting:
    """Stands in for `torch.compile`."""

    def __init__(self) -> None:
        self.options: list[dict[str, Any]] = []

    def __call__(self, forward: Any, **options: Any) -> Any:
        self.options.append(options)
        memory = torch.zeros(2, 1)

        def graph(x: Tensor) -> dict[str, Tensor]:
            return {"scores": memory.copy_(forward(x))}

        return graph


class Scale(nn.Module):
    """Its weight is a buffer: it has no parameter that lies on a CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("w", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Overwriting:
    stand_in = Overwriting()
    monkeypatch.setattr(torch, "compile", stand_in)
    return stand_in


def test_a_module_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match="not on a CUDA device"), cuda_graphs(Sequential(nn.Linear(1, 1)), BATCHES):
        pass


@pytest.mark.skipif(not hasattr(torch.compiler, "is_compiling"), reason="before torch 2.3: costs the acceleration only")
def test_results_are_copied_before_the_next_replay(compiler: Overwriting, monkeypatch: pytest.MonkeyPatch) -> None:
    """The objective gives views of what the forward gave, which are read after the last batch."""
    module = Scale()
    plane = Plane({"w": torch.ones(1)}, ({"w": torch.ones(1)},))
    marked: list[int] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marked.append(1))
    objective = LossFunction(lambda module, data: module(data)["scores"][:, 0])
    with cuda_graphs(Sequential(module), BATCHES) as (evaluator, batches), preserved():
        rows = list(evaluator(objective, plane, POINTS, batches))
    assert [row["loss"].value for row in rows] == [11 / 4, 1.5 * 11 / 4]
    assert compiler.options == [{"fullgraph": True, "dynamic": False, "mode": "reduce-overhead"}]
    assert len(marked) == 1 + 2 * 2, "the rehearsal, and each batch of each point"
    assert "forward" not in vars(module)


def test_what_is_a_graph_already_is_not_compiled_again(compiler: Overwriting) -> None:
    with (
        compiled(Sequential(Scale()), BATCHES) as (evaluator, _),
        pytest.raises(ValueError, match="compiled already"),
        compiled(evaluator, BATCHES),
    ):
        pass
