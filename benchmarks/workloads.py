"""What is measured: five LightningModules on random data with fixed seeds, as their users would write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from lightning_landscape import Plane, Random, Snapshot

CLASSES = 10


class Lit(L.LightningModule):
    """A classifier with the plainest training step there is.

    Args:
        net: inputs to logits of shape (B, 10).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of shape (B, 10)."""
        return self.net(inputs)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """The mean cross-entropy of a batch, in nats; logged as ``train_loss``."""
        inputs, labels = batch
        loss = F.cross_entropy(self(inputs), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD, which a `Trainer` wants; the benchmark trains nothing."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


@dataclass(frozen=True, eq=False)
class Workload:
    """A module in eval mode, its whole data set in memory, and the plane on which its loss is measured.

    Args:
        name: e.g. "W1".
        title: what it is.
        module: what the user trains.
        inputs: N samples.
        labels: shape (N,), classes.
        batch_size: of the user's loader.
    """

    name: str
    title: str
    module: Lit
    inputs: Tensor
    labels: Tensor
    batch_size: int = 128

    @property
    def samples(self) -> int:
        """N."""
        return len(self.labels)

    @cached_property
    def plane(self) -> Plane:
        """Two filter-normalised random directions through the weights, the defaults of the callback."""
        snapshot = Snapshot.of(self.module)
        return Plane(snapshot.params, Random()(snapshot, 2))

    @cached_property
    def flops(self) -> int:
        """Floating-point operations of one forward pass over all samples."""
        with FlopCounterMode(display=False) as counter:  # with autograd: fused kernels hide theirs
            self.module(self.inputs[:2])
        return counter.get_total_flops() * self.samples // 2

    def batches(self, size: int | None = None) -> list[tuple[Tensor, Tensor]]:
        """The data in batches of `size`; None for the loader's."""
        size = size or self.batch_size
        return list(zip(self.inputs.split(size), self.labels.split(size), strict=True))

    def loader(self) -> DataLoader:
        """The user's training loader."""
        return DataLoader(TensorDataset(self.inputs, self.labels), batch_size=self.batch_size, shuffle=True)


class Kind(NamedTuple):
    """A row of `WORKLOADS`.

    Args:
        title: what it is.
        net: makes the net.
        inputs: ``(N, generator) -> N samples``.
        samples: N in a whole run.
        quick: N in a quick one.
        tolerance: of a row more, in a whole run; None for no such row.
    """

    title: str
    net: Callable[[], nn.Module]
    inputs: Callable[[int, torch.Generator], Tensor]
    samples: int
    quick: int
    tolerance: float | None = None


def make(name: str, samples: int) -> Workload:
    """The workload `name` on `samples` samples; twice the same call gives twice the same bits."""
    kind = WORKLOADS[name]
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the weights: modules draw from the global stream
        module = Lit(kind.net())
    inputs = kind.inputs(samples, generator)
    labels = torch.randint(CLASSES, (samples,), generator=generator)
    _settle(module, kind.inputs(64, generator))
    return Workload(name, kind.title, module.eval(), inputs, labels)


def _settle(module: nn.Module, inputs: Tensor) -> None:
    """Give BatchNorm the statistics of real inputs: deep nets explode with those it is born with."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    if norms:
        for norm in norms:
            norm.momentum = None
        with torch.no_grad():
            module.train()(inputs)


def _linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, CLASSES))


def _tiny_cnn() -> nn.Module:
    blocks = [
        nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        for before, after in pairwise((3, 16, 32, 32))
    ]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(512, CLASSES))


class _Block(nn.Module):
    """The basic block of He et al. 2016 for CIFAR; a shortcut that shrinks has a 1×1 convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.body(images) + self.shortcut(images))


def _resnet56() -> nn.Module:
    widths = [16, *[16] * 9, *[32] * 9, *[64] * 9]
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    blocks = [_Block(before, after) for before, after in pairwise(widths)]
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES))


class _TextClassifier(nn.Module):
    """Token numbers (B, 64) to logits: embedding, two encoder layers of width 128, the mean over tokens."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(128, nhead=4, dim_feedforward=256, batch_first=True)
        self.embedding = nn.Embedding(100, 128)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.head = nn.Linear(128, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(tokens)).mean(dim=1))


class _FrozenBackbone(nn.Module):
    """ResNet-18, whose 512 features are frozen, and a linear layer that is trained."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet18

        self.backbone = resnet18(weights=None)
        self.backbone.fc = nn.Identity()
        self.backbone.requires_grad_(False)
        self.head = nn.Linear(512, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


def _images(*shape: int) -> Callable[[int, torch.Generator], Tensor]:
    return lambda samples, generator: torch.randn(samples, *shape, generator=generator)


def _tokens(samples: int, generator: torch.Generator) -> Tensor:
    return torch.randint(100, (samples, 64), generator=generator)


WORKLOADS = {
    "W1": Kind("linear classifier, 784 → 10", _linear, _images(1, 28, 28), 60_000, 10_000),
    "W2": Kind("TinyCNN, 19,466 parameters, images 3×32×32", _tiny_cnn, _images(3, 32, 32), 10_000, 500, 1e-3),
    "W3": Kind("ResNet-56 for CIFAR, images 3×32×32", _resnet56, _images(3, 32, 32), 1000, 32),
    "W4": Kind("Transformer encoder, 2 layers, d = 128, 64 tokens", _TextClassifier, _tokens, 1000, 64),
    "W5": Kind(
        "frozen ResNet-18 and a linear head, images 3×64×64", _FrozenBackbone, _images(3, 64, 64), 1000, 32
    ),
}  # fmt: skip
