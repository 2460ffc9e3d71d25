"""The probe copy: what it shares, what it can't move, and what an undisturbed pass puts back."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape.isolation.module_copy import UncopiedError
from lightning_landscape.trainer.probe import probe_copy
from lightning_landscape.trainer.undisturbed import undisturbed

X, Y = torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3


class Hard(L.LightningModule):
    """Keeps what `copy.deepcopy` refuses or should not copy."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.utils.spectral_norm(nn.Linear(4, 3))
        self.lock = threading.Lock()
        self.file = Path(__file__).open()  # kept open, as users do  # noqa: SIM115
        self.cache = [(self.net.weight * 2).sum()]  # not a leaf

    def setup(self, stage: str) -> None:
        self.kept = {"trainer": self.trainer, "loader": self.trainer.fit_loop._data_source.instance}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        with self.lock:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def at_train_end(module: L.LightningModule, look: Any) -> None:
    """Call ``look(trainer, module)`` at the end of a short fit."""

    class Look(L.Callback):
        seen = False

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            look(trainer, pl_module)
            self.seen = True

    callback = Look()
    L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, callbacks=[callback], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(module, DataLoader(TensorDataset(X, Y), 8))  # fmt: skip
    assert callback.seen


def test_a_hard_module_is_copied_shares_what_it_should_and_feels_its_own_weights() -> None:
    def look(trainer: Any, module: Any) -> None:
        with undisturbed(trainer):
            before = {name: t.clone() for name, t in module.state_dict().items()}
            probe, _ = probe_copy(trainer, module)
            assert probe.kept["trainer"] is trainer
            assert probe.kept["loader"] is module.kept["loader"]
            assert probe.lock is module.lock
            assert probe.trainer is trainer
            assert not probe.training
            assert module.net.training
            loss = probe.training_step((X, Y), 0)
            for parameter in probe.parameters():
                parameter.mul_(3)
            assert probe.training_step((X, Y), 0) != loss
            for name, tensor in module.state_dict().items():
                assert torch.equal(tensor, before[name]), name

    module = Hard()
    at_train_end(module, look)
    module.file.close()


class Adversarial(L.LightningModule):
    """Manual optimisation of two networks, with a scheduler."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.a, self.b = nn.Linear(4, 1), nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        for optimizer, net in ((first, self.a), (second, self.b)):
            self.toggle_optimizer(optimizer)
            loss = net(batch[0]).square().mean()
            self.log(f"loss_{'a' if net is self.a else 'b'}", loss)
            optimizer.zero_grad()
            self.manual_backward(loss)
            self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
            optimizer.step()
            self.untoggle_optimizer(optimizer)
        self.lr_schedulers().step()

    def configure_optimizers(self) -> Any:
        a, b = torch.optim.Adam(self.a.parameters()), torch.optim.Adam(self.b.parameters())
        return [a, b], [torch.optim.lr_scheduler.StepLR(a, 1)]


def test_a_step_of_manual_optimisation_gives_its_loss_and_moves_nothing() -> None:
    def look(trainer: Any, module: Any) -> None:
        with undisturbed(trainer):
            rates = [group["lr"] for o in trainer.optimizers for group in o.param_groups]
            probe, recorder = probe_copy(trainer, module)
            weights = [p.clone() for p in probe.parameters()]
            assert probe.training_step((X, Y), 0) is None
            assert set(recorder.observations) == {"loss_a", "loss_b"}
            assert float(recorder.observations["loss_b"].value) == pytest.approx(float(module.b(X).square().mean()))
            assert all(torch.equal(p, w) for p, w in zip(probe.parameters(), weights, strict=True))
            assert rates == [group["lr"] for o in trainer.optimizers for group in o.param_groups]

    at_train_end(Adversarial(), look)


def test_a_regulariser_over_the_trained_parameters_is_part_of_the_loss() -> None:
    class Regularised(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.still = nn.Linear(4, 3), nn.Linear(1, 1).requires_grad_(False)

        configure_optimizers = Hard.configure_optimizers

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return sum((p.square().sum() for p in self.parameters() if p.requires_grad), torch.zeros(()))

    def look(trainer: L.Trainer, module: L.LightningModule) -> None:
        probe, _ = probe_copy(trainer, module)
        assert [p.requires_grad for p in probe.parameters()] == [p.requires_grad for p in module.parameters()]
        assert probe.training_step((X, Y), 0) == module.training_step((X, Y), 0) > 0

    at_train_end(Regularised(), look)


def test_a_step_that_uses_what_cannot_be_copied_is_told_its_name() -> None:
    def look(trainer: Any, module: Any) -> None:
        with undisturbed(trainer):
            probe, _ = probe_copy(trainer, module)
            with pytest.raises(UncopiedError, match=r"self\.net\.thing \(generator\) can't be copied"):
                next(probe.net.thing)

    module = Hard()
    module.net.thing = (i for i in range(3))
    at_train_end(module, look)
    assert next(module.net.thing) == 0
    module.file.close()


def test_everything_is_put_back_after_an_exception() -> None:
    def state(trainer: Any) -> list[Any]:
        return [
            torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate(),  # noqa: NPY002
            trainer.state.stage, trainer.loggers, torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
            torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision(),
        ]  # fmt: skip

    def look(trainer: Any, module: Any) -> None:
        before = state(trainer)
        with pytest.raises(KeyError, match="boom"), undisturbed(trainer):  # noqa: PT012
            torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
            torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
            torch.set_float32_matmul_precision("medium")
            assert trainer.state.stage == "validate"
            assert not torch.is_grad_enabled()
            raise KeyError("boom")
        assert state(trainer) == before

    at_train_end(Adversarial(), look)
