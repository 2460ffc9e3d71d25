"""Every kind of directions, by its name through each face; and what a kind sees."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape, LossLandscapeCallback, Snapshot
from lightning_landscape.directions import KINDS, Site, checked_directions, make_directions, recipe

from .._formula import callback, train
from .._steps import BATCH, Automatic, X, Y


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_known_to_each_face(kind: str, tmp_path: Path) -> None:
    net = nn.Linear(6, 2)
    directions = make_directions(kind, normalize="layer", ignore=None, orthogonalize=True, seed=3)
    assert len(checked_directions(directions, Site.at(Snapshot.of(net), net, None, []), 2)) == 2
    assert recipe(directions) == json.loads(json.dumps(recipe(directions)))
    assert recipe(directions)["kind"] == kind
    plain = LossLandscape(net, DataLoader(TensorDataset(X, Y), BATCH), nn.CrossEntropyLoss(), seed=3)
    plain.compute_2d((-1, 1, 3), (-1, 1, 3), directions=kind, save=False)
    assert plain.landscape.recipe.directions.kind == kind
    own = callback(directions=kind)
    train(Automatic(), [DataLoader(TensorDataset(X, Y), BATCH)], [own], tmp_path)
    assert own.landscape is not None
    assert own.landscape.recipe.directions.kind == kind


@pytest.mark.filterwarnings("ignore")  # jsonargparse warns of versions
def test_the_command_line_takes_every_kind() -> None:
    from lightning.pytorch.cli import LightningArgumentParser

    declared = typing.get_type_hints(LossLandscapeCallback.__init__)["directions"]
    assert typing.get_args(typing.get_args(declared)[0]) == tuple(KINDS)
    parser = LightningArgumentParser()
    parser.add_class_arguments(LossLandscapeCallback, "callback")
    for kind in KINDS:
        assert parser.parse_args([f"--callback.directions={kind}"]).callback.directions == kind


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
    own = callback(directions=kind, every_n_epochs=None)
    train(module, [DataLoader(TensorDataset(X, Y), BATCH)], [own], tmp_path)
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
