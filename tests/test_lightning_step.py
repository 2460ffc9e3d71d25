"""The module's own step as an objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_landscape import Plane, evaluate
from lightning_landscape.objectives.base import Batch
from lightning_landscape.objectives.lightning_step import LoggedValues, StepObjective, returned_loss

BATCHES = [Batch({"x": torch.tensor([1.0, 2.0, 3.0])}, 3, 0), Batch({"x": torch.tensor([6.0])}, 1, 1)]
POINTS = np.array([[0.0], [1.0], [2.0]])


class Stepper(nn.Module):
    """A module whose step is a function of (module, batch, indices)."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(()))
        self.function = function
        self.seen: list[Any] = []

    def step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self.function(self, batch, batch_idx, dataloader_idx)


def measure(function: Callable[..., Any], batches: list[Batch] = BATCHES, **options: Any) -> dict[str, np.ndarray]:
    """The surfaces of a step along w, on the weights 1, 2, 3."""
    module = Stepper(function)
    recorder = LoggedValues()
    module.log, module.log_dict = recorder.log, recorder.log_dict  # type: ignore[assignment]
    objective = StepObjective(module, "step", recorder, "train_loss", **options)
    own = {"module": module}

    class Evaluated(nn.Module):
        """`evaluate` copies what it is given; the objective is bound to its module."""

        def __deepcopy__(self, memo: Any) -> nn.Module:
            return own["module"]

    plane = Plane({"w": torch.ones(())}, ({"w": torch.ones(())},))
    return evaluate(objective, Evaluated(), plane, POINTS, batches)


def test_the_returned_loss_is_a_mean_over_samples() -> None:
    values = measure(lambda m, b, i, d: m.w * b["x"].mean())
    np.testing.assert_allclose(values["train_loss"], [3.0, 6.0, 9.0])  # (1+2+3+6)/4 times the weight


@pytest.mark.parametrize("wrap", [lambda x: {"loss": x, "more": 1}, lambda x: x.reshape(1), lambda x: x])
def test_shapes_of_a_returned_loss(wrap: Any) -> None:
    np.testing.assert_allclose(measure(lambda m, b, i, d: wrap(m.w * 2))["train_loss"], [2, 4, 6])


def test_what_is_no_loss() -> None:
    assert returned_loss(torch.zeros(3)) is None
    assert returned_loss(None) is None
    assert returned_loss({"logits": torch.zeros(())}) is None


def test_logged_values_with_their_reductions_and_weights() -> None:
    def step(m: Any, b: Any, i: int, d: int) -> None:
        m.log("mean", b["x"].mean())
        m.log("counted", b["x"].mean(), batch_size=1)
        m.log_dict({"least": b["x"].min(), "text": 7}, reduce_fx=torch.min)
        m.log("most", b["x"].max(), reduce_fx="max")
        m.log("sum", b["x"].sum(), reduce_fx="sum")

    values = {name: v[0] for name, v in measure(step).items()}
    assert values == {"mean": 3.0, "counted": 4.0, "least": 1.0, "text": 7.0, "most": 6.0, "sum": 12.0}


def test_a_step_that_edits_its_batch_gets_a_copy() -> None:
    def step(m: Any, b: Any, i: int, d: int) -> Tensor:
        b["x"].mul_(2)
        return b["x"].mean()

    def pops(m: Any, b: Any, i: int, d: int) -> Tensor:
        return b.pop("x").mean()

    before = [batch.data["x"].clone() for batch in BATCHES]
    np.testing.assert_allclose(measure(step)["train_loss"], [6.0, 6.0, 6.0])

    def gradient_of_batch(m: Any, b: Any, i: int, d: int) -> Tensor:
        x = b["x"].requires_grad_()
        torch.autograd.backward((m.w * x.square()).sum(), inputs=[x])
        return x.grad.mean()  # 2 w x, once

    np.testing.assert_allclose(measure(pops)["train_loss"], [3.0, 3.0, 3.0])
    np.testing.assert_allclose(measure(gradient_of_batch)["train_loss"], [6.0, 12.0, 18.0])
    assert not any(batch.data["x"].requires_grad for batch in BATCHES)
    assert all(torch.equal(b.data["x"], x) for b, x in zip(BATCHES, before, strict=True))


def test_a_step_that_edits_an_array_of_its_batch_gets_a_copy() -> None:
    def step(m: Any, b: Any, i: int, d: int) -> Tensor:
        b["x"] *= 2
        b["tail"].append(1)
        return torch.tensor(b["x"].mean() * len(b["tail"]))

    batches = [Batch({"x": np.array([1.0, 2.0]), "tail": bytearray(b"ab")}, 2)]
    np.testing.assert_allclose(measure(step, batches)["train_loss"], [9.0, 9.0, 9.0])
    assert batches[0].data["x"].tolist() == [1.0, 2.0]


def test_python_state_does_not_carry_over_to_the_next_point() -> None:
    def step(m: Any, b: Any, i: int, d: int) -> Tensor:
        m.seen.append(b["x"])
        m.ema = 0.5 * getattr(m, "ema", 0.0) + len(m.seen)
        return torch.tensor(m.ema)

    values = measure(step)["train_loss"]
    assert values[0] == (3 * 1 + 1 * 2.5) / 4
    assert (values == values[0]).all()


def test_indices_are_passed_as_lightning_does() -> None:
    seen: list[Any] = []

    def step(m: Any, b: Any, i: int, d: int) -> Tensor:
        seen.append((i, d))
        m.log("x", float(d))
        return torch.zeros(())

    two = [Batch({"x": torch.zeros(1)}, 1, 0, 0), Batch({"x": torch.zeros(1)}, 1, 0, 1)]
    assert "x" in measure(step, two)
    assert set(seen) == {(0, 0)}
    assert {"x/dataloader_idx_0", "x/dataloader_idx_1"} < set(measure(step, two, several_loaders=True))
    assert (0, 1) in seen


def test_the_context_is_entered_around_every_step() -> None:
    depth = []

    class Context:
        def __enter__(self) -> None:
            depth.append(1)

        def __exit__(self, *args: Any) -> None:
            depth.pop()

    values = measure(lambda m, b, i, d: torch.tensor(float(len(depth))), context=Context)
    assert (values["train_loss"] == 1).all()
