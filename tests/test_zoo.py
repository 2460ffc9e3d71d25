"""Whatever people train: each module is trained with and without the callback, and measured by the plain formula."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
import torch.nn.utils.parametrizations as parametrizations
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC

from lightning_landscape import LossLandscapeCallback

from ._formula import plain_surface
from ._training import differences

pytestmark = pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader` but have no `validation_step`")
FEATURES, CLASSES, SIZE, BATCH = 8, 3, 44, 16
X = torch.randn(SIZE, FEATURES, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, CLASSES, (SIZE,), generator=torch.Generator().manual_seed(1))


def mlp(first: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(first or nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(FEATURES, CLASSES, dtype=torch.cfloat) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(torch.cfloat) @ self.w).abs()


class Keeps(nn.Module):
    """Keeps its last output, which is no leaf; counts in a buffer in eval mode; has a lock and a generator."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.last, self.lock = nn.Linear(FEATURES, CLASSES), None, threading.Lock()
        self.noise = torch.Generator().manual_seed(3)
        self.register_buffer("calls", torch.zeros(()))
        self.outputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            self.calls += 1
            torch.rand(1, generator=self.noise)
            self.last = self.linear(x)
            self.outputs.append(self.last.detach())
            return self.last


class Hooked(nn.Module):
    """A hook, and an attribute, that close over the module itself; a dictionary that a hook fills."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.head, self.count = nn.Linear(FEATURES, 6), nn.Linear(6, CLASSES), 0
        self.seen = seen = {}
        self.linear.register_forward_hook(lambda module, inputs, output: self._tick())
        self.linear.register_forward_hook(lambda module, inputs, output: seen.update(mean=output.mean().item()))
        self.function = lambda x: self.head(self.linear(x).relu())

    def _tick(self) -> None:
        self.count += 1

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class LowRank(nn.Module):
    """A frozen layer with a trained low-rank adapter, whose second factor starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(FEATURES, CLASSES).requires_grad_(False)
        self.a = nn.Parameter(torch.randn(2, FEATURES) * 0.3)
        self.b = nn.Parameter(torch.zeros(CLASSES, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.a.T @ self.b.T


class Unregistered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.hidden = nn.Linear(FEATURES, CLASSES), [nn.Linear(CLASSES, CLASSES)]

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden[0](self.linear(x))


def frozen_backbone() -> nn.Module:
    net = mlp()
    net[0].requires_grad_(False)
    return net


def compiled_method() -> nn.Module:
    net = nn.Linear(FEATURES, CLASSES)
    net.forward = torch.compile(net.forward, backend="eager")  # type: ignore[method-assign]
    return net


def compiled_in_place() -> nn.Module:
    net = mlp()
    net.compile(backend="eager")
    return net


NETS: dict[str, Callable[[], nn.Module]] = {
    "plain": mlp,
    "tied weights": Tied,
    "complex weights": Complex,
    "frozen backbone": frozen_backbone,
    "low-rank adapter": LowRank,
    "lazy": lambda: mlp(nn.LazyLinear(8)),
    "old weight_norm": lambda: mlp(nn.utils.weight_norm(nn.Linear(FEATURES, 8))),
    "weight_norm": lambda: mlp(parametrizations.weight_norm(nn.Linear(FEATURES, 8))),
    "old spectral_norm": lambda: mlp(nn.utils.spectral_norm(nn.Linear(FEATURES, 8))),
    "spectral_norm": lambda: mlp(parametrizations.spectral_norm(nn.Linear(FEATURES, 8))),
    "orthogonal": lambda: mlp(parametrizations.orthogonal(nn.Linear(FEATURES, 8))),
    "keeps what it did": Keeps,
    "hooks and closures": Hooked,
    "unregistered part": Unregistered,
    "compiled part": lambda: torch.compile(mlp(), backend="eager"),  # type: ignore[dict-item, return-value]
    "compiled in place": compiled_in_place,
    "compiled method": compiled_method,
}


class Lit(L.LightningModule):
    """A classifier with metric objects, python state, and several kinds of logging."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.accuracy = MulticlassAccuracy(CLASSES)
        self.metrics = MetricCollection({"auroc": MulticlassAUROC(CLASSES), "top": MulticlassAccuracy(CLASSES)})
        self.losses: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self.net(batch[0])
        loss = nn.functional.cross_entropy(logits, batch[1])
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.losses.append(float(loss.detach()))
        return {"loss": loss, "logits": logits.detach()}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        logits = self.net(batch[0])
        self.accuracy(logits, batch[1])
        self.metrics.update(logits.softmax(1), batch[1])
        self.log("val_acc", self.accuracy, on_step=False, on_epoch=True)
        self.log_dict(self.metrics)
        self.log("val_loss", nn.functional.cross_entropy(logits, batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)


def train(module: Any, callbacks: list[Any], path: Path, **options: Any) -> dict[str, Any]:
    L.seed_everything(2)
    trainer = L.Trainer(
        **{
            "max_epochs": 2, "accelerator": "cpu", "logger": False, "callbacks": callbacks, "default_root_dir": path,
            "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False, **options,
        }
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(X, Y), BATCH, shuffle=True), DataLoader(TensorDataset(X, Y), BATCH))
    python = {
        name: {k: v for k, v in vars(part).items() if isinstance(v, int | float | str | list | dict) and k[0] != "_"}
        for name, part in module.named_modules()
    }
    return {
        "weights": {name: tensor.clone() for name, tensor in module.state_dict().items()},
        "metrics": dict(trainer.callback_metrics),
        "optimizer": trainer.optimizers[0].state_dict(),
        "random": torch.get_rng_state(),
        "python": {name: {k: v for k, v in own.items() if k not in ("hidden",)} for name, own in python.items()},
    }


def callback(**options: Any) -> LossLandscapeCallback:
    return LossLandscapeCallback(
        **{
            "every_n_epochs": 1, "x": (-1, 1, 3), "y": (-0.5, 0.5, 2), "data": ["train", "val"], "samples": 2,
            "max_samples": None, "plots": [], "formats": ["h5"], "strict": True, "seed": 4, **options,
        }
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", NETS)
def test_a_net(tmp_path: Path, name: str) -> None:
    def module() -> Lit:
        torch.manual_seed(0)
        net = Lit(NETS[name]())
        if name == "lazy":
            net.net(X)
        return net

    landscape, trained = callback(), module()
    without = train(module(), [], tmp_path / "without")
    with_it = train(trained, [landscape], tmp_path / "with")
    assert differences(without, with_it) == []
    assert landscape.landscape is not None
    expected = plain_surface(trained, landscape.landscape, 4, lambda: nn.functional.cross_entropy(trained.net(X), Y))
    np.testing.assert_allclose(landscape.landscape.loss, expected, rtol=2e-6)
    assert np.ptp(expected) > 1e-3
    assert {"val_acc", "auroc", "top", "val_loss", "train_loss"} == set(landscape.landscape.values)
    assert landscape.landscape.values["val_loss"] == pytest.approx(expected, rel=2e-6)


OPTIONS: dict[str, dict[str, Any]] = {
    "accumulation and clipping": {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1},
    "16-mixed": {"precision": "16-mixed"},  # Lightning takes bf16 on the CPU, and says so
    "bf16-mixed": {"precision": "bf16-mixed"},
    "bf16-true": {"precision": "bf16-true"},
    "64-true": {"precision": "64-true"},
    "no sanity check": {"num_sanity_val_steps": 0},
    "validation every second epoch": {"check_val_every_n_epoch": 2, "num_sanity_val_steps": 0},
    "validation in mid-epoch": {"val_check_interval": 1},
    "reloading": {"reload_dataloaders_every_n_epochs": 1},
    "anomaly detection": {"detect_anomaly": True},
    "grad in validation": {"inference_mode": False},
    "max_steps": {"max_steps": 4, "max_epochs": -1},
    "overfit_batches": {"overfit_batches": 1},
    "limits": {"limit_train_batches": 2, "limit_val_batches": 0.5},
    "fast_dev_run": {"fast_dev_run": True},
    "barebones": {
        "barebones": True, "logger": None, "enable_checkpointing": None, "enable_progress_bar": None,
        "enable_model_summary": None,
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", OPTIONS)
def test_a_trainer(tmp_path: Path, name: str) -> None:
    def module() -> Lit:
        torch.manual_seed(0)
        return Lit(mlp())

    landscape, trained = callback(samples=2 if name != "64-true" else 0), module()
    without = train(module(), [], tmp_path / "without", **OPTIONS[name])
    with_it = train(trained, [landscape], tmp_path / "with", **OPTIONS[name])
    assert differences(without, with_it) == []
    result = landscape.landscape
    assert result is not None
    assert result.done.all()
    number = {"64-true": torch.double, "bf16-true": torch.bfloat16}.get(name, torch.float)
    size = BATCH if name == "overfit_batches" else SIZE  # without it, the order of the batches is random
    x, y = X[:size].to(number), Y[:size]

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled="mixed" in name):
            return nn.functional.cross_entropy(trained.net(x), y)

    expected = plain_surface(trained, result, 4, loss)
    np.testing.assert_allclose(result.loss, expected, rtol=2e-6 if name != "bf16-true" else 2e-2)
    assert np.ptp(expected) > 0.05


class Autoencoder(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(FEATURES, 2), nn.Tanh(), nn.Linear(2, FEATURES))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[0])

    configure_optimizers = Lit.configure_optimizers


class Sequence(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(1, 5, batch_first=True), nn.Linear(5, 4)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        tokens = (batch[0] * 2).round().clamp(0, 3).long()
        logits = self.head(self.rnn(batch[0].unsqueeze(-1))[0])
        return nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())

    configure_optimizers = Lit.configure_optimizers


class Segmentation(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(1, 2, 3, padding=1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images = batch[0].reshape(-1, 1, 2, 4)
        return nn.functional.cross_entropy(self.net(images), (images[:, 0] > 0).long())

    configure_optimizers = Lit.configure_optimizers


class Adversarial(L.LightningModule):
    """Two networks, two optimisers, manual optimisation, nothing returned."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.critic = nn.Linear(4, FEATURES), nn.Linear(FEATURES, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()
        noise = torch.randn(len(batch[0]), 4)
        for optimizer, sign in ((first, 1.0), (second, -1.0)):
            self.toggle_optimizer(optimizer)
            fake = self.critic(self.generator(noise)).mean() - self.critic(batch[0]).mean()
            self.log("g_loss" if sign > 0 else "c_loss", sign * fake)
            optimizer.zero_grad()
            self.manual_backward(sign * fake)
            optimizer.step()
            self.untoggle_optimizer(optimizer)

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(self.generator.parameters()), torch.optim.Adam(self.critic.parameters())]


@pytest.mark.filterwarnings("ignore:.*`training_step` returned `None`")
@pytest.mark.parametrize("kind", [Autoencoder, Sequence, Segmentation, Adversarial])
def test_a_task(tmp_path: Path, kind: Any) -> None:
    def module() -> Any:
        torch.manual_seed(0)
        return kind()

    landscape, trained = callback(data="train", sample_layout="1x2", plots=["tiles"]), module()
    without = train(module(), [], tmp_path / "without")
    with_it = train(trained, [landscape], tmp_path / "with")
    assert differences(without, with_it) == []
    result = landscape.landscape
    assert result is not None
    assert np.isfinite(result.loss).all()
    assert np.ptp(result.loss) > 1e-4
    assert result.samples is not None
    if kind is not Adversarial:  # whose noise is not ours to draw
        expected = plain_surface(trained, result, 4, lambda: trained.training_step((X, Y), 0))
        np.testing.assert_allclose(result.loss, expected, rtol=2e-6)
        for item, values in zip(result.samples.items, result.samples.values, strict=True):
            one = X[item.index : item.index + 1], Y[item.index : item.index + 1]
            expected = plain_surface(trained, result, 4, lambda one=one: trained.training_step(one, 0))
            np.testing.assert_allclose(values, expected, rtol=1e-5)
    for item, values in zip(result.samples.items, result.samples.values, strict=True):
        assert item.label is None  # none of these says one class for a sample
        assert np.isfinite(item.center)
        assert np.ptp(values) > 0
    if kind is Adversarial:
        assert result.main == "g_loss"
        np.testing.assert_allclose(result.values["g_loss"], -result.values["c_loss"], rtol=1e-6)


def test_a_loss_that_does_not_depend_on_the_weights_is_refused(tmp_path: Path) -> None:
    elsewhere = nn.Linear(FEATURES, CLASSES)

    class Elsewhere(Autoencoder):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(elsewhere(batch[0]), batch[1]) + 0 * self.net[0].bias.sum()

    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    with pytest.raises(MisconfigurationException, match="the loss does not depend on the weights"):
        train(Elsewhere(), [callback(data="train")], tmp_path)


def test_a_compiled_lightning_module(tmp_path: Path) -> None:
    def module() -> Any:
        torch.manual_seed(0)
        return torch.compile(Autoencoder(), backend="eager")

    landscape, trained = callback(data="train"), module()
    without, with_it = train(module(), [], tmp_path), train(trained, [landscape], tmp_path)
    assert differences(without, with_it) == []
    result = landscape.landscape
    assert result is not None
    net = trained.net
    expected = plain_surface(trained, result, 4, lambda: nn.functional.mse_loss(net(X), X))
    np.testing.assert_allclose(result.loss, expected, rtol=2e-6)
    assert np.ptp(expected) > 1e-3


def test_a_module_that_holds_the_trainer_a_lock_and_an_open_file(tmp_path: Path) -> None:
    class Holds(Lit):
        def setup(self, stage: str) -> None:
            self.owner, self.lock = [self.trainer], threading.Lock()
            self.file = (tmp_path / "notes").open("a+")  # kept open, as users do

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            with self.lock:
                assert self.owner[0] is self.trainer
                assert not self.file.closed
                return super().training_step(batch, batch_idx)

        def teardown(self, stage: str) -> None:
            self.file.close()

    def module() -> Holds:
        torch.manual_seed(0)
        return Holds(mlp())

    landscape, trained = callback(), module()
    without, with_it = train(module(), [], tmp_path), train(trained, [landscape], tmp_path)
    for record in (without, with_it):
        del record["python"][""]["owner"]
    assert differences(without, with_it) == []
    result = landscape.landscape
    assert result is not None
    expected = plain_surface(trained, result, 4, lambda: nn.functional.cross_entropy(trained.net(X), Y))
    np.testing.assert_allclose(result.loss, expected, rtol=2e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_finders_of_rate_and_batch_size_do_not_start_a_landscape(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import LearningRateFinder

    class WithRate(Autoencoder):
        def __init__(self) -> None:
            super().__init__()
            self.lr = 0.05

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), self.lr)

    def run(*callbacks: Any) -> Any:
        torch.manual_seed(0)
        finder = LearningRateFinder(num_training_steps=10)
        return train(WithRate(), [finder, *callbacks], tmp_path / str(len(callbacks)), enable_checkpointing=True)

    landscape = callback(data="train")
    assert differences(run(), run(landscape)) == []
    assert len(landscape.landscapes) == 2  # before the second epoch, and at the end


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_resuming_in_the_middle(tmp_path: Path) -> None:
    def run(path: Path, callbacks: list[Any]) -> dict[str, Any]:
        make: Any = partial(
            L.Trainer, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
        )
        L.seed_everything(2)
        module, loader = Lit(mlp()), DataLoader(TensorDataset(X, Y), BATCH, shuffle=True)
        val = DataLoader(TensorDataset(X, Y), BATCH)
        trainer = make(max_epochs=2, default_root_dir=path, callbacks=callbacks)
        trainer.fit(module, loader, val)
        trainer.save_checkpoint(path / "half.ckpt")
        again = make(max_epochs=4, default_root_dir=path, callbacks=callbacks)
        again.fit(module, loader, val, ckpt_path=path / "half.ckpt")
        return {"weights": module.state_dict(), "random": torch.get_rng_state(), "steps": again.global_step}

    landscape = callback(data="train")
    assert differences(run(tmp_path / "without", []), run(tmp_path / "with", [landscape])) == []
    assert list(landscape.landscapes) == [6, 9, 12]  # the first on the weights of the checkpoint


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("mode", ["power", "binsearch"])
def test_a_finder_of_the_batch_size_does_not_start_a_landscape(tmp_path: Path, mode: str) -> None:
    from lightning.pytorch.callbacks import BatchSizeFinder

    class Sized(Autoencoder):
        batch_size = 4

        def train_dataloader(self) -> Any:
            return DataLoader(TensorDataset(X, Y), self.batch_size, shuffle=True)

    def run(*callbacks: Any) -> Any:
        L.seed_everything(2)
        module, finder = Sized(), BatchSizeFinder(mode, steps_per_trial=1, init_val=4, max_trials=3)
        trainer = L.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, callbacks=[*callbacks, finder], default_root_dir=tmp_path,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(module)
        return module.state_dict(), module.batch_size, trainer.global_step, torch.get_rng_state()

    landscape = callback(data="train")
    without, with_it = run(), run(landscape)
    assert differences(without, with_it) == []
    assert with_it[1] > 4
    assert list(landscape.landscapes) == [with_it[2] // 2, with_it[2]]  # after the first epoch, and at the end


def test_early_stopping_stops_where_it_would(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import EarlyStopping

    def run(*callbacks: Any) -> Any:
        torch.manual_seed(0)
        module, stopping = Lit(mlp()), EarlyStopping("train_loss_epoch", patience=1, min_delta=0.3)
        end = train(module, [*callbacks, stopping], tmp_path, max_epochs=20)
        return module, {**end, "stopping": stopping.state_dict()}

    landscape = callback()
    (_, without), (module, with_it) = run(), run(landscape)
    assert differences(without, with_it) == []
    stopped = with_it["stopping"]["stopped_epoch"]
    assert 0 < stopped < 19
    assert [x.recipe.epoch for x in landscape.landscapes.values()] == [*range(1, stopped + 2)]  # type: ignore[union-attr]
    result = landscape.landscape
    assert result is not None
    expected = plain_surface(module, result, 4, lambda: nn.functional.cross_entropy(module.net(X), Y))
    np.testing.assert_allclose(result.loss, expected, rtol=2e-6)


def test_two_callbacks_in_one_trainer(tmp_path: Path) -> None:
    def module() -> Lit:
        torch.manual_seed(0)
        return Lit(mlp())

    first, second = callback(), callback(data="train", seed=5, every_n_epochs=2)
    without, with_it = train(module(), [], tmp_path), train(trained := module(), [first, second], tmp_path)
    assert differences(without, with_it) == []
    assert [len(first.landscapes), len(second.landscapes)] == [2, 1]
    for landscape, seed in ((first.landscape, 4), (second.landscape, 5)):
        assert landscape is not None
        expected = plain_surface(trained, landscape, seed, lambda: nn.functional.cross_entropy(trained.net(X), Y))
        np.testing.assert_allclose(landscape.loss, expected, rtol=2e-6)


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature", "ignore:.*uninitialized parameter")
def test_a_lazy_module_that_has_seen_no_batch_yet(tmp_path: Path) -> None:
    def module() -> Lit:
        torch.manual_seed(0)
        return Lit(mlp(nn.LazyLinear(8)))

    landscape, trained = callback(), module()
    without = train(module(), [], tmp_path, num_sanity_val_steps=0)
    with_it = train(trained, [landscape], tmp_path, num_sanity_val_steps=0)
    assert differences(without, with_it) == []
    result = landscape.landscape
    assert result is not None
    expected = plain_surface(trained, result, 4, lambda: nn.functional.cross_entropy(trained.net(X), Y))
    np.testing.assert_allclose(result.loss, expected, rtol=2e-6)
