"""Eval or train mode: whose flags, what is said of the other mode, and the naive loop that the values equal."""

from __future__ import annotations

import copy
import logging
import pickle
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning_utilities.core import rank_zero
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape, LossLandscapeCallback, Random, Snapshot, load
from lightning_landscape.landscape import Landscape
from lightning_landscape.objectives.base import CannotMeasureError
from lightning_landscape.plots.furniture import provenance
from lightning_landscape.summary import summary
from lightning_landscape.trainer.probe import set_up_probe

SEED = 4
X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
pytestmark = pytest.mark.filterwarnings(r"ignore:Found \d+ module\(s\) in eval mode.*")  # on purpose: frozen parts


class Base(L.LightningModule):
    """A perceptron with a norm, dropout and a frozen norm of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.still = nn.BatchNorm1d(6).requires_grad_(False).eval()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("net", float(self.net[1].training))
        self.log("still", float(self.still.training))
        return nn.functional.cross_entropy(self.net(self.still(batch[0])), batch[1])

    validation_step = training_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.05)


def small(**options: Any) -> LossLandscapeCallback:
    return LossLandscapeCallback(
        **{"x": (-1, 1, 3), "y": (-0.5, 0.5, 2), "samples": 0, "max_samples": None, "plots": [], "formats": ["h5"],
           "strict": True, "seed": SEED, **options}
    )  # fmt: skip


def trainer(path: Path, *callbacks: Any, **options: Any) -> L.Trainer:
    return L.Trainer(
        **{"max_epochs": 1, "accelerator": "cpu", "logger": False, "callbacks": list(callbacks),
           "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
           "default_root_dir": path, **options}
    )  # fmt: skip


def fit(path: Path, module: Any, *callbacks: Any, batch: int = 8, val: bool = False, **options: Any) -> L.Trainer:
    torch.manual_seed(2)
    runner = trainer(path, *callbacks, **options)
    data = TensorDataset(X, Y)
    runner.fit(module, DataLoader(data, batch), DataLoader(data, batch) if val else None)
    return runner


def measured(callback: LossLandscapeCallback) -> Landscape:
    assert callback.landscape is not None
    return callback.landscape


def naive(module: nn.Module, landscape: Landscape, batch: int, step: Any = None) -> np.ndarray:
    """The loss at every point: on a fresh copy, with its flags as they are, from one seed, batch by batch."""
    snapshot = Snapshot.of(copy.deepcopy(module))
    directions = Random(seed=SEED)(snapshot, landscape.grid.ndim)
    values = []
    for point in landscape.grid.points:
        own = copy.deepcopy(module)
        if isinstance(own, L.LightningModule):
            own.__dict__["log"] = lambda *args, **options: None
        with torch.no_grad():
            for name, parameter in own.named_parameters():
                for c, direction in zip(point, directions, strict=True):
                    if name in direction:
                        parameter += float(c) * direction[name]
            torch.manual_seed(SEED)
            losses = [
                float((step or own.training_step)(*([own] if step else []), (X[i : i + batch], Y[i : i + batch]), 0))
                for i in range(0, len(X), batch)
            ]
        values.append(np.mean(losses))
    return np.reshape(values, landscape.grid.shape)


# The values


def test_the_surface_is_that_of_the_loss_as_it_is_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, callback = Base(), small(mode="train", accelerate=False)
    fit(tmp_path, module, callback)
    landscape = measured(callback)
    assert module.net.training
    assert not module.still.training
    np.testing.assert_allclose(landscape.loss, naive(module, landscape, 8), rtol=1e-6)
    assert np.ptp(landscape.values["net"]) == 0 == landscape.center["still"]
    assert landscape.center["net"] == 1
    evaluated = naive(module.eval(), landscape, 8)
    assert np.abs(landscape.loss - evaluated).max() > 0.1, "else the two modes could not be told apart"


@pytest.mark.parametrize("options", [{"budget": "60s"}, {"accelerate": True}, {"tolerance": 1e-9}], ids=str)
def test_every_kind_of_pass_knows_the_mode(tmp_path: Path, options: Any) -> None:
    torch.manual_seed(0)
    module, callback = Base(), small(mode="train", y=None, x=(-1, 1, 5), **options)
    fit(tmp_path, module, callback, batch=24)  # of several, a budget takes the masks in another order
    landscape = measured(callback)
    np.testing.assert_allclose(landscape.loss, naive(module, landscape, 24), rtol=2e-6)
    assert landscape.evaluated.all()


def test_batches_are_as_mixed_as_the_training_has_them(tmp_path: Path) -> None:
    """The data lie class by class, and the training shuffles them."""

    class Mixed(Base):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.log("classes", float(len(batch[1].unique())), reduce_fx="min")
            return super().training_step(batch, batch_idx)

    callback, order = small(mode="train"), Y.argsort()
    torch.manual_seed(0)
    trainer(tmp_path, callback).fit(Mixed(), DataLoader(TensorDataset(X[order], Y[order]), 8, shuffle=True))
    assert measured(callback).center["classes"] == 2


class TwoHeads(nn.Module):
    """Two outputs in training, their mean elsewhere, as a distilled transformer has."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 2), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Any:
        x = self.body(x).relu()
        return (self.one(x), self.two(x)) if self.training else (self.one(x) + self.two(x)) / 2


class Distilled(Base):
    """Unpacks two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = TwoHeads()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        one, two = self.heads(batch[0])
        return nn.functional.cross_entropy(one, batch[1]) + nn.functional.cross_entropy(two, batch[1])


class Detector(Distilled):
    """Losses by name in training, of boxes drawn at random; detections elsewhere."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if not self.training:
            found: Any = [{"boxes": torch.zeros(0, 4)}]
        else:
            drawn = torch.randperm(len(batch[0]))[:4]
            found = {"box": self.heads(batch[0][drawn])[0].square().mean(), "class": super().training_step(batch, 0)}
        return sum(found.values())


class Silent(Distilled):
    """Has a loss in training only, and says nothing elsewhere."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) if self.training else None


class Auxiliary(Distilled):
    """Asks for an attribute that the output has in training only."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        out: Any = self.heads(batch[0])
        out = SimpleNamespace(main=out[0], auxiliary=out[1]) if self.training else out
        return nn.functional.cross_entropy(out.main, batch[1]) + 0.3 * out.auxiliary.square().mean()


ONLY_IN_TRAINING = {
    Distilled: "ValueError: too many values to unpack",
    Detector: "AttributeError: 'list' object has no attribute 'values'",
    Auxiliary: "AttributeError: 'Tensor' object has no attribute 'main'",
}


@pytest.mark.parametrize("kind", [*ONLY_IN_TRAINING, Silent])
def test_losses_that_exist_in_training_only_have_their_surface(tmp_path: Path, kind: Any) -> None:
    module, callback = kind(), small(mode="train")
    fit(tmp_path, module, callback, batch=12)
    landscape = measured(callback)
    np.testing.assert_allclose(landscape.loss, naive(module, landscape, 12), rtol=1e-6)


# What is said in eval mode


@pytest.mark.parametrize("kind", ONLY_IN_TRAINING)
def test_a_rehearsal_that_needs_train_mode_says_so_and_moves_nothing(tmp_path: Path, kind: Any) -> None:
    states = []
    for callbacks in ([], [small(strict=False)]):
        torch.manual_seed(0)
        module = kind()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(tmp_path, module, *callbacks)
        states.append((module.state_dict(), torch.get_rng_state()))
    (ours,) = [str(w.message) for w in caught if "andscape" in str(w.message)]
    assert ONLY_IN_TRAINING[kind] in ours
    assert "it works in train mode: give mode='train'" in ours
    assert torch.equal(states[0][1], states[1][1])
    for name, tensor in states[0][0].items():
        assert torch.equal(tensor, states[1][0][name]), name


def test_a_step_that_returns_nothing_in_eval_mode_is_refused_with_the_same_words(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match=r"returned no scalar loss.*works in train mode: give mode='t"):
        fit(tmp_path, Silent(), small())


def test_what_fails_in_both_modes_says_nothing_of_the_other(tmp_path: Path) -> None:
    class Broken(Base):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            raise KeyError("broken")

    with pytest.raises(KeyError, match=r"^'broken'$"):
        fit(tmp_path, Broken(), small())


@pytest.fixture
def lines() -> Any:
    """What Lightning's log of the first process has got, as far as it is of modes."""
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.extend([record.getMessage()] * (" mode" in record.getMessage()))

    logger, keep = rank_zero.log, Keep(logging.INFO)  # of whichever of Lightning's two packages came last
    before = logger.level
    logger.addHandler(keep)
    logger.setLevel(logging.INFO)  # whatever another test has left
    yield seen
    logger.setLevel(before)
    logger.removeHandler(keep)


class Normed(Base):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.net[1](self.net[0](5 * batch[0])).square().mean()


def test_a_centre_that_is_another_one_in_train_mode_is_one_line_with_both(tmp_path: Path, lines: Any) -> None:
    torch.manual_seed(0)
    module, callback = Normed(), small(y=(-1, 1, 3))
    fit(tmp_path, module, callback)
    landscape = measured(callback)
    (line,) = lines
    said = landscape.report.train_mode_loss
    assert f"{landscape.center['train_loss']:.4g} ± " in line
    assert f"{said.value:.4g}" in line
    assert "BatchNorm takes running statistics in eval mode, which lag behind early in a training" in line
    assert said.value == pytest.approx(naive(module, landscape, 8)[1, 1], rel=1e-6)
    assert f"in train mode     the loss at the centre is {said.value:.6g} there: BatchNorm" in summary(landscape)


def test_what_is_the_same_in_both_modes_or_not_trained_says_nothing(tmp_path: Path, lines: Any) -> None:
    class Plain(Base):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.net[0](batch[0]).square().mean()

    torch.manual_seed(0)
    for module, options in (
        (Plain(), {}),
        (Normed().eval(), {}),  # and so it is trained
        (Normed(), {"data": "val"}),
        (Normed(), {"mode": "train"}),
    ):
        callback = small(**options)
        fit(tmp_path / str(options), module, callback, val=True)
        assert measured(callback).report.train_mode_loss is None
        assert lines == []


def test_a_landscape_in_eval_mode_is_the_same_with_the_look_at_train_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step returns a loss in training only, edits what it likes there, and counts."""

    class Edits(Base):
        def __init__(self) -> None:
            super().__init__()
            self.calls, self.seen = 0, []
            self.teacher = nn.Linear(6, 2).requires_grad_(False)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.calls += 1
            if self.training:
                self.seen.append(self.calls)
                self.teacher.weight.mul_(0.5)
                batch[0].mul_(2)
            loss = (self.net[0](batch[0])[:, :2] - self.teacher(batch[0])).square().mean()
            loss = loss + self.calls + 100 * self.training
            self.log("logged", loss)
            return loss if self.training else None

    landscapes = []
    for look in (True, False):
        if not look:
            monkeypatch.setattr("lightning_landscape.trainer.measure.Pass._in_train_mode", lambda *args: {})
        torch.manual_seed(0)
        module, callback = Edits(), small()
        fit(tmp_path / str(look), module, callback)
        landscapes.append(measured(callback))
        assert len(module.seen) == 3
    with torch.no_grad():  # from where the training has ended, batch by batch
        module.__dict__["log"] = lambda name, value: None
        seen, teacher = [], module.teacher.weight.clone()
        for i in range(0, len(X), 8):
            module.teacher.weight.copy_(teacher)  # every batch finds the weights of the point
            seen.append(float(module.training_step((X[i : i + 8].clone(), Y[i : i + 8]), 0)))
    one, other = landscapes
    assert one.report.train_mode_loss.value == pytest.approx(np.mean(seen), rel=1e-6)
    assert list(one.values) == list(other.values) == ["logged"]
    assert np.array_equal(one.loss, other.loss)


# Whose flags


class FrozenAtStart(Base):
    def __init__(self) -> None:
        super().__init__()
        self.still.train()

    def on_train_start(self) -> None:
        self.still.eval()


class FrozenAtEpoch(Base):
    def on_train_epoch_start(self) -> None:
        self.still.eval()

    def on_train_epoch_end(self) -> None:
        self.train()


class FrozenForABatch(Base):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.still.eval()

    def on_train_batch_end(self, *args: Any) -> None:
        self.train()


class FrozenByItself(Base):
    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        self.still.eval()
        return self


class LeftInEval(Base):
    def on_train_epoch_end(self) -> None:
        self.eval()

    def on_train_epoch_start(self) -> None:
        self.net.train()
        self.train(self.training)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.train()
        self.still.eval()


@pytest.mark.parametrize("kind", [FrozenAtStart, FrozenAtEpoch, FrozenForABatch, FrozenByItself, LeftInEval])
def test_the_flags_are_those_of_the_training_step(tmp_path: Path, kind: Any) -> None:
    callback = small(mode="train", every_n_epochs=1)
    fit(tmp_path, kind(), callback, val=True, max_epochs=2)
    assert len(callback.landscapes) == 2
    for landscape in callback.landscapes.values():
        assert isinstance(landscape, Landscape)
        assert np.all(landscape.values["net"] == 1)
        assert np.all(landscape.values["still"] == 0)


@pytest.mark.parametrize("whole", [True, False])
def test_of_a_checkpoint_the_flags_are_those_it_is_given_with(tmp_path: Path, whole: bool) -> None:
    """In eval mode as a whole they tell nothing."""
    for task in ("validate", "test"):
        module, callback = Base(), small(mode="train")
        if whole:
            module.eval()
        Base.test_step = Base.training_step  # type: ignore[attr-defined]
        runner = trainer(tmp_path, callback)
        getattr(runner, task)(module, DataLoader(TensorDataset(X, Y), 8), verbose=False)
        landscape = measured(callback)
        assert np.all(landscape.values["net"] == 1)
        assert np.all(landscape.values["still"] == float(whole))
        assert landscape.recipe.mode == "train"


def test_after_a_fit_a_module_in_eval_mode_has_the_flags_of_the_fit(tmp_path: Path) -> None:
    module, callback = Base(), small(mode="train", data="val")
    runner = fit(tmp_path, module, callback, val=True)
    callback._landscape = None
    runner.validate(module.eval(), DataLoader(TensorDataset(X, Y), 8), verbose=False)
    assert np.all(measured(callback).values["net"] == 1)
    assert np.all(measured(callback).values["still"] == 0)


# Tiles, processes


def test_tiles_are_left_out_where_a_sample_has_no_loss_of_its_own(tmp_path: Path, lines: Any) -> None:
    callback = small(mode="train", samples=3)
    fit(tmp_path, Base(), callback)
    assert measured(callback).samples is None
    assert measured(callback).recipe.tiles == 0
    assert lines == [
        "Single samples could not be measured, so there are no tiles (BatchNorm takes its statistics from the batch in "
        "train mode). Give samples=0, or mode='eval'."
    ]


def test_tiles_that_a_step_refuses_are_left_out_too(tmp_path: Path, lines: Any) -> None:
    class Own(Base):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            hidden = nn.functional.batch_norm(self.net[0](batch[0]), None, None, training=self.training)
            return nn.functional.cross_entropy(hidden, batch[1])

        def __init__(self) -> None:
            super().__init__()
            self.net[1].eval()

    callback = small(mode="train", samples=3)
    fit(tmp_path, Own(), callback)
    assert measured(callback).samples is None
    assert "Expected more than 1 value per channel" in lines[0]


def test_tiles_of_a_step_without_batch_statistics_are_there(tmp_path: Path) -> None:
    class Noisy(Base):
        def __init__(self) -> None:
            super().__init__()
            self.net[1] = nn.Identity()

    module, callback = Noisy(), small(mode="train", samples=3)
    fit(tmp_path, module, callback)
    tiles = measured(callback).samples
    assert tiles is not None
    module.log = lambda *args: None  # type: ignore[method-assign]
    torch.manual_seed(SEED)
    first = tiles.items[0]
    with torch.no_grad():
        alone = module.training_step((X[first.index][None], Y[first.index][None]), 0)
    assert first.center == pytest.approx(float(alone), rel=1e-6)


def test_statistics_of_several_processes_are_refused() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.SyncBatchNorm(2))
    with pytest.raises(
        CannotMeasureError, match=r"mode='train': 1 is a SyncBatchNorm.*Give mode='eval', or train in one"
    ):
        set_up_probe(SimpleNamespace(world_size=2), module, "train", {})


# What says it


def test_files_pages_and_pictures_say_the_mode(tmp_path: Path) -> None:
    for mode in ("eval", "train"):
        callback = small(mode=mode, dirpath=tmp_path / mode)
        fit(tmp_path, Base(), callback)
        (file,) = (tmp_path / mode).glob("*/landscape.h5")
        landscape = load(file)
        assert landscape.recipe.mode == mode
        assert f"train_loss of Base (training_step, {mode} mode)" in file.with_name("log.txt").read_text()
        assert f" · {mode} mode · " in provenance(landscape, "train_loss")


def test_a_mode_that_is_unknown_is_refused() -> None:
    for make in (LossLandscapeCallback, lambda mode: LossLandscape(nn.Linear(1, 1), [], mode=mode)):
        with pytest.raises(ValueError, match="mode='training' is unknown; the choices are eval, train"):
            make(mode="training")


def test_a_callback_in_train_mode_is_pickled() -> None:
    assert pickle.loads(pickle.dumps(small(mode="train"))).settings.mode == "train"


# Plain nets


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))


def plain_step(own: nn.Module, batch: Any, _: int) -> Tensor:
    return nn.functional.cross_entropy(own(batch[0]), batch[1])


def compute(path: Path, module: nn.Module, **options: Any) -> LossLandscape:
    loader = DataLoader(TensorDataset(X, Y), 8)
    landscape = LossLandscape(module, loader, surf_file=path / "a.h5", seed=SEED, accelerate=False, **options)
    landscape.compute_1d(xrange=(-1, 1, 3))
    return landscape


@pytest.mark.parametrize("frozen", ["nothing", "the norm", "everything"])
def test_a_plain_net_is_measured_as_it_is_trained(tmp_path: Path, frozen: str) -> None:
    module = net()
    if frozen != "nothing":
        (module[1] if frozen == "the norm" else module).eval()  # type: ignore[index]
    flags = [part.training for part in module.modules()]
    landscape = compute(tmp_path, module, mode="train").landscape
    assert flags == [part.training for part in module.modules()]
    assert landscape.recipe.mode == "train"
    expected = naive(module.train() if frozen == "everything" else module, landscape, 8, plain_step)
    np.testing.assert_allclose(landscape.loss, expected, rtol=1e-6)


def test_a_net_in_eval_mode_as_a_whole_is_asked_what_its_training_is(tmp_path: Path) -> None:
    class Own(nn.Sequential):
        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            self[1].eval()
            return self

    module = Own(*net()).eval()
    landscape = compute(tmp_path, module, mode="train").landscape
    np.testing.assert_allclose(landscape.loss, naive(module.train(), landscape, 8, plain_step), rtol=1e-6)


def test_a_plain_net_with_a_loss_in_training_only_says_so(tmp_path: Path) -> None:
    def both(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        one, two = model(inputs)
        return nn.functional.cross_entropy(one, targets) + nn.functional.cross_entropy(two, targets)

    with pytest.raises(RuntimeError, match=r"too many values to unpack.*works in train mode: give mode='train'"):
        compute(tmp_path, TwoHeads(), criterion=both)
    module = TwoHeads().eval()
    landscape = compute(tmp_path, module, criterion=both, mode="train").landscape
    expected = naive(module.train(), landscape, 8, lambda own, batch, _: both(own, *batch))
    np.testing.assert_allclose(landscape.loss, expected, rtol=1e-6)


def test_statistics_are_not_computed_anew_in_train_mode(tmp_path: Path) -> None:
    landscape = compute(tmp_path, net(), mode="train")
    with pytest.raises(ValueError, match=r"recalibrate=True with mode='train'.*Give only one of the two"):
        landscape.compute_1d(recalibrate=True)


def test_a_surface_of_the_other_mode_is_not_continued(tmp_path: Path) -> None:
    compute(tmp_path, net())
    other = LossLandscape(
        net(), DataLoader(TensorDataset(X, Y), 8), surf_file=tmp_path / "a.h5", mode="train", seed=SEED
    )
    with pytest.raises(ValueError, match="another mode"):
        other.compute_1d(xrange=(-1, 1, 3), resume=True)
