"""Parts of the seal by themselves: what it keeps of a tensor, and puts back."""

from __future__ import annotations

import pytest
import torch

from lightning_landscape import LossLandscapeCallback
from lightning_landscape.trainer import compat
from lightning_landscape.trainer.unchanged import _TensorState


@pytest.mark.filterwarnings("ignore:.*quantiz")
def test_a_quantized_tensor_is_put_back() -> None:
    tensor = torch.quantize_per_tensor(torch.tensor([0.1, -0.2, 0.3]), 0.1, 0, torch.qint8)
    state = _TensorState("weight", tensor)
    state.copy_to(torch.empty(state.nbytes, dtype=torch.uint8))
    assert state.is_unchanged()
    tensor.copy_(torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8))
    assert not state.is_unchanged()
    state.restore()
    assert state.is_unchanged()
    assert tensor.int_repr().tolist() == [1, -2, 3]


def test_a_callback_of_ours_is_not_copied_with_its_landscapes() -> None:
    callback = LossLandscapeCallback()
    assert compat._callback_copy(callback) is callback
