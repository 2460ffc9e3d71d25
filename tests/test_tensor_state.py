"""Tensors and TorchScript modules are put back in place, whatever was done to them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_landscape.isolation.tensor_state import SavedTensors, ScriptState

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*torch.jit", "ignore:Converting a tensor"
)

EDITS: dict[str, Callable[[Tensor], Any]] = {
    "values": lambda t: t.mul_(3),
    "size": lambda t: t.resize_(7).fill_(1),
    "to nothing": lambda t: t.resize_(0),
    "memory": lambda t: setattr(t, "data", torch.ones(9)),
    "same memory, other shape": lambda t: setattr(t, "data", t.data.view(2, 2)),
    "transposed": lambda t: t.as_strided_((2, 2), (1, 2)),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("edit", EDITS)
def test_a_tensor_is_put_back_in_its_memory(edit: str, mode: Any) -> None:
    tensor = torch.arange(4.0)
    view, place = tensor[:2], tensor.data_ptr()
    state = SavedTensors([tensor])
    for _ in range(2):
        with mode():
            EDITS[edit](tensor)
            state.restore()
        assert tensor.tolist() == [0, 1, 2, 3]
        assert tensor.data_ptr() == place or edit == "size"  # a block that grows may move
    tensor.add_(1)  # no tensor of the inference mode
    assert view.tolist() == [1, 2]


def test_tensors_that_begin_empty_repeat_their_values_or_have_none() -> None:
    empty, repeated = torch.empty(0), torch.ones(1).expand(3)
    sparse, unknown = torch.eye(2).to_sparse(), torch.ones(2, device="meta")
    state = SavedTensors([empty, repeated, sparse, unknown])
    empty.resize_(3).fill_(1)
    repeated[:1].fill_(5)
    sparse.mul_(2)
    state.restore()
    assert (empty.numel(), repeated.tolist()) == (0, [1, 1, 1])
    assert sparse.to_dense().tolist() == [[1, 0], [0, 1]]


class Counts(nn.Module):
    """State of every kind that TorchScript knows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.calls = nn.Linear(2, 2), nn.BatchNorm1d(2), 0
        self.register_buffer("total", torch.zeros(()))
        self.edited, self.rebound = torch.ones(2), torch.ones(2)
        self.numbers = torch.jit.Attribute([], list[int])
        self.tensors = torch.jit.Attribute([], list[Tensor])
        self.table = torch.jit.Attribute({}, dict[str, int])

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.total += 1
        self.edited += 1
        self.rebound = self.rebound + 1
        self.numbers.append(self.calls)
        self.tensors.append(x)
        self.table["a"] = self.calls
        return self.norm(self.linear(x))


def held(module: Any) -> list[Any]:
    tensors = [tensor.tolist() for tensor in (module.total, module.edited, module.rebound, *module.buffers())]
    return [module.calls, module.numbers, len(module.tensors), module.table, *tensors]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_scripted_module_is_put_back(mode: Any) -> None:
    module = copy.deepcopy(torch.jit.script(Counts()))
    before, flags = held(module), [part.training for part in module.modules()]
    state = ScriptState(module)
    for _ in range(2):
        with mode():
            module(torch.randn(3, 2))
            module.eval()
            assert held(module) != before
            state.restore()
        assert held(module) == before
        assert [part.training for part in module.modules()] == flags == [True] * 3


def test_a_traced_module_is_put_back() -> None:
    module = nn.Sequential(torch.jit.trace(nn.BatchNorm1d(2), torch.randn(3, 2)))
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    state = ScriptState(module)
    module(torch.randn(3, 2))
    module.eval()
    assert not torch.equal(module[0].running_mean, before["0.running_mean"])
    state.restore()
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())
    assert module[0].training
