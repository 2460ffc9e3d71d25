"""The Gram matrix of records that are read from a file at each index."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from lightning_landscape.directions import PCA
from lightning_landscape.directions.gram import gram_matrix
from lightning_landscape.weights.parameters import Snapshot


class Files(Sequence[Any]):
    """Records that exist while they are used."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.reads, self.living, self.most = rows, 0, 0, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, t: Any) -> Any:
        assert isinstance(t, int)
        self.reads += 1
        self.living += 1
        self.most = max(self.most, self.living)
        record = Record(w=torch.tensor(self.rows[t]))
        record.files = self
        return record


class Record(dict):
    """One that tells when it goes."""

    def __del__(self) -> None:
        self.files.living -= 1


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(11, 40))


@pytest.mark.parametrize("per_block", [2, 3, 5, 20])
def test_blocks_give_the_inner_products_of_the_differences(rows, per_block):
    expected = (rows - rows[-1]) @ (rows - rows[-1]).T
    files = Files(rows)
    np.testing.assert_allclose(gram_matrix(files, ["w"], per_block * 40 * 8), expected, atol=1e-12)
    assert files.most <= 2 * per_block + 1


def test_few_records_are_in_memory_at_once(rows):
    files = Files(rows)
    lazy = PCA(files)
    d, e = lazy(Snapshot({"w": torch.tensor(rows[-1])}), 2)
    _, _, axes = np.linalg.svd(rows - rows.mean(0))
    np.testing.assert_allclose(abs(np.stack([d["w"], e["w"]]) @ axes[:2].T), np.eye(2), atol=1e-9)
    assert files.living == 0
