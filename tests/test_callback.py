"""The callback in a Trainer: what it measures, where it goes, what it refuses."""

from __future__ import annotations

import json
import pickle
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchmetrics.classification import MulticlassAUROC

import lightning_landscape as ll
from lightning_landscape import LossLandscapeCallback
from lightning_landscape.distributed.ranks import OtherRankError
from lightning_landscape.landscape import Landscape, equal
from lightning_landscape.plots.furniture import provenance
from lightning_landscape.trainer.pass_files import PassFiles

from ._training import differences

FEATURES, CLASSES = 4, 3
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*`training_step` returned `None`"),
    pytest.mark.filterwarnings("ignore:Total length of `DataLoader` across ranks is zero"),
    pytest.mark.filterwarnings("ignore:Total length of `CombinedLoader` across ranks is zero"),
]


def data(size: int = 30, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(
        torch.randn(size, FEATURES, generator=generator), torch.randint(0, CLASSES, (size,), generator=generator)
    )


class Classifier(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(FEATURES, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, CLASSES))
        self.auroc = MulticlassAUROC(CLASSES)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        logits = self.net(batch[0])
        loss = nn.functional.cross_entropy(logits, batch[1])
        self.auroc.update(logits.softmax(1), batch[1])
        self.log("val_loss", loss)
        self.log("val_auroc", self.auroc)
        self.log("worst", loss, reduce_fx="max")
        return {"loss": loss}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(path: Path, *callbacks: Any, **options: Any) -> L.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return L.Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 2,
            "logger": False,
            "default_root_dir": path,
            "callbacks": list(callbacks),
            **quiet,
            **options,
        }
    )


def small(**options: Any) -> LossLandscapeCallback:
    return LossLandscapeCallback(
        **{"x": (-1, 1, 3), "y": (-1, 1, 3), "samples": 0, "plots": [], "strict": True, "trajectory": False, **options}
    )


def fit(path: Path, callback: LossLandscapeCallback, module: Any = None, **options: Any) -> L.Trainer:
    torch.manual_seed(0)
    runner = trainer(path, callback, **options)
    runner.fit(module or Classifier(), DataLoader(data(), 8, shuffle=True), DataLoader(data(21, 1), 8))
    return runner


@pytest.mark.parametrize("loaders", [1, 2])
def test_the_centre_is_what_lightning_logs(tmp_path: Path, loaders: int) -> None:
    callback = small(data="val", max_samples=None)
    runner = trainer(tmp_path, callback)
    val = [DataLoader(data(21, 1), 8), DataLoader(data(13, 2), 5)]
    torch.manual_seed(0)
    runner.fit(Classifier(), DataLoader(data(), 8), val[0] if loaders == 1 else val)
    assert callback.landscape is not None
    center = callback.landscape.center
    logged = {name: float(value) for name, value in runner.callback_metrics.items()}
    assert len(logged) == 3 * loaders
    for name, value in logged.items():
        assert center[name] == pytest.approx(value, rel=1e-6), name
    if loaders == 2:
        mean = (21 * logged["val_loss/dataloader_idx_0"] + 13 * logged["val_loss/dataloader_idx_1"]) / 34
        assert center["val_loss"] == pytest.approx(mean, rel=1e-6)
    assert callback.landscape.values["val_loss"][1, 1] == center["val_loss"]
    assert callback.landscape.recipe.samples == (21 if loaders == 1 else 34)


def test_every_tile_has_the_samples_own_loss_at_its_centre(tmp_path: Path) -> None:
    callback = small(samples=5)
    module = Classifier()
    fit(tmp_path, callback, module)
    module.eval()
    assert callback.landscape is not None
    assert callback.landscape.samples is not None
    x, y = data().tensors
    with torch.no_grad():
        logits = module.net(x)
    losses = nn.functional.cross_entropy(logits, y, reduction="none")
    items = callback.landscape.samples.items
    assert len({item.index for item in items}) == 5
    for item, values in zip(items, callback.landscape.samples.values, strict=True):
        assert item.center == pytest.approx(float(losses[item.index]), rel=1e-6)
        assert values[1, 1] == pytest.approx(item.center, rel=1e-6)
        assert item.label == int(y[item.index])
        assert item.prediction == int(logits[item.index].argmax())
        assert item.probability == pytest.approx(float(logits[item.index].softmax(0).max()), rel=1e-6)


class TwoWeights(L.LightningModule):
    """Its loss is 10·w₀ + w₁² + the sample's own number, so that every value of a surface is known."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, 2))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (10 * self.w[0, 0] + self.w[0, 1] ** 2 + batch[0].flatten()).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.0)


def unit_directions(snapshot: Any, k: int) -> Any:
    return tuple({"w": torch.eye(2)[i : i + 1]} for i in range(k))


def test_a_7_by_5_grid_comes_out_untransposed_in_memory_files_and_tiles(tmp_path: Path, student: Any) -> None:
    callback = small(
        x=(-3, 3, 7), y=(-1, 1, 5), directions=unit_directions, samples=3, sample_layout="1x3",
        formats=["h5", "npz", "json", "csv", "vtp"], dirpath=tmp_path / "out",
    )  # fmt: skip
    numbers = torch.arange(6.0)
    runner = trainer(tmp_path, callback, max_epochs=1)
    runner.fit(TwoWeights(), DataLoader(TensorDataset(numbers), 2))
    expected = 10 * np.linspace(-3, 3, 7)[:, None] + np.linspace(-1, 1, 5)[None, :] ** 2
    folder = tmp_path / "out" / "step=000003"
    assert callback.landscape is not None
    files = {suffix: ll.load(folder / f"landscape.{suffix}") for suffix in ("h5", "npz", "json", "csv")}
    for suffix, landscape in {"memory": callback.landscape, **files}.items():
        np.testing.assert_allclose(landscape.loss, expected + 2.5, atol=1e-5)
        if suffix == "csv":
            continue
        assert landscape.samples is not None
        for item, values in zip(landscape.samples.items, landscape.samples.values, strict=True):
            np.testing.assert_allclose(values, expected + item.index, atol=1e-5)
    error = np.std(np.arange(6), ddof=1) / 6**0.5 * student(6)  # of single samples, whose mean the step takes by hand
    np.testing.assert_allclose(callback.landscape.standard_errors["train_loss"], error, rtol=1e-5)


def test_same_seed_same_bits_other_seed_others(tmp_path: Path) -> None:
    def surface(seed: int) -> ll.Landscape:
        callback = small(seed=seed, samples=2)
        fit(tmp_path, callback)
        assert callback.landscape is not None
        callback.landscape.report.seconds = None
        return callback.landscape

    assert equal(surface(1), surface(1))
    a, b = surface(1), surface(2)
    assert (a.loss != b.loss).sum() == 8  # all but the centre, which has no direction in it
    assert a.center["train_loss"] == b.center["train_loss"]  # all 30 samples are in both sets


def test_a_logged_value_gets_its_surface_under_the_users_name(tmp_path: Path) -> None:
    class Regularised(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            plain = super().training_step(batch, batch_idx)
            penalty = sum((p**2).sum() for p in self.parameters())
            self.log_dict({"train_loss": plain, "penalty": penalty})
            return plain + 0.1 * penalty

    callback = small(data=["train", "val"])
    fit(tmp_path, callback, Regularised())
    assert callback.landscape is not None
    values = callback.landscape.values
    assert set(values) == {"train_loss", "train_loss_logged", "penalty", "val_loss", "val_auroc", "worst"}
    np.testing.assert_allclose(values["train_loss"], values["train_loss_logged"] + 0.1 * values["penalty"], rtol=1e-5)
    assert callback.landscape.main == "train_loss"
    assert np.isnan(callback.landscape.standard_errors["val_auroc"]).all()


def test_the_same_name_in_two_data_sets_is_told_apart(tmp_path: Path) -> None:
    class Same(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.log("quality", 1.0)
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
            self.log("quality", 2.0)

    callback = small(data=["train", "val"])
    fit(tmp_path, callback, Same())
    assert callback.landscape is not None
    assert {name: v[0, 0] for name, v in callback.landscape.values.items() if "quality" in name} == {
        "train_quality": 1.0,
        "val_quality": 2.0,
    }


def test_an_objective_in_place_of_the_step(tmp_path: Path) -> None:
    def margin(module: Any, batch: Any) -> dict[str, Tensor]:
        logits = module.net(batch[0])
        return {"loss": nn.functional.cross_entropy(logits, batch[1], reduction="none"), "size": logits.norm(dim=1)}

    own, step = small(objective=margin), small()
    fit(tmp_path, own)
    fit(tmp_path, step)
    assert own.landscape is not None
    assert step.landscape is not None
    assert set(own.landscape.values) == {"train_loss", "size"}
    np.testing.assert_allclose(own.landscape.loss, step.landscape.loss, rtol=1e-6)


def test_passes_come_after_every_n_epochs_and_at_the_end(tmp_path: Path) -> None:
    callback = small(every_n_epochs=2)
    fit(tmp_path, callback, max_epochs=5)  # 4 batches an epoch
    assert list(callback.landscapes) == [8, 16, 20]
    assert [x.recipe.epoch for x in callback.landscapes.values() if isinstance(x, ll.Landscape)] == [2, 4, 5]
    callback = small(every_n_epochs=2, at_train_end=False)
    fit(tmp_path, callback, max_epochs=4)
    assert list(callback.landscapes) == [8, 16]


def test_the_closing_line_tells_how_far_it_is_uphill_and_how_far_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = small(every_n_epochs=1, x=(-8, 8, 5), y=(-8, 8, 5))
    with caplog.at_level("INFO"):
        fit(tmp_path, callback, max_epochs=2)
    first, second = callback.landscapes.values()
    assert isinstance(first, ll.Landscape)
    assert isinstance(second, ll.Landscape)
    lines = [message for message in caplog.messages if message.startswith("landscape of step ")]
    assert [len(lines), f" · {first.reading().distances} · " in lines[0]] == [2, True]
    assert f" · {second.reading(before=first).distances} · " in lines[1]
    assert lines[1].count("at step 4") == 1
    assert f" · again with budget=None, max_samples={first.recipe.planned_samples} · " in lines[0]


def test_what_moved_on_another_rank_ends_the_landscapes_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else that rank would leave the others waiting for it."""
    monkeypatch.setattr("lightning_landscape.distributed.ranks.Ranks.any", lambda self, mine: True)
    callback = small(every_n_epochs=1)
    fit(tmp_path, callback, max_epochs=2)
    assert not callback.landscapes


def test_a_curve_for_y_none(tmp_path: Path) -> None:
    callback = LossLandscapeCallback(
        x=(-1, 1, 5), y=None, samples=2, dirpath=tmp_path / "out", strict=True, trajectory=False
    )  # fmt: skip
    fit(tmp_path, callback)
    assert callback.landscape is not None
    assert callback.landscape.loss.shape == (5,)
    names = {path.name for path in (tmp_path / "out").glob("*/*.png")}
    assert names == {"train_loss_1dslices.png", "samples.png"}


def test_files_and_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callback = LossLandscapeCallback(
        every_n_epochs=1, x=(-1, 1, 4), y=(-1, 1, 3), samples=3, strict=True, trajectory=False
    )
    runner = fit(tmp_path, callback, logger=TensorBoardLogger(str(tmp_path), name="tb"))
    folder = Path(str(runner.log_dir)) / "landscape"
    kinds = ["2dcontour", "3dsurface", "1dslices"]
    films = {f"train_loss_{kind}_steps=000004-000008.gif" for kind in kinds}
    assert {path.name for path in folder.iterdir()} == {"step=000004", "step=000008", *films}
    pictures = {f"{name}.png" for name in [*(f"train_loss_{k}" for k in kinds), "samples"]}
    files = {path.name for path in (folder / "step=000008").iterdir()}
    assert files == {*pictures, "landscape.h5", "log.txt", "selected_samples.json"}
    assert callback.landscape is not None
    assert equal(ll.load(folder / "step=000008" / "landscape.h5"), callback.landscape)
    rows = json.loads((folder / "step=000008" / "selected_samples.json").read_text())
    assert [set(row) for row in rows] == [{"index", "label", "prediction", "probability", "center_loss"}] * 3
    text = (folder / "step=000008" / "log.txt").read_text()
    for word in ("30 samples", "cosine", "dead filters 0", f"torch {torch.__version__}", "seconds", "filter"):
        assert word in text

    events = EventAccumulator(str(runner.log_dir), size_guidance={"images": 0, "scalars": 0}).Reload()
    assert [e.step for e in events.Images("landscape/contour")] == [4, 8]
    assert [e.step for e in events.Images("landscape/tiles")] == [4, 8]
    last = {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"] if tag.startswith("landscape/")}
    assert last["landscape/center_loss"] == pytest.approx(callback.landscape.center["train_loss"])
    assert last["landscape/relief"] == pytest.approx(np.ptp(callback.landscape.loss))
    assert {"landscape/curvature_1", "landscape/curvature_2"} < set(last)
    texts = {e.step: e.tensor_proto.string_val[0] for e in events.Tensors("landscape/reading/text_summary")}
    assert {step: b"at step 4" in text for step, text in texts.items()} == {4: False, 8: True}
    recipe = events.Tensors("landscape/recipe/text_summary")[-1].tensor_proto.string_val[0].decode()
    for part in ("How to read", "each filter's own norm", "30 samples", "view " + str(folder / "step=000008")):
        assert part.replace("_", r"\_") in recipe


def test_a_csv_log_gets_no_columns_of_ours(tmp_path: Path) -> None:
    def table(*callbacks: Any) -> str:
        torch.manual_seed(0)
        runner = trainer(tmp_path, *callbacks, logger=CSVLogger(str(tmp_path)), log_every_n_steps=1)
        runner.fit(Classifier(), DataLoader(data(), 8), DataLoader(data(21, 1), 8))
        return (Path(str(runner.log_dir)) / "metrics.csv").read_text()

    callback = small(every_n_epochs=1)
    assert table() == table(callback)
    assert len(callback.landscapes) == 2


def test_nan_and_inf_are_losses(tmp_path: Path) -> None:
    def broken(module: Any, batch: Any) -> Tensor:
        w = module.net[0].weight.sum()
        return torch.where(w > module.limit, torch.tensor(torch.inf), torch.where(w < -module.limit, torch.nan, w))

    module = Classifier()
    module.limit = 0.2
    callback = LossLandscapeCallback(
        x=(-1, 1, 7), y=(-1, 1, 5), objective=broken, samples=0, strict=True, dirpath=tmp_path / "out"
    )
    fit(tmp_path, callback, module)
    assert callback.landscape is not None
    assert callback.landscape.done.all()
    assert np.isposinf(callback.landscape.loss).any()
    assert np.isnan(callback.landscape.loss).any()
    assert np.isfinite(callback.landscape.loss).any()
    assert (tmp_path / "out" / "step=000008" / "train_loss_3dsurface.png").exists()


# What is refused, and when.


@pytest.mark.parametrize(
    "options, match",
    [
        ({"x": (1, -1, 5)}, r"x=\(1, -1, 5\) is reversed or empty"),
        ({"y": (0, 0, 5)}, r"y=\(0, 0, 5\) is reversed or empty"),
        ({"y": (-1, 1, 1)}, r"y=\(-1, 1, 1\) has 1 points.*at least 2"),
        ({"x": (-1, float("nan"), 5)}, r"x=.*not finite"),
        ({"x": (-1, 1)}, r"x=\(-1, 1\) is not a range"),
        ({"x": (-1, 1, 10**5), "y": (-1, 1, 10**5)}, r"has 10,000,000,000 points: 116 days at a millisecond a point"),
        ({"dirpath": "s3://bucket/run"}, r"dirpath='s3://bucket/run' is remote.*Give a local path"),
        ({"every_n_epochs": 0}, r"every_n_epochs=0.*at least 1"),
        ({"max_samples": 0}, r"max_samples=0.*or None for all"),
        ({"max_batches": -1}, r"max_batches=-1"),
        ({"samples": -1}, r"samples=-1.*0 for none"),
        ({"samples": 11}, r"sample_layout='2x5' has 10 tiles for samples=11"),
        ({"sample_layout": "two"}, r"^sample_layout='two'"),
        ({"seed": -1}, r"seed=-1"),
        ({"data": "valid"}, r"data='valid' is unknown; the choices are train, val, test"),
        ({"data": []}, r"data=\[\] is empty"),
        ({"directions": "randon"}, r"directions='randon' is unknown; the choices are random, pca, .*, or a callable"),
        ({"directions": 3}, r"directions=3 is not callable"),
        ({"normalize": "filters"}, r"normalize='filters' is unknown; the choices are filter, layer"),
        ({"objective": "loss"}, r"objective='loss' is not callable"),
        ({"color_scale": "linear"}, r"color_scale='linear' is unknown; the choices are global, quantile, log"),
        ({"plots": ["contours"]}, r"plots='contours' is unknown; the choices are contour"),
        ({"plots": "contour"}, r"plots='contour' is one word"),
        (
            {"formats": ["jpg"]},
            r"formats='jpg' is unknown for 2-D landscapes; the choices are h5, npz, json, csv, vtp, png",
        ),
        (
            {"formats": ["vtp"], "y": None},
            r"formats='vtp' is unknown for 1-D landscapes; the choices are h5, .*csv, png",
        ),
        ({"plots": ["isosurfaces"]}, r"plots='isosurfaces' is unknown; the choices are contour, (?!.*iso)"),
        (
            {"plots": ["contour"], "y": None},
            r"plots=\['contour'\] has no picture of a 1-D .*: choose of slices, tiles, path, or",
        ),
        (
            {"plots": ["tiles"], "samples": 0},
            r"no picture of a 2-D landscape with samples=0: choose of contour, (?!.*tiles)",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_arguments(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        LossLandscapeCallback(**options)


class Untrained(Classifier):
    """Fails as soon as it is trained: refusals must come before."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.training:
            raise AssertionError("trained")
        return super().training_step(batch, batch_idx)


class Silent(Untrained):
    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        if self.training:
            raise AssertionError("trained")


def test_refused_before_training(tmp_path: Path) -> None:
    train, val = DataLoader(data(), 8), DataLoader(data(21, 1), 8)

    def refused(match: str, module: Any, loaders: Any, **options: Any) -> None:
        with pytest.raises(MisconfigurationException, match=match):
            trainer(tmp_path, small(**options)).fit(module, *loaders)

    class NoValidation(Untrained):
        validation_step = L.LightningModule.validation_step  # type: ignore[assignment]

    refused(r"data='val': there is no val loader.*train, val, test", Untrained(), [train], data="val")
    refused(r"data='test' needs test_step, which Untrained does not implement", Untrained(), [train], data="test")
    refused(r"data='val' needs validation_step", NoValidation(), [train], data="val")
    refused(r"training_step of Silent returned no scalar loss.*objective=", Silent(), [train])
    refused(r"ignore='head\.\*' matches no trainable parameter.*net\.0\.weight", Untrained(), [train], ignore="head.*")
    refused(r"data='val': the val loader is empty", Untrained(), [train, DataLoader(data(0), 8)], data="val")
    (tmp_path / "file").write_text("")
    refused(r"dirpath='.*file/sub' can't be written", Untrained(), [train, val], dirpath=tmp_path / "file" / "sub")


def test_a_failing_pass_warns_once_and_the_training_ends(tmp_path: Path) -> None:
    class Fragile(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if not self.training and self.global_step:
                raise RuntimeError("not in eval mode, please")
            return super().training_step(batch, batch_idx)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runner = fit(tmp_path, small(every_n_epochs=1, strict=False), Fragile(), max_epochs=3)
    ours = [str(w.message) for w in caught if "loss landscape" in str(w.message)]
    assert len(ours) == 1
    assert "RuntimeError: not in eval mode, please" in ours[0]
    assert runner.current_epoch == 3
    with pytest.raises(RuntimeError, match="not in eval mode"):
        fit(tmp_path, small(every_n_epochs=1), Fragile(), max_epochs=3)


def test_a_failing_logger_warns_and_files_are_written(tmp_path: Path) -> None:
    class Broken(TensorBoardLogger):
        landscapes = 0

        @property
        def experiment(self) -> Any:
            real = super().experiment
            real.add_image = lambda *args, **options: (_ for _ in ()).throw(OSError("disk full"))
            return real

    callback = small(strict=False, plots=["heat"])
    with pytest.warns(UserWarning, match=r"could not be shown in tensorboard.*disk full"):
        runner = fit(tmp_path, callback, logger=Broken(str(tmp_path)))
    assert (Path(str(runner.log_dir)) / "landscape" / "step=000008" / "train_loss_2dheat.png").exists()


# Trainers, loaders and settings of other kinds.


def test_both_namespaces_alone_or_in_a_list(tmp_path: Path) -> None:
    import pytorch_lightning as pl

    callback = small()
    assert isinstance(callback, L.Callback)
    assert isinstance(callback, pl.Callback)
    assert isinstance(callback, LossLandscapeCallback)

    class Old(pl.LightningModule):
        __init__ = Classifier.__init__
        training_step = Classifier.training_step
        configure_optimizers = Classifier.configure_optimizers

    Old.__init__ = lambda self: (pl.LightningModule.__init__(self), setattr(self, "net", nn.Linear(FEATURES, CLASSES)))[
        0
    ]  # type: ignore[assignment, method-assign]
    for given in (callback, [callback]):
        runner = pl.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, callbacks=given, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        )  # fmt: skip
        runner.fit(Old(), DataLoader(data(), 8))
        assert list(callback.landscapes) == [4]
        assert callback.landscape is not None
        assert callback.landscape.recipe.versions["lightning"].startswith("pytorch_lightning")


def test_pickled_and_back() -> None:
    import pytorch_lightning  # noqa: F401

    callback = small(every_n_epochs=3)
    again = pickle.loads(pickle.dumps(callback))
    assert isinstance(again, LossLandscapeCallback)
    assert again.every_n_epochs == 3
    assert again.settings.grid == callback.settings.grid


def test_fast_dev_run_is_a_smoke_test_without_files(tmp_path: Path) -> None:
    callback = LossLandscapeCallback(strict=True, samples=2)
    fit(tmp_path, callback, fast_dev_run=True)
    assert callback.landscape is not None
    assert callback.landscape.grid.shape == (3, 3)
    assert not list(tmp_path.iterdir())


def test_data_that_can_only_be_iterated(tmp_path: Path) -> None:
    class Stream(IterableDataset):
        def __init__(self) -> None:
            self.begun = 0

        def __iter__(self) -> Any:
            self.begun += 1
            return iter(list(zip(*data().tensors, strict=True)))

    stream, callback = Stream(), small(max_samples=16, samples=3)
    runner = trainer(tmp_path, callback)
    runner.fit(Classifier(), DataLoader(stream, 8))
    assert callback.landscape is not None
    assert callback.landscape.recipe.samples == 16
    assert "only be iterated" in callback.landscape.recipe.data["train"].choice
    assert callback.landscape.samples is not None
    assert len(callback.landscape.samples.items) == 3
    assert stream.begun == 2  # the two epochs of the training


def test_two_callbacks_in_one_trainer_do_not_share_a_folder(tmp_path: Path) -> None:
    first, second = small(seed=1, formats=["h5"]), small(seed=2, formats=["h5"])
    torch.manual_seed(0)
    trainer(tmp_path, first, second).fit(Classifier(), DataLoader(data(), 8))
    seeds = {p.parent.parent.name: ll.load(p).recipe.seed for p in tmp_path.glob("*/*/landscape.h5")}
    assert seeds == {"landscape": 1, "landscape_2": 2}


def test_the_last_weights_of_an_averaging_callback_are_measured(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import StochasticWeightAveraging

    for swa_first in (True, False):
        callback, module = small(max_samples=None), Classifier()
        averaging = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1)
        torch.manual_seed(0)
        order = [averaging, callback] if swa_first else [callback, averaging]
        trainer(tmp_path, *order, max_epochs=3).fit(module, DataLoader(data(), 30))
        module.eval()
        x, y = data().tensors
        with torch.no_grad():
            expected = float(nn.functional.cross_entropy(module.net(x), y))
        assert callback.landscape is not None
        assert callback.landscape.center["train_loss"] == pytest.approx(expected, rel=1e-6)


def test_a_full_disk_costs_the_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    import lightning_landscape.output as reporting

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reporting, "write_whole", full)
    monkeypatch.setattr("lightning_landscape.survey.surface_file.SAVE_EVERY", 0.0)
    callback = small(every_n_epochs=1, strict=False, plots=["heat"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runner = fit(tmp_path, callback, logger=TensorBoardLogger(str(tmp_path)))
    told = [str(w.message) for w in caught if "No space left on device" in str(w.message)]
    assert [text.partition(" could not be ")[2].split()[0] for text in told] == [
        "saved",
        "written",
        "written",
    ]  # once each: points, pictures, films
    assert runner.current_epoch == 2
    assert [landscape.done.all() for landscape in callback.landscapes.values()] == [True, True]  # type: ignore[union-attr]


def test_without_a_folder_the_pictures_reach_the_loggers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from lightning_landscape.storage.lock import Lock

    class Shown(TensorBoardLogger):
        @property
        def experiment(self) -> Any:
            real = super().experiment
            real.add_image = lambda tag, *args, **options: shown.append(tag)
            return real

    def full(*args: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    shown: list[str] = []
    monkeypatch.setattr(Lock, "take", full)
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    callback = small(strict=False, plots=["heat"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(tmp_path, callback, logger=Shown(str(tmp_path)))
    told = [str(w.message) for w in caught if "No space left on device" in str(w.message)]
    assert [text[:9] for text in told] == ["Nothing c", "There is ", "The folde"]  # before, in and after the pass
    assert shown == ["landscape/heat"]
    assert callback.landscape is not None
    assert callback.landscape.done.all()
    assert list(tmp_path.rglob("*.h5")) == []


def test_a_rank_keeps_its_points_where_another_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def fails(trainer: Any) -> Any:
        yield
        raise OtherRankError("rank 1 failed")

    monkeypatch.setattr("lightning_landscape.trainer.rank_points.failing_together", fails)
    callback = small(strict=False, dirpath=tmp_path)
    with pytest.warns(UserWarning, match="rank 1 failed"):
        fit(tmp_path, callback)
    assert ll.load(tmp_path / "step=000008" / "landscape.h5").done.all()
    assert callback.landscape is not None
    assert callback.landscapes == {}


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr("lightning_landscape.survey.surface_file.SAVE_EVERY", 0.0)
    out = tmp_path / "out"

    def vandal(module: Any, batch: Any) -> Tensor:
        shutil.rmtree(out, ignore_errors=True)
        return nn.functional.cross_entropy(module.net(batch[0]), batch[1])

    callback = small(objective=vandal, dirpath=out, plots=["heat"])
    fit(tmp_path, callback)
    assert (out / "step=000008" / "train_loss_2dheat.png").exists()
    assert ll.load(out / "step=000008" / "landscape.h5").done.all()


def test_a_large_landscape_is_kept_as_the_path_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning_landscape.callback as home

    monkeypatch.setattr(home, "LARGE", 10)
    callback = small(dirpath=tmp_path / "out")
    fit(tmp_path, callback)
    assert callback.landscapes == {8: tmp_path / "out" / "step=000008" / "landscape.h5"}
    assert callback.landscape is not None
    assert equal(ll.load(tmp_path / "out" / "step=000008" / "landscape.h5"), callback.landscape)


# What a hostile user would try.


def test_a_step_that_stops_the_training_at_a_far_point_does_not(tmp_path: Path) -> None:
    class Guard(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if not self.training:
                self.trainer.should_stop = True
            return super().training_step(batch, batch_idx)

    callback = small(every_n_epochs=1)
    assert fit(tmp_path, callback, Guard(), max_epochs=3).current_epoch == 3
    assert len(callback.landscapes) == 3


def test_a_logger_kept_on_the_module_is_silent_during_a_pass(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Keeps(Classifier):
        def on_fit_start(self) -> None:
            self.kept, self.writer = self.logger, self.logger.experiment  # type: ignore[union-attr]

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.kept.experiment.add_scalar("kept", 1.0, self.global_step)
            self.writer.add_scalar("writer", 1.0, self.global_step)
            return super().training_step(batch, batch_idx)

    callback = small(every_n_epochs=1)
    runner = fit(tmp_path, callback, Keeps(), logger=TensorBoardLogger(str(tmp_path)))
    assert len(callback.landscapes) == 2
    assert len(list(Path(str(runner.log_dir)).glob("events*"))) == 1
    events = EventAccumulator(str(runner.log_dir), size_guidance={"scalars": 0}).Reload()
    assert len(events.Scalars("kept")) == len(events.Scalars("writer")) == 8


def test_an_error_of_the_users_step_in_the_rehearsal_warns(tmp_path: Path) -> None:
    class Picky(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if not self.training:
                raise ValueError("only one class present")
            return super().training_step(batch, batch_idx)

    with pytest.warns(UserWarning, match="ValueError: only one class present"):
        assert fit(tmp_path, small(strict=False), Picky()).current_epoch == 2


def test_data_that_can_only_be_read_once_is_refused_and_not_read(tmp_path: Path) -> None:
    x, y = data().tensors
    read: list[int] = []

    def once() -> Any:
        for i in range(3):
            read.append(i)
            yield x[:4], y[:4]

    class Once(IterableDataset):
        def __init__(self) -> None:
            self.source = once()

        def __iter__(self) -> Any:
            return self.source

    with pytest.raises(MisconfigurationException, match="can only be read once"):
        trainer(tmp_path, small()).fit(Classifier(), DataLoader(Once(), batch_size=None))
    assert read in ([], [0], [0, 1])  # the first batch, and Lightning's own look ahead


def test_testing_after_a_fit_leaves_the_landscape_of_the_fit(tmp_path: Path) -> None:
    class Tested(Classifier):
        def test_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.training_step(batch, batch_idx)

    callback, module, loader = small(dirpath=tmp_path / "out"), Tested(), DataLoader(data(), 8)
    runner = fit(tmp_path, callback, module)
    runner.test(module, loader, verbose=False)
    assert [path.name for path in (tmp_path / "out").glob("step=*")] == ["step=000008"]  # nobody asked for more

    both = small(dirpath=tmp_path / "both", data=["train", "test"])
    runner = trainer(tmp_path, both)
    module = Tested()
    module.test_dataloader = lambda: loader  # type: ignore[method-assign]
    runner.fit(module, loader)
    kept = both.landscape
    runner.test(module, loader, verbose=False)
    assert sorted(path.name for path in (tmp_path / "both").glob("step=*")) == ["step=000008", "step=000008-test"]
    assert both.landscapes[8] is kept


def test_nan_at_the_rim_with_tiles(tmp_path: Path) -> None:
    class Breaks(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:  # type: ignore[override]
            logits = self.net(batch[0])
            moved = float(self.net[0].weight[0, 0].detach()) - self.start
            if not self.training and moved > 0.1:
                return None  # skips what it does not like
            bad = not self.training and moved < -0.1
            return nn.functional.cross_entropy(logits * float("nan") if bad else logits, batch[1])

    module = Breaks()
    module.start = 0.0
    callback = small(x=(-2, 2, 9), samples=3, sample_layout="1x3")

    class Start(L.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.on_train_end(trainer, pl_module)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            pl_module.start = float(pl_module.net[0].weight[0, 0].detach())

    runner = trainer(tmp_path, callback, Start())
    runner.fit(module, DataLoader(data(), 8))
    assert callback.landscape is not None
    assert callback.landscape.samples is not None
    finite = np.isfinite(callback.landscape.loss)
    assert finite.any()
    assert not finite.all()
    for values in callback.landscape.samples.values:
        assert np.array_equal(np.isfinite(values), finite)


def test_a_batch_dimension_that_is_not_the_first(tmp_path: Path) -> None:
    def time_first(samples: Any) -> Any:
        return torch.stack([x for x, _ in samples], dim=1), torch.stack([y for _, y in samples])

    class TimeFirst(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = nn.functional.cross_entropy(self.net(batch[0].T), batch[1])
            self.log("weighed", loss, batch_size=len(batch[1]))
            return loss

    callback = small(max_samples=None)
    runner = trainer(tmp_path, callback)
    runner.fit(TimeFirst(), DataLoader(data(30), 8, collate_fn=time_first))
    assert callback.landscape is not None
    assert callback.landscape.recipe.samples == 30
    assert callback.landscape.recipe.same_as_loss == {"weighed": "train_loss"}  # equal at every point


def test_one_picture_that_fails_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from lightning_landscape.plots import PLOTS

    def broken(*args: Any, **options: Any) -> Any:
        raise ZeroDivisionError("no such pen")

    monkeypatch.setitem(PLOTS, "heat", replace(PLOTS["heat"], draw=broken))
    callback = small(strict=False, plots=["heat", "slices"], dirpath=tmp_path / "out")
    with pytest.warns(UserWarning, match="The picture heat of train_loss could not be drawn.*no such pen"):
        fit(tmp_path, callback)
    assert [path.name for path in (tmp_path / "out").glob("*/*.png")] == ["train_loss_1dslices.png"]


def test_names_that_make_one_file_name_make_two(tmp_path: Path) -> None:
    class Names(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.log_dict({"a/b": 3 * loss, "a_b": 2 * loss})
            return loss

    callback = small(plots=["heat"], dirpath=tmp_path / "out")
    fit(tmp_path, callback, Names())
    assert len(list((tmp_path / "out").glob("*/*.png"))) == 3


def test_learning_rates_can_be_read_in_a_step(tmp_path: Path) -> None:
    class Reads(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.log("lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
            self.log("last", self.lr_schedulers().get_last_lr()[0])  # type: ignore[union-attr]
            self.log("default", self.optimizers().defaults["lr"])  # type: ignore[union-attr]
            return super().training_step(batch, batch_idx)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), 0.1)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]

    callback = small()
    fit(tmp_path, callback, Reads())
    assert callback.landscape is not None
    assert callback.landscape.center["lr"] == callback.landscape.center["last"] == pytest.approx(0.025)


def test_state_in_a_helper_object_does_not_carry_over(tmp_path: Path) -> None:
    class Average:
        value = 0.0

    class Smooth(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.average = Average()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.average.value = 0.5 * self.average.value + float(loss.detach())
            return loss + self.average.value

    callback = small(x=(-1e-9, 1e-9, 3), y=(-1e-9, 1e-9, 3))
    fit(tmp_path, callback, Smooth())
    assert callback.landscape is not None
    assert np.ptp(callback.landscape.loss) < 1e-5


def test_a_pass_leaves_no_copy_behind(tmp_path: Path) -> None:
    import gc

    callback = small(every_n_epochs=1)
    gc.collect()
    gc.disable()
    try:
        fit(tmp_path, callback, max_epochs=3)
        alive = [o for o in gc.get_objects() if type(o) is Classifier]
    finally:
        gc.enable()
    assert len(alive) <= 1


def test_a_part_of_another_function_of_the_same_name_is_left_aside(tmp_path: Path) -> None:
    def surface(factor: float, part: bool) -> ll.Landscape:
        def objective(module: Any, batch: Any) -> Tensor:
            return factor * module.net(batch[0]).square().mean()

        callback = small(objective=objective, dirpath=tmp_path / f"{part}")
        if part:
            whole = surface(1.0, part=False)
            whole.done[0] = False
            ll.save(whole, tmp_path / "True" / "step=000008" / "landscape.h5")
        told = pytest.warns(UserWarning, match=r"another value at the centre\. Its .* measured anew")
        with told if part else nullcontext():
            fit(tmp_path, callback)
        assert callback.landscape is not None
        return callback.landscape

    np.testing.assert_allclose(surface(3.0, part=True).loss, 3 * surface(1.0, part=False).loss, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:training_step changes 'asked'")  # to see what was asked
def test_a_step_that_refuses_far_points_costs_only_these(tmp_path: Path) -> None:
    asked = []

    class Refuses(TwoWeights):
        limit = 1.5

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            asked.append(float(self.w.detach()[0, 0]))
            if self.w[0, 0] > self.limit:
                raise ValueError("I refuse")
            return super().training_step(batch, batch_idx)

    def options(**more: Any) -> dict[str, Any]:
        return {"x": (-3, 3, 7), "y": (-1, 1, 5), "directions": unit_directions, "samples": 2, **more}

    out, loader = tmp_path / "out", DataLoader(TensorDataset(torch.arange(6.0)), 2)
    callback = small(**options(strict=False, plots=["heat", "surface", "tiles"], dirpath=out))
    with pytest.warns(
        UserWarning, match=r"10 of 35 points of the landscape of step 3 could .*\(ValueError: I refuse\)"
    ):
        trainer(tmp_path, callback, max_epochs=1).fit(Refuses(), loader)
    names = {path.name for path in (out / "step=000003").iterdir()}
    assert {"train_loss_2dheat.png", "train_loss_3dsurface.png", "samples.png"} < names
    expected = 10 * np.linspace(-3, 3, 7)[:, None] + np.linspace(-1, 1, 5)[None, :] ** 2
    for landscape in (callback.landscape, ll.load(out / "step=000003" / "landscape.h5")):
        assert landscape is not None
        assert landscape.done.tolist() == (expected < 15).tolist()
        np.testing.assert_allclose(landscape.loss[landscape.done], expected[:5].ravel() + 2.5, atol=1e-5)
        assert np.isnan(landscape.loss[~landscape.done]).all()
        assert landscape.samples is not None
        for item, values in zip(landscape.samples.items, landscape.samples.values, strict=True):
            np.testing.assert_allclose(values[:5], expected[:5] + item.index, atol=1e-5)

    with pytest.raises(ValueError, match="I refuse"):
        trainer(tmp_path, small(**options()), max_epochs=1).fit(Refuses(), loader)
    again, Refuses.limit = small(**options(dirpath=out)), 9.0
    asked.clear()
    trainer(tmp_path, again, max_epochs=1).fit(Refuses(), loader)
    assert again.landscape is not None
    np.testing.assert_allclose(again.landscape.loss, expected + 2.5, atol=1e-5)
    assert set(np.round(asked)[~np.isnan(asked)]) == {0, 2, 3}  # the points that were missing, and the centre


def test_a_step_that_refuses_everything_but_the_centre_is_not_asked_for_ever(tmp_path: Path) -> None:
    calls = []

    class Refuses(TwoWeights):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if self.w.any():
                calls.append(1)
                raise ValueError("I refuse")
            return super().training_step(batch, batch_idx)

    callback = small(x=(-3, 3, 12), y=(-1, 1, 10), directions=unit_directions, strict=False)  # without the centre
    with pytest.warns(UserWarning, match=r"The loss landscape failed \(ValueError: I refuse\)"):
        trainer(tmp_path, callback, max_epochs=1).fit(Refuses(), DataLoader(TensorDataset(torch.arange(6.0)), 2))
    assert len(calls) == 1 + 1 + 16  # one in the rehearsal, one where accelerations are tried


def test_a_step_that_needs_two_samples_has_no_tiles(tmp_path: Path) -> None:
    class Pairs(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if len(batch[0]) < 2:
                raise ValueError("a pair, please")
            return super().training_step(batch, batch_idx)

    callback = small(samples=2, strict=False)
    with pytest.warns(UserWarning, match=r"there are no tiles \(ValueError: a pair, please\)"):
        fit(tmp_path, callback, Pairs())
    assert callback.landscape is not None
    assert callback.landscape.samples is None
    assert callback.landscape.done.all()


def test_a_tile_is_a_batch_of_its_own(tmp_path: Path) -> None:
    class Weighs(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if not self.training and len(batch[0]) == 1:
                assert batch_idx == 0
            return super().training_step(batch, batch_idx)

    callback = small(samples=3)
    fit(tmp_path, callback, Weighs())
    assert callback.landscape is not None
    assert callback.landscape.samples is not None
    assert len({item.index for item in callback.landscape.samples.items}) == 3


def test_a_step_of_manual_optimisation_reads_the_gradients_that_it_has_made(tmp_path: Path) -> None:
    class Reads(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.w, self.still = nn.Parameter(torch.ones(1, 2)), nn.Parameter(torch.ones(()), requires_grad=False)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            optimizer: Any = self.optimizers()
            loss = (self.still * batch[0].mean() * self.w**2).sum() / 2
            optimizer.zero_grad()
            self.manual_backward(loss)
            self.log("slope", self.w.grad.norm())  # type: ignore[union-attr]  # |w| · mean(x)
            assert self.still.grad is None
            optimizer.step()
            return loss.detach()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([self.w], 0.1)

    def run(*callbacks: Any) -> Any:
        module = Reads()
        runner = trainer(tmp_path, *callbacks)
        runner.fit(module, DataLoader(TensorDataset(torch.tensor([1.0, 1.0, 4.0, 4.0])), 2))
        return module, dict(runner.callback_metrics)

    callback = small(directions=unit_directions)
    (_, without), (module, with_it) = run(), run(callback)
    assert without == with_it
    assert callback.landscape is not None
    w = module.w.detach().numpy()[0]
    norms = np.array([[np.hypot(w[0] + a, w[1] + b) for b in (-1, 0, 1)] for a in (-1, 0, 1)])
    np.testing.assert_allclose(callback.landscape.values["slope"], 2.5 * norms, rtol=1e-5)
    np.testing.assert_allclose(callback.landscape.loss, 2.5 * norms**2 / 2, rtol=1e-5)


def test_what_a_step_changes_through_the_trainer_is_changed_in_copies(tmp_path: Path) -> None:
    class Counter(L.Callback):
        calls = 0

        def __init__(self) -> None:
            self.seen: list[float] = []

    class Data(L.LightningDataModule):
        difficulty = 0.0

        def setup(self, stage: str) -> None:
            self.history: list[float] = []

        def train_dataloader(self) -> Any:
            return DataLoader(data(), 8)

    class Reaches(Classifier):
        def on_fit_start(self) -> None:
            self.kept = self.trainer.callbacks[0]  # type: ignore[attr-defined]

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            trainer: Any = self.trainer
            assert self.kept is trainer.callbacks[0]
            for counter in (trainer.callbacks[0], self.kept):
                counter.calls += 1
                counter.seen.append(1.0)
            trainer.datamodule.difficulty += 1.0
            trainer.datamodule.history.append(1.0)
            trainer.optimizers[0].param_groups[0]["lr"] *= 0.9
            self.log("difficulty", trainer.datamodule.difficulty)
            return super().training_step(batch, batch_idx)

    def run(*callbacks: Any) -> Any:
        torch.manual_seed(0)
        counter, source, module = Counter(), Data(), Reaches()
        runner = trainer(tmp_path, counter, *callbacks)
        runner.fit(module, datamodule=source)
        assert runner.callbacks[0] is counter
        assert runner.datamodule is source  # type: ignore[attr-defined]
        state = counter.calls, counter.seen, source.difficulty, source.history
        return state, runner.optimizers[0].param_groups[0]["lr"], module.state_dict()

    callback = small(every_n_epochs=1, max_batches=1)
    without, with_it = run(), run(callback)
    assert differences(without, with_it) == []
    assert without[0] == (16, [1.0] * 16, 8.0, [1.0] * 8)  # two epochs of four batches
    assert callback.landscape is not None
    assert (callback.landscape.values["difficulty"] == 9).all()  # at every point the same


def test_a_pass_with_other_tiles_is_measured_anew(tmp_path: Path) -> None:
    """One sample's tile is not that of ten."""

    def measured(folder: str, samples: int) -> ll.Landscape:
        callback = small(samples=samples, dirpath=tmp_path / folder, every_n_epochs=None)
        fit(tmp_path, callback, max_epochs=1)
        assert callback.landscape is not None
        return callback.landscape

    for before, after in ((1, 4), (4, 1), (0, 2)):
        folder = f"{before} and {after}"
        measured(folder, before)
        (path,) = (tmp_path / folder).rglob("landscape.h5")
        stopped = ll.load(path)
        stopped.done[0] = False
        ll.save(stopped, path)
        with pytest.warns(UserWarning, match="The unfinished landscape of this step in .* has another tiles"):
            again = measured(folder, after)
        assert again.samples is not None
        alone = measured(f"{after} alone", after).samples
        assert alone is not None
        assert [item.index for item in again.samples.items] == [item.index for item in alone.items]
        np.testing.assert_array_equal(again.samples.values, alone.values)


def test_what_was_kept_in_progress_does_not_stay_beside_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_landscape.survey.surface_file.SAVE_EVERY", 0.0)
    kept: list[bool] = []

    plain = PassFiles.keep

    def watched(files: PassFiles, landscape: Landscape) -> Any:
        failures = plain(files, landscape)
        kept.append(any(tmp_path.rglob("landscape.h5")))
        return failures

    monkeypatch.setattr(PassFiles, "keep", watched)
    callback = LossLandscapeCallback(x=(-1, 1, 3), y=None, samples=0, formats=["npz"], every_n_epochs=None, strict=True)
    fit(tmp_path, callback, max_epochs=1)
    assert kept
    assert all(kept)
    assert [path.name for path in tmp_path.rglob("landscape.*")] == ["landscape.npz"]


def test_the_samples_below_a_picture_are_those_of_its_data(tmp_path: Path) -> None:
    callback = small(data=["train", "val"], samples=2, max_samples=25)
    fit(tmp_path, callback)
    assert callback.landscape is not None
    found = {name: provenance(callback.landscape, name) for name in callback.landscape.values}
    assert found.keys() == {"train_loss", "val_loss", "val_auroc", "worst"}
    assert " · 25 samples · " in found["train_loss"]
    for name in ("val_loss", "val_auroc", "worst"):
        assert " · 21 samples · " in found[name], name


@pytest.mark.parametrize(
    "objective, why",
    [
        (lambda module, batch: module.nothing, r"AttributeError: .*nothing"),
        (lambda module: module, r"TypeError: .*takes 1 positional argument but 2 were given"),
        (lambda module, batch: "loss", r"TypeError: objective returned str"),
        (lambda module, batch: None, r"TypeError: objective returned NoneType"),
        (lambda module, batch: module.net(batch[0]), r"ValueError: objective returned shape \(8, 3\)"),
    ],
    ids=["raises", "takes one", "text", "nothing", "scores"],
)
@pytest.mark.parametrize("strict", [True, False])
def test_an_objective_that_fails_is_refused_before_the_first_step(
    tmp_path: Path, objective: Any, why: str, strict: bool
) -> None:
    module = Classifier()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(MisconfigurationException, match=rf"objective=\S*<lambda> fails on the first batch \({why}"):
        fit(tmp_path, small(objective=objective, strict=strict), module)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
