"""Paths that users give: of this machine, in every function that takes one."""

from pathlib import Path

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from lightning_landscape import (
    Grid,
    Landscape,
    LossLandscape,
    LossLandscapeCallback,
    LossLandscapeWriter,
    Recorder,
    export_paraview,
    load,
    sample_landscape,
    save,
)
from lightning_landscape.cli import main
from lightning_landscape.directions.between import weights_of
from lightning_landscape.local_paths import is_remote, local_path

REMOTE = ["s3://bucket/run", "gs://b/a", "hdfs://host:9000/a", "memory://a", "file:///a", "http://host/a", "az://c/p"]
REMOTE += [
    "s3:/bucket/run",
    "simplecache::s3://bucket/a",
    "zip://a.h5::s3://bucket/a.zip",
    "S3://bucket",
    "git+ssh://a",
]
LOCAL = ["a", "a/b", "/a/b:c", "./s3:/a", "C:/a", "C:\\a", "a:b", "~/a", "..", "a b/c://d", "1:/a"]


@pytest.mark.parametrize("path", REMOTE)
def test_what_is_remote(path):
    assert is_remote(path)
    assert is_remote(Path(path))


@pytest.mark.parametrize("path", LOCAL)
def test_what_is_local(path):
    assert not is_remote(path)


def bowl():
    return Landscape(Grid.from_ranges((-1, 1, 3), (-1, 1, 2)), {"loss": np.ones((3, 2))}, "loss")


LOADER = [(torch.ones(2, 2), torch.zeros(2, dtype=torch.long))]
TAKERS = {
    "dirpath": (lambda path: LossLandscapeCallback(dirpath=path), ""),
    "surf_file": (lambda path: LossLandscape(nn.Linear(2, 2), LOADER, surf_file=path), "/a.h5"),
    "log_dir": (LossLandscapeWriter, ""),
    "output_path": (lambda path: sample_landscape(nn.Linear(2, 2), LOADER, nn.MSELoss(), path), "/a.json"),
    "path of save": (lambda path: save(bowl(), path), "/a.h5"),
    "path of load": (load, "/a.h5"),
    "path of export_paraview": (lambda path: export_paraview(bowl(), path), "/a.vtp"),
    "target": (weights_of, "/a.ckpt"),
    "paths of a recorder": (lambda path: Recorder.of_files([path]), "/a.ckpt"),
}


@pytest.mark.parametrize("path", ["s3://bucket/run", Path("s3://bucket/run")], ids=["text", "Path"])
@pytest.mark.parametrize("name", TAKERS)
def test_every_function_refuses_a_remote_path_and_makes_no_folder_of_its_name(name, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, end = TAKERS[name]
    given = path / end[1:] if isinstance(path, Path) else path + end
    with pytest.raises(ValueError, match=rf"{name.split()[0]}='s3://?bucket/run{end}' is remote.*Give a local path"):
        call(given)
    assert list(tmp_path.iterdir()) == []


def test_the_tilde_is_the_home_folder_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    assert LossLandscapeCallback(dirpath="~/a").dirpath == home / "a"
    assert LossLandscape(nn.Linear(2, 2), LOADER, surf_file="~/a.h5").surf_file == home / "a.h5"
    assert LossLandscapeWriter("~/logs").log_dir == home / "logs"
    save(bowl(), "~/b/c.json")
    assert load("~/b/c.json").main == "loss"
    export_paraview(bowl(), "~/b/c.vtp")
    torch.save(nn.Linear(2, 1).state_dict(), home / "net1.pt")
    assert set(weights_of("~/net1.pt")) == {"weight", "bias"}
    assert Recorder.of_files(["~/net1.pt"]).weights[0].keys() == {"weight", "bias"}
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_the_home_of_nobody_is_refused():
    with pytest.raises(
        ValueError, match="dirpath='~nobody_of_this_name/a' begins with the home folder of an unknown user"
    ):
        local_path("dirpath", "~nobody_of_this_name/a")


@pytest.mark.parametrize("command", ["plot", "compare", "export"])
def test_an_output_of_the_command_line_is_of_this_machine(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    save(bowl(), "a.h5")
    arguments, end = {
        "plot": (["a.h5", "--kinds", "heat"], ""),
        "compare": (["a.h5", "a.h5"], ".png"),
        "export": (["a.h5", "--to", "csv"], ".csv"),
    }[command]
    assert main([command, *arguments, "--out", f"s3://bucket/a{end}"]) == 1
    assert f"--out='s3:/bucket/a{end}' is remote" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    assert main([command, *arguments, "--out", f"~/a{end}"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.h5", "home"}
    assert [path.name for path in (tmp_path / "home").iterdir()] == [f"a{end}"]


class Line(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.net(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(**folders):
    callback = LossLandscapeCallback(x=(-1, 1, 3), y=None, plots=[], samples=0, strict=True)
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", callbacks=[callback], **quiet, **folders)
    trainer.fit(Line(), torch.utils.data.DataLoader(torch.ones(2, 2)))


def test_where_lightning_logs_to_another_machine_the_files_go_to_its_root(tmp_path):
    fit(logger=CSVLogger("memory://logs"), default_root_dir=tmp_path)
    assert (tmp_path / "landscape" / "step=000002" / "landscape.h5").exists()
    with pytest.raises(MisconfigurationException, match="default_root_dir='memory://root' is remote: give dirpath="):
        fit(logger=False, default_root_dir="memory://root")


def test_a_loggers_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    fit(logger=CSVLogger("~/logs"))
    assert [*(tmp_path / "home" / "logs").rglob("landscape.h5")] == [*tmp_path.rglob("landscape.h5")] != []
