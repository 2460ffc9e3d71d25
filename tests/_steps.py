"""Training steps as people write them: whatever a step can do to an optimiser, a Trainer or its own weights.

Each has `loss(batch)`, the loss at the weights of the moment, which is what a landscape shows.
"""

from __future__ import annotations

import copy
import random
from random import uniform
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

FEATURES, CLASSES, SIZE, BATCH = 6, 2, 48, 16
X = torch.randn(SIZE, FEATURES, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] * X[:, 1] > 0).long()


class Sam(torch.optim.Optimizer):
    """Up along the gradient, then a step of the base optimiser from where it was."""

    def __init__(self, params: Any, base: Any = torch.optim.SGD, rho: float = 0.05, **options: Any) -> None:
        super().__init__(params, {"rho": rho, **options})
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in params]).norm()
        for p in params:
            self.state[p]["old"] = p.detach().clone()
            p.add_(p.grad, alpha=float(self.param_groups[0]["rho"] / (norm + 1e-12)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if "old" in self.state[p]:
                    p.copy_(self.state[p]["old"])
        self.base.step()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        closure = torch.enable_grad()(closure)
        self.first_step(zero_grad=True)
        closure()
        self.second_step()

    def radius(self) -> float:
        return float(self.param_groups[0]["rho"])


class ScheduleFree(torch.optim.Optimizer):
    """Weights that are averaged in eval mode, and those of the iteration in train mode."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr, "mode": "train"})

    def _swap(self, mode: str) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if group["mode"] != mode and "mean" in self.state[p]:
                    mean = self.state[p]["mean"].clone()
                    self.state[p]["mean"].copy_(p.data)
                    p.data.copy_(mean)
            group["mode"] = mode

    def train(self) -> None:
        self._swap("train")

    def eval(self) -> None:
        self._swap("eval")

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad, alpha=-group["lr"])
                    mean = self.state[p].setdefault("mean", p.detach().clone())
                    mean.lerp_(p, 0.3)


class Ascent:
    """No optimiser, but it holds one and the net, and moves the net."""

    def __init__(self, optimizer: Any, net: nn.Module) -> None:
        self.optimizer, self.net = optimizer, net
        self.old: dict[str, Tensor] = {}

    @torch.no_grad()
    def ascend(self) -> None:
        for name, p in self.net.named_parameters():
            if p.grad is not None:
                self.old[name] = p.detach().clone()
                p.add_(p.grad, alpha=0.1)

    @torch.no_grad()
    def descend(self) -> None:
        for name, p in self.net.named_parameters():
            if name in self.old:
                p.copy_(self.old[name])
        self.optimizer.step()


class Automatic(L.LightningModule):
    """The loss is returned, and Lightning does the rest."""

    automatic = True

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = self.automatic
        self.net = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, CLASSES))
        self.calls = 0

    def loss(self, batch: Any) -> Tensor:
        return cross_entropy(self.net(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.2, momentum=0.5)


class Manual(Automatic):
    automatic = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        loss = self.loss(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


class SamReturnsTheFirst(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        first = self.loss(batch)
        self.manual_backward(first)
        optimizer.first_step(zero_grad=True)
        self.manual_backward(self.loss(batch))
        optimizer.second_step(zero_grad=True)
        self.log("radius", optimizer.radius())
        return first

    def configure_optimizers(self) -> Any:
        return Sam(self.parameters(), lr=0.1)


class SamReturnsTheSecond(SamReturnsTheFirst):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers().optimizer
        self.manual_backward(self.loss(batch))
        optimizer.first_step()
        optimizer.zero_grad()
        second = self.loss(batch)
        self.manual_backward(second)
        optimizer.second_step()
        optimizer.zero_grad()
        return second


class SamAccumulates(SamReturnsTheFirst):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.trainer.optimizers[0]
        loss = self.loss(batch)
        self.manual_backward(loss / 2)
        if batch_idx % 2:
            optimizer.first_step(zero_grad=True)
            self.manual_backward(self.loss(batch))
            optimizer.second_step(zero_grad=True)
        return loss


class SamByClosure(SamReturnsTheFirst):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers(use_pl_optimizer=False)

        def closure() -> Tensor:
            loss = self.loss(batch)
            self.manual_backward(loss)
            return loss

        loss = closure()
        optimizer.step(closure)
        optimizer.zero_grad()
        return loss


class ScheduleFreeInTheStep(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        optimizer.train()
        loss = super().training_step(batch, batch_idx)
        if batch_idx == 2:
            optimizer.eval()
        return loss

    def configure_optimizers(self) -> Any:
        return ScheduleFree(self.parameters(), 0.1)


class ByTheTrainer(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.trainer.optimizers[0]
        loss = self.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss


class ByTheStrategy(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        strategy = self.trainer.strategy
        (optimizer,) = strategy.optimizers
        loss = self.loss(batch)
        optimizer.zero_grad()
        strategy.backward(loss, optimizer)
        strategy.optimizer_step(optimizer, lambda: loss)
        return loss


class KeptOnTheModule(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.opt.zero_grad()
        self.manual_backward(loss)
        self.opt.step()
        return loss

    def configure_optimizers(self) -> Any:
        self.opt = torch.optim.Adam(self.parameters(), 0.05)
        return self.opt


class KeptAndNeverToldToTheTrainer(Manual):
    """The Trainer knows another optimiser, of one number. `copy.deepcopy` of this one would lose its base."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.zeros(()))
        self.holder = Ascent(Sam(self.net.parameters(), lr=0.05), self.net)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        loss.backward()
        self.holder.optimizer.first_step(zero_grad=True)
        self.loss(batch).backward()
        self.holder.optimizer.second_step(zero_grad=True)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([self.number], 0.1)


class KeptInContainers(KeptOnTheModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        optimizer = self.all["nets"][0][0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.all["schedulers"][0].step()
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), 0.05)
        self.all = {"nets": [(optimizer,)], "schedulers": [torch.optim.lr_scheduler.StepLR(optimizer, 2)]}
        return optimizer


class KeptInAnObject(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.manual_backward(loss)
        self.ascent.ascend()
        self.ascent.optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        self.ascent.descend()
        self.ascent.optimizer.zero_grad()
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        self.ascent = Ascent(optimizer, self.net)
        return optimizer


class Accumulates(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        loss = self.loss(batch)
        self.manual_backward(loss / 3)
        if (batch_idx + 1) % 3 == 0 or self.trainer.is_last_batch:
            optimizer.step()
            optimizer.zero_grad()
        return loss


class Gan(Manual):
    """Two optimisers, toggled; the critic's loss is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Linear(FEATURES, FEATURES)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        first, second = self.optimizers()
        self.toggle_optimizer(first)
        fooled = -cross_entropy(self.net(self.generator(batch[0])), batch[1])
        self.manual_backward(fooled)
        self.clip_gradients(first, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
        first.step()
        first.zero_grad()
        self.untoggle_optimizer(first)
        with second.toggle_model(sync_grad=True):
            loss = self.loss(batch)
            self.manual_backward(loss)
            second.step()
            second.zero_grad()
        self.lr_schedulers()[1].step()
        self.log("fooled", fooled)
        return loss

    def configure_optimizers(self) -> Any:
        optimizers = [torch.optim.Adam(net.parameters(), 0.01) for net in (self.generator, self.net)]
        return optimizers, [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9) for optimizer in optimizers]


class Lbfgs(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.loss(batch)
            self.manual_backward(loss)
            return loss

        return optimizer.step(closure=closure)

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), 0.1, max_iter=3)


class ReadsItsRate(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        scheduler, optimizer = self.lr_schedulers(), self.optimizers()
        loss = super().training_step(batch, batch_idx)
        assert isinstance(optimizer, LightningOptimizer)
        assert isinstance(optimizer, torch.optim.SGD)
        assert isinstance(scheduler, torch.optim.lr_scheduler.StepLR)
        scheduler.step()
        self.log("rate", scheduler.get_last_lr()[0])
        self.log("rate_2", optimizer.param_groups[0]["lr"])
        self.log("first", scheduler.optimizer.param_groups[0]["params"][0].detach().flatten()[0])
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.2)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]


class WarmsUp(Automatic):
    """Sets the rate in the step, and multiplies it."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for group in self.optimizers().param_groups:
            group["lr"] *= 0.9
            group["momentum"] = 0.3
            self.log("rate", group["lr"])
        return self.loss(batch)


class ResetsMomentum(Automatic):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.trainer.optimizers[0]
        for state in optimizer.state.values():
            state["momentum_buffer"].mul_(0.5)
        if batch_idx == 1:
            optimizer.state.clear()
        return self.loss(batch)


class LoadsItsOptimizer(Automatic):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        state = optimizer.state_dict()
        state["param_groups"][0]["lr"] *= 0.8
        optimizer.load_state_dict(state)
        return self.loss(batch)


class HooksItsOptimizer(Automatic):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.calls == 0:
            self.trainer.optimizers[0].register_step_post_hook(self._after)
        self.calls += 1
        return self.loss(batch)

    def _after(self, optimizer: Any, args: Any, options: Any) -> None:
        with torch.no_grad():
            for p in self.parameters():
                p.mul_(0.99)


class ClipsWeights(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        with torch.no_grad():
            for p in self.parameters():
                p.clamp_(-0.3, 0.3)
        return loss


class ClipsWeightsData(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        if batch_idx == 1:  # not on the batch of a rehearsal
            for p in self.parameters():
                p.data.clamp_(-0.3, 0.3)
        return loss


class ClipsInALaterBatch(Automatic):
    """No rehearsal on a first batch sees it."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        if batch_idx == 1:
            self.net[0].weight.data.clamp_(-0.2, 0.2)
        return loss


class ClipsWeightsByNumpy(Automatic):
    """No function of torch's sees it."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        array = self.net[0].weight.detach().numpy()
        np.clip(array, -0.2, 0.2, out=array)
        return loss


class ReplacesAParameter(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        if self.calls == 1:
            self.net[2].bias = nn.Parameter(self.net[2].bias.detach() * 0.5)
        self.calls += 1
        return loss


class StepsByHand(Manual):
    """Gradient descent without an optimiser."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        gradients = torch.autograd.grad(loss, list(self.net.parameters()))
        with torch.no_grad():
            for p, gradient in zip(self.net.parameters(), gradients, strict=True):
                p -= 0.1 * gradient
        return loss


class Teacher(Automatic):
    """A frozen average of the net, moved in the step."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(self.net).requires_grad_(False)
        self.register_buffer("queue", torch.zeros(4))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for slow, fast in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
            slow.data.mul_(0.9).add_(fast.data, alpha=0.1)
        self.queue = torch.cat([self.queue[1:], self.queue.new_ones(1)])
        self.log("distance", (self.teacher(batch[0]) - self.net(batch[0])).square().mean())
        return self.loss(batch)


class Stops(Automatic):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.trainer.fit_loop.epoch_loop.max_steps = 5
        if self.global_step >= 4:
            self.trainer.should_stop = True
        return self.loss(batch)


class KeepsLists(Automatic):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.calls += 1
        self.seen = [*getattr(self, "seen", []), float(batch[0].sum())]
        self.extra = {"batch": batch_idx, "calls": self.calls}
        return self.loss(batch)


class DrawsAndSeeds(Automatic):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        torch.manual_seed(batch_idx)
        random.seed(torch.randint(9, ()).item() + int(np.random.rand() * 9))  # noqa: NPY002
        np.random.seed(int(random.random() * 99))  # noqa: NPY002
        return self.loss(batch)


class SwitchesGradients(Automatic):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.net[0].requires_grad_(batch_idx % 2 == 0)
        return self.loss(batch)


class SwitchesModes(Automatic):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.net.eval()
        evaluated = self.loss(batch).detach()
        self.net.train(batch_idx % 2 == 0)
        self.log("evaluated", evaluated)
        return self.loss(batch)


class GradientPenalty(Automatic):
    def loss(self, batch: Any) -> Tensor:
        x = batch[0].detach().requires_grad_()
        with torch.enable_grad():
            output = self.net(x)
            (gradient,) = torch.autograd.grad(output.sum(), x, create_graph=True)
        return cross_entropy(output, batch[1]) + gradient.square().sum(1).mean()


class WritesMetrics(Automatic):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.trainer.callback_metrics["mine"] = torch.tensor(float(batch_idx))
        self.trainer.callbacks.append(L.Callback())
        self.trainer.callbacks.pop()
        self.log("calls", float(self.calls))
        return self.loss(batch)


class ReachesItselfByTheTrainer(Manual):
    """Edits "the module of the Trainer" instead of self."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        for module in (self.trainer.lightning_module, self.trainer.model, self.trainer.strategy.model):
            with torch.no_grad():
                module.net[0].weight.mul_(0.99)
        assert self.trainer.lightning_module is self
        return loss


class SavesCheckpoints(Automatic):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        if batch_idx == 1:
            self.trainer.save_checkpoint(f"{self.trainer.default_root_dir}/step.ckpt")
        return loss


class DrawsFromGlobalStreams(Automatic):
    """By names under which nobody looks for a generator."""

    def __init__(self) -> None:
        super().__init__()
        self.draw, self.rand, self.generator = uniform, np.random.rand, torch.default_generator

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        drawn = self.draw(0, 1) + uniform(0, 1) + self.rand() + float(torch.rand((), generator=self.generator))
        self.log("drawn", drawn)
        return self.loss(batch) * (1 + 0 * drawn)


class Scales(Manual):
    """An own gradient scaler, switched off on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        scaler = torch.amp.GradScaler if hasattr(torch.amp, "GradScaler") else torch.cuda.amp.GradScaler  # torch 2.2
        self.scaler = scaler(enabled=False)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.optimizers(use_pl_optimizer=False)
        loss = self.loss(batch)
        optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(optimizer)
        self.scaler.step(optimizer)
        self.scaler.update()
        return loss


class AnnealsByEpoch(Automatic):
    """Lists with one entry for each epoch, and each step."""

    epochs, steps = (0.5, 1.0), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("epoch_weight", self.epochs[self.current_epoch])
        self.log("step_weight", self.steps[self.global_step])
        self.log("loop_weight", self.epochs[self.trainer.fit_loop.epoch_progress.current.ready - 1])
        self.log("last", float(self.trainer.is_last_batch))
        return self.loss(batch)


class ReturnsNothingButLogs(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("my_loss", super().training_step(batch, batch_idx))


class ReturnsADict(Automatic):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": self.loss(batch), "extra": batch[0].sum()}


class AddsAParameterGroup(Automatic):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer = self.trainer.optimizers[0]
        if len(optimizer.param_groups) == 1:
            optimizer.add_param_group({"params": list(self.net[2].parameters()), "lr": 0.01})
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net[0].parameters(), 0.2)


class TwoSchedulers(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        first, second = self.lr_schedulers()
        first.step()
        second.step(loss.detach())
        second.base_lrs = [7.0]
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.2)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9), plateau]


STEPS = [
    Automatic, Manual, SamReturnsTheFirst, SamReturnsTheSecond, SamAccumulates, SamByClosure, ScheduleFreeInTheStep,
    ByTheTrainer, ByTheStrategy, KeptOnTheModule, KeptAndNeverToldToTheTrainer, KeptInContainers, KeptInAnObject,
    Accumulates, Gan, Lbfgs, ReadsItsRate, WarmsUp, ResetsMomentum, LoadsItsOptimizer, HooksItsOptimizer, ClipsWeights,
    ClipsWeightsData, ClipsWeightsByNumpy, ReplacesAParameter, StepsByHand, Teacher, Stops, KeepsLists, DrawsAndSeeds,
    SwitchesGradients, SwitchesModes, GradientPenalty, WritesMetrics, ReachesItselfByTheTrainer, SavesCheckpoints,
    ClipsInALaterBatch, DrawsFromGlobalStreams, Scales, AnnealsByEpoch, ReturnsNothingButLogs, ReturnsADict,
    AddsAParameterGroup, TwoSchedulers,
]  # fmt: skip
