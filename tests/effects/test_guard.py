"""EffectGuard: what acts inside, in one thread, and that everything is as it was afterwards."""

from __future__ import annotations

import builtins
import bz2
import io
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape, Plane
from lightning_landscape.evaluators import Forked, Sequential
from lightning_landscape.isolation.effects import EffectGuard, effects_warning, one_pass, record_effects
from lightning_landscape.objectives.base import Batch, LossFunction


def places() -> list[Any]:
    """What hooks replace, as it is now."""
    streams = [sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__]
    return [
        builtins.open, io.open, os.open, os.mkdir, os.replace, os.unlink, torch.save, np.savetxt,
        logging.Logger.callHandlers, warnings._showwarnmsg, *streams,  # type: ignore[attr-defined]
        *(sorted(vars(stream)) for stream in streams if hasattr(stream, "__dict__")),
    ]  # fmt: skip


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("passes", [False, True])
def test_everything_is_as_before(error: Any, passes: bool) -> None:
    before = places()
    guard = EffectGuard()
    for _ in range(2):
        with suppress(*([error] if error else [])), one_pass() if passes else EffectGuard(), guard:
            assert builtins.open is not before[0]
            sys.stdout = io.StringIO()  # a step may
            if error is not None:
                raise error
        assert places() == before


def test_another_thread_prints_and_writes_all_the_time(capfd: Any, tmp_path: Path) -> None:
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait(60)
        print("of the other thread", flush=True)
        (tmp_path / "other.txt").write_text("written")
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with EffectGuard():
        print("of the step", flush=True)
        (tmp_path / "step.txt").write_text("written")
        inside.set()
        assert done.wait(60)
    thread.join()
    assert capfd.readouterr().out == "of the other thread\n"
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_two_threads_hold_back_at_once() -> None:
    before, ready = places(), threading.Barrier(2)

    def one() -> None:
        with EffectGuard():
            ready.wait(60)
            print("nobody hears this")
            ready.wait(60)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert places() == before


# files


@pytest.fixture
def existing(tmp_path: Path) -> Path:
    """A folder with two files, of two lines and of one."""
    (tmp_path / "there.txt").write_text("one\ntwo\n")
    (tmp_path / "log.txt").write_text("zero\n")
    return tmp_path


def snapshot(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def appended(folder: Path) -> str:
    with (folder / "there.txt").open("a") as file:
        file.write("three\n")
    with (folder / "there.txt").open("a") as file:
        file.write("four\n")
    return (folder / "there.txt").read_text()


def edited(folder: Path) -> str:
    with open(folder / "there.txt", "r+") as file:
        file.write("ONE")
    return (folder / "there.txt").read_text()


def written_anew(folder: Path) -> str:
    (folder / "there.txt").write_text("new")
    return open(folder / "there.txt").read()  # as users do


def replaced(folder: Path) -> str:
    """As careful people write files."""
    fd, temporary = tempfile.mkstemp(dir=folder)
    os.write(fd, b"whole")
    os.close(fd)
    os.replace(temporary, folder / "there.txt")
    return (folder / "there.txt").read_text()


def moved(folder: Path) -> str:
    """What was appended moves with what was there, and what was appended to the target is gone."""
    for name in ("there.txt", "log.txt"):
        with (folder / name).open("a") as file:
            file.write("three\n")
    os.rename(src=folder / "there.txt", dst=folder / "log.txt")
    return (folder / "log.txt").read_text()


def made_in_new_folders(folder: Path) -> str:
    os.makedirs(folder / "a" / "b", exist_ok=True)
    (folder / "c").mkdir(parents=True, exist_ok=True)
    np.save(folder / "a" / "b" / "x.npy", np.arange(3))
    shutil.copy(folder / "a" / "b" / "x.npy", folder / "c" / "y.npy")
    assert (folder / "c" / "y.npy").exists()
    assert os.path.isdir(folder / "a" / "b")
    with pytest.raises(FileExistsError):
        os.mkdir(folder / "a")
    return str(np.load(folder / "c" / "y.npy").tolist())


def exclusive(folder: Path) -> str:
    with pytest.raises(FileExistsError):
        (folder / "there.txt").open("x")
    with open(folder / "new.txt", "x") as file:
        file.write("new")
    with pytest.raises(FileExistsError):
        (folder / "new.txt").open("x")
    return (folder / "new.txt").read_text()


def removed(folder: Path) -> str:
    (folder / "there.txt").unlink()
    shutil.rmtree(folder, ignore_errors=True)
    with pytest.raises(FileNotFoundError):
        os.remove(folder / "no such file")
    with pytest.raises(FileNotFoundError):
        (folder / "no such file").open()
    with pytest.raises(FileExistsError):
        os.mkdir(folder)
    os.chmod(folder, 0o700)
    os.truncate(folder / "there.txt", 0)
    return ""


def low_level(folder: Path) -> str:
    fd = os.open(folder / "low.txt", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"low")
    os.close(fd)
    (folder / "touched").touch()
    return (folder / "low.txt").read_text()


def of_torch(folder: Path) -> str:
    torch.save(torch.tensor(3), folder / "x.pt")
    torch.save(obj=torch.tensor(3), f=str(folder / "y.pt"))
    np.savetxt(folder / "x.txt", np.array([1.0]), fmt="%d")
    with io.BytesIO() as memory:
        torch.save(torch.tensor(4), memory)
        is_saved = len(memory.getvalue()) > 0
    return f"{torch.load(folder / 'x.pt').item()} {(folder / 'x.txt').read_text().strip()} {is_saved}"


@pytest.mark.parametrize(
    "write, found",
    [
        (appended, "one\ntwo\nthree\nfour\n"),
        (edited, "ONE\ntwo\n"),
        (written_anew, "new"),
        (replaced, "whole"),
        (moved, "one\ntwo\nthree\n"),
        (made_in_new_folders, "[0, 1, 2]"),
        (exclusive, "new"),
        (removed, ""),
        (low_level, "low"),
        (of_torch, "3 1 True"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_code_reads_what_it_has_written_and_nobody_else_sees_it(
    write: Callable[[Path], str], found: str, existing: Path, tmp_path_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path_factory.mktemp("private")
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    before = snapshot(existing)
    guard = EffectGuard()
    for _ in range(2):  # each call starts from what is there
        with guard:
            assert write(existing) == found
        assert snapshot(existing) == before
    assert not list(private.iterdir())


def test_temporary_files_are_as_ever(tmp_path: Path) -> None:
    with EffectGuard():
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("inside")
            file.flush()
            assert subprocess.run(["cat", file.name], capture_output=True, check=True).stdout == b"inside"
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "a").write_text("a")
            assert os.listdir(folder) == ["a"]
        assert not os.path.exists(folder)


def test_a_compiler_keeps_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled in a step needs its files, in this call and later."""
    compiler = types.ModuleType("torch._inductor.of_this_test")
    exec("def write(path):\n    open(path, 'w').close()", vars(compiler))
    with EffectGuard():
        compiler.write(tmp_path / "kernel.py")
    assert (tmp_path / "kernel.py").exists()


# warnings, logs, trackers


def test_a_line_warns_once_and_what_code_catches_is_its_own() -> None:
    caught_inside = []

    def step(value: int) -> None:
        warnings.warn(f"loss {value}", stacklevel=1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn("of its own", stacklevel=1)
        caught_inside.append(len(caught))

    guard = EffectGuard(step)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for value in range(3):
            with guard:
                step(value)
        step(3)
    assert [str(warning.message) for warning in caught] == ["loss 0", "loss 3"]
    assert caught_inside == [1, 1, 1, 1]


def test_a_logger_of_python_is_silent(caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if "tensorboard" in name]:  # nor is any tracker there
        monkeypatch.delitem(sys.modules, name)
    with EffectGuard():
        logging.getLogger("anybody").error("not heard")
    logging.getLogger("anybody").error("heard")
    assert [record.message for record in caplog.records] == ["heard"]


def fake(name: str, *, kind: str | None = None, functions: str = "log") -> tuple[types.ModuleType, list[Any]]:
    """A library that keeps what it is told."""
    module, rows = types.ModuleType(name), []
    write = lambda *args, **kwargs: rows.append(args)  # noqa: E731
    members = dict.fromkeys(functions.split(), write)
    members["read"] = lambda *args: len(rows)
    for key, value in members.items() if kind is None else [(kind, type(kind, (), members))]:
        setattr(module, key, value)
    return module, rows


@pytest.mark.parametrize(
    "name, kind, function",
    [
        ("wandb", None, "log"),
        ("wandb.sdk.wandb_run", "Run", "log_artifact"),
        ("mlflow", None, "log_metric"),
        ("mlflow", None, "start_run"),
        ("comet_ml", "CometExperiment", "log_metrics"),
        ("tensorboardX.writer", "SummaryWriter", "_get_file_writer"),
        ("clearml.logger", "Logger", "report_scalar"),
    ],
)
def test_the_writers_of_known_trackers_do_nothing(
    name: str, kind: str | None, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, rows = fake(name, kind=kind, functions=function)
    monkeypatch.setitem(sys.modules, name, module)
    owner = module if kind is None else getattr(module, kind)()
    with EffectGuard():
        with getattr(owner, function)({"loss": 1.0}, step=1) as run:
            run.info["anything"].append(1)
        assert owner.read() == 0
    getattr(owner, function)({"loss": 1.0})
    assert len(rows) == 1


# what gets through


def test_what_is_not_held_back_is_noticed(tmp_path: Path) -> None:
    import sqlite3

    def step() -> None:
        print("held back")
        (tmp_path / "held.txt").write_text("back")
        subprocess.run([sys.executable, "-c", ""], check=True)
        bz2.open(tmp_path / "a.bz2", "wb").close()  # has its own name for open()
        sqlite3.connect(tmp_path / "a.db").close()
        tempfile.mkdtemp(dir=tmp_path)

    guard = EffectGuard(step)
    with record_effects() as noticed, guard:
        step()
    step()  # not inside
    assert noticed == {
        f"starts {sys.executable}": 1,
        f"writes to {tmp_path / 'a.bz2'}": 1,
        f"opens the database {tmp_path / 'a.db'}": 1,
        "leaves temporary files": 1,
    }
    assert effects_warning({}, "step", "always", "Stop.") == ""


# what is measured


def loud(module: nn.Module, data: Tensor) -> Tensor:
    print("loud", flush=True)
    os.write(1, b"loud\n")
    with open(os.environ["LOUD"], "a") as file:
        file.write("loud\n")
    return (module.weight * data).square().mean()


@pytest.mark.parametrize(
    "processes", [1, pytest.param(3, marks=pytest.mark.skipif(sys.platform != "linux", reason=""))]
)
def test_points_are_the_same_to_the_bit_and_silent_in_all_processes(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setenv("LOUD", str(tmp_path / "loud.txt"))
    net = nn.Linear(3, 1, bias=False)
    origin = {"weight": net.weight.detach().clone()}
    plane, points = Plane(origin, (origin,)), np.linspace(-1, 1, 13)[:, None]
    batches = [Batch(torch.arange(6.0).reshape(2, 3), 2)]
    evaluator: Any = Sequential(net.requires_grad_(False))
    evaluator = evaluator if processes == 1 else Forked(evaluator, processes)
    with one_pass():
        found = [row["loss"].value for row in evaluator(LossFunction(loud), plane, points, batches)]
    assert "loud" not in capfd.readouterr().out
    assert not (tmp_path / "loud.txt").exists()
    expected = []
    for t in points[:, 0]:
        weight = origin["weight"] + t * origin["weight"]
        expected.append(float((weight * batches[0].data).square().mean()))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert os.listdir(tmp_path) == []


LOADER = DataLoader(
    TensorDataset(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3), 3
)


def metrics(net: nn.Module, dataloader: Any, use_cuda: bool) -> dict[str, float]:
    print("loud")
    return {"loss": sum(float(F.cross_entropy(net(x), y)) for x, y in dataloader)}


class Shouting(nn.CrossEntropyLoss):
    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        print("loud")
        return super().forward(outputs, targets)


@pytest.mark.parametrize("criterion", [metrics, Shouting(), lambda model, x, y: print("loud") or model(x).mean()])
def test_a_criterion_of_loss_landscape_is_silent(criterion: Any, tmp_path: Path, capsys: Any) -> None:
    LossLandscape(nn.Linear(4, 3), LOADER, criterion, surf_file=tmp_path / "a.npz").compute_1d(xrange=(-1, 1, 3))
    assert "loud" not in capsys.readouterr().out


def test_loss_landscape_names_what_it_cannot_hold_back(tmp_path: Path) -> None:
    def criterion(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        os.system("true")
        return F.cross_entropy(model(x), y)

    landscape = LossLandscape(nn.Linear(4, 3), LOADER, criterion, surf_file=tmp_path / "a.npz")
    with pytest.warns(UserWarning, match=r"The criterion runs .*true.*: on every batch at each of 3 points\. Leave it"):
        landscape.compute_1d(xrange=(-1, 1, 3))


def test_a_copy_of_a_net_with_open_files_writes_nowhere(tmp_path: Path) -> None:
    class Writes(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.file.write("row\n")
            return super().forward(x)

    net = Writes(4, 3)
    with (tmp_path / "rows.txt").open("w") as net.file:
        LossLandscape(net, LOADER, surf_file=tmp_path / "a.npz").compute_1d(xrange=(-1, 1, 3))
    assert (tmp_path / "rows.txt").read_text() == ""
