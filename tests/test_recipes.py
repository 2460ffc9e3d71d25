"""The five additions of docs/architecture.md, followed in a scratch package: one file and one row each."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import Grid, Landscape, LossLandscape, LossLandscapeCallback, load, save
from lightning_landscape.directions import KINDS
from lightning_landscape.landscape import equal
from lightning_landscape.loggers import LOGGERS, Shown, log
from lightning_landscape.plots import PLOTS, Plot, to_image
from lightning_landscape.recipe import Recipe
from lightning_landscape.storage import EXPORTS, FORMATS, Export, Format

from ._formula import callback, train
from ._steps import BATCH, Automatic, X, Y

PAGE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes the file of an addition into a scratch package, and imports it."""
    (tmp_path / "scratch_rooms").mkdir()
    (tmp_path / "scratch_rooms" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))

    def of(heading: str) -> Any:
        section = PAGE.partition(f"### {heading}\n")[2].partition("\n### ")[0]
        (text,) = re.findall(r"^```py\n(.*?)^```", section, re.M | re.S)
        name = re.match(r"# \w+/(\w+)\.py\n", text)[1]  # type: ignore[index]
        (tmp_path / "scratch_rooms" / f"{name}.py").write_text(text)
        return importlib.import_module(f"scratch_rooms.{name}")

    yield of
    for name in [name for name in sys.modules if name.startswith("scratch_rooms")]:
        del sys.modules[name]


def bowl() -> Landscape:
    grid = Grid.from_ranges((-1, 1, 5), (-1, 1, 4))
    values = (grid.points**2).sum(axis=1).reshape(grid.shape)
    return Landscape(grid, {"loss": values}, "loss", center={"loss": 0.0}, recipe=Recipe(seed=0))


def test_directions(follow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "layers", follow("A kind of directions").Layers)
    own = callback(directions="layers")
    train(Automatic(), [DataLoader(TensorDataset(X, Y), BATCH)], [own], tmp_path)
    assert own.landscape is not None
    assert own.landscape.recipe.directions.kind == "layers"
    assert own.landscape.recipe.directions.cosine == 0.0  # each moves a layer of its own
    assert own.landscape.recipe.directions.settings["seed"] == own.landscape.recipe.seed
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
    plain = LossLandscape(net, DataLoader(TensorDataset(X, Y), BATCH), nn.CrossEntropyLoss(), seed=7)
    plain.compute_2d((-1, 1, 3), (-1, 1, 3), directions="layers", save=False)
    assert plain.plane is not None
    first, second = plain.plane.directions
    assert [name for name, tensor in first.items() if tensor.any()] == ["0.weight"]
    torch.testing.assert_close(second["2.weight"].norm(), net[2].weight.detach().norm())


def test_a_plot(follow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = follow("A plot").draw_histogram
    monkeypatch.setitem(PLOTS, "histogram", Plot(draw, "histogram", (1, 2, 3)))
    figure = Figure()
    ax = figure.add_subplot()
    assert draw(bowl(), ax=ax) is figure
    assert sum(patch.get_height() for patch in ax.patches) == 20
    assert to_image(draw(bowl()), dpi=20).shape[2] == 3
    own = LossLandscapeCallback(
        x=(-1, 1, 3), y=(-1, 1, 3), samples=0, plots=["histogram"], formats=["png"], strict=True
    )
    train(Automatic(), [DataLoader(TensorDataset(X, Y), BATCH)], [own], tmp_path)
    assert [path.name for path in tmp_path.rglob("*.png")] == ["train_loss_histogram.png"]


def test_a_logger(follow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOGGERS, "notebook", follow("A logger"))

    class NotebookLogger:
        experiment = SimpleNamespace(images=[], scalars=[])

    picture = np.zeros((4, 5, 3), np.uint8)
    logged = log(
        [NotebookLogger(), object()], Shown({"landscape/loss": picture}, {"landscape/relief": 2.0}, bowl()), step=7
    )
    assert logged.taken == ("notebook",)
    assert NotebookLogger.experiment.images == [(7, "landscape/loss", (4, 5, 3))]
    assert NotebookLogger.experiment.scalars == [(7, "landscape/relief", 2.0)]


def test_a_file_format(follow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = follow("A file format")
    monkeypatch.setitem(FORMATS, ".jsonz", Format(module.encode, module.read))
    assert equal(load(save(bowl(), tmp_path / "bowl.jsonz")), bowl())
    assert (tmp_path / "bowl.jsonz").read_bytes()[:2] == b"\x1f\x8b"


def test_an_export(follow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPORTS, ".xyz", Export(follow("An export").encode, 2, "numpy", "xyz"))
    rows = np.loadtxt(save(bowl(), tmp_path / "bowl.xyz"))
    assert rows.shape == (20, 3)
    np.testing.assert_allclose(rows[:, 2], rows[:, 0] ** 2 + rows[:, 1] ** 2)
    with pytest.raises(ValueError, match=r"\.xyz is written for other programs, and not read"):
        load(tmp_path / "bowl.xyz")
