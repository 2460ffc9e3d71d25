"""Directions from data and records in two processes: the same on both, and those of one; or refused in words."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape import Snapshot
from lightning_landscape.directions import PCA
from lightning_landscape.weights.parameters import checksum

from . import _processes
from ._directions import Net, records
from ._two_processes import numbers


def run(out: Path, mode: str) -> list[dict[str, Any]]:
    """What the ranks wrote."""
    _processes.run("_directions", out, mode)
    return [pickle.loads((out / f"rank{rank}.pickle").read_bytes()) for rank in (0, 1)]


def test_ranks_share_directions_that_are_computed_from_data(tmp_path: Path) -> None:
    first, second = run(tmp_path / "out", "ddp")
    for kind in ("gradient", "update", "pca", "mixed", "hessian"):
        assert first[kind][0].kind == kind
        assert first[kind][0] == second[kind][0]
        assert first[kind][0].labels
        np.testing.assert_array_equal(first[kind][1], second[kind][1])
    assert first["pca"][0].settings["recorded"] == 5

    # The gradient is that of one process on all data.
    assert (len(first["calls"]), len(second["calls"])) == (1, 0)
    module = Net()
    module.load_state_dict(first["weights"])
    inputs, labels = numbers(37).tensors
    nn.functional.cross_entropy(module.net(inputs), labels).backward()
    expected = torch.cat([p.grad.reshape(-1) for p in module.parameters()])
    direction = torch.cat([first["calls"][0][0][name].reshape(-1) for name, _ in module.named_parameters()])
    torch.testing.assert_close(direction / direction.norm(), expected / expected.norm())


@pytest.fixture
def _has_fsdp() -> None:
    pytest.importorskip("lightning.pytorch.strategies.model_parallel", reason="Lightning before 2.4 has no FSDP2")
    if not hasattr(torch.distributed.fsdp, "fully_shard"):
        pytest.skip("torch before 2.6 has fully_shard elsewhere")


@pytest.mark.usefixtures("_has_fsdp")
@pytest.mark.parametrize("kind", ["gradient", "update", "hessian"])
def test_gradients_of_sharded_parameters_are_refused_before_the_training(tmp_path: Path, kind: str) -> None:
    for rank in run(tmp_path / "out", kind):
        assert "parameters are sharded (FSDP2) is not supported" in rank["refused"]


@pytest.mark.usefixtures("_has_fsdp")
def test_principal_components_of_sharded_parameters_are_those_of_whole_ones(tmp_path: Path) -> None:
    from ._sharded import Net as Whole

    first, second = run(tmp_path / "out", "pca")
    assert first["pca"][0] == second["pca"][0]
    module = Whole("one")
    expected = PCA(records(module), ignore="biasbn")(Snapshot.of(module), 2)
    assert first["pca"][0].checksum == checksum(d[name] for d in expected for name in expected[0])
