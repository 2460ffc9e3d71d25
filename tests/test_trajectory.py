"""The recorder of a training: what it keeps, what it costs in files, and how a training goes on from a checkpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscapeCallback, Recording
from lightning_landscape.trainer.recording import KEY

from ._limits import HANG
from ._training import differences
from ._training import fit as compared_fit

pytestmark = [
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),  # ModelCheckpoint is of the first run
    pytest.mark.filterwarnings(r"ignore:Found 1 module\(s\) in eval mode"),  # on purpose
]
X = torch.randn(80, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(80) % 3


class Net(L.LightningModule):
    """A net whose weights after every step are kept, in float64."""

    def __init__(self, width: int = 4, kind: torch.dtype = torch.float32, decay: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(5, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Linear(width, 3)).to(kind)
        self.seen = [self.flat()]
        self.kind, self.decay, self.losses = kind, decay, list[float]()

    def flat(self) -> np.ndarray:
        return np.concatenate([p.detach().double().numpy().reshape(-1) for p in self.parameters()])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0].to(self.kind)), batch[1])
        self.losses.append(float(loss.detach()))
        return loss

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        super().optimizer_step(*args, **options)
        self.seen.append(self.flat())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)
        if not self.decay:
            return optimizer
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 160)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class TwoOptimizers(Net):
    """Two optimisers step in every batch, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizers: Any = self.optimizers()
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.seen.append(self.flat())

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), 0.1) for part in (self.net[0], self.net[3])]


def run(
    root: Path, trajectory: Any = True, *, module: Net | None = None, epochs: int = 2, samples: int = 80,
    callbacks: Any = (), ckpt: Any = None, **options: Any,
) -> tuple[Net, LossLandscapeCallback, L.Trainer]:  # fmt: skip
    """A training without landscapes: 10 steps an epoch by default, in a fixed order."""
    module = Net() if module is None else module
    callback = LossLandscapeCallback(at_train_end=False, trajectory=trajectory, strict=True)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, callbacks=[callback, *callbacks], default_root_dir=root,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=bool(callbacks), **options,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(X[:samples], Y[:samples]), 8), ckpt_path=ckpt)
    return module, callback, trainer


def flat(record: Any, module: Net) -> np.ndarray:
    return np.concatenate([record[name].double().numpy().reshape(-1) for name, _ in module.named_parameters()])


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix != ".ckpt" and path.is_file())


def test_the_records_are_the_weights_after_the_steps(tmp_path: Path) -> None:
    module, callback, _ = run(tmp_path, Recording(keep=8), epochs=3)
    assert callback.records.steps == [0, 8, 16, 24, 30]  # 30 is the end
    assert [path.name for path in files(tmp_path)] == [
        f"step={step:08d}.safetensors" for step in callback.records.steps
    ]
    assert {path.parent for path in files(tmp_path)} == {tmp_path / "landscape" / "trajectory"}
    for step, record in zip(callback.records.steps, callback.records, strict=True):
        np.testing.assert_array_equal(flat(record, module), module.seen[step])
        assert record.keys() == {n for n, b in module.state_dict().items() if b.is_floating_point()}
    assert torch.equal(callback.records[-1]["net.1.running_mean"], module.net[1].running_mean)
    assert torch.equal(callback.records[0]["net.1.running_var"], torch.ones(4))


def test_the_numbers_are_those_of_full_precision(tmp_path: Path) -> None:
    module, callback, _ = run(tmp_path, Recording(keep=8), epochs=16, module=Net(decay=True))
    seen, history = module.seen, callback.history
    steps = history["step"].astype(int)
    assert steps[:8].tolist() == [0, 1, 2, 3, 4, 5, 6, 8]
    assert steps[-1] == 160
    assert len(steps) > 2 * len(callback.records)  # they stay when the weights go
    lengths = [np.linalg.norm(seen[t] - seen[t - 1]) for t in steps[1:]]
    assert lengths[-1] < 0.01 * lengths[0]  # the training is decayed
    np.testing.assert_allclose(history["step_length"][1:], lengths, rtol=1e-6)
    np.testing.assert_allclose(history["norm"], [np.linalg.norm(seen[t]) for t in steps], rtol=1e-12)
    np.testing.assert_allclose(history["distance"], [np.linalg.norm(seen[t] - seen[0]) for t in steps], rtol=1e-6)
    before = [(seen[t] - seen[t - 1]) @ (seen[t - 1] - seen[t - 2]) for t in steps[2:]]
    both = [np.linalg.norm(seen[t - 1] - seen[t - 2]) for t in steps[2:]]
    np.testing.assert_allclose(history["cosine"][2:], before / np.multiply(both, lengths[1:]), atol=1e-5)
    np.testing.assert_allclose(history["loss"][1:], [module.losses[t - 1] for t in steps[1:]], rtol=1e-6)
    rates = [0.05 * (1 + np.cos(np.pi * (t - 1) / 160)) for t in steps[1:]]
    np.testing.assert_allclose(history["learning_rate"][1:], rates, rtol=1e-5, atol=1e-8)
    assert np.isnan(history["step_length"][0])
    assert np.isnan(history["loss"][0])


def test_float16_coordinates_are_those_of_float32(tmp_path: Path) -> None:
    """Along the principal components of the exact path, in shares of its span there."""
    module, callback, _ = run(tmp_path, Recording(keep=8, max_bytes=1), epochs=4, module=Net(width=500))
    exact = np.array([module.seen[step] for step in callback.records.steps])
    kept = np.array([flat(record, module) for record in callback.records])
    assert not np.array_equal(exact, kept)
    sizes = [path.stat().st_size for path in files(tmp_path)]
    assert max(sizes[1:]) < 0.75 * sizes[0]  # the statistics stay in float32
    axes = np.linalg.svd(exact - exact.mean(axis=0), full_matrices=False)[2][:2]
    points = (exact - exact[-1]) @ axes.T
    error = np.abs((kept - exact[-1]) @ axes.T - points).max(axis=0) / np.ptp(points, axis=0)
    assert error.max() < 1e-4
    np.testing.assert_array_equal(callback.records[-1]["net.1.running_var"], module.net[1].running_var)


def test_batches_that_accumulate_are_no_steps(tmp_path: Path) -> None:
    _, callback, trainer = run(tmp_path, Recording(keep=20), accumulate_grad_batches=3)
    assert trainer.global_step == 8  # 3 + 3 + 3 + 1 batches an epoch
    assert callback.records.steps == [*range(9)]
    assert callback.history["step"].tolist() == [*range(9)]


def test_several_optimisers_by_hand_make_one_step_a_batch(tmp_path: Path) -> None:
    module, callback, trainer = run(tmp_path, Recording(keep=64), module=TwoOptimizers())
    assert trainer.global_step == 40
    assert callback.records.steps == [*range(21)]  # as the loggers count
    np.testing.assert_array_equal(flat(callback.records[7], module), module.seen[7])


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_other_number_types(tmp_path: Path, kind: torch.dtype) -> None:
    module, callback, _ = run(tmp_path, Recording(keep=8), module=Net(kind=kind))
    seen, steps = module.seen, callback.history["step"].astype(int)
    lengths = [np.linalg.norm(seen[t] - seen[t - 1]) for t in steps[1:]]
    np.testing.assert_allclose(callback.history["step_length"][1:], lengths, rtol=1e-10)
    for step, record in zip(callback.records.steps, callback.records, strict=True):
        np.testing.assert_allclose(flat(record, module), seen[step], rtol=1e-7)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_training_is_bitwise_the_same(tmp_path: Path, accumulate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = L.Trainer.__init__

    def accumulating(self: Any, *args: Any, **options: Any) -> None:
        real(self, *args, accumulate_grad_batches=accumulate, **options)

    monkeypatch.setattr(L.Trainer, "__init__", accumulating)
    for name, choices in {"without": [], "with": [Recording(keep=8, max_bytes=1)]}.items():
        own = [LossLandscapeCallback(at_train_end=False, trajectory=choice, strict=True) for choice in choices]
        made.append(compared_fit(tmp_path / name, own))
    assert len(own[0].records) > 4
    assert differences(made[0], made[1]) == []


def checkpoints(root: Path) -> ModelCheckpoint:
    return ModelCheckpoint(root, filename="{step}", save_top_k=-1, save_on_train_epoch_end=True)


def same_records(a: LossLandscapeCallback, b: LossLandscapeCallback) -> bool:
    same = [
        x.keys() == y.keys() and all(torch.equal(x[n], y[n]) for n in x)
        for x, y in zip(a.records, b.records, strict=True)
    ]
    return a.records.steps == b.records.steps and all(same)


@pytest.mark.parametrize("max_bytes", ["1GiB", 1], ids=["float32", "float16"])
@pytest.mark.parametrize("step", [3, 9, 24, 39])
def test_a_resumed_training_has_the_same_records(tmp_path: Path, step: int, max_bytes: Any) -> None:
    """Also where records of its checkpoint were removed since: at step 3 they were 0, 1, 2, 3, in the end 0, 8, …"""
    recording = Recording(keep=8, max_bytes=max_bytes)
    options: Any = {"epochs": 13, "samples": 24}
    whole = run(tmp_path / "whole", recording, callbacks=[checkpoints(tmp_path / "ckpt")], **options)
    before = {path: path.read_bytes() for path in files(tmp_path / "whole")}
    resumed = run(tmp_path / "resumed", recording, ckpt=tmp_path / "ckpt" / f"step={step}.ckpt", **options)
    assert {path: path.read_bytes() for path in files(tmp_path / "whole")} == before  # of another run
    np.testing.assert_array_equal(resumed[0].flat(), whole[0].flat())
    assert same_records(whole[1], resumed[1])
    known, again = whole[1].history, resumed[1].history
    unknown = {"cosine": step + 1}  # weights before the checkpoint are not known
    if step == 39:
        unknown = dict.fromkeys(["cosine", "step_length", "loss", "learning_rate"], 39)
    for name, column in known.items():
        rows: Any = slice(None)
        if name in unknown:
            rows = known["step"] != unknown[name]
        np.testing.assert_array_equal(column[rows], again[name][rows], err_msg=name)


def test_what_was_thinned_since_the_checkpoint_doubles_the_stride(tmp_path: Path) -> None:
    """At step 9 the records are 0, 2, 4, 6, 8. The run that goes on to step 39 leaves 0 and 8 of them."""
    recording = Recording(keep=8)
    run(tmp_path / "whole", recording, epochs=13, samples=24, callbacks=[checkpoints(tmp_path / "ckpt")])
    _, callback, _ = run(tmp_path / "rest", recording, epochs=6, samples=24, ckpt=tmp_path / "ckpt" / "step=9.ckpt")
    assert callback.records.steps == [0, 8, 16, 18]  # 18 is the end


def test_a_longer_training_in_parts_is_that_of_one_run(tmp_path: Path) -> None:
    """Also where the first part recorded its own end, which lies between two records of the longer one."""
    recording = Recording(keep=8)
    whole = run(tmp_path / "whole", recording, epochs=4)
    half = run(tmp_path / "half", recording, epochs=2, callbacks=[ModelCheckpoint(tmp_path / "ckpt", save_last=True)])
    half[2].save_checkpoint(tmp_path / "end.ckpt")  # after the last record
    rest = run(tmp_path / "half", recording, epochs=4, ckpt=tmp_path / "end.ckpt")
    assert half[1].records.steps == [0, 4, 8, 12, 16, 20]
    assert same_records(whole[1], rest[1])
    np.testing.assert_array_equal(whole[1].history["step"], rest[1].history["step"])
    assert {path.parent.name for path in rest[1].records.files} == {"trajectory", "trajectory_2"}


def test_the_state_in_a_checkpoint_is_small_and_plain(tmp_path: Path) -> None:
    _, callback, trainer = run(tmp_path, Recording(keep=64), epochs=30)
    trainer.save_checkpoint(tmp_path / "with.ckpt")
    content = torch.load(tmp_path / "with.ckpt", weights_only=True)  # no objects of ours
    state = content.pop(KEY)
    torch.save(content, tmp_path / "without.ckpt")
    torch.save({KEY: state, **content}, tmp_path / "again.ckpt")
    size = (tmp_path / "again.ckpt").stat().st_size - (tmp_path / "without.ckpt").stat().st_size
    assert size < 10_000 + 40 * len(callback.history["step"])
    assert len(callback.records) > 32


def test_lost_records_are_one_warning_and_a_new_beginning(tmp_path: Path) -> None:
    recording = Recording(keep=8)
    run(tmp_path / "whole", recording, epochs=2, callbacks=[checkpoints(tmp_path / "ckpt")])
    for path in files(tmp_path / "whole"):
        path.unlink()
    with pytest.warns(
        UserWarning, match=r"begins anew at step 10: the first record .* is no longer in .*whole"
    ) as caught:
        module, callback, _ = run(tmp_path / "rest", recording, ckpt=tmp_path / "ckpt" / "step=10.ckpt")
    assert len([w for w in caught if "path of the training" in str(w.message)]) == 1
    assert callback.records.steps == [10, 12, 14, 16, 18, 20]
    np.testing.assert_array_equal(flat(callback.records[-1], module), module.flat())
    history = callback.history
    assert history["step"].tolist() == [0, 1, 2, 3, 4, 5, 6, 8, *range(10, 17), 18, 20]
    assert np.isnan(history["distance"][history["step"] > 10]).all()  # from the first weights, which are gone
    assert np.isfinite(history["norm"]).all()


def test_a_moved_run_finds_its_records(tmp_path: Path) -> None:
    recording = Recording(keep=8, max_bytes=1)
    whole = run(tmp_path / "old", recording, epochs=4, callbacks=[checkpoints(tmp_path / "old" / "checkpoints")])
    kept = [{name: tensor.clone() for name, tensor in record.items()} for record in whole[1].records]
    (tmp_path / "old").rename(tmp_path / "new")
    rest = run(tmp_path / "rest", recording, epochs=4, ckpt=tmp_path / "new" / "checkpoints" / "step=20.ckpt")
    assert rest[1].records.steps == whole[1].records.steps
    assert all(torch.equal(a[n], b[n]) for a, b in zip(kept, rest[1].records, strict=True) for n in a)


def test_a_finished_training_can_be_read_again(tmp_path: Path) -> None:
    whole = run(tmp_path, Recording(keep=8))
    whole[2].save_checkpoint(tmp_path / "end.ckpt")
    _, again, _ = run(tmp_path, Recording(keep=8), ckpt=tmp_path / "end.ckpt")
    assert same_records(whole[1], again)
    np.testing.assert_array_equal(again.history["step_length"], whole[1].history["step_length"])
    assert not list(tmp_path.rglob("trajectory_2"))


def test_another_run_in_the_same_folder_has_its_own(tmp_path: Path) -> None:
    run(tmp_path, Recording(keep=8))
    before = {path: path.read_bytes() for path in files(tmp_path)}
    _, second, _ = run(tmp_path, Recording(keep=8), epochs=1)
    assert {path: path.read_bytes() for path in before} == before
    assert {path.parent.name for path in second.records.files} == {"trajectory_2"}


def test_parameters_that_begin_to_train_begin_a_new_path(tmp_path: Path) -> None:
    class Thawing(Net):
        def on_train_epoch_start(self) -> None:
            self.net[0].requires_grad_(self.current_epoch > 0)

    module = Thawing()
    module.net[0].requires_grad_(False)
    _, callback, _ = run(tmp_path, Recording(keep=64), module=module)
    assert callback.records.steps == [*range(11, 21)]
    assert all("net.0.weight" in record for record in callback.records)


@pytest.mark.parametrize("choice, count", [("auto", 21), (True, 21), (False, 0)])
def test_the_choices(tmp_path: Path, choice: Any, count: int) -> None:
    _, callback, _ = run(tmp_path, choice)
    assert len(callback.records) == len(files(tmp_path)) == count


def test_a_second_callback_records_on_request_only(tmp_path: Path) -> None:
    second, third = (LossLandscapeCallback(at_train_end=False, trajectory=c) for c in ("auto", True))
    run(tmp_path, "auto", callbacks=[second, third])
    assert len(second.records) == 0
    assert len(third.records) == 21
    assert {path.parent.parent.name for path in third.records.files} == {"landscape_3"}


def test_auto_says_how_to_record_a_large_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr("lightning_landscape.trainer.recording._too_large.__defaults__", (1000,))
    with caplog.at_level("INFO"):
        _, callback, _ = run(tmp_path, "auto")
    assert (
        "is not recorded: 64 records of 47 parameters take 0.0 GiB. Give trajectory=True to record it." in caplog.text
    )
    assert not files(tmp_path)
    assert len(callback.records) == 0


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"trajectory='always' is unknown; the choices are \"auto\", True, False"):
        LossLandscapeCallback(trajectory="always")  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_can_not_be_written_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    check_unwritable(tmp_path / "closed")


def test_a_file_in_place_of_the_folder_is_one_warning(tmp_path: Path) -> None:
    (tmp_path / "closed").write_text("a file")
    check_unwritable(tmp_path / "closed")


def check_unwritable(folder: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, callback, trainer = run(folder.parent / "run", Recording(folder=str(folder)))
    said = [str(w.message) for w in caught if "path of the training" in str(w.message)]
    assert len(said) == 1
    assert "is not recorded" in said[0]
    assert trainer.global_step == 20
    assert len(callback.records) == 0


def test_a_full_disk_in_the_middle_is_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_landscape.paths import logbook

    real, calls = logbook.write_whole, list[Path]()

    def full(path: Path, *content: Any, **options: Any) -> Path:
        calls.append(path)
        if 4 <= len(calls) < 9:
            raise OSError(28, "No space left on device")
        return real(path, *content, **options)

    monkeypatch.setattr(logbook, "write_whole", full)
    with pytest.warns(UserWarning, match=r"lacks a record .*No space left") as caught:
        module, callback, _ = run(tmp_path, True)
    assert len([w for w in caught if "path of the training" in str(w.message)]) == 1
    assert callback.records.steps == [0, 1, 2, *range(8, 21)]  # there is room again
    assert callback.history["step"].tolist() == [*range(21)]  # the numbers need no room
    np.testing.assert_array_equal(flat(callback.records[-1], module), module.flat())


ENDLESS = """
import sys
from pathlib import Path
import torch
from torch import nn
from lightning_landscape.paths.logbook import Logbook
from lightning_landscape.paths.recording import Recording

net = nn.Linear(500, 500)
book = Logbook(net, Recording(keep=1000, max_bytes=10**12), Path(sys.argv[1]), patience=0.0)
while True:
    book.record(net)
    book.count += 1
    print(book.count, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_kill_9_leaves_no_broken_file(tmp_path: Path) -> None:
    from lightning_landscape.paths.record_file import read_record

    for attempt, last in enumerate((3, 10, 25)):
        folder = tmp_path / str(attempt)
        with subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(folder)], stdout=subprocess.PIPE, text=True
        ) as process:
            for line in process.stdout or ():
                if int(line) >= last:
                    break
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=HANG)
        whole = [path for path in files(folder) if not path.name.startswith(".")]
        assert len(whole) >= last
        assert all(read_record(path)["weight"].shape == (500, 500) for path in whole)
