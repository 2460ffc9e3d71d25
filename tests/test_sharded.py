"""Two processes that share the parameters (FSDP2, gloo): the surface is that of one, the training stays the same."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from lightning_landscape import LossLandscapeCallback, load

from . import _processes
from ._training import differences
from ._two_processes import numbers

TRAINING = (
    "weights", "grads", "optimizer", "rows", "metrics", "flags", "notes", "python state", "torch", "numpy", "python"
)  # fmt: skip


def run(out: Path, mode: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What the ranks wrote, and their standard errors."""
    errors = _processes.run("_sharded", out, mode)
    return [pickle.loads((out / f"rank{rank}.pickle").read_bytes()) for rank in (0, 1)], errors


def different(some: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[str]:
    """Where two trainings differ in a bit, on any rank."""
    return [d for a, b in zip(some, others, strict=True) for key in TRAINING for d in differences(a[key], b[key], key)]


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The training without the callback."""
    pytest.importorskip("lightning.pytorch.strategies.model_parallel", reason="Lightning before 2.4 has no FSDP2")
    if not hasattr(torch.distributed.fsdp, "fully_shard"):
        pytest.skip("torch before 2.6 has fully_shard elsewhere")
    return run(tmp_path_factory.mktemp("without") / "out", "without")[0]


class PutBack(L.Callback):
    """Gives the module the weights and the python state that another training has ended with."""

    def __init__(self, weights: Path, state: Any) -> None:
        self.weights, self.state = torch.load(weights), state

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.load_state_dict(self.weights)
        for block, (calls, seen) in zip((pl_module.net[0], pl_module.net[4]), self.state[1], strict=True):
            block.calls, block.seen = calls, seen


def test_the_surface_is_that_of_one_process_and_the_training_is_the_same(tmp_path: Path, without: Any) -> None:
    from ._sharded import LEVELS, SETTINGS, Net

    ranks, _ = run(tmp_path / "out", "with")
    assert different(ranks, without) == []
    first, second = (rank["landscape"] for rank in ranks)
    assert [rank["steps"] for rank in ranks] == [[3, 6]] * 2
    assert first["done"] == second["done"] == 20
    assert differences(first["values"], second["values"]) == []
    assert [rank["core"] for rank in ranks] == [[], []]

    callback = LossLandscapeCallback(plots=[], strict=True, **SETTINGS)
    levels = LossLandscapeCallback(plots=[], strict=True, **LEVELS)
    put_back = PutBack(tmp_path / "out" / "weights.pt", ranks[0]["python state"])
    L.Trainer(
        max_steps=1, accelerator="cpu", logger=False, callbacks=[callback, levels, put_back],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    ).fit(Net("one"), DataLoader(numbers(37), 8), DataLoader(numbers(21), 8))  # fmt: skip
    alone = callback.landscape
    assert alone is not None
    assert alone.samples is not None
    assert alone.values.keys() == first["values"].keys()
    for name, array in alone.values.items():
        np.testing.assert_allclose(first["values"][name], array, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(first["samples"], alone.samples.values, rtol=1e-6)
    for entry in ("module", "weights_checksum", "directions", "samples", "tiles"):
        assert getattr(first["recipe"], entry) == getattr(alone.recipe, entry), entry
    checksums = [{name: data.checksum for name, data in r.data.items()} for r in (first["recipe"], alone.recipe)]
    assert checksums[0] == checksums[1]
    files = load(tmp_path / "out" / "files" / "step=000006" / "landscape.h5")
    assert np.array_equal(files.loss, first["values"]["train_loss"])

    coarse = levels.landscape
    assert coarse is not None
    assert 0.1 < coarse.interpolated.mean() < 0.9
    for rank in ranks:
        np.testing.assert_array_equal(rank["levels"].interpolated, coarse.interpolated)
        np.testing.assert_array_equal(rank["levels"].loss, ranks[0]["levels"].loss)
        np.testing.assert_allclose(rank["levels"].loss, coarse.loss, rtol=1e-6)
        assert rank["timed"].evaluated.sum() == 20
        assert rank["timed"].done.all()
        np.testing.assert_array_equal(rank["timed"].loss, ranks[0]["timed"].loss)


@pytest.mark.parametrize("mode", ["one rank fails", "all ranks fail"])
def test_an_error_in_the_middle_of_a_forward_pass_costs_the_landscape_only(
    tmp_path: Path, without: Any, mode: str
) -> None:
    ranks, errors = run(tmp_path / "out", mode)
    assert different(ranks, without) == []
    assert [rank["steps"] for rank in ranks] == [[], []]
    told = "rank 1 failed with RuntimeError: in the middle" if mode.startswith("one") else "RuntimeError: in the middle"
    assert told in errors[0]


def test_a_signal_to_one_rank_stops_all_at_the_same_point(tmp_path: Path, without: Any) -> None:
    ranks, _ = run(tmp_path / "out", "one rank is told to stop")
    assert different(ranks, without) == []
    first, second = (rank["landscape"] for rank in ranks)
    assert 0 < first["done"] == second["done"] < 20


@pytest.mark.parametrize("name", ["FSDPStrategy", "DeepSpeedStrategy", "XLAStrategy", "XLAFSDPStrategy"])
def test_other_ways_to_shard_are_refused_at_setup(tmp_path: Path, name: str) -> None:
    from ._training import Net, loaders

    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, callbacks=[LossLandscapeCallback()], default_root_dir=tmp_path
    )
    trainer.strategy.__class__ = type(name, (type(trainer.strategy),), {})
    with pytest.raises(MisconfigurationException, match=f"{name} keeps the parameters where.*ModelParallelStrategy"):
        trainer.fit(Net(), *loaders())
