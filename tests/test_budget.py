"""`budget=`: landscapes that stay within their time, on a clock of our own that only costs move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import lightning_landscape.output as reports
from lightning_landscape import LossLandscapeCallback, load
from lightning_landscape.accelerations.trial import Trial
from lightning_landscape.survey import budget
from lightning_landscape.survey.budget import Account, Deadline, Grant, parse_budget

from . import _formula as formula
from ._formula import callback, train
from ._training import differences

GRID = {"x": (-1, 1, 17), "y": (-1, 1, 17)}
PICTURE, READ = 0.5, 1e-4  # seconds
SAMPLES = 512


class Clock:
    """Stands still unless something takes time."""

    __slots__ = ("slower", "time")  # without a __dict__: what a step changes in that of a global object is put back

    def __init__(self) -> None:
        self.time, self.slower = 100.0, lambda time: 1.0

    def __call__(self) -> float:
        return self.time

    def takes(self, seconds: float) -> None:
        self.time += seconds * self.slower(self.time)


CLOCK = Clock()  # a module that held it would hold copies


class Data(Dataset[Any]):
    def __init__(self, size: int = SAMPLES) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(size, 6, generator=generator)
        self.y = (self.x[:, 0] > 0).long() + (self.x[:, 1:3].sum(1) > 0.5).long()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        CLOCK.takes(READ)
        return self.x[index], self.y[index]


class Net(L.LightningModule):
    """A step takes a second in training, and `cost` seconds a batch in the landscape."""

    def __init__(self, cost: float = 0.002) -> None:
        super().__init__()
        self.cost = cost
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        CLOCK.takes(1.0 if torch.is_grad_enabled() else self.cost)
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    validation_step = training_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.2)


class Measuring(Net):
    """Knows how far its weights are from those that were trained."""

    norm = float("inf")

    def distance(self) -> float:
        """The norm of the first layer, by that in the last training step."""
        norm = float(self.net[0].weight.detach().norm())
        self.norm = norm if self.training else self.norm
        return norm / self.norm


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(budget, "clock", CLOCK)
    monkeypatch.setattr(CLOCK, "time", 100.0)
    monkeypatch.setattr(CLOCK, "slower", lambda time: 1.0)

    def drawn(figure: Any) -> np.ndarray:
        CLOCK.takes(PICTURE)
        return np.zeros((2, 2, 3), dtype=np.uint8)

    monkeypatch.setattr(reports, "to_image", drawn)
    return CLOCK


def loader(size: int = SAMPLES, shuffle: bool = True) -> DataLoader[Any]:
    return DataLoader(Data(size), 16, shuffle=shuffle)


def fit(path: Path, epochs: int, cost: float = 0.002, **options: Any) -> tuple[Any, float, dict[str, Any]]:
    """The callback (None without options), the seconds that the fit took on our clock, and what came of it."""
    landscapes = callback(**{**GRID, "accelerate": False, **options}) if options else None
    torch.manual_seed(3)
    began = CLOCK.time
    _, after = train(Net(cost), [loader()], [landscapes] if landscapes else [], path, max_epochs=epochs)
    return landscapes, CLOCK.time - began, after


class Timed(LossLandscapeCallback):
    """One that is watched from outside: `hooks` is how long its hooks took."""

    hooks = 0.0

    def _watched(self, hook: str, *arguments: Any) -> None:
        began = CLOCK.time
        getattr(super(), hook)(*arguments)
        self.hooks += CLOCK.time - began

    def on_train_start(self, *arguments: Any) -> None:
        self._watched("on_train_start", *arguments)

    def on_train_epoch_start(self, *arguments: Any) -> None:
        self._watched("on_train_epoch_start", *arguments)

    def on_train_end(self, *arguments: Any) -> None:
        self._watched("on_train_end", *arguments)


def taken(path: Path, epochs: int, cost: float = 0.002, **options: Any) -> tuple[float, Any]:
    """The time that landscapes took, as a share of the time trained, and the callback."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formula, "LossLandscapeCallback", Timed)
        landscapes, together, _ = fit(path, epochs, cost, **options)
    return landscapes.hooks / (together - landscapes.hooks), landscapes


# what a budget is


@pytest.mark.parametrize(
    "wrong", ["", "s", "0s", "30", "30 sec", "-1s", "5%", 0, 1, 1.5, -0.1, True, [1], float("nan")]
)
def test_no_budget_is_refused_with_what_to_give(wrong: Any) -> None:
    with pytest.raises(ValueError, match="budget=") as error:
        LossLandscapeCallback(budget=wrong)
    assert repr(wrong) in str(error.value)
    assert '"auto", the time of each landscape, e.g. "30s", "2min" or "1h"' in str(error.value)


@pytest.mark.parametrize("text, seconds", [("30s", 30), ("2min", 120), ("1.5h", 5400), (".5 s", 0.5)])
def test_a_time_is_read(text: str, seconds: float) -> None:
    parsed = parse_budget(text)
    assert parsed is not None
    assert (parsed.seconds, parsed.share) == (seconds, None)


def test_a_deadline_stops_before_the_step_that_would_end_too_late() -> None:
    deadline, done = Deadline(1.0), 0
    while not deadline():
        CLOCK.takes(0.3)
        deadline.step()
        done += 1
    assert done == 3  # 0.9 s; a fourth would end at 1.2
    CLOCK.time -= 0.9
    assert deadline(), "what is over stays over"


def test_a_deadline_leaves_the_least_of_steps_in_any_case() -> None:
    deadline, done = Deadline(1.0, least=5), 0
    while not deadline():
        CLOCK.takes(0.3)
        deadline.step()
        done += 1
    assert done == 5


def test_a_share_is_of_the_time_trained_and_what_is_left_over_is_kept() -> None:
    account = Account(budget.Budget("5 %", share=0.05))
    CLOCK.takes(100.0)
    assert account.left(last=False) == pytest.approx(5.0)
    with account.spending():
        CLOCK.takes(2.0)
    assert account.left(last=False) == pytest.approx(3.0)
    CLOCK.takes(100.0)
    assert account.left(last=True) == pytest.approx(8.0)


def test_auto_is_a_tenth_of_the_time_trained_but_20_s_each_and_60_s_at_the_end() -> None:
    account = Account(budget.AUTO)
    assert (account.left(last=False), account.left(last=True)) == (20.0, 60.0)
    CLOCK.takes(1000.0)
    assert (account.left(last=False), account.left(last=True)) == pytest.approx((100.0, 100.0))
    with account.spending():
        CLOCK.takes(90.0)
    assert (account.left(last=False), account.left(last=True)) == (20.0, 60.0)


def test_what_one_landscape_leaves_of_its_seconds_the_next_may_take() -> None:
    account = Account(budget.Budget("10 s", seconds=10.0))
    for expected, used in ((10, 4), (16, 16), (10, 12), (8, 0)):
        granted = account.grant(last=True, needed=1.0)
        assert granted is not None
        assert granted.total == pytest.approx(expected)
        with account.spending():
            CLOCK.takes(used)


def test_a_landscape_waits_until_it_and_its_pictures_are_paid() -> None:
    account = Account(budget.Budget("2 s", seconds=2.0))
    account.showing = 1.5
    assert account.grant(last=False, needed=0.6) is None
    assert account.grant(last=False, needed=0.4) == Grant(pytest.approx(1.0), pytest.approx(2.0))  # type: ignore[arg-type]
    account.showing = 0.1
    assert account.grant(last=True, needed=99.0) == Grant(pytest.approx(3.9), pytest.approx(4.0))  # type: ignore[arg-type]


def test_of_a_share_as_much_is_left_for_the_last_landscape() -> None:
    account = Account(budget.Budget(0.1, share=0.1))
    CLOCK.takes(100.0)
    assert account.grant(last=False, needed=5.1) is None
    granted = account.grant(last=False, needed=4.0)
    assert granted is not None
    assert granted.total == pytest.approx(6.0)


# the share of a fit


@pytest.mark.parametrize("cost", [1e-4, 2e-3, 3e-2])
@pytest.mark.parametrize("every", [None, 1, 4])
def test_landscapes_take_their_share_of_the_time_trained(tmp_path: Path, every: int | None, cost: float) -> None:
    """0.05 ± 0.005, unless every point of the last landscape was evaluated: then there was nothing left to do."""
    share, landscapes = taken(tmp_path, 9, cost, budget=0.05, every_n_epochs=every, plots=["contour"], samples=2)
    landscape = landscapes.landscape
    assert share <= 0.055
    assert landscape.evaluated.all() or share >= 0.045
    assert landscape.evaluated.all() or cost > 1e-3
    assert landscape.recipe.samples >= (256 if cost < 1e-3 else 64)
    assert landscape.done.all()


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_a_machine_that_changes_its_speed_does_not_change_the_share(
    tmp_path: Path, factor: float, clock: Clock
) -> None:
    clock.slower = lambda time: factor if (time - 100) % 37 > 20 else 1.0
    share, landscapes = taken(tmp_path, 9, 0.01, budget=0.05, every_n_epochs=2, plots=["contour"])
    assert share <= 0.055
    assert landscapes.landscape.done.all()


@pytest.mark.parametrize("seconds", [9.0, 20.0])
def test_each_landscape_takes_its_seconds(tmp_path: Path, seconds: float) -> None:
    _, landscapes = taken(tmp_path, 3, 0.02, budget=f"{seconds}s", every_n_epochs=None, plots=["contour"])
    took = landscapes.hooks
    assert 0.8 * seconds <= took <= seconds * 1.05 + 0.1
    assert landscapes.landscape.done.all()


def test_there_is_always_a_picture_worth_looking_at(tmp_path: Path) -> None:
    """Samples are given up first, then time."""
    landscapes, _, _ = fit(tmp_path, 1, 0.05, budget="0.001s", every_n_epochs=None)
    found = landscapes.landscape
    assert found.recipe.samples == 64
    assert found.evaluated.sum() == 85  # 9 × 9, and the neighbours of the centre
    assert found.done.all()


def test_slow_reading_takes_a_quarter_of_the_time_and_what_was_read_is_a_random_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.READ", 0.02)  # 10 s for all
    data = Data()
    order = data.x[:, 0].argsort()
    data.x, data.y = data.x[order], data.y[order]  # as many a data set is
    landscapes = callback(**{**GRID, "accelerate": False, "budget": "11s", "every_n_epochs": None})
    module = Net(1e-4)
    train(module, [DataLoader(data, 16, shuffle=True)], [landscapes], tmp_path, max_epochs=1)
    found = landscapes.landscape
    assert found is not None
    assert found.recipe.samples == 128  # 2.56 s of the 11
    assert found.recipe.data["train"].available == SAMPLES
    with torch.no_grad():
        every = nn.functional.cross_entropy(module.net(data.x), data.y, reduction="none")
    first = every[: found.recipe.samples].mean()
    assert abs(found.center["train_loss"] - every.mean()) < 0.5 * abs(first - every.mean())


def test_what_could_be_read_in_time_is_the_plan_of_the_run(tmp_path: Path, clock: Clock) -> None:
    """A reader that is quick in the rehearsal, and slow afterwards."""

    class Slower(Data):
        def __getitem__(self, index: int) -> Any:
            CLOCK.takes(0.002 if CLOCK.time < 101 else 0.02)
            return self.x[index], self.y[index]

    landscapes = callback(**{**GRID, "accelerate": False, "budget": "9s", "every_n_epochs": 1})
    train(Net(1e-4), [DataLoader(Slower(), 16, shuffle=True)], [landscapes], tmp_path, max_epochs=3)
    counts = [landscape.recipe.samples for landscape in landscapes.landscapes.values()]
    assert len(set(counts)) == 1
    assert 64 <= counts[0] < SAMPLES
    assert landscapes.landscape is not None
    assert landscapes.landscape.recipe.planned_samples == counts[0]


def test_more_time_gives_more_samples_then_more_points(tmp_path: Path) -> None:
    seen = []
    for seconds in (2, 40, 160, 400):
        found, _, _ = fit(tmp_path / str(seconds), 1, 0.02, budget=f"{seconds}s", every_n_epochs=None)
        seen.append((found.landscape.recipe.samples, int(found.landscape.evaluated.sum())))
    assert [samples for samples, _ in seen] == [64, 128, 256, SAMPLES]
    assert seen[0][1] == 85
    assert seen[-1][1] == 17 * 17


def test_with_time_enough_it_is_the_landscape_without_a_budget(tmp_path: Path) -> None:
    options: dict[str, Any] = {"samples": 3, "data": ["train", "val"], "every_n_epochs": None}
    results = []
    for extra in ({"budget": None}, {}):
        landscapes = callback(**{**GRID, "accelerate": False, **options, **extra})
        torch.manual_seed(3)
        _, after = train(Net(5e-4), [loader(), loader(48, shuffle=False)], [landscapes], tmp_path / str(len(results)))
        results.append((landscapes.landscape, after))
    (plain, after), (timed, same) = results
    assert not differences(after, same)
    assert timed.evaluated.all()
    for name, values in plain.values.items():
        np.testing.assert_array_equal(timed.values[name], values)
        assert timed.center[name] == plain.center[name]
    for landscape in (timed, plain):
        assert {name: data.samples for name, data in landscape.recipe.data.items()} == {"train": SAMPLES, "val": 48}
    assert timed.report.interpolation is None
    assert "of 512 samples" not in reports.summary(timed)


# the plan of a run


def test_all_landscapes_of_a_run_have_the_same_samples_and_points(tmp_path: Path) -> None:
    landscapes, _, _ = fit(tmp_path, 5, 0.004, budget="9s", every_n_epochs=1, plots=["contour"])
    *early, last = landscapes.landscapes.values()
    assert len(early) == 4
    assert len({landscape.recipe.data["train"].checksum for landscape in (*early, last)}) == 1
    for landscape in early[1:]:
        np.testing.assert_array_equal(landscape.evaluated, early[0].evaluated)
    assert not early[0].evaluated.all()
    assert last.evaluated.sum() > early[0].evaluated.sum(), "the last one may be finer"
    assert last.evaluated[early[0].evaluated].all()


def test_a_landscape_that_is_coarser_than_those_before_says_so(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.slower = lambda time: 1.0 if time < 140 else 20.0
    with caplog.at_level("INFO"):
        fit(tmp_path, 3, 0.0005, budget="9s", every_n_epochs=1, plots=[])
    assert "has 9 points an axis, those before it 17: budget='9s' left less time for it." in caplog.text


def test_the_recipe_repeats_a_landscape_bit_by_bit(tmp_path: Path) -> None:
    options: dict[str, Any] = {"every_n_epochs": None, "samples": 3}
    some, _, _ = fit(tmp_path / "some", 1, 0.02, budget="40s", **options)
    found = some.landscape
    assert found.recipe.planned_samples == 128
    again, _, _ = fit(tmp_path / "again", 1, 0.02, budget=None, max_samples=128, **options)
    np.testing.assert_array_equal(again.landscape.loss[found.evaluated], found.loss[found.evaluated])
    assert again.landscape.recipe.data["train"].checksum == found.recipe.data["train"].checksum
    assert again.landscape.samples is not None
    assert [s.index for s in again.landscape.samples.items] == [s.index for s in found.samples.items]


def test_a_run_of_the_same_settings_takes_the_plan_that_it_finds(tmp_path: Path) -> None:
    """Else a landscape that was stopped could not go on, since the time chooses the samples."""
    first, _, _ = fit(tmp_path, 1, 0.02, budget="40s", every_n_epochs=None)
    assert first.landscape.recipe.samples == 128
    again, _, _ = fit(tmp_path, 1, 0.0001, budget="40s", every_n_epochs=None)
    assert again.landscape.recipe.samples == 128
    assert len(list((tmp_path / "landscape").glob("step=*"))) == 1
    other, _, _ = fit(tmp_path, 1, 0.0001, budget="40s", every_n_epochs=None, max_samples=300)
    assert other.landscape.recipe.samples == 300


def test_accelerations_are_tried_once_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    begin = Trial.begin

    def noted(trial: Trial) -> bool:
        tried.append(trial.points)
        return begin(trial)

    monkeypatch.setattr(Trial, "begin", noted)
    landscapes, _, _ = fit(tmp_path, 4, 1e-6, budget=None, every_n_epochs=1, accelerate=True)
    assert len(landscapes.landscapes) == 4
    assert len(tried) == 1


# what a landscape says of it


def test_values_are_those_of_the_samples_it_names_and_the_estimate_holds(tmp_path: Path) -> None:
    whole, _, _ = fit(tmp_path / "whole", 1, 0.02, every_n_epochs=None, max_samples=None)
    some, _, _ = fit(tmp_path / "some", 1, 0.02, budget="20s", every_n_epochs=None)
    a, b = whole.landscape, some.landscape
    assert 16 <= b.recipe.samples < SAMPLES
    assert b.recipe.data["train"].available == SAMPLES
    assert b.interpolated.any()
    errors = b.standard_errors["train_loss"]
    off = abs(b.loss - a.loss) / errors
    assert np.median(off) < 3, "within the standard error, as random samples are"
    assert 0 < b.report.interpolation.errors["train_loss"] < 0.5
    page = reports.summary(b)
    assert f"train: {b.recipe.samples} samples" in page
    assert "there were 512 samples of train" in page
    again = load(tmp_path / "some" / "landscape" / "step=000032" / "landscape.h5")
    assert again.recipe == b.recipe


def test_pictures_that_there_is_no_time_for_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "lightning_landscape"):
        fit(tmp_path, 1, budget="3s", every_n_epochs=None, plots=["contour", "heat", "surface", "slices"])
    (told,) = [line for line in caplog.text.splitlines() if "no time was left for the pictures" in line]
    assert "surface of train_loss, slices of train_loss of step 32; lightning-landscape plot draws them" in told
    assert "contour" not in told


def test_with_auto_the_main_loss_has_all_of_its_pictures(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They cost little beside the points, however slow the machine is when they are drawn."""
    monkeypatch.setattr(reports, "to_image", lambda figure: CLOCK.takes(40.0) or np.zeros((2, 2, 3), dtype=np.uint8))
    landscapes = callback(
        **GRID, accelerate=False, budget="auto", data=["train", "val"], plots=["contour", "heat", "surface", "slices"],
        every_n_epochs=None, formats=["h5", "png"],
    )  # fmt: skip
    with caplog.at_level("INFO", "lightning_landscape"):
        train(Net(), [loader(), loader(48, shuffle=False)], [landscapes], tmp_path, max_epochs=1)
    folder = tmp_path / "landscape" / "step=000032"
    names = sorted(path.name for path in folder.glob("*.png"))
    assert names == [f"train_loss_{name}.png" for name in ("1dslices", "2dcontour", "2dheat", "3dsurface")]
    assert "no time was left for the pictures contour of val_loss" in caplog.text


@pytest.mark.parametrize("last", [True, False], ids=["with the last landscape", "without"])
def test_films_are_paid_for_by_the_budget(tmp_path: Path, last: bool) -> None:
    """Each of 4 landscapes takes all of its 4 s; films too are within them, and show all the run."""
    landscapes, _, _ = fit(
        tmp_path, 4, budget="4s", every_n_epochs=1, at_train_end=last, plots=["heat", "surface", "slices"],
        formats=["h5", "png"],
    )  # fmt: skip
    count = len(landscapes.landscapes)
    assert count == 4
    assert landscapes._account.spent <= 4 * count + 2 * PICTURE
    (film,) = (tmp_path / "landscape").glob("*heat*.gif")
    assert film.name == f"train_loss_2dheat_steps=000032-{32 * count:06d}.gif"


def test_what_the_last_landscape_leaves_for_films() -> None:
    account = Account(parse_budget("10s"))
    with account.spending():
        CLOCK.takes(4.0)
    granted = account.grant(True, 0.0, films=1.0)
    assert granted is not None
    assert granted.total == pytest.approx(5.0)
    with account.spending():
        CLOCK.takes(4.0)
    assert account.rest() == pytest.approx(2.0)
    granted = account.grant(True, 0.0, films=100.0)
    assert granted is not None
    assert granted.total == pytest.approx(0.8 * 12), "a fifth at most"


def test_without_a_last_landscape_films_take_what_is_left_over() -> None:
    account = Account(parse_budget("10s"))
    account.grant(False, 0.0)
    with account.spending():
        CLOCK.takes(7.0)
    assert account.rest() == pytest.approx(3.0)
    shared = Account(budget.Budget("5 %", share=0.05))
    CLOCK.takes(100.0)
    assert shared.rest() == pytest.approx(5.0)


def test_the_training_is_the_same_with_a_budget(tmp_path: Path) -> None:
    _, _, alone = fit(tmp_path / "alone", 2)
    _, _, after = fit(tmp_path / "with", 2, budget=0.2, every_n_epochs=1)
    assert not differences(alone, after)


def test_a_step_that_raises_off_the_centre_costs_these_points_only(tmp_path: Path) -> None:
    class Picky(Measuring):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if self.distance() > 1.4:
                raise RuntimeError("too far")
            return super().training_step(batch, batch_idx)

    landscapes = callback(**{**GRID, "accelerate": False, "budget": "20s", "every_n_epochs": None, "strict": False})
    module = Picky(0.001)
    with pytest.warns(UserWarning, match="could not be measured"):
        train(module, [loader()], [landscapes], tmp_path, max_epochs=1)
    found = landscapes.landscape
    assert found is not None
    assert 0 < found.done.sum() < found.grid.size
    assert "too far" in found.report.failure
