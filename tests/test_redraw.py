"""The end of a training: all its landscapes on one scale, and films of them in files and loggers."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image, ImageSequence
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_landscape.callback as home
import lightning_landscape.output as output
import lightning_landscape.trainer.presenter as presenter
from lightning_landscape import LossLandscapeCallback, load
from lightning_landscape.landscape import Landscape
from lightning_landscape.plots import PLOTS, to_image
from lightning_landscape.redraw import Drawn, coarse_to_fine, redraw

STEPS = [2, 4]


class Bowl(L.LightningModule):
    """Its loss is |w − 1|² at every sample, and its weights go to 1: each landscape is lower than the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[3.0, -1.0], [2.0, 4.0]]))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = ((self.weight - 1) ** 2).sum() + 0 * batch[0].mean()
        self.log("distance", loss.sqrt())
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


def callback(**options: Any) -> LossLandscapeCallback:
    return LossLandscapeCallback(
        **{
            "every_n_epochs": 1, "x": (-1, 1, 7), "y": (-1, 1, 7), "samples": 0, "plots": ["heat"],
            "formats": ["h5", "png"], "strict": True, "budget": None,
            "trajectory": False, **options,
        }
    )  # fmt: skip


def fit(path: Path, own: Any, epochs: int = 2, module: Any = None, ckpt_path: Any = None, **options: Any) -> L.Trainer:
    trainer = L.Trainer(
        **{
            "accelerator": "cpu", "max_epochs": epochs, "logger": False, "default_root_dir": path,
            "callbacks": [own], "enable_progress_bar": False, "enable_model_summary": False,
            "enable_checkpointing": False, **options,
        }
    )  # fmt: skip
    trainer.fit(module or Bowl(), DataLoader(TensorDataset(torch.zeros(4, 1)), 2), ckpt_path=ckpt_path)
    return trainer


def folder(path: Path, step: int) -> Path:
    return path / "landscape" / f"step={step:06d}"


def films(path: Path) -> list[str]:
    return sorted(file.name for file in path.rglob("*.gif"))


def film_frames(gif: bytes) -> list[np.ndarray]:
    with Image.open(io.BytesIO(gif)) as image:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


def colors_of(landscape: Landscape) -> tuple[float, float]:
    return float(landscape.loss.min()), float(landscape.loss.max())


def test_all_pictures_are_on_one_scale_in_the_end(tmp_path: Path) -> None:
    """The files are those that the plots draw on the range of all values, which is known from the values alone."""
    own = callback()
    fit(tmp_path, own)
    assert list(own.landscapes) == STEPS
    landscapes = [load(folder(tmp_path, step) / "landscape.h5") for step in STEPS]
    assert (
        np.diff([landscape.loss.min() for landscape in landscapes]) < 0
    ).all()  # each of them leaves the range of the one before
    for name, file in ((landscapes[0].main, "train_loss_2dheat.png"), ("distance", "distance_2dheat.png")):
        values = np.stack([landscape.values[name] for landscape in landscapes])
        for step, landscape in zip(STEPS, landscapes, strict=True):
            expected = PLOTS["heat"].draw(landscape, name, vmin=values.min(), vmax=values.max())
            np.testing.assert_array_equal(read(folder(tmp_path, step) / file), to_image(expected))


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_film_has_every_step_on_that_scale_and_axes_that_stand_still(tmp_path: Path) -> None:
    own = callback(plots=["heat", "slices"])
    fit(tmp_path, own, epochs=3)
    assert films(tmp_path) == [
        "train_loss_1dslices_steps=000002-000006.gif",
        "train_loss_2dheat_steps=000002-000006.gif",
    ]
    frames = film_frames((tmp_path / "landscape" / films(tmp_path)[1]).read_bytes())
    pictures = [read(folder(tmp_path, step) / "train_loss_2dheat.png") for step in (2, 4, 6)]
    assert len(frames) == len(pictures) == 3
    for frame, picture in zip(frames, pictures, strict=True):
        assert np.abs(frame.astype(int) - picture).max() < 20  # 256 colours at most
    figure = PLOTS["heat"].draw(own.landscape)
    still = np.ones(frames[0].shape[:2], bool)
    to_image(figure)
    for part in (figure.axes[0], *figure.texts):  # the values, the title and the footer
        box = part.get_window_extent().padded(1)
        still[: -int(box.y0) or None][-int(box.height) - 2 :, int(box.x0) :] &= part is not figure.axes[0]
        rows = slice(len(still) - int(box.y1) - 2, len(still) - int(box.y0) + 1)
        still[rows, : None if part is not figure.axes[0] else int(box.x1) + 1] = False
    assert still.sum() > 10_000
    for frame in frames[1:]:
        np.testing.assert_array_equal(frame[still], frames[0][still])
        assert (frame != frames[0]).any()


def test_a_later_landscape_that_leaves_the_scale_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        fit(tmp_path, callback())
    said = [r.getMessage() for r in caplog.records if "widens the scale" in r.getMessage()]
    first, second = (colors_of(load(folder(tmp_path, step) / "landscape.h5")) for step in STEPS)
    assert said == [
        f"the landscape of step 4 widens the scale of the run: train_loss from {second[0]:.4g} to {first[1]:.4g} "
        f"(before: from {first[0]:.4g} to {first[1]:.4g}), and of 1 other metric"
    ]
    ends = [r.getMessage() for r in caplog.records if "films of" in r.getMessage()]
    name = "train_loss_2dheat_steps=000002-000004.gif"
    assert ends == [f"films of the 2 landscapes in {tmp_path / 'landscape'}: {name}"]


def test_data_files_are_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before: dict[Path, tuple[bytes, int]] = {}

    def noted(*arguments: Any, **options: Any) -> Any:
        for path in tmp_path.rglob("step=*/*"):
            before[path] = (path.read_bytes(), path.stat().st_mtime_ns)
        return redraw(*arguments, **options)

    monkeypatch.setattr(presenter, "redraw", noted)
    fit(tmp_path, callback(formats=["h5", "npz", "csv", "png"]))
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.rglob("step=*/*")}
    assert before.keys() == after.keys()
    changed = {path.name for path in before if before[path] != after[path]}
    assert changed == {f"{name}.png" for name in PICTURES}
    assert {path.parent.name for path in before if before[path] != after[path]} == {"step=000002"}


PICTURES = ("train_loss_2dheat", "distance_2dheat")


@pytest.mark.parametrize("options", [{"every_n_epochs": None}, {"every_n_epochs": 2}])
def test_one_landscape_is_drawn_once_and_is_no_film(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def counted(figure: Any) -> Any:
        nonlocal count
        count += 1
        return to_image(figure)

    monkeypatch.setattr(output, "to_image", counted)
    fit(tmp_path, callback(**options))
    assert (films(tmp_path), count) == ([], 2)


def test_pictures_that_are_on_the_scale_already_are_not_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ends that are asked for never change: of each landscape one picture is drawn again, for the film."""
    drawn = []

    def noted(figure: Any) -> Any:
        drawn.append(figure)
        return to_image(figure)

    written, write_whole = [], output.write_whole

    def counted(path: Path, content: bytes) -> Path:
        written.extend([path] if path.suffix == ".png" else [])
        return write_whole(path, content)

    monkeypatch.setattr(output, "to_image", noted)
    monkeypatch.setattr(output, "write_whole", counted)
    own = callback(
        plots=["heat"], vmin=0.0, vmax=50.0, objective=lambda module, batch: ((module.weight - 1) ** 2).sum()
    )
    fit(tmp_path, own)
    assert len(drawn) == 2 + 2
    assert sorted(written) == [folder(tmp_path, step) / "train_loss_2dheat.png" for step in STEPS]  # once each
    assert len(films(tmp_path)) == 1


def events(trainer: L.Trainer) -> EventAccumulator:
    found = EventAccumulator(str(trainer.log_dir), size_guidance={"images": 0})
    return found.Reload()


def test_tensorboard_shows_the_film_and_its_frames(tmp_path: Path) -> None:
    trainer = fit(tmp_path, callback(), logger=TensorBoardLogger(tmp_path), log_every_n_steps=1)
    found = events(trainer)
    (event,) = found.Images("landscape/heat_film")
    assert event.step == STEPS[-1]
    frames = film_frames(event.encoded_image_string)
    assert len(frames) == 2
    assert (event.height, event.width) == frames[0].shape[:2]
    (path,) = Path(str(trainer.log_dir)).glob("landscape/train_loss_2dheat_*.gif")
    assert path.read_bytes() == event.encoded_image_string
    one_scale = found.Images("landscape one scale/heat")
    assert [event.step for event in one_scale] == STEPS
    for step, each in zip(STEPS, one_scale, strict=True):
        picture = read(path.parent / f"step={step:06d}" / "train_loss_2dheat.png")
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(each.encoded_image_string))), picture)
    assert [event.step for event in found.Images("landscape/heat")] == STEPS  # as they were


def test_without_a_change_of_the_scale_tensorboard_gets_the_film_alone(tmp_path: Path) -> None:
    own = callback(plots=["heat"], vmin=0.0, vmax=50.0)
    trainer = fit(tmp_path, own, logger=TensorBoardLogger(tmp_path), log_every_n_steps=1)
    tags = events(trainer).Tags()["images"]
    assert {tag for tag in tags if "film" in tag or "one scale" in tag} == {"landscape/heat_film"}


def test_other_loggers_are_left_alone(tmp_path: Path) -> None:
    trainer = fit(tmp_path, callback(), logger=CSVLogger(tmp_path), log_every_n_steps=1)
    header = (Path(str(trainer.log_dir)) / "metrics.csv").read_text().splitlines()[0]
    assert sorted(header.split(",")) == ["distance", "epoch", "step"]


def test_landscapes_that_are_kept_as_files_are_read_for_the_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "LARGE", 0)
    own = callback(plots=["heat"])
    fit(tmp_path, own)
    assert all(isinstance(landscape, Path) for landscape in own.landscapes.values())
    assert len(film_frames((tmp_path / "landscape" / films(tmp_path)[0]).read_bytes())) == 2


def test_a_file_that_is_gone_costs_its_frame_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "LARGE", 0)

    def removed(landscapes: Any, *arguments: Any, **options: Any) -> Any:
        landscapes[4].unlink()
        return redraw(landscapes, *arguments, **options)

    monkeypatch.setattr(presenter, "redraw", removed)
    with pytest.warns(UserWarning, match=r"the landscape of step 4 could not be drawn on the scale of all"):
        fit(tmp_path, callback(strict=False), epochs=3)
    assert len(film_frames((tmp_path / "landscape" / films(tmp_path)[0]).read_bytes())) == 2


def test_a_film_that_can_not_be_written_only_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole = output.write_whole

    def full(path: Path, content: bytes) -> Path:
        if path.suffix == ".gif":
            raise OSError(28, "No space left on device")
        return write_whole(path, content)

    monkeypatch.setattr(output, "write_whole", full)
    with pytest.warns(
        UserWarning,
        match=r"gif on the scale of all landscapes could not be written .*No space left on device",
    ):
        trainer = fit(tmp_path, callback(plots=["heat"], strict=False), logger=TensorBoardLogger(tmp_path))
    assert trainer.state.finished
    assert len(events(trainer).Images("landscape/heat_film")) == 1
    with pytest.raises(OSError, match="No space left"):
        fit(tmp_path / "strict", callback(plots=["heat"]))


def test_an_error_in_the_drawing_only_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("as it happens")

    monkeypatch.setattr(presenter, "redraw", fails)
    with pytest.warns(UserWarning, match=r"The films of the landscapes failed \(RuntimeError: as it happens\)"):
        trainer = fit(tmp_path, callback(strict=False))
    assert trainer.state.finished
    with pytest.raises(RuntimeError, match="as it happens"):
        fit(tmp_path, callback(dirpath=tmp_path / "strict"))


@pytest.mark.parametrize("options", [{"formats": ["h5"]}, {"plots": []}])
def test_who_wants_no_picture_files_gets_no_film_file(tmp_path: Path, options: dict[str, Any]) -> None:
    fit(tmp_path, callback(**options))
    assert films(tmp_path) == []


def test_a_curve_has_a_film_of_its_slices(tmp_path: Path) -> None:
    fit(tmp_path, callback(y=None, plots=["slices"]))
    assert films(tmp_path) == ["train_loss_1dslices_steps=000002-000004.gif"]


def test_a_training_that_goes_on_has_a_film_of_its_own_steps(tmp_path: Path) -> None:
    """And leaves the film and the pictures of earlier steps as they are; the one at which it goes on is both runs'."""
    options = {"dirpath": tmp_path / "landscape", "plots": ["heat"]}
    trainer = fit(tmp_path, callback(**options))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    before = {path: path.read_bytes() for path in [*folder(tmp_path, 2).iterdir(), *tmp_path.rglob("*.gif")]}
    fit(tmp_path, callback(**options), epochs=4, ckpt_path=tmp_path / "last.ckpt")
    assert films(tmp_path) == [
        "train_loss_2dheat_steps=000002-000004.gif",
        "train_loss_2dheat_steps=000004-000008.gif",
    ]
    assert {path: path.read_bytes() for path in before} == before


def test_a_second_run_brings_the_pictures_of_the_first_onto_one_scale(tmp_path: Path) -> None:
    """The first was cut off: its pictures are on the scale that it had then."""
    options = {"dirpath": tmp_path / "landscape", "plots": ["heat"]}
    fit(tmp_path / "whole", callback(), epochs=3)
    fit(tmp_path, callback(**options))
    fit(tmp_path, callback(**options), epochs=3)
    for step in (2, 4, 6):
        again, once = (read(folder(path, step) / "train_loss_2dheat.png") for path in (tmp_path, tmp_path / "whole"))
        np.testing.assert_array_equal(again, once)


def test_a_new_fit_begins_with_a_scale_of_its_own(tmp_path: Path) -> None:
    own = callback(plots=["heat"])
    fit(tmp_path / "a", own)
    high = Bowl()
    high.weight.data += 10
    fit(tmp_path / "b", own, module=high)
    last = load(folder(tmp_path / "b", 4) / "landscape.h5")
    values = np.stack([load(folder(tmp_path / "b", step) / "landscape.h5").loss for step in STEPS])
    expected = to_image(PLOTS["heat"].draw(last, vmin=values.min(), vmax=values.max()))
    np.testing.assert_array_equal(read(folder(tmp_path / "b", 4) / "train_loss_2dheat.png"), expected)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 60, 61])
def test_coarse_to_fine_is_an_order_of_all_that_begins_far_apart(count: int) -> None:
    order = coarse_to_fine(count)
    assert sorted(order) == list(range(count))
    for taken in range(2, count):
        gaps = np.diff(sorted(order[:taken]))
        assert gaps.max() <= 4 * (count - 1) / taken + 1


def test_with_little_time_the_film_has_few_steps_of_all_the_training(tmp_path: Path) -> None:
    own = callback()
    fit(tmp_path, own, epochs=6)
    landscapes = own.landscapes
    drawn = {step: Drawn(tmp_path / "again", tmp_path / "again" / str(step), None) for step in landscapes}
    left = 6

    def over() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    own_look = own.look
    result = redraw(landscapes, drawn, own_look, [], over=over)
    assert 2 <= result.frames <= 4
    assert len(set(result.left_out)) + result.frames in (6, 7)
    assert films(tmp_path / "again") == ["train_loss_2dheat_steps=000002-000012.gif"]


def test_films_have_the_formats_that_were_chosen(tmp_path: Path) -> None:
    """A WebP alone, without a picture beside it; TensorBoard has its GIF all the same, with the same frames."""
    own = callback(formats=["h5", "webp"])
    trainer = fit(tmp_path, own, logger=TensorBoardLogger(tmp_path), log_every_n_steps=1)
    (path,) = Path(str(trainer.log_dir)).glob("landscape/*_steps=*")
    assert path.name == "train_loss_2dheat_steps=000002-000004.webp"
    assert not [*Path(str(trainer.log_dir)).rglob("*.png")]
    (event,) = events(trainer).Images("landscape/heat_film")
    exact, gif = film_frames(path.read_bytes()), film_frames(event.encoded_image_string)
    assert len(exact) == len(gif) == 2
    for a, b in zip(exact, gif, strict=True):
        assert np.abs(a.astype(int) - b).mean() < 3


def test_a_film_format_without_its_library_is_refused_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_landscape.plots.film.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "lightning-landscape\[video\]"'):
        callback(formats=["h5", "png", "mp4"])
    callback(formats=["h5", "png", "gif", "webp"])
