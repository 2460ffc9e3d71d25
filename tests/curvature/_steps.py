"""Steps of many kinds, and the exact Hessian of their mean loss by a naive loop in float64."""

from __future__ import annotations

import functools
from collections import UserDict

import lightning.pytorch as L
import torch
import torch.nn.functional as F
from torch import nn

from lightning_landscape.objectives.base import Batch
from lightning_landscape.objectives.lightning_step import LoggedValues, StepObjective

SIZES = (16, 16, 16, 2)  # uneven, as the last batch of an epoch


class Tuple(L.LightningModule):
    """A classifier of four numbers; P = 43."""

    def __init__(self):
        super().__init__()
        self.net = self.layers()

    def layers(self):
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))

    def loss(self, x, y):
        return F.cross_entropy(self.net(x), y)

    def training_step(self, batch, batch_idx):
        loss = self.loss(*batch)
        self.log("loss", loss)
        return loss


class Dict(Tuple):
    def training_step(self, batch, batch_idx):
        return {"loss": self.loss(batch["x"], batch["y"]), "note": 3}


class UserDictionary(Dict):
    pass


class Branch(Tuple):
    def training_step(self, batch, batch_idx):
        loss = self.loss(*batch)
        return 2 * loss if loss.item() > 0.5 else loss


class Eval(Tuple):
    """BatchNorm and dropout, which eval mode holds still."""

    def layers(self):
        return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3))


class Unused(Tuple):
    def __init__(self):
        super().__init__()
        self.extra = nn.Linear(3, 2)


class Frozen(Tuple):
    def __init__(self):
        super().__init__()
        self.net[0].weight.requires_grad_(False)


class Tied(Tuple):
    def layers(self):
        net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
        net[2].weight = net[0].weight
        return net


class LayerNorm(Tuple):
    def layers(self):
        return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3))


class Attention(Tuple):
    """A Transformer's layer over three tokens."""

    def layers(self):
        return nn.ModuleList([nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, dropout=0.1), nn.Linear(4, 3)])

    def loss(self, x, y):
        tokens = x.unsqueeze(1) * torch.arange(1, 4, dtype=x.dtype)[:, None]
        return F.cross_entropy(self.net[1](self.net[0](tokens).mean(1)), y)


class Recurrent(Tuple):
    def layers(self):
        return nn.ModuleList([nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 3)])

    def loss(self, x, y):
        return F.cross_entropy(self.net[1](self.net[0](x.unsqueeze(1).repeat(1, 3, 1))[0].mean(1)), y)


class Physics(Tuple):
    """u' = cos x, by derivatives with respect to the inputs; P = 31."""

    def layers(self):
        return nn.Sequential(nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 1))

    def loss(self, x, y):
        x = x[:, :1].detach().requires_grad_()
        u = self.net(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return (slope - torch.cos(x)).square().mean()


class Checkpointed(Tuple):
    def loss(self, x, y):
        return F.cross_entropy(torch.utils.checkpoint.checkpoint(self.net, x, use_reentrant=False), y)


class Counting(Tuple):
    """A step with a memory, which changes its loss with every call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def training_step(self, batch, batch_idx):
        self.calls += 1
        return self.loss(*batch) * (1 + 0.1 * self.calls)


KINDS = [
    Tuple, Dict, UserDictionary, Branch, Eval, Unused, Frozen, Tied, LayerNorm, Attention, Recurrent, Physics,
    Checkpointed, Counting,
]  # fmt: skip


class WeightNorm(Tuple):
    def layers(self):
        return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 3))


def made(kind, dtype=torch.float32):
    """A module of a kind in eval mode, with biases that are not 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = kind().to(dtype)
    return module.eval()


def data(kind, sizes=SIZES, dtype=torch.float32):
    """The batches of a kind; the same 50 samples, whatever the sizes."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(50, 4, generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randint(3, (50,), generator=generator)
    pairs = list(zip(x.split(sizes), y.split(sizes), strict=True))
    if issubclass(kind, UserDictionary):
        return [UserDict(x=a.clone(), y=b.clone()) for a, b in pairs]
    if issubclass(kind, Dict):
        return [{"x": a.clone(), "y": b.clone()} for a, b in pairs]
    return [(a.clone(), b.clone()) for a, b in pairs]


def frozen(kind, sizes=SIZES, dtype=torch.float32):
    return [Batch(d, size, i) for i, (d, size) in enumerate(zip(data(kind, sizes, dtype), sizes, strict=True))]


def objective_on(module):
    """The module's own step, as in a probe."""
    logged = LoggedValues()
    vars(module).update(log=logged.log)
    return StepObjective(module, "training_step", logged, "train_loss")


@functools.cache
def exact_hessian(kind, sizes=SIZES, weights=()):
    """The Hessian of Σ (n_b / N) ℓ_b by central differences of gradients, float64, shape (P, P).

    The weights may be given as pairs of names and values.
    """
    module = made(kind)
    module.load_state_dict(dict(weights) or module.state_dict())
    module = module.double().eval()
    module.log = lambda *args: None
    batches = data(kind, sizes, torch.float64)
    parameters = [p for p in module.parameters() if p.requires_grad]
    start = {name: value.clone() for name, value in module.state_dict().items()}

    def gradient(shift):
        module.load_state_dict(start)
        with torch.no_grad():
            for p, piece in zip(parameters, shift.split([p.numel() for p in parameters]), strict=True):
                p += piece.view_as(p)
        module.zero_grad()
        losses = [module.training_step(batch, i) for i, batch in enumerate(batches)]
        losses = [loss["loss"] if isinstance(loss, dict) else loss for loss in losses]
        sum(n / sum(sizes) * loss for n, loss in zip(sizes, losses, strict=True)).backward()
        return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in parameters])

    size, step = sum(p.numel() for p in parameters), 1e-5
    rows = [(gradient(step * e) - gradient(-step * e)) / (2 * step) for e in torch.eye(size, dtype=torch.float64)]
    return torch.stack(rows)
