"""History: lengths and angles against flat vectors in NumPy, and rows of 40 bytes."""

import numpy as np
import pytest
import torch

from lightning_landscape.paths.history import ROW, History, lengths


@pytest.mark.parametrize("size", [1, 1000, 2**15, 100_003])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lengths_are_those_of_flat_vectors(size: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(size)
    first = torch.randn(size, generator=generator, dtype=dtype)
    earlier = first + 0.1 * torch.randn(size, generator=generator, dtype=dtype)
    before = earlier + 1e-4 * torch.randn(size, generator=generator, dtype=dtype)
    weights = before + 1e-4 * torch.randn(size, generator=generator, dtype=dtype)
    exact = [tensor.double().numpy() for tensor in (weights, first, before, earlier)]
    step, other = exact[0] - exact[2], exact[2] - exact[3]
    found = lengths(weights, first, before, earlier)
    expected = {
        "norm": np.linalg.norm(exact[0]),
        "distance": np.linalg.norm(exact[0] - exact[1]),
        "step_length": np.linalg.norm(step),
        "cosine": step @ other / np.linalg.norm(step) / np.linalg.norm(other),
    }
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_what_is_not_known_is_not_there() -> None:
    one = torch.ones(3)
    assert lengths(one, one).keys() == {"norm", "distance"}
    assert lengths(one, one, one).keys() == {"norm", "distance", "step_length"}
    assert "cosine" not in lengths(one, one, one, one)  # two steps of length 0 have no angle


def test_rows_are_40_bytes_and_come_back() -> None:
    history = History()
    history.add(0, norm=2.0, distance=0.0, learning_rate=0.1)
    history.add(7, norm=2.5, distance=1.0, step_length=1 / 3, cosine=0.5, learning_rate=0.1, loss=1.5)
    assert ROW.itemsize == 40
    assert history.state().numel() == 80
    again = History()
    again.load(history.state())
    columns = again.columns
    assert columns["step"].tolist() == [0, 7]
    assert columns["step_length"][1] == 1 / 3  # in float64
    assert np.isnan(columns["loss"][0])
    again.add(8, norm=1.0)
    assert len(again) == 3
