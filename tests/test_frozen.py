"""The frozen evaluation set: which samples, in which batches, and at whose expense."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.trainer.states import RunningStage
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from lightning_landscape.trainer.frozen import FrozenData, freeze
from lightning_landscape.trainer.loaders import Source
from lightning_landscape.trainer.probe import probe_copy
from lightning_landscape.trainer.undisturbed import undisturbed

N = 23


class Net(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))
        self.transferred = 0

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.transferred += 1
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.w * 1.0

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def frozen(train: Any, val: Any = None, data: str = "train", trainer: Any = None, **options: Any) -> FrozenData:
    """What `freeze` gives at the end of a fit on these loaders."""
    result: list[FrozenData] = []

    class Freeze(L.Callback):
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            with undisturbed(trainer):
                transferred = pl_module.transferred
                result.append(freeze(trainer, probe_copy(trainer, pl_module)[0], data, **options))
                result.append(freeze(trainer, probe_copy(trainer, pl_module)[0], data, **options))
                assert pl_module.transferred == transferred  # the hooks run on the copy

    runner = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, callbacks=[Freeze()], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, **(trainer or {}),
    )  # fmt: skip
    runner.fit(Net(), train, val)
    assert result[0].checksum == result[1].checksum  # the same seed, the same set
    return result[0]


def items(data: FrozenData) -> list[list[int]]:
    return [batch.data[0].tolist() for batch in data.batches]


def numbers(n: int = N) -> TensorDataset:
    return TensorDataset(torch.arange(n))


def flat(data: FrozenData) -> list[int]:
    return [i for batch in items(data) for i in batch]


def test_all_samples_in_order() -> None:
    data = frozen(DataLoader(numbers(), 5, shuffle=True))
    assert flat(data) == list(range(N))
    assert [batch.size for batch in data.batches] == [5, 5, 5, 5, 3]
    assert data.size == N


def test_a_random_subset_of_exactly_max_samples() -> None:
    loader = DataLoader(numbers(), 5, shuffle=True)
    chosen = flat(frozen(loader, max_samples=8))
    assert len(set(chosen)) == 8
    assert chosen != sorted(chosen)
    assert not set(chosen) <= set(range(8))
    assert chosen == flat(frozen(loader, max_samples=8))
    assert chosen != flat(frozen(loader, max_samples=8, seed=1))
    first_two = flat(frozen(loader, max_samples=None, max_batches=2))
    assert len(set(first_two)) == 10
    assert max(first_two) >= 10


def read(loader: Any, *bounds: Any) -> list[Any]:
    """The batches of a source of its own, whose sizes must be those that it says."""
    batches = list(Source(loader, 1.0, 0).batches(*(bounds or (None, None))))
    assert all(batch.size == len(batch.data[0]) for batch in batches)
    return [batch.data for batch in batches]


class Evens(Sampler):
    """An order of the user's own."""

    def __iter__(self) -> Any:
        return iter(range(0, N, 2))

    def __len__(self) -> int:
        return 12


class Numbers(IterableDataset):
    def __iter__(self) -> Any:
        return ((i,) for i in torch.arange(N))


DROPPING: dict[str, Callable[[], Any]] = {
    "shuffled": lambda: DataLoader(numbers(), 5, shuffle=True, drop_last=True),
    "in order": lambda: DataLoader(numbers(), 5, drop_last=True),
    "batch sampler": lambda: DataLoader(
        numbers(), batch_sampler=BatchSampler(RandomSampler(numbers()), 5, drop_last=True)
    ),
    "sampler": lambda: DataLoader(numbers(), 5, sampler=Evens(), drop_last=True),
    "weighted": lambda: DataLoader(numbers(), 5, sampler=WeightedRandomSampler([1.0] * N, 23), drop_last=True),
    "stream": lambda: DataLoader(Numbers(), 5, drop_last=True),
    "own iteration": lambda: Plain(numbers(), 5, shuffle=True, drop_last=True),
}


class Plain(DataLoader[Any]):
    def __iter__(self) -> Any:
        return super().__iter__()


@pytest.mark.parametrize("kind", DROPPING)
def test_where_the_short_last_batch_is_dropped_all_are_whole(kind: str) -> None:
    """Steps with a state for each place in the batch can't do with fewer samples."""
    most = 10 if kind == "sampler" else 20
    for max_samples, expected in ((None, most), (1024, most), (14, 10), (12, 10), (5, 5), (3, 5)):
        got = read(DROPPING[kind](), max_samples, None)
        assert {len(batch[0]) for batch in got} == {5}
        over = 5 if kind in ("stream", "own iteration") and max_samples in (12, 14) else 0  # these say it too late
        assert 5 * len(got) == expected + over
    assert len(read(DROPPING[kind](), None, 1)) == 1


def test_the_short_last_batch_is_another_one_with_every_seed() -> None:
    left_out = [set(range(N)) - set(flat(frozen(DROPPING["shuffled"](), seed=seed))) for seed in (1, 2)]
    assert [len(rest) for rest in left_out] == [3, 3]
    assert left_out[0] != left_out[1]
    assert flat(frozen(DROPPING["in order"]())) == list(range(20))


def test_batches_of_a_part_of_sorted_classes_hold_all_classes() -> None:
    """Else each batch would be of one class, and the spread of their means no error of the mean."""
    loader = DataLoader(TensorDataset(torch.arange(400)), 20, shuffle=True)  # classes of 100
    for batch in frozen(loader, max_samples=200).batches:
        classes = (batch.data[0] // 100).bincount(minlength=4)
        assert classes.min() >= 1
        assert batch.drawn == "samples"


def test_for_train_mode_batches_are_as_full_and_as_mixed_as_the_training_has_them() -> None:
    loader = DataLoader(numbers(), 5, shuffle=True)
    some = frozen(loader, max_samples=12, as_trained=True)
    assert [batch.size for batch in some.batches] == [5, 5], "a batch of two would be another one"
    whole = flat(frozen(loader, as_trained=True))
    assert whole != sorted(whole), "neighbours may be of one class"
    assert sorted(whole) == list(range(N))
    assert len(flat(frozen(loader, max_samples=3, as_trained=True))) == 5


def test_for_train_mode_a_loader_that_goes_in_order_gives_its_own_batches() -> None:
    own = [list(range(i, min(i + 5, N))) for i in range(0, N, 5)]
    assert items(frozen(DataLoader(numbers(), 5), as_trained=True)) == own
    some = frozen(DataLoader(numbers(), 5), max_samples=12, as_trained=True, samples=2)
    assert len(some.batches) == 2
    assert all(batch in own for batch in items(some))
    assert {int(single.data[0]) for single in some.singles} < set(flat(some))
    assert some.note == "random batches in the loader's order"


class Own(TensorDataset):
    """Of the user's own class: it might do anything to its rows."""


@pytest.mark.parametrize("made", ["whole", "subset of a subset", "batches of indices", "user's collation", "own class"])
def test_tensors_are_read_by_whole_batches_where_those_are_the_loaders(
    made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one, rows take longer than a linear model."""
    rows = torch.randn(N, 2, 3), torch.arange(N), torch.randn(N, 1, requires_grad=True)
    dataset: Dataset[Any] = Own(*rows) if made == "own class" else TensorDataset(*rows)
    if made == "subset of a subset":
        dataset = Subset(Subset(dataset, range(1, N)), [20, 3, 8, 9, 21, 0, 1])
    options: dict[str, Any] = {"batch_size": 4}
    if made == "user's collation":
        options["collate_fn"] = lambda samples: default_collate(samples)[::-1]
    if made == "batches of indices":
        options = {"batch_sampler": BatchSampler(SequentialSampler(dataset), 4, drop_last=False)}  # type: ignore[arg-type]
    loader: DataLoader[Any] = DataLoader(dataset, **options)
    want = list(loader)
    one_by_one: list[Any] = []
    plain = TensorDataset.__getitem__
    monkeypatch.setattr(TensorDataset, "__getitem__", lambda self, i: one_by_one.append(i) or plain(self, i))
    got = read(loader)
    assert len(one_by_one) == (N if made in {"user's collation", "own class"} else 0)
    assert len(got) == len(want)
    for batch, expected in zip(got, want, strict=True):
        assert type(batch) is type(expected)
        for a, b in zip(batch, expected, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
            assert a.requires_grad == b.requires_grad


INDICES: dict[str, Any] = {
    "one column of them": lambda: torch.arange(0, N, 2)[:, None],
    "windows of rows": lambda: [[i, i + 1] for i in range(N - 1)],
    "masks": lambda: torch.ones(3, dtype=torch.uint8),
    "a tensor": lambda: torch.arange(N).flip(0)[:9],
    "an array": lambda: np.arange(N)[::-3],
}


@pytest.mark.parametrize("kind", INDICES)
@pytest.mark.filterwarnings("ignore:indexing with dtype torch.uint8")
def test_a_subset_gives_the_batches_of_the_training_whatever_its_indices(kind: str) -> None:
    dataset = Subset(TensorDataset(torch.randn(N, 3)), INDICES[kind]())
    # Without its second way to be read, which torch 2.2 takes for batches, too.
    want = [default_collate([dataset[i] for i in batch]) for batch in torch.arange(len(dataset)).split(4)]
    got = read(DataLoader(dataset, 4))
    assert len(got) == len(want)
    for (a,), (b,) in zip(got, want, strict=True):
        assert torch.equal(a, b)


class Twice(Tensor):
    """Of the user's own class: it might do anything when it is indexed."""

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index) * 2 if isinstance(index, int) else super().__getitem__(index)

    def __deepcopy__(self, memo: Any) -> Any:
        return self.clone()


def test_tensors_of_the_users_own_class_are_read_one_by_one() -> None:
    plain = torch.randn(N, 3)
    got = read(DataLoader(TensorDataset(plain.as_subclass(Twice)), 4))
    assert torch.equal(torch.cat([batch[0].as_subclass(Tensor) for batch in got]), 2 * plain)


def test_every_sample_is_as_likely_as_any_other() -> None:
    counts = np.zeros(10)
    loader = DataLoader(numbers(10), 4, shuffle=True)
    for seed in range(60):
        counts[flat(frozen(loader, max_samples=3, seed=seed))] += 1
    assert counts.sum() == 180
    assert counts.min() > 5  # 18 expected, deviation 3.5
    assert counts.max() < 33


def test_samplers_say_what_may_be_drawn() -> None:
    subset = frozen(DataLoader(numbers(), 4, sampler=SubsetRandomSampler([3, 8, 11, 20])))
    assert sorted(flat(subset)) == [3, 8, 11, 20]
    weights = torch.zeros(N)
    weights[[2, 7]] = 1.0
    weighted = frozen(DataLoader(numbers(), 4, sampler=WeightedRandomSampler(weights, 12)))
    assert len(flat(weighted)) == 12
    assert set(flat(weighted)) <= {2, 7}
    replacing = frozen(DataLoader(numbers(), 4, sampler=RandomSampler(numbers(), replacement=True)))
    assert flat(replacing) == list(range(N))

    assert flat(frozen(DataLoader(numbers(), 4, sampler=Evens()))) == list(range(0, N, 2))


def shared(
    loader: DataLoader[Any], shuffle: bool, namespace: str = "lightning.pytorch", **options: Any
) -> DataLoader[Any]:
    """The loader as Lightning makes it anew for the second of three processes."""
    data_connector = pytest.importorskip(f"{namespace}.trainer.connectors.data_connector")
    parts = {"num_replicas": 3, "rank": 1, "shuffle": shuffle}
    sampler = data_connector._get_distributed_sampler(loader, overfit_batches=0, mode=RunningStage.TRAINING, **parts)
    assert isinstance(sampler, DistributedSampler)
    return DataLoader(loader.dataset, loader.batch_size, sampler=sampler, **options)


def pool(loader: DataLoader[Any], limit: float = 1.0) -> tuple[list[int], str]:
    source = Source(loader, limit, 0)
    return [int(i) for batch in source.batches(None, None) for i in batch.data[0]], source.note


@pytest.mark.parametrize("namespace", ["lightning.pytorch", "pytorch_lightning"])
def test_samplers_say_what_may_be_drawn_when_lightning_shares_them_among_processes(namespace: str) -> None:
    subset = shared(DataLoader(numbers(), 4, sampler=SubsetRandomSampler([3, 8, 11, 20])), True, namespace)
    assert pool(subset) == ([3, 8, 11, 20], "random samples without replacement")
    weights = torch.zeros(N)
    weights[[2, 7]] = 1.0
    for shuffle in (True, False):
        loader = DataLoader(numbers(), 4, sampler=WeightedRandomSampler(weights, 12))
        drawn, note = pool(shared(loader, shuffle, namespace), 1)
        assert len(drawn) == 12
        assert set(drawn) == {2, 7}
        assert note == "random ones of an epoch's draws of the loader's own sampler"


def test_a_sampler_with_an_order_of_its_own_says_what_may_be_drawn_whatever_it_is_derived_from() -> None:
    class Third(DistributedSampler):
        def __iter__(self) -> Any:
            return iter(range(self.rank, N, 6))

    class Even(RandomSampler):
        def __iter__(self) -> Any:
            return iter(range(0, N, 2))

    assert pool(DataLoader(numbers(), 4, sampler=Third(numbers(), 3, 1)))[0] == [1, 7, 13, 19]
    assert pool(DataLoader(numbers(), 4, sampler=Even(numbers())))[0] == list(range(0, N, 2))


def test_limits_bound_what_the_processes_together_see_in_a_fixed_order() -> None:
    ordered = shared(DataLoader(numbers(), 2), False)  # of each rank's 8 samples, 4 batches
    assert pool(ordered, 2)[0] == list(range(2 * 2 * 3))
    assert pool(ordered, 0.25)[0] == list(range(1 * 2 * 3))
    assert pool(ordered)[0] == list(range(N))
    assert pool(shared(DataLoader(numbers(), 5), False, drop_last=True))[0] == list(range(15))
    assert pool(shared(DataLoader(numbers(), 2), True), 2)[0] == list(range(N))
    dropping = DistributedSampler(numbers(), 3, 1, shuffle=False, drop_last=True)  # 7 of each rank's
    assert pool(DataLoader(numbers(), 2, sampler=dropping))[0] == list(range(21))
    batches = BatchSampler(DistributedSampler(numbers(), 3, 1, shuffle=False), 2, drop_last=False)
    assert pool(DataLoader(numbers(), batch_sampler=batches), 2)[0] == list(range(2 * 2 * 3))


def test_limits_bound_loaders_with_an_iteration_of_their_own() -> None:
    class Negative(DataLoader[Any]):
        def __iter__(self) -> Any:
            for (x,) in super().__iter__():
                yield (-x,)

    assert pool(Negative(numbers(), 4))[0] == [-i for i in range(N)]
    assert pool(Negative(numbers(), 4), 2)[0] == [-i for i in range(8)]
    assert pool(Negative(numbers(), 4), 0.5)[0] == [-i for i in range(12)]  # half of 6 batches


def test_a_batch_sampler_of_the_users_keeps_its_batches() -> None:
    class Buckets(Sampler):
        batches = ([0, 1, 2], [10, 11], [5, 6, 7, 8], [20])

        def __iter__(self) -> Any:
            return iter(self.batches)

        def __len__(self) -> int:
            return 4

    data = frozen(DataLoader(numbers(), batch_sampler=Buckets()), max_samples=6)
    assert all(batch in Buckets.batches for batch in items(data))
    assert data.size <= 6
    plain = BatchSampler(SequentialSampler(numbers()), 4, drop_last=False)
    assert flat(frozen(DataLoader(numbers(), batch_sampler=plain))) == list(range(N))


def test_limits_bound_what_comes_in_a_fixed_order() -> None:
    options = {"limit_train_batches": 2, "limit_val_batches": 0.5}
    ordered = frozen(DataLoader(numbers(), 4), trainer=options)
    assert flat(ordered) == list(range(8))
    shuffled = frozen(DataLoader(numbers(), 4, shuffle=True), trainer=options)
    assert flat(shuffled) == list(range(N))
    val = frozen(DataLoader(numbers(), 4), DataLoader(numbers(), 4), "val", trainer=options)
    assert flat(val) == list(range(12))  # half of 6 batches


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_overfitting_on_two_batches_is_measured_on_these() -> None:
    data = frozen(DataLoader(numbers(), 4, shuffle=True), trainer={"overfit_batches": 2})
    assert flat(data) == list(range(8))


def test_several_loaders_share_the_samples_by_their_sizes() -> None:
    val = [DataLoader(numbers(20), 4), DataLoader(numbers(60), 4)]
    data = frozen(DataLoader(numbers(), 4), val, "val", max_samples=16)
    sizes = [sum(b.size for b in data.batches if b.loader == i) for i in (0, 1)]
    assert sizes == [4, 12]
    assert data.several_loaders
    assert [b.index for b in data.batches if b.loader == 1] == [0, 1, 2]


def test_loaders_in_a_dict_come_together() -> None:
    loaders = {"a": DataLoader(numbers(8), 4), "b": DataLoader(numbers(8), 2)}
    data = frozen(loaders)
    assert [set(batch.data) for batch in data.batches] == [{"a", "b"}] * 4
    assert data.batches[2].data["b"][0].tolist() == [4, 5]


def test_a_data_set_that_gives_whole_batches() -> None:
    class Whole(Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, i: int) -> Tensor:
            return torch.arange(3) + 10 * i

    data = frozen(DataLoader(Whole(), batch_size=None, shuffle=True))
    assert [batch.data.tolist() for batch in data.batches] == [[10 * i, 10 * i + 1, 10 * i + 2] for i in range(4)]
    assert data.size == 12


def test_any_iterable_of_batches_is_a_loader() -> None:
    class Batches:
        begun = 0

        def __iter__(self) -> Any:
            self.begun += 1
            return iter([torch.arange(3), torch.arange(2), torch.arange(5)])

    loader = Batches()
    data = frozen(loader, max_samples=4)
    assert [batch.data.tolist() for batch in data.batches] == [[0, 1, 2], [0, 1]]
    assert data.note == "the first batches of data that can only be iterated"
    assert loader.begun <= 2  # Lightning's own


def test_tiles_are_random_ones_of_the_chosen_samples() -> None:
    data = frozen(DataLoader(numbers(), 4, shuffle=True), max_samples=9, samples=4)
    assert len(data.singles) == 4
    assert {batch.sample for batch in data.singles} < set(flat(data))
    assert [batch.data[0].tolist() for batch in data.singles] == [[batch.sample] for batch in data.singles]
    assert data.together is not None
    assert data.together.data[0].tolist() == [batch.sample for batch in data.singles]


def test_samples_of_different_sizes_cannot_come_together() -> None:
    class Ragged(Dataset):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, i: int) -> Tensor:
            return torch.zeros(i + 1)

    data = frozen(DataLoader(Ragged(), batch_size=1), samples=3)
    assert data.together is None
    assert [batch.data.shape for batch in data.singles] == [(1, batch.sample + 1) for batch in data.singles]


def test_a_data_set_with_state_is_read_through_a_copy() -> None:
    class Counts(Dataset):
        def __init__(self) -> None:
            self.reads, self.log, self.x = 0, [], torch.arange(N)

        def __len__(self) -> int:
            return N

        def __getitem__(self, i: int) -> Tensor:
            self.reads += 1
            self.log.append(i)
            return self.x[i]

    counts = Counts()
    frozen(DataLoader(counts, 4))
    assert counts.reads == len(counts.log) == N  # one epoch of training


@pytest.mark.filterwarnings("ignore:You have overridden `on_after_batch_transfer`")
def test_the_test_data_of_a_datamodule_that_was_set_up_to_fit(tmp_path: Path) -> None:
    class Data(L.LightningDataModule):
        stages: list[str] = []  # noqa: RUF012

        def setup(self, stage: str) -> None:
            self.stages = [*self.stages, stage]
            self.numbers = numbers(5 if stage == "test" else N)

        def train_dataloader(self) -> Any:
            return DataLoader(self.numbers, 4)

        def test_dataloader(self) -> Any:
            return DataLoader(self.numbers, 4)

    source = Data()
    assert flat(frozen(source, data="test")) == list(range(5))
    assert source.stages == ["fit"]
    assert len(source.numbers) == N


def test_no_loader() -> None:
    with pytest.raises(ValueError, match=r"data='test': there is no test loader.*test_dataloader\(\)"):
        frozen(DataLoader(numbers(), 4), data="test")
