"""The settings of float32 matrix products, old and new, are afterwards as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_landscape import LossLandscape
from lightning_landscape.accelerations import ACCELERATIONS
from lightning_landscape.evaluators import Sequential
from lightning_landscape.isolation.precision import matmul_precision, preserve_matmul_precision

from ._formula import callback, train
from .test_tolerance import Net, loader

NEW = pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="this torch knows one setting for all backends"
)


def state() -> list[Any]:
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        return [matmul_precision()]
    return [matmul_precision(), torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision]


@pytest.fixture(autouse=True)
def as_in_a_new_process() -> Iterator[None]:
    before = state()
    yield
    torch.set_float32_matmul_precision(before[0])
    for backend, value in zip((torch.backends.cuda, torch.backends.mkldnn), before[1:], strict=False):
        backend.matmul.fp32_precision = value
    assert state() == before


def test_the_word_is_put_back() -> None:
    before = state()
    assert before[0] == "highest"
    with pytest.raises(KeyError), preserve_matmul_precision():  # noqa: PT012
        torch.set_float32_matmul_precision("medium")
        assert state() != before
        raise KeyError
    assert state() == before


@NEW
@pytest.mark.parametrize("word, backend, value", [("high", "cuda", "ieee"), ("highest", "mkldnn", "bf16")])
def test_backends_that_were_set_one_by_one_stay_so(word: str, backend: str, value: str) -> None:
    torch.set_float32_matmul_precision(word)
    getattr(torch.backends, backend).matmul.fp32_precision = value
    before = state()
    for inside in (lambda: None, lambda: torch.set_float32_matmul_precision("medium")):
        with preserve_matmul_precision():
            inside()
        assert state()[1:] == before[1:]


@NEW
def test_a_training_whose_backends_were_set_one_by_one_has_its_landscape(tmp_path: Path) -> None:
    """Torch has no word for such settings and raises where it is asked for one."""
    torch.backends.mkldnn.matmul.fp32_precision = "tf32"
    before = state()
    assert before[0] is None
    landscapes = callback()
    train(Net(), [loader(), loader(16)], [landscapes], tmp_path)
    assert state() == before
    assert landscapes.landscape is not None
    assert landscapes.landscape.evaluated.all()
    data = DataLoader(TensorDataset(torch.ones(4, 2), torch.zeros(4, 1)))
    alone = LossLandscape(nn.Linear(2, 1), data, nn.MSELoss(), surf_file=tmp_path / "a.h5")
    assert np.isfinite(alone.compute_1d(xrange=(-1, 1, 5))["losses"]).all()
    with ExitStack() as stack, pytest.raises(ValueError, match="set for each backend already"):
        stack.enter_context(ACCELERATIONS["fast_matmul"].use(Sequential(nn.Linear(2, 1)), []))
    assert state() == before
