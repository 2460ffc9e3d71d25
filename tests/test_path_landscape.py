"""The path of a training: at every pass, and on a landscape of its own at the end."""

from __future__ import annotations

import io
import logging
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscapeCallback
from lightning_landscape.plots.trail import trail_of
from lightning_landscape.survey.budget import Account, parse_budget
from lightning_landscape.trainer.announcements import cost_line

from . import _processes
from .test_trajectory import Net, X, Y, flat

pytestmark = [
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings(r"ignore:Found 1 module\(s\) in eval mode"),
]
SMALL: dict[str, Any] = {
    "x": (-1, 1, 3), "y": (-1, 1, 3), "samples": 0, "plots": [], "formats": ["h5"], "strict": True, "budget": None,
}  # fmt: skip


def fit(
    root: Path, *, module: Net | None = None, epochs: int = 2, callbacks: Any = (), ckpt: Any = None,
    logger: Any = False, trainer: Any = None, **options: Any,
) -> tuple[LossLandscapeCallback, Net, L.Trainer]:  # fmt: skip
    """A training of 10 steps an epoch, in a fixed order."""
    module = Net() if module is None else module
    callback = LossLandscapeCallback(**{**SMALL, **options})
    made = L.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=logger, callbacks=[callback, *callbacks], default_root_dir=root,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=bool(callbacks), **(trainer or {}),
    )  # fmt: skip
    made.fit(module, DataLoader(TensorDataset(X, Y), 8), ckpt_path=ckpt)
    return callback, module, made


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("landscape/step=*"))


def test_the_path_has_a_landscape_of_its_own_at_the_end(tmp_path: Path) -> None:
    callback, module, _ = fit(tmp_path, ignore=None)
    assert folders(tmp_path) == ["step=000020", "step=000020-path"]
    landscape, ordinary = callback.path_landscape, callback.landscape
    assert landscape is not None
    assert ordinary is not None
    assert (landscape.grid.shape, ordinary.grid.shape) == ((25, 25), (3, 3))
    assert list(callback.landscapes) == [20]
    assert callback.landscapes[20] is ordinary
    assert landscape.center == ordinary.center

    # The coordinates are those of NumPy's singular value decomposition, up to signs.
    rows = np.stack(module.seen) - module.seen[-1]
    _, values, directions = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    path = callback.trajectory
    assert path is not None
    assert path is landscape.trajectory
    assert path.steps.tolist() == list(range(21))
    np.testing.assert_allclose(np.abs(path.points), np.abs(rows @ directions[:2].T), atol=1e-5)
    shares = landscape.recipe.directions.settings["explained"]  # type: ignore[union-attr]
    np.testing.assert_allclose(shares, (values**2 / (values**2).sum())[:2], rtol=1e-5)
    assert (np.abs(path.points).max(axis=0) < [axis[-1] for axis in landscape.grid.axes]).all()
    # The last record is the centre, and every record has losses.
    main = landscape.main
    np.testing.assert_allclose([path.losses[main][-1], path.plane_losses[main][-1]], landscape.center[main], rtol=1e-6)
    assert path.measured.all()
    assert np.isfinite(path.losses[main]).all()
    np.testing.assert_array_equal(path.history["step"], callback.history["step"])


def test_each_pass_shows_the_path_so_far(tmp_path: Path) -> None:
    callback, _, _ = fit(tmp_path, every_n_epochs=1, epochs=3)
    paths = {step: landscape.trajectory for step, landscape in callback.landscapes.items()}  # type: ignore[union-attr]
    assert {step: path.steps.tolist() for step, path in paths.items()} == {  # type: ignore[union-attr]
        step: list(range(step + 1)) for step in (10, 20, 30)
    }


def test_checkpoints_are_marked_on_the_path_also_after_a_resumption(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path / "ckpt", filename="{step}", save_top_k=-1)
    callback, _, _ = fit(tmp_path / "one", epochs=2, callbacks=[saving])
    assert callback.trajectory is not None
    assert callback.trajectory.checkpoints.tolist() == [10, 20]
    again, _, _ = fit(tmp_path / "two", epochs=2, ckpt=tmp_path / "ckpt" / "step=10.ckpt")
    assert again.trajectory is not None
    assert again.trajectory.checkpoints.tolist() == [10]


def test_a_resumed_training_has_the_same_landscape_of_its_path(tmp_path: Path) -> None:
    saving = ModelCheckpoint(tmp_path / "ckpt", filename="{step}", save_top_k=-1)
    whole, _, _ = fit(tmp_path / "whole", epochs=3, callbacks=[saving])
    rest, _, _ = fit(tmp_path / "rest", epochs=3, ckpt=tmp_path / "ckpt" / "step=10.ckpt")
    one, two = whole.path_landscape, rest.path_landscape
    assert one is not None
    assert two is not None
    assert one.trajectory is not None
    assert two.trajectory is not None
    np.testing.assert_array_equal(one.loss, two.loss)
    np.testing.assert_array_equal(one.trajectory.points, two.trajectory.points)


@pytest.mark.parametrize(
    "options",
    [
        {"trajectory": False},
        {"at_train_end": False, "every_n_epochs": 1},
        {"directions": "pca", "x": ("auto", 3), "y": ("auto", 3)},  # shows it already
        {"epochs": 1, "trainer": {"limit_train_batches": 6}},  # 7 records
        {"trainer": {"fast_dev_run": 9}, "trajectory": True},
    ],
    ids=["off", "not at the end", "pca", "short", "smoke"],
)
def test_there_is_none_where_it_is_not_wanted(tmp_path: Path, options: dict[str, Any]) -> None:
    callback, _, _ = fit(tmp_path, **options)
    assert callback.path_landscape is None
    assert not any("path" in name for name in folders(tmp_path))
    assert callback.landscape is not None


def test_a_short_training_has_one_if_it_is_asked_for(tmp_path: Path) -> None:
    callback, _, _ = fit(tmp_path, epochs=1, trainer={"limit_train_batches": 3}, trajectory=True)
    assert callback.path_landscape is not None


class Still(Net):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.0)


def test_a_line_says_why_there_is_none(tmp_path: Path, caplog: Any) -> None:
    with caplog.at_level(logging.INFO):
        callback, _, _ = fit(tmp_path / "still", module=Still())
    assert callback.path_landscape is None
    assert "The path of the training has no landscape: The recorded weights lie in 0 directions only" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        callback, _, _ = fit(tmp_path / "short", epochs=1, trainer={"limit_train_batches": 1}, trajectory=True)
    assert "The path of the training has no landscape: 2 records are too few for its plane, 3 are needed" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        callback, _, _ = fit(tmp_path / "late", budget=1e-9)
    assert callback.path_landscape is None
    assert callback.landscape is not None
    assert "The path of the training has no landscape: budget=1e-09 leaves no time for it" in caplog.text


def test_what_needs_records_is_refused_where_none_are_made() -> None:
    with pytest.raises(ValueError, match=r"directions='pca' is made of the weights along.*give trajectory=\"auto\""):
        LossLandscapeCallback(directions="pca", trajectory=False)
    with pytest.raises(ValueError, match="directions='mixed' is made of the weights along the training"):
        LossLandscapeCallback(directions="mixed", trajectory=False)
    with pytest.raises(ValueError, match=r"plots=\['path'\] has the path of the training.*leave out \"path\""):
        LossLandscapeCallback(plots=["path"], trajectory=False)


def test_a_picture_without_a_path_is_missed(tmp_path: Path) -> None:
    callback = LossLandscapeCallback(**{**SMALL, "plots": ["contour", "path"], "data": "train"})
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, logger=False, callbacks=[callback], default_root_dir=tmp_path)
    callback.setup(trainer, Net(), "fit")
    callback._path._is_off = True
    with pytest.warns(UserWarning, match='There is no picture "path" of the training: no weights are recorded here'):
        fit_with(callback, tmp_path)


def fit_with(callback: LossLandscapeCallback, root: Path) -> None:
    """A training at whose beginning nothing is recorded, as with sharded parameters."""
    callback._path.begin = lambda *_: None  # type: ignore[method-assign]
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, callbacks=[callback], default_root_dir=root,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(Net(), DataLoader(TensorDataset(X, Y), 8))


def test_the_training_is_the_same_bit_by_bit(tmp_path: Path) -> None:
    _, one, _ = fit(tmp_path / "with", every_n_epochs=1, trajectory=True)
    two = Net()
    L.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, default_root_dir=tmp_path / "without",
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    ).fit(two, DataLoader(TensorDataset(X, Y), 8))  # fmt: skip
    np.testing.assert_array_equal(np.stack(one.seen), np.stack(two.seen))
    assert one.losses == two.losses


def test_tensorboard_shows_its_pictures_and_its_film(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardLogger(tmp_path, name="", version="")
    fit(tmp_path, logger=logger, plots=["contour"], formats=["h5", "png"])
    events = reader.EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    tags = [tag for tag in events.Tags()["images"] if tag.startswith("landscape_path/")]
    assert sorted(tags) == [f"landscape_path/{kind}" for kind in ("contour", "contour_film", "path", "surface")]
    film = Image.open(io.BytesIO(events.Images("landscape_path/contour_film")[0].encoded_image_string))
    assert film.format == "GIF"
    assert film.n_frames == 30
    names = {path.name for path in (tmp_path / "landscape" / "step=000020-path").iterdir() if path.suffix != ".lock"}
    assert {"landscape.h5", "path.png", "loss_2dcontour.png", "loss_3dsurface.png", "loss_2dcontour_path.gif"} <= {
        name.removeprefix("train_") for name in names
    }


@pytest.mark.skipif(not hasattr(lightning_callbacks, "EMAWeightAveraging"), reason="Lightning before 2.6")
def test_a_path_that_does_not_end_in_the_averaged_weights_says_so(tmp_path: Path) -> None:
    averaging = lightning_callbacks.EMAWeightAveraging(decay=0.8)
    callback, module, _ = fit(tmp_path, ignore=None, trainer={}, callbacks=[averaging, ModelCheckpoint(tmp_path)])
    landscape = callback.path_landscape
    assert landscape is not None
    assert landscape.trajectory is not None
    np.testing.assert_allclose(flat(callback.records[-1], module), module.seen[-1], rtol=1e-6)  # the raw ones
    gap = np.linalg.norm(module.seen[-1] - module.flat())
    np.testing.assert_allclose(landscape.trajectory.distances[-1], gap, rtol=1e-4)
    trail = trail_of(landscape, landscape.main)
    assert trail is not None
    assert "it ends at □" in trail.caption


def test_two_processes_measure_it_together(tmp_path: Path) -> None:
    tmp_path /= "out"
    _processes.run("_path_ranks", tmp_path, "ddp")
    first, second = (pickle.loads((tmp_path / f"rank{rank}.pickle").read_bytes()) for rank in (0, 1))
    np.testing.assert_array_equal(first["loss"], second["loss"])
    np.testing.assert_array_equal(first["points"], second["points"])
    assert (first["records"], second["records"]) == (11, 0)
    assert len(first["points"]) == 11
    np.testing.assert_allclose(first["points"][-1], 0, atol=1e-6)
    assert sorted(path.name for path in tmp_path.rglob("step=*") if path.is_dir()) == [
        "step=000010",
        "step=000010-path",
    ]


def test_the_last_landscape_comes_first_and_leaves_time() -> None:
    account = Account(parse_budget("auto"), 4)  # type: ignore[arg-type]
    whole = account.grant(last=True, needed=1.0)
    account = Account(parse_budget("auto"), 4)  # type: ignore[arg-type]
    shared = account.grant(last=True, needed=1.0, films=30.0)
    assert whole is not None
    assert shared is not None
    assert whole.total == pytest.approx(60, abs=1)
    assert shared.total == pytest.approx(48, abs=1)
    account.spent += 50.0
    path = account.grant_path(needed=1.0)
    assert path is not None
    assert path.total == pytest.approx(10, abs=1)
    assert account.grant_path(needed=9.0) is None
    account = Account(parse_budget("30s"), 4)  # type: ignore[arg-type]
    account.grant(last=True, needed=1.0)
    account.spent += 29.0
    own = account.grant_path(needed=1.0)
    assert own is not None
    assert own.total == pytest.approx(31, abs=1)


def test_it_is_announced() -> None:
    line = cost_line((51, 51), 1024, 50, "at the end", None, "limited to 5 % by budget=0.05", (25, 25))
    assert line.endswith("at the end; then 25 × 25 points along the path ≈ 12 s; limited to 5 % by budget=0.05")
