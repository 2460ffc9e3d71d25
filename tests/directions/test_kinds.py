"""Every kind of directions, by its name through each face; and what a kind sees."""

from __future__ import annotations

import json
import typing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape, LossLandscapeCallback, LossLandscapeWriter, Snapshot, load
from lightning_landscape.directions import KINDS, Between, Site, make_directions, recipe

from .._formula import callback, train
from .._steps import BATCH, Automatic, X, Y
from .._training import recorded


def checkpoints(net: nn.Module, folder: Path) -> Between:
    """Two other models in files."""
    files = [str(folder / name) for name in ("one.ckpt", "two.ckpt")]
    generator = torch.Generator().manual_seed(0)
    for file in files:
        weights = {n: t + torch.randn(t.shape, generator=generator) for n, t in net.state_dict().items()}
        torch.save({"state_dict": weights}, file)
    return Between((files[0], files[1]))


def walk(net: nn.Module) -> list[dict[str, torch.Tensor]]:
    """Records that end at the net's weights."""
    generator = torch.Generator().manual_seed(0)
    params = Snapshot.of(net).params
    return [{n: t + i * torch.randn(t.shape, generator=generator) for n, t in params.items()} for i in (4, 3, 2, 1, 0)]


@pytest.mark.parametrize("kind", KINDS)
def test_loss_landscape_takes_every_kind(kind: str, tmp_path: Path) -> None:
    net = nn.Linear(6, 2)
    settings = {"normalize": "layer", "ignore": None, "orthogonalize": True, "seed": 3}
    directions = checkpoints(net, tmp_path) if kind == "between" else make_directions(kind, **settings)
    plain = LossLandscape(
        net, DataLoader(TensorDataset(X, Y), BATCH), nn.CrossEntropyLoss(), seed=3,
        records=walk(net), optimizers=torch.optim.Adam(net.parameters()), surf_file=tmp_path / "surface.h5",
    )  # fmt: skip
    for chosen in [directions] if kind == "between" else [directions, kind]:
        plain.compute_2d((-1, 1, 3), (-1, 1, 3), directions=chosen)
        described = plain.landscape.recipe.directions
        assert described.kind == kind
        assert load(tmp_path / "surface.h5").recipe.directions == described
        assert (len(described.labels) == 2) == (kind != "random")
    assert recipe(directions) == json.loads(json.dumps(recipe(directions)))
    plain.compute_1d(xrange=(-1, 1, 3), directions=Between(directions.targets[:1]) if kind == "between" else kind)
    assert plain.landscape.recipe.directions.kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_the_writer_takes_every_kind(kind: str, tmp_path: Path) -> None:
    net = nn.Linear(6, 2)
    writer = LossLandscapeWriter(tmp_path)
    for epoch, record in enumerate(walk(net)):
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                parameter.copy_(record[name])
        writer.record_checkpoint(net, epoch)
    optimizer = torch.optim.Adam(net.parameters())

    def sample() -> None:
        writer.sample_landscape(
            net, DataLoader(TensorDataset(X, Y), BATCH), nn.CrossEntropyLoss(), grid_size=3, direction_mode=kind,
            optimizers=optimizer,
        )  # fmt: skip

    if kind == "between":
        with pytest.raises(ValueError, match="directions='between' needs a model for each direction"):
            sample()
    else:
        sample()
        assert writer.landscapes[2].recipe.directions.kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_the_callback_takes_every_kind(kind: str, tmp_path: Path) -> None:
    module = Automatic()
    directions = checkpoints(module, tmp_path) if kind == "between" else kind
    watched = callback(directions=directions, every_n_epochs=None, trajectory="auto")
    watched.settings = replace(watched.settings, recorded=recorded(walk(module)))
    train(module, [DataLoader(TensorDataset(X, Y), BATCH)], [watched], tmp_path)
    assert watched.landscape is not None
    assert watched.landscape.recipe.directions.kind == kind
    assert watched.landscape.recipe.module == "Automatic"


def test_a_word_for_models_in_between_says_what_else_is_needed() -> None:
    with pytest.raises(ValueError, match=r"directions='between' needs a model for each direction.*\{targets: \["):
        LossLandscapeCallback(directions="between")


@pytest.mark.filterwarnings("ignore")  # jsonargparse warns of versions
def test_the_command_line_takes_every_kind(tmp_path: Path) -> None:
    from lightning.pytorch.cli import LightningArgumentParser

    declared = typing.get_type_hints(LossLandscapeCallback.__init__)["directions"]
    assert typing.get_args(typing.get_args(declared)[0]) == tuple(KINDS)
    parser = LightningArgumentParser()
    parser.add_class_arguments(LossLandscapeCallback, "callback")
    for kind in KINDS:
        assert parser.parse_args([f"--callback.directions={kind}"]).callback.directions == kind
    files = ["one.ckpt", "two.ckpt"]
    for given in (
        parser.parse_args([f"--callback.directions.targets={json.dumps(files)}"]),
        parser.parse_object({"callback": {"directions": {"targets": files}}}),
    ):
        directions = parser.instantiate_classes(given).callback.settings.directions
        assert isinstance(directions, Between)
        assert list(directions.targets) == files


def test_the_demo_takes_every_kind() -> None:
    from lightning_landscape.cli.demo import DIRECTIONS

    assert {*DIRECTIONS, "between"} == {*KINDS}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "between"])
def test_the_page_has_a_row_for_every_kind(kind: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "directions.md").read_text(encoding="utf-8")
    assert f'| `"{kind}"`' in page


class Looks:
    """A kind that looks at its site, and gives the axes of one weight."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.sizes: list[int] = []

    def __call__(self, site: Site, k: int) -> Any:
        assert site.objective is not None
        assert site.module is not None
        with torch.no_grad():
            for batch in site.batches:
                (observed,) = site.objective(site.module, batch).values()
                self.losses.append(float(observed.value))
                self.sizes.append(batch.size)
        result = []
        for i in range(k):
            result.append({name: torch.zeros_like(tensor) for name, tensor in site.params.items()})
            next(iter(result[i].values())).view(-1)[i] = 1.0
        return tuple(result)


def test_a_kind_sees_the_data_and_what_is_measured_on_them(tmp_path: Path) -> None:
    class Still(Automatic):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.0)

    module, kind = Still(), Looks()
    watched = callback(directions=kind, every_n_epochs=None)
    train(module, [DataLoader(TensorDataset(X, Y), BATCH)], [watched], tmp_path)
    with torch.no_grad():
        expected = [
            float(cross_entropy(module.net(X[i : i + BATCH]), Y[i : i + BATCH])) for i in range(0, len(X), BATCH)
        ]
    assert kind.sizes[-3:] == [len(Y[i : i + BATCH]) for i in range(0, len(X), BATCH)]
    assert kind.losses[-3:] == pytest.approx(expected, rel=1e-6)

    plain = Looks()
    landscapes = LossLandscape(module.net, DataLoader(TensorDataset(X, Y), BATCH), lambda o, y: cross_entropy(o, y))
    landscapes.compute_2d((-1, 1, 3), (-1, 1, 3), directions=plain, save=False)
    assert plain.losses == pytest.approx(expected, rel=1e-6)
