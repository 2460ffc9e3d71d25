"""Lightning's own demo modules and data modules: trained as without the callback, measured by the plain formula."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import lightning.pytorch.demos as demos
import numpy as np
import pytest
import torch
from lightning.pytorch.demos import boring_classes as boring
from lightning.pytorch.demos.mnist_datamodule import MNISTDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import lightning_landscape.trainer.measure

from ._formula import callback, plain_surface, train
from ._training import differences

lstm = pytest.importorskip("lightning.pytorch.demos.lstm", reason="of Lightning's demos since 2.3")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*consider setting.*persistent_workers", "ignore:.*pin_memory"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no", "ignore:.*val_dataloader"),
    pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__` defined", "ignore:.*enable_nested_tensor"),
    pytest.mark.filterwarnings("ignore:.*Total length.*across ranks is zero"),
]
WORDS, BLOCK = 7, 5


def texts(length: int = 12) -> TensorDataset:
    """Blocks of words and the words that follow them, as the demos' WikiText2 gives them."""
    words = torch.randint(0, WORDS, (length * BLOCK + 1,), generator=torch.Generator().manual_seed(0))
    return TensorDataset(words[:-1].view(-1, BLOCK), words[1:].view(-1, BLOCK))


class LSTM(lstm.LightningLSTM):
    """A smaller one, which carries its hidden state from batch to batch."""

    def __init__(self) -> None:
        super().__init__(WORDS)
        self.model = type(self.model)(WORDS, ninp=8, nhid=8, nlayers=2)

    def prepare_data(self) -> None:
        """There is nothing to load."""

    def train_dataloader(self) -> Any:
        data = texts()
        return DataLoader(data, batch_sampler=lstm.SequenceSampler(data, batch_size=4))


class Transformer(demos.LightningTransformer):
    def __init__(self) -> None:
        super().__init__(WORDS)

    def prepare_data(self) -> None:
        """There is nothing to load."""

    def train_dataloader(self) -> Any:
        return DataLoader(texts(), batch_size=4)


class Dictionaries(boring.BoringModel):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch["a"] - batch["b"], batch_idx)

    def train_dataloader(self) -> Any:
        return DataLoader(boring.RandomDictDataset(32, 9), batch_size=4)


class Streams(boring.BoringModel):
    def train_dataloader(self) -> Any:
        return DataLoader(boring.RandomIterableDataset(32, 9), batch_size=4)


class StreamsOfKnownLength(boring.BoringModel):
    def train_dataloader(self) -> Any:
        return DataLoader(boring.RandomIterableDatasetWithLen(32, 9), batch_size=4)


class Demo(boring.DemoModel):
    def train_dataloader(self) -> Any:
        return DataLoader(boring.RandomDataset(32, 10), batch_size=4)


class Pairs(boring.BoringModel):
    """Takes a batch of each of the loaders of `IterableBoringDataModule`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def step(self, batch: Any) -> Tensor:
        return self.loss(self(batch[0])) + self.loss(self(batch[1]))

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return {"x": self.loss(self(batch))}


class Digits(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = boring.Net()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.nll_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 1e-6)  # for values from 0 to 255


def mnist(folder: Path) -> MNISTDataModule:
    """The demos' data module on a few random images."""
    home = folder / "MNIST" / "complete"
    home.mkdir(parents=True, exist_ok=True)
    for name in ("training.pt", "test.pt"):
        images = torch.randint(0, 255, (9, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        torch.save((images, torch.arange(9)), home / name)
    return MNISTDataModule(str(folder), val_split=3, num_workers=0, batch_size=3)


DEMOS: dict[str, tuple[Callable[[], L.LightningModule], Callable[[Path], Any]]] = {
    "BoringModel": (boring.BoringModel, lambda folder: ()),
    "BoringModel of dictionaries": (Dictionaries, lambda folder: ()),
    "BoringModel of a stream": (Streams, lambda folder: ()),
    "BoringModel of a stream of known length": (StreamsOfKnownLength, lambda folder: ()),
    "BoringDataModule": (boring.BoringModel, lambda folder: boring.BoringDataModule()),
    "BoringDataModuleNoLen": (boring.BoringModel, lambda folder: boring.BoringDataModuleNoLen()),
    "IterableBoringDataModule": (Pairs, lambda folder: boring.IterableBoringDataModule()),
    "ManualOptimBoringModel": (boring.ManualOptimBoringModel, lambda folder: ()),
    "DemoModel": (Demo, lambda folder: ()),
    "Net on MNISTDataModule": (Digits, mnist),
    "LightningLSTM": (LSTM, lambda folder: ()),
    "LightningTransformer": (Transformer, lambda folder: ()),
}


@pytest.mark.parametrize("name", DEMOS)
def test_a_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("PL_USE_MOCKED_MNIST", "1")
    make, data = DEMOS[name]
    batches: list[Any] = []
    freeze = lightning_landscape.trainer.measure.freeze

    def noted(*args: Any, **options: Any) -> Any:
        frozen = freeze(*args, **options)
        batches[:] = [(batch.data, batch.size) for batch in frozen.batches]
        return frozen

    monkeypatch.setattr(lightning_landscape.trainer.measure, "freeze", noted)

    def module() -> L.LightningModule:
        torch.manual_seed(0)
        return make()

    options: dict[str, Any] = {"limit_train_batches": 3, "limit_val_batches": 2}
    landscape = callback()
    _, without = train(module(), data(tmp_path), [], tmp_path / "without", **options)
    trained = module()
    _, with_it = train(trained, data(tmp_path), [landscape], tmp_path / "with", **options)
    assert differences(without, with_it) == []
    result = landscape.landscape
    assert result is not None
    assert sum(size for _, size in batches) == result.recipe.samples > 2

    def loss() -> float:
        if name == "LightningLSTM":
            trained.hidden = None  # as every epoch begins
        each = [trained.training_step(batch, i) for i, (batch, _) in enumerate(batches)]
        values = [float(out["loss"] if isinstance(out, dict) else out) for out in each]
        return float(np.average(values, weights=[size for _, size in batches]))

    trained.log = lambda *args, **options: None  # type: ignore[assignment]
    if name == "ManualOptimBoringModel":
        trained.training_step = lambda batch, i: trained.step(batch)  # type: ignore[assignment, operator]
    expected = plain_surface(trained, result, 4, loss)
    np.testing.assert_allclose(result.loss, expected, rtol=2e-6)
    assert np.ptp(expected) > 1e-3


def test_no_demo_is_left_out() -> None:
    known = {base for make, _ in DEMOS.values() for base in make.__mro__}  # type: ignore[attr-defined]
    theirs = {**vars(demos), **vars(boring)}.values()
    modules = {kind for kind in theirs if isinstance(kind, type) and issubclass(kind, L.LightningModule)}
    assert modules - {L.LightningModule} <= known
    data = {kind.__name__ for kind in theirs if isinstance(kind, type) and issubclass(kind, L.LightningDataModule)}
    assert data - {"LightningDataModule"} <= DEMOS.keys()
    assert {k for k in theirs if isinstance(k, type) and issubclass(k, Dataset)} <= {
        boring.RandomDataset, boring.RandomDictDataset, boring.RandomIterableDataset,
        boring.RandomIterableDatasetWithLen, boring.IterableDataset, boring.Subset, Dataset, demos.WikiText2,
    }  # fmt: skip
