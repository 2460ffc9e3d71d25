"""Odd modules: each is trained with and without the callback, and measured by the plain formula."""

from __future__ import annotations

import io
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
import torch.nn.utils.parametrizations as parametrizations
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import Random, Snapshot
from lightning_landscape.isolation.module_copy import UncopiedError

from ._formula import callback, train
from ._training import differences

FEATURES, CLASSES, SIZE, BATCH = 8, 3, 20, 8
X = torch.randn(SIZE, FEATURES, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, CLASSES, (SIZE,), generator=torch.Generator().manual_seed(1))
DATA = (DataLoader(TensorDataset(X, Y), BATCH),)
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*torch.jit"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.ao", "ignore:.*must run observer before"),
    pytest.mark.filterwarnings(
        "ignore:TypedStorage is deprecated", "ignore:Converting a tensor", "ignore:Found .* in eval mode at the start"
    ),
]


def mlp(*, norm: bool = True) -> nn.Sequential:
    middle = [nn.BatchNorm1d(8)] if norm else []
    return nn.Sequential(nn.Linear(FEATURES, 8), *middle, nn.ReLU(), nn.Linear(8, CLASSES))


class Head(nn.Module):
    """A linear layer, and what `begin` and `factor` of a subclass make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, CLASSES)
        self.begin()

    def begin(self) -> None:
        """Make the state."""

    def factor(self, x: Tensor) -> Any:
        """What the input is multiplied with, which also moves the state."""
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x * self.factor(x))


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.calls = nn.Linear(FEATURES, CLASSES), 0
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.total += 1
        return self.linear(x) * (1 + 0.01 * self.calls + 0.01 * self.total)


class Resized(Head):
    def begin(self) -> None:
        self.register_buffer("mean", torch.empty(0))

    def factor(self, x: Tensor) -> Any:
        if self.mean.numel() == 0:
            self.mean.resize_(FEATURES).fill_(1.0)
        return self.mean.mul_(0.9)


class OfAnotherMemory(Head):
    def begin(self) -> None:
        self.register_buffer("mean", torch.ones(1))

    def factor(self, x: Tensor) -> Any:
        self.mean.data = torch.cat([self.mean, torch.ones(1)])
        return len(self.mean)


class BegunWithNone(Head):
    def begin(self) -> None:
        self.register_buffer("mean", None)

    def factor(self, x: Tensor) -> Any:
        self.mean = torch.ones(FEATURES) if self.mean is None else self.mean * 0.9
        return self.mean


class Views(Head):
    def begin(self) -> None:
        self.register_buffer("whole", torch.ones(FEATURES))
        self.register_buffer("part", self.whole[:3])
        self.register_buffer("repeated", torch.ones(1).expand(FEATURES))

    def factor(self, x: Tensor) -> Any:
        self.part.mul_(0.9)
        return self.whole * self.repeated


class ComplexBuffer(Head):
    def begin(self) -> None:
        self.register_buffer("phase", torch.ones(FEATURES, dtype=torch.cfloat))
        self.wave = nn.Parameter(torch.ones(FEATURES, dtype=torch.cdouble))

    def factor(self, x: Tensor) -> Any:
        return (self.phase.mul_(0.9 + 0.1j) * self.wave).abs().float()


class Unregistered(Head):
    """A normalisation that is no part of the tree: nobody puts it into eval mode, or moves it."""

    def begin(self) -> None:
        self.hidden = [nn.BatchNorm1d(FEATURES)]

    def factor(self, x: Tensor) -> Any:
        self.hidden[0].train()(x)
        return 1 + self.hidden[0].running_mean


class Nonlocal(Head):
    def begin(self) -> None:
        calls = 0

        def count() -> int:
            nonlocal calls
            calls += 1
            return calls

        self.count = count

    def factor(self, x: Tensor) -> Any:
        return 1 + 0.01 * self.count()


class Called:
    """An object with ``__call__``, slots and a lock, that refuses to be copied."""

    __slots__ = ("calls", "lock")

    def __init__(self) -> None:
        self.calls, self.lock = 0, threading.Lock()

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("not me")

    def __call__(self) -> int:
        with self.lock:
            self.calls += 1
            return self.calls


class HoldsCalled(Nonlocal):
    def begin(self) -> None:
        self.count = Called()


class InItsPlace(Nonlocal, io.BytesIO):
    """A part that can't be copied: the module is moved in its place, with the gradients' hooks of its parameters."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.linear, self.norm, self.script = nn.Linear(FEATURES, CLASSES), nn.BatchNorm1d(CLASSES), None
        self.script = torch.jit.script(Scripted())
        self.begin()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("not me")

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x)) + self.script(x)


class OnMeta(Head):
    """A part without values, which is not used."""

    def begin(self) -> None:
        self.idle = nn.BatchNorm1d(3, device="meta")


class TiedByParametrizations(nn.Module):
    """Its `weight_norm` makes a new parameter, on the memory of the other layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.b.weight = self.a.weight
        parametrizations.orthogonal(self.a)
        parametrizations.weight_norm(self.b)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(x).relu()))


def quantisation_aware() -> nn.Module:
    net = mlp().train()
    net.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")  # type: ignore[assignment]
    return torch.ao.quantization.prepare_qat(net)


def observed() -> nn.Module:
    observer = torch.ao.quantization.PerChannelMinMaxObserver(ch_axis=1)
    return nn.Sequential(nn.Linear(FEATURES, 8), observer, torch.ao.quantization.HistogramObserver(), nn.Linear(8, 3))


def quantised() -> nn.Module:
    base = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.ReLU()).eval()
    part = torch.ao.quantization.quantize_dynamic(base, {nn.Linear}, dtype=torch.qint8)
    return nn.Sequential(part, nn.Linear(FEATURES, CLASSES))


NETS: dict[str, Callable[[], nn.Module]] = {
    "script": lambda: torch.jit.script(mlp()),
    "script of one's own": lambda: torch.jit.script(Scripted()),
    "script in a part": lambda: nn.Sequential(torch.jit.script(mlp()), nn.Linear(CLASSES, CLASSES)),
    "trace": lambda: torch.jit.trace(mlp(), X),
    "trace in eval mode": lambda: torch.jit.trace(mlp().eval(), X),
    "quantisation-aware": quantisation_aware,
    "observed": observed,
    "quantised": quantised,
    "resized buffer": Resized,
    "buffer of another memory": OfAnotherMemory,
    "buffer begun with None": BegunWithNone,
    "views": Views,
    "complex buffer": ComplexBuffer,
    "unregistered": Unregistered,
    "nonlocal": Nonlocal,
    "called": HoldsCalled,
    "in its place": InItsPlace,
    "on meta": OnMeta,
    "lazy": lambda: nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(CLASSES)),
}


class Lit(L.LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.gradients: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([p for p in self.parameters() if not p.is_meta], 0.05, momentum=0.9)

    def on_fit_start(self) -> None:
        for parameter in self.parameters():
            if not (torch.nn.parameter.is_lazy(parameter) or parameter.is_meta):
                parameter.register_hook(lambda gradient: self.gradients.append(float(gradient.abs().sum())))


class LitOnMeta(Lit):
    """A Trainer can't move what is on meta: it comes and goes in between."""

    def on_fit_start(self) -> None:
        self.idle = OnMeta().idle

    def on_train_end(self) -> None:
        del self.idle


def counted(module: nn.Module) -> list[Any]:
    """The parts of a state that no state dict holds, and how each is set."""
    found: list[Any] = []
    for part in module.modules():
        if isinstance(part, torch.jit.ScriptModule) and hasattr(part, "calls"):
            found.append((part.calls, lambda n, part=part: setattr(part, "calls", n)))
        count = vars(part).get("count")
        if isinstance(count, Called):
            found.append((count.calls, lambda n, count=count: setattr(count, "calls", n)))
        elif count is not None:
            cell = count.__closure__[0]
            found.append((cell.cell_contents, lambda n, cell=cell: setattr(cell, "cell_contents", n)))
        for hidden in vars(part).get("hidden", ()):
            state = {name: value.clone() for name, value in hidden.state_dict().items()}
            found.append((state, hidden.load_state_dict))
    return found


def plain(module: Any, landscape: Any) -> np.ndarray:
    """The plain formula, each point from the same state of everything: buffers, counters, strangers."""
    snapshot = Snapshot.view(module)
    origin = {name: tensor.clone() for name, tensor in snapshot.params.items()}
    directions = Random(seed=4)(Snapshot(origin, snapshot.filters, snapshot.normalization), 2)
    tables = [(part, [(n, b, None if b is None else b.clone()) for n, b in part._buffers.items()])
              for part in module.modules()]  # fmt: skip
    counters = counted(module)
    module.eval()
    result = []
    with torch.no_grad():
        for point in landscape.grid.points:
            for part, table in tables:
                for name, buffer, value in table:
                    part._buffers[name] = buffer
                    if buffer is not None:
                        buffer.resize_(value.shape) if buffer.shape != value.shape else None
                        buffer[:1].copy_(value[:1]) if 0 in buffer.stride() else buffer.copy_(value)
            for value, put in counters:
                put(value)
            for name, tensor in snapshot.params.items():
                tensor.copy_(origin[name] + sum(float(c) * d[name] for c, d in zip(point, directions, strict=True)))
            losses = [nn.functional.cross_entropy(module.net(x), y, reduction="sum") for x, y in DATA[0]]
            result.append(float(sum(losses)) / SIZE)
    return np.reshape(result, landscape.grid.shape)


@pytest.mark.parametrize("name", NETS)
def test_an_odd_net(tmp_path: Path, name: str) -> None:
    def module() -> Any:
        torch.manual_seed(0)
        if name == "on meta":
            return LitOnMeta(Head())
        lit = Lit(NETS[name]())
        if name == "lazy":
            lit.net(X)
        return lit

    landscape, trained, other = callback(), module(), module()
    _, without = train(other, DATA, [], tmp_path / "without")
    _, with_it = train(trained, DATA, [landscape], tmp_path / "with")
    assert differences(without, with_it) == []
    # The compiler of TorchScript counts the runs of copies, too: parameters may get their gradients in another order.
    assert (
        sorted(other.gradients) == sorted(trained.gradients)
        if name == "script"
        else other.gradients == trained.gradients
    )
    assert differences([v for v, _ in counted(other)], [v for v, _ in counted(trained)]) == []
    assert landscape.landscape is not None
    expected = plain(trained, landscape.landscape)
    np.testing.assert_allclose(landscape.landscape.loss, expected, rtol=5e-6)
    assert np.ptp(expected) > 1e-3


@pytest.mark.parametrize("accelerate", [True, False])
@pytest.mark.parametrize("name", ["script", "quantisation-aware", "views", "in its place", "called"])
def test_an_odd_net_at_many_points(tmp_path: Path, name: str, accelerate: bool) -> None:
    torch.manual_seed(0)
    trained = Lit(NETS[name]())
    landscape = callback(x=(-1, 1, 9), y=(-1, 1, 9), accelerate=accelerate, every_n_epochs=None)
    train(trained, DATA, [landscape], tmp_path)
    assert landscape.landscape is not None
    np.testing.assert_allclose(landscape.landscape.loss, plain(trained, landscape.landscape), rtol=5e-6)


def test_what_cannot_be_copied_and_is_used_is_named_and_the_training_goes_on(tmp_path: Path) -> None:
    class Reads(Lit):
        def __init__(self) -> None:
            super().__init__(mlp())
            self.data = sqlite3.connect(":memory:")
            self.data.execute("create table calls (n)")

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.data.execute("insert into calls values (1)")
            return super().training_step(batch, batch_idx)

        def calls(self) -> int:
            return int(self.data.execute("select count(*) from calls").fetchone()[0])

    def run(*callbacks: Any) -> Any:
        torch.manual_seed(0)
        module = Reads()
        try:
            _, result = train(module, DATA, list(callbacks), tmp_path)
            return {**result, "calls": module.calls()}
        finally:
            module.data.close()

    without = run()
    with pytest.warns(UserWarning, match=r"UncopiedError: self\.data \(Connection\) can't be copied.*__deepcopy__"):
        with_it = run(callback(strict=False))
    assert differences(without, with_it) == []
    assert without["calls"] == 6
    with pytest.raises(UncopiedError, match=r"self\.data \(Connection\)"):
        run(callback())


def test_a_module_in_its_place_is_put_back_after_an_error(tmp_path: Path) -> None:
    class Fails(Lit):
        fails = False

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if self.fails and not self.trainer.training:
                raise KeyError("boom")
            return super().training_step(batch, batch_idx)

    def run(*callbacks: Any) -> Any:
        torch.manual_seed(0)
        module = Fails(InItsPlace())
        module.fails = bool(callbacks)
        _, result = train(module, DATA, list(callbacks), tmp_path)
        return {**result, "counted": [value for value, _ in counted(module)], "gradients": module.gradients}

    without = run()
    with pytest.warns(UserWarning, match=r"KeyError: 'boom'"):
        with_it = run(callback(strict=False))
    assert differences(without, with_it) == []


def test_a_digest_leaves_the_memory_of_a_tensor_resizable() -> None:
    from lightning_landscape.weights.parameters import checksum

    tensor = torch.ones(3)
    checksum([tensor])
    assert tensor.resize_(5).shape == (5,)  # `Tensor.numpy` would forbid it


def test_parameters_on_one_memory_are_refused_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match=r"share their memory.*Tie them as one parameter"):
        train(Lit(TiedByParametrizations()), DATA, [callback(strict=False)], tmp_path)
