"""The samples of a batch: how many there are, and which."""

import pytest
import torch

from lightning_landscape.batch_samples import rows, size_of


@pytest.mark.parametrize("data, size", [((torch.zeros(3, 2), 1), 3), ({"s": torch.tensor(1.0)}, 1), ([], 1)], ids=str)
def test_the_size_is_that_of_the_first_tensor(data, size):
    assert size_of(data) == size


def test_rows_of_all_that_has_so_many():
    cut = rows({"x": torch.arange(4), "pair": [torch.arange(4), torch.zeros(2)], "n": "abcd"}, 1, 3, 4)
    assert cut["x"].tolist() == cut["pair"][0].tolist() == [1, 2]
    assert cut["pair"][1].tolist() == [0, 0]
    assert cut["n"] == "abcd"
