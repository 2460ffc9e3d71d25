"""Whatever people feed a training with: each is fitted with and without the callback, and measured by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, islice, zip_longest
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, Sampler, TensorDataset, random_split

from lightning_landscape.trainer.loaders import _new_loader

from ._formula import callback, plain_surface, train
from ._training import differences

FEATURES, CLASSES = 4, 3
Pair = tuple[Tensor, Tensor]


def pairs(size: int) -> Pair:
    generator = torch.Generator().manual_seed(size)
    return torch.randn(size, FEATURES, generator=generator), torch.randint(0, CLASSES, (size,), generator=generator)


A, B = pairs(22), pairs(9)


def chunks(data: Pair, size: int) -> list[Pair]:
    return list(zip(data[0].split(size), data[1].split(size), strict=True))


def loader(data: Pair, size: int, **options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*data), size, **options)


class Lit(L.LightningModule):
    """The sum of the mean losses of whatever pairs a batch holds, each pair's divided by its place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(FEATURES, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, CLASSES))

    def loss(self, batch: Any) -> Tensor:
        parts = batch.values() if isinstance(batch, dict) else batch if isinstance(batch[0], list | tuple) else [batch]
        losses = [
            nn.functional.cross_entropy(self.net(part[0]), part[1]) / (place + 1)
            for place, part in enumerate(parts)
            if part is not None
        ]
        return torch.stack(losses).sum()

    def training_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


def weighted(module: Lit, batches: list[Any], weights: list[int]) -> float:
    """Σ wᵢ·Lᵢ / Σ wᵢ."""
    return sum(w * float(module.loss(b)) for b, w in zip(batches, weights, strict=True)) / sum(weights)


class Stream(IterableDataset):
    """Starts anew at each iter(); counts them."""

    begun = 0

    def __iter__(self) -> Iterator[Pair]:
        self.begun += 1
        return iter(list(zip(*A, strict=True)))


class Batches:
    def __iter__(self) -> Iterator[Pair]:
        return iter(chunks(A, 4))


class Stateful:
    """A loader that goes on where it was, endlessly, with a state for checkpoints."""

    def __init__(self) -> None:
        self.place = 0

    def __iter__(self) -> Iterator[Pair]:
        batches = chunks(A, 4)
        for _ in range(4):
            self.place += 1
            yield batches[(self.place - 1) % len(batches)]

    def __len__(self) -> int:
        return 4

    def state_dict(self) -> dict[str, int]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.place = state["place"]


class Endless(Sampler):
    """Batches for ever: a copy that drew them all would never end."""

    def __iter__(self) -> Iterator[list[int]]:
        return cycle([[0, 1, 2], [3, 4, 5, 6]])


class Halved(DataLoader[Any]):
    """What the module is given is not what the data set gives."""

    def __iter__(self) -> Any:
        for x, y in super().__iter__():
            yield x / 2, y


class HalvedWithin(DataLoader[Any]):
    def _get_iterator(self) -> Any:
        return ((x / 2, y) for x, y in super()._get_iterator())


class Repeated:
    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def __iter__(self) -> Any:
        while True:
            yield from self.sampler


class Kept(DataLoader[Any]):
    """Goes on with the iterator that it holds, as timm's MultiEpochsDataLoader does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        vars(self)["batch_sampler"] = Repeated(self.batch_sampler)
        self.iterator = super().__iter__()

    def __len__(self) -> int:
        return len(self.batch_sampler.sampler)  # type: ignore[union-attr]

    def __iter__(self) -> Any:
        for _ in range(len(self)):
            x, y = next(self.iterator)
            yield x / 2, y


def halved(kind: Any, **options: Any) -> Any:
    def make() -> Any:
        generator = torch.Generator().manual_seed(5)
        return kind(TensorDataset(*A), 4, shuffle=True, generator=generator, **options)

    return make, chunks((A[0] / 2, A[1]), 4), PLAIN[1]


def combined(mode: Any) -> CombinedLoader:
    return CombinedLoader({"a": loader(A, 4, shuffle=True), "b": loader(B, 5, shuffle=True)}, mode)


def together(how: Callable[..., Any]) -> list[dict[str, Any]]:
    return [{"a": a, "b": b} for a, b in how(chunks(A, 4), chunks(B, 5))]


def first_sizes(batches: list[dict[str, Any]]) -> list[int]:
    """Lightning weighs a batch by the first tensor in it."""
    return [len(next(part for part in batch.values() if part is not None)[0]) for batch in batches]


def cycled(a: list[Any], b: list[Any]) -> Any:
    return zip(a, islice(cycle(b), len(a)), strict=True)


SHORTEST = together(lambda a, b: zip(a, b, strict=False))
LONGEST = together(zip_longest)
CYCLED = together(cycled)
PLAIN = chunks(A, 4), [4, 4, 4, 4, 4, 2]
LOADERS: dict[str, tuple[Callable[[], Any], list[Any], list[int]]] = {
    "min_size": (lambda: combined("min_size"), SHORTEST, first_sizes(SHORTEST)),
    "max_size": (lambda: combined("max_size"), LONGEST, first_sizes(LONGEST)),
    "max_size_cycle": (lambda: combined("max_size_cycle"), CYCLED, first_sizes(CYCLED)),
    "dict": (lambda: combined("min_size").iterables, CYCLED, first_sizes(CYCLED)),
    "list": (lambda: list(combined("min_size").iterables.values()), CYCLED, first_sizes(CYCLED)),
    "stream": (lambda: DataLoader(Stream(), 4), *PLAIN),
    "stream and set": (
        lambda: {"a": DataLoader(Stream(), 4), "b": loader(B, 5)}, CYCLED, first_sizes(CYCLED)
    ),
    "no batch size": (lambda: DataLoader(chunks(A, 4), batch_size=None), *PLAIN),
    "any iterable of batches": (Batches, *PLAIN),
    "endless batch sampler": (
        lambda: DataLoader(TensorDataset(*A), batch_sampler=Endless()),
        [[A[0][:3], A[1][:3]], [A[0][3:7], A[1][3:7]]], [3, 4],
    ),
    "own iteration": halved(Halved),
    "own iteration, workers that stay": halved(Halved, num_workers=2, persistent_workers=True),
    "own iteration of a stream": (lambda: Halved(Stream(), 4), *halved(Halved)[1:]),
    "own iterator": halved(HalvedWithin),
    "own iterator, kept": halved(Kept),
    "own iterator, kept with its workers": halved(Kept, num_workers=1),
}  # fmt: skip


@pytest.mark.parametrize("name", LOADERS)
def test_a_loader(tmp_path: Path, name: str) -> None:
    make, batches, weights = LOADERS[name]
    landscape, module = callback(max_samples=1024, budget=None), Lit()
    options: dict[str, Any] = {"limit_train_batches": 5} if "endless" in name else {}
    _, without = train(Lit(), [make()], [], tmp_path, **options)
    _, with_it = train(module, [make()], [landscape], tmp_path, **options)
    assert differences(without, with_it) == []
    result = landscape.landscape
    assert result is not None
    expected = plain_surface(module, result, 4, lambda: weighted(module, batches, weights))
    np.testing.assert_allclose(result.loss, expected, rtol=2e-6)
    assert np.ptp(expected) > 1e-3
    if "own" in name:
        assert result.recipe.data["train"].choice == "the first batches as the loader itself iterates"
    checksums = [landscape.recipe.data for landscape in landscape.landscapes.values()]  # type: ignore[union-attr]
    assert checksums == [checksums[0]] * 2  # wherever the loader's generator is


@pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size` from an ambiguous collection")
@pytest.mark.parametrize("mode", ["min_size", "max_size", "max_size_cycle", "sequential"])
def test_validation_loaders_in_every_mode(tmp_path: Path, mode: Any) -> None:
    class Validated(Lit):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
            self.log("val_loss", loss := self.loss(batch))
            return loss

    def run(callbacks: list[Any]) -> Any:
        val = CombinedLoader({"a": loader(A, 4), "b": loader(B, 5)}, mode)
        module = Validated()
        return module, *train(module, [loader(A, 4), val], callbacks, tmp_path)

    landscape = callback(data="val", budget=None)
    (_, _, without), (module, trainer, with_it) = run([]), run([landscape])
    assert differences(without, with_it) == []
    result = landscape.landscape
    assert result is not None
    batches = {"min_size": SHORTEST, "max_size": LONGEST, "max_size_cycle": CYCLED}.get(mode)
    in_turn: list[Any] = [*chunks(A, 4), *chunks(B, 5)]
    weights = first_sizes(batches) if batches is not None else [len(y) for _, y in in_turn]
    expected = plain_surface(module, result, 4, lambda: weighted(module, batches or in_turn, weights))
    np.testing.assert_allclose(result.loss, expected, rtol=2e-6)
    if mode != "sequential":
        assert result.center["val_loss"] == pytest.approx(float(trainer.callback_metrics["val_loss"]), rel=1e-6)


def test_a_stateful_loader_goes_on_where_it_was(tmp_path: Path) -> None:
    def run(callbacks: list[Any]) -> Any:
        source, module = Stateful(), Lit()
        trainer, record = train(module, [source], callbacks, tmp_path, max_epochs=3)
        trainer.save_checkpoint(tmp_path / "end.ckpt")
        saved = torch.load(tmp_path / "end.ckpt", weights_only=False)["loops"]["fit_loop"]["state_dict"]
        return module, source.place, {**record, "saved": saved}

    landscape = callback()
    (_, place, without), (module, _, with_it) = run([]), run([landscape])
    assert differences(without, with_it) == []
    assert place == 12
    result = landscape.landscape
    assert result is not None
    batches = [chunks(A, 4)[i % 6] for i in range(12, 16)]  # what it would give next
    expected = plain_surface(module, result, 4, lambda: weighted(module, batches, [4] * 4))
    np.testing.assert_allclose(result.loss, expected, rtol=2e-6)


def test_several_optimisers_and_several_validation_loaders(tmp_path: Path) -> None:
    class Two(Lit):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:  # type: ignore[override]
            for optimizer in self.optimizers():
                loss = self.loss(batch)
                optimizer.zero_grad()
                self.manual_backward(loss)
                self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
                optimizer.step()
            for scheduler in self.lr_schedulers():
                scheduler.step()
            self.log_dict({"last": loss.detach(), "lr": self.lr_schedulers()[1].get_last_lr()[0]}, on_step=True)
            return {"loss": loss}

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("val_loss", self.loss(batch))
            self.log("largest", self.loss(batch), reduce_fx=torch.max, on_step=True, on_epoch=True)

        def configure_optimizers(self) -> Any:
            first = torch.optim.Adam(self.net[0].parameters(), 0.01)
            second = torch.optim.SGD(self.net[3].parameters(), 0.1)
            schedulers = [torch.optim.lr_scheduler.ExponentialLR(o, 0.9) for o in (first, second)]
            return [first, second], schedulers

    def run(callbacks: list[Any]) -> Any:
        module = Two()
        return module, *train(module, [loader(A, 4, shuffle=True), [loader(A, 4), loader(B, 5)]], callbacks, tmp_path)

    landscape = callback(data=["train", "val"])
    (_, _, without), (module, trainer, with_it) = run([]), run([landscape])
    assert differences(without, with_it) == []
    result = landscape.landscape
    assert result is not None
    expected = plain_surface(module, result, 4, lambda: weighted(module, *PLAIN))
    np.testing.assert_allclose(result.values["train_loss"], expected, rtol=2e-6)
    for i, (data, size) in enumerate(((A, 4), (B, 5))):
        batches = chunks(data, size)
        weights = [len(y) for _, y in batches]
        expected = plain_surface(module, result, 4, lambda b=batches, w=weights: weighted(module, b, w))
        np.testing.assert_allclose(result.values[f"val_loss/dataloader_idx_{i}"], expected, rtol=2e-6)
        largest = plain_surface(module, result, 4, lambda b=batches: max(float(module.loss(x)) for x in b))
        np.testing.assert_allclose(result.values[f"largest/dataloader_idx_{i}"], largest, rtol=2e-6)
        logged = float(trainer.callback_metrics[f"val_loss/dataloader_idx_{i}"])
        assert result.center[f"val_loss/dataloader_idx_{i}"] == pytest.approx(logged, rel=1e-6)


def test_a_split_that_is_drawn_before_the_trainer_draws_its_own_says_so(tmp_path: Path) -> None:
    class Splits(Lit):
        def train_dataloader(self) -> Any:
            return loader(A, 4, shuffle=True)

        def val_dataloader(self) -> Any:
            return DataLoader(random_split(TensorDataset(*A), [12, 10])[1], 4)

        def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.loss(batch)

    options = {"max_epochs": 4, "check_val_every_n_epoch": 2, "num_sanity_val_steps": 0}
    landscape = callback(data="val")
    _, without = train(Splits(), [], [], tmp_path, **options)
    _, with_it = train(Splits(), [], [landscape], tmp_path, **options)
    assert differences(without, with_it) == []
    data = [x.recipe.data["val"] for x in landscape.landscapes.values()]  # type: ignore[union-attr]
    said = ["val_dataloader() called for the landscape" in (d.choice or "") for d in data]
    assert said == [True, False, False, False]
    own = [d.checksum for d in data]
    assert own[1] == own[2] == own[3] != own[0]


def test_workers_of_data_that_are_iterated_start_as_the_users() -> None:
    loader = DataLoader(Stream(), 2, num_workers=1, multiprocessing_context="spawn")
    copied = _new_loader(loader, 0, max_workers=1, may_read_once=False, batch_size=2)
    assert copied.multiprocessing_context is not None
    assert copied.multiprocessing_context.get_start_method() == "spawn"
