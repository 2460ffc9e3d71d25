"""Whatever a step does, the training is bitwise as without the callback, and the landscape is that of its loss."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Timer
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape.trainer.unchanged import TrainingMovedError

from ._formula import callback, plain_surface, train
from ._steps import BATCH, STEPS, AnnealsByEpoch, Automatic, SavesCheckpoints, X, Y
from ._training import differences

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*`training_step` returned `None`",
    "ignore:Detected call of `lr_scheduler.step",
    "ignore:.*lr_scheduler.step.*before.*optimizer.step",
    "ignore:The epoch parameter in",
)


def made(step: type[Automatic]) -> Automatic:
    torch.manual_seed(0)
    return step()


def data() -> list[Any]:
    return [DataLoader(TensorDataset(X, Y), BATCH, shuffle=True)]


def python_state(module: Any) -> dict[str, Any]:
    kept = ("calls", "seen", "extra")
    return {name: value for name, value in vars(module).items() if name in kept} | {
        "flags": [part.training for part in module.modules()],
        "gradients": [(p.requires_grad, None if p.grad is None else p.grad.clone()) for p in module.parameters()],
    }


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_a_step(tmp_path: Path, step: type[Automatic]) -> None:
    plain, module, landscapes = made(step), made(step), callback()
    _, without = train(plain, data(), [], tmp_path / "without")
    _, with_it = train(module, data(), [landscapes], tmp_path / "with")
    assert differences(without, with_it) == []
    assert differences(python_state(plain), python_state(module)) == []
    assert len(landscapes.landscapes) == (1 if step.__name__ == "Stops" and with_it["progress"][0] < 4 else 2)
    result = landscapes.landscape
    assert result is not None
    assert result.done.all()
    for name in result.values.keys() & {
        "rate",
        "rate_2",
        "radius",
        "drawn",
    }:  # each point begins with the same optimiser and streams
        assert np.ptp(result.values[name]) == 0
    module._trainer = None

    def loss() -> float:
        """The same samples in batches of the data set's order: no loss here depends on the batches."""
        return sum(float(module.loss((X[i : i + BATCH], Y[i : i + BATCH]))) for i in range(0, len(X), BATCH)) / 3

    if step.__name__ == "ReplacesAParameter":  # what is measured at the end is what is trained at the end
        assert [p.requires_grad for p in module.parameters()] == [True] * 4
    if any(p.requires_grad is False for p in module.net.parameters()):
        return  # other directions than at the end of the plain formula
    expected = plain_surface(module, result, 4, loss)
    np.testing.assert_allclose(result.loss, expected, rtol=2e-5, atol=1e-7)
    assert np.ptp(expected) > 1e-3


def test_a_checkpoint_that_the_step_saves_is_that_of_the_training(tmp_path: Path) -> None:
    class Counts(TorchCheckpointIO):
        """It might write to another machine, where nobody can hold a file back."""

        saved = 0

        def save_checkpoint(self, *args: Any, **options: Any) -> None:
            self.saved += 1
            super().save_checkpoint(*args, **options)

    saved, counts = [], [Counts(), Counts()]
    for name, count, callbacks in (("without", counts[0], []), ("with", counts[1], [callback()])):
        train(made(SavesCheckpoints), data(), callbacks, tmp_path / name, plugins=[count])
        saved.append(torch.load(tmp_path / name / "step.ckpt", weights_only=True)["state_dict"])
    assert differences(*saved) == []
    assert counts[0].saved == counts[1].saved > 0


def test_counters_are_those_of_the_weights(tmp_path: Path) -> None:
    """Lists with one entry for each epoch and step: in the landscape, the last that was trained with."""
    landscapes = callback()
    train(made(AnnealsByEpoch), data(), [landscapes], tmp_path)
    first, second = landscapes.landscapes.values()
    for landscape, epoch_weight, step_weight in ((first, 0.5, 0.3), (second, 1.0, 0.6)):
        assert not isinstance(landscape, Path)
        for name, value in {
            "epoch_weight": epoch_weight,
            "loop_weight": epoch_weight,
            "step_weight": step_weight,
        }.items():
            np.testing.assert_allclose(landscape.values[name], value, rtol=1e-6)
        np.testing.assert_array_equal(landscape.values["last"], 1.0)
    assert [landscape.recipe.epoch for landscape in (first, second)] == [1, 2]  # type: ignore[union-attr]


def test_a_validation_reads_the_epoch_trained_and_all_steps(tmp_path: Path) -> None:
    class Validated(Automatic):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("epoch", float(self.current_epoch))
            self.log("step", float(self.global_step))
            return self.loss(batch)

    landscapes = callback(data=["val"])
    trainer, _ = train(made(Validated), [*data(), DataLoader(TensorDataset(X, Y), BATCH)], [landscapes], tmp_path)
    logged = {name: float(trainer.callback_metrics[name]) for name in ("epoch", "step")}
    assert logged == {"epoch": 1.0, "step": 6.0}  # as Lightning itself validates
    assert landscapes.landscape is not None
    for name, value in logged.items():
        np.testing.assert_array_equal(landscapes.landscape.values[name], value)


REACHED: dict[str, Any] = {}  # what a step reaches by a global variable


class Reaches(Automatic):
    """Reaches the training by a global variable, which no copy of the module can change."""

    after = 0  # steps of the training until then

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.calls += 1
        if REACHED.get("trained") is not self and self.calls > self.after:  # only while it is measured
            self.reach(REACHED["trained"])
        return self.loss(batch)

    def on_train_start(self) -> None:
        REACHED["trained"] = self

    def reach(self, trained: Any) -> None:
        raise NotImplementedError


class StepsTheOptimizer(Reaches):
    def reach(self, trained: Any) -> None:
        for p in trained.parameters():
            p.grad = torch.ones(p.shape)
        trained.trainer_optimizer.step()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), 0.1)
        object.__setattr__(self, "trainer_optimizer", optimizer)
        return optimizer


class StepsWithoutGradients(Reaches):
    def reach(self, trained: Any) -> None:
        trained.trainer_optimizer.step()

    configure_optimizers = StepsTheOptimizer.configure_optimizers


class EditsWeights(Reaches):
    def reach(self, trained: Any) -> None:
        trained.net[0].weight.data.mul_(1.5)


class EditsWeightsUnseen(Reaches):
    def reach(self, trained: Any) -> None:
        trained.net[0].weight.detach().numpy()[0, 0] = 7


class SwapsStorage(Reaches):
    def reach(self, trained: Any) -> None:
        trained.net[0].weight.data = torch.zeros(3, 3)


class WritesGradients(Reaches):
    def reach(self, trained: Any) -> None:
        trained.net[2].bias.grad = torch.ones(2)


class ClearsGradients(Reaches):
    def reach(self, trained: Any) -> None:
        trained.zero_grad()


class SwitchesToEval(Reaches):
    def reach(self, trained: Any) -> None:
        trained.net.eval()


class Freezes(Reaches):
    def reach(self, trained: Any) -> None:
        trained.net[0].requires_grad_(False)


class ReplacesParameters(Reaches):
    def reach(self, trained: Any) -> None:
        trained.net[0].weight = nn.Parameter(torch.zeros(8, 6))


class EditsBuffers(Reaches):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def reach(self, trained: Any) -> None:
        trained.count += 1


REACHES: dict[type[Reaches], tuple[str, str]] = {  # what the warning says, and by which call in the rehearsal
    StepsTheOptimizer: ("the gradient of net.0.weight", r"by Adam\.step\(\) at test_steps\.py:\d+"),
    StepsWithoutGradients: ("It was stopped", r"by Adam\.step\(\) at test_steps\.py:\d+"),
    EditsWeights: ("net.0.weight", r"by mul_\(\) on net\.0\.weight at test_steps\.py:\d+"),
    EditsWeightsUnseen: ("net.0.weight", ""),
    SwapsStorage: ("net.0.weight", r"by __set__\(\) on net\.0\.weight at test_steps\.py:\d+"),
    WritesGradients: ("the gradient of net.2.bias", ""),
    ClearsGradients: ("the gradient of net.0.weight", ""),
    SwitchesToEval: ("the training flag of net", ""),
    Freezes: ("requires_grad of net.0.weight", ""),
    ReplacesParameters: ("the parameters and buffers of net.0", ""),
    EditsBuffers: ("count", ""),
}


def optimizers_have_hooks() -> bool:
    """False for torch before 2.3 in a process that has compiled something: it takes the hooks off every optimizer."""
    calls, weight = [], nn.Parameter(torch.zeros(1))
    handle = register_optimizer_step_pre_hook(lambda *args: calls.append(1))
    weight.grad = torch.zeros(1)
    torch.optim.Adam([weight]).step()
    handle.remove()
    return bool(calls)


@pytest.mark.parametrize("after", [0, 2], ids=["in the rehearsal", "in a pass"])
@pytest.mark.parametrize("step", REACHES, ids=lambda step: step.__name__)
def test_what_cannot_be_held_back_is_put_back(tmp_path: Path, step: type[Reaches], after: int) -> None:
    if step is ClearsGradients and not after:
        return  # there are none before the first step
    (plain, module), landscapes = (made(step), made(step)), callback(strict=False)
    plain.after = module.after = after
    _, without = train(plain, data(), [], tmp_path / "without")
    with pytest.warns(
        UserWarning, match=r"switched off for the rest of this training.*(has|would have) moved the training"
    ) as told:
        _, with_it = train(module, data(), [landscapes], tmp_path / "with")
    assert differences(without, with_it) == []
    assert differences(python_state(plain), python_state(module)) == []
    assert landscapes.landscape is None
    (message,) = [str(w.message) for w in told if "landscape" in str(w.message)]
    assert "bit by bit" in message or "It was stopped" in message
    assert "unchanged" not in message
    if not optimizers_have_hooks():  # then no step is stopped, and all is put back
        assert "bit by bit" in message
        return
    name, call = REACHES[step]
    assert name in message
    assert after or re.search(call, message)


def test_strict_says_it_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingMovedError, match=r"net\.0\.weight"):
        train(made(EditsWeights), data(), [callback()], tmp_path)


class StartsInItsHooks(Automatic):
    """What the step needs is made in the module's own start hooks."""

    def on_train_start(self) -> None:
        self.scale = 2.0

    def on_train_epoch_start(self) -> None:
        self.outputs: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.outputs.append(loss.detach() * self.scale)
        return loss


def test_the_rehearsal_comes_after_the_modules_start_hooks(tmp_path: Path) -> None:
    module, landscapes = made(StartsInItsHooks), callback()
    _, without = train(made(StartsInItsHooks), data(), [], tmp_path)
    _, with_it = train(module, data(), [landscapes], tmp_path)
    assert differences(without, with_it) == []
    assert len(module.outputs) == 3
    assert len(landscapes.landscapes) == 2


def test_a_later_failure_of_another_kind_is_told(tmp_path: Path) -> None:
    class Fails(Automatic):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.trainer.validating:  # while it is measured
                raise KeyError("first") if self.current_epoch == 0 else ArithmeticError("second")
            return self.loss(batch)

    with pytest.warns(UserWarning, match="landscape") as told:
        train(made(Fails), data(), [callback(strict=False)], tmp_path, max_epochs=4)
    messages = [str(w.message) for w in told if "landscape" in str(w.message)]
    assert [m for m in messages if "KeyError: 'first'" in m and "goes on, unchanged" in m]  # the rehearsal, sealed
    assert len([m for m in messages if "ArithmeticError" in m]) == 1
    assert len(messages) <= 3


def test_a_timer_is_right_after_the_fit(tmp_path: Path) -> None:
    """A landscape at the end of the training began after the Timer had stopped."""
    timer, slow = Timer(), callback(x=(-1, 1, 9), y=(-1, 1, 9))
    train(made(Automatic), data(), [timer, slow], tmp_path)
    assert timer.time_elapsed("train") > 0.0
