"""What a step leaves in its module's attributes is put back, in place."""

import copy
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from lightning_landscape.isolation.copying import LIMITS
from lightning_landscape.isolation.module_state import PythonState


class Part(nn.Module):
    """A module whose attributes are given."""

    def __init__(self, **attributes):
        super().__init__()
        self.register_buffer("buffer", torch.zeros(2))
        self.weight = nn.Parameter(torch.zeros(2))
        for name, value in attributes.items():
            setattr(self, name, value)


EDITS = {
    "list": ([1, 2], lambda m: m.x.append(3)),
    "emptied list": ([1, 2], lambda m: m.x.clear()),
    "nested list": ([[1], [2]], lambda m: m.x[1].append(3)),
    "dict": ({"a": 1, "b": 2}, lambda m: m.x.update(a=5, c=6)),
    "dict of lists": ({"a": [1]}, lambda m: m.x["a"].append(2)),
    "defaultdict": (defaultdict(list, a=[1]), lambda m: m.x["new"].append(2)),
    "ordered dict": (OrderedDict(a=1, b=2), lambda m: m.x.move_to_end("a")),
    "counter": (Counter(a=3), lambda m: m.x.update(a=4, b=1)),
    "set": ({1, 2}, lambda m: m.x.add(3)),
    "full deque": (deque([1, 2, 3], maxlen=3), lambda m: m.x.append(4)),
    "number": (7, lambda m: setattr(m, "x", m.x + 1)),
    "text": ("a", lambda m: setattr(m, "x", m.x + "b")),
    "rebound list": ([1], lambda m: setattr(m, "x", [*m.x, 2])),
    "removed": ([1], lambda m: delattr(m, "x")),
    "long list": (list(range(LIMITS.items + 50)), lambda m: m.x.pop()),
}


@pytest.mark.parametrize("case", EDITS)
def test_every_edit_is_undone_in_place(case):
    value, edit = EDITS[case]
    value = copy.deepcopy(value)
    before = copy.deepcopy(value)
    module = Part(x=value)
    state = PythonState(module)
    for _ in range(3):  # as often as there are points
        edit(module)
        assert "x" not in vars(module) or module.x != before or module.x is not value
        state.restore()
        assert module.x is value
        assert module.x == before
        assert type(module.x) is type(before)
        assert list(module.x) == list(before) if hasattr(before, "__iter__") else True


def test_attributes_added_later_are_removed_in_every_part():
    module = Part(inner=Part())
    state = PythonState(module)
    module.new = 1
    module.inner.other = [2]
    state.restore()
    assert not hasattr(module, "new")
    assert not hasattr(module.inner, "other")


def test_a_tensor_attribute_is_restored_edited_or_rebound():
    tensor = torch.tensor([1.0, 2.0])
    module = Part(x=tensor, held=[torch.tensor([5.0])])
    state = PythonState(module)
    module.x.add_(1)
    module.held[0].mul_(2)
    state.restore()
    assert module.x is tensor
    assert module.x.tolist() == [1, 2]
    assert module.held[0].tolist() == [5]
    module.x = module.x + 1
    state.restore()
    assert module.x is tensor
    assert module.x.tolist() == [1, 2]


def test_a_torch_generator_draws_the_same_again():
    module = Part(generator=torch.Generator().manual_seed(3))
    state = PythonState(module)
    first = torch.rand(3, generator=module.generator)
    state.restore()
    assert torch.equal(torch.rand(3, generator=module.generator), first)


def test_a_numpy_generator_draws_the_same_again():
    module = Part(rng=np.random.default_rng(3))
    state = PythonState(module)
    first = module.rng.random(3).tolist()
    state.restore()
    assert module.rng.random(3).tolist() == first


def test_a_python_generator_draws_the_same_again():
    module = Part(rng=random.Random(3))
    state = PythonState(module)
    first = module.rng.random()
    state.restore()
    assert module.rng.random() == first


def test_a_numpy_array_edited_in_place_is_restored():
    module = Part(counts=np.zeros(3))
    state = PythonState(module)
    module.counts[1] += 1
    state.restore()
    assert module.counts.tolist() == [0, 0, 0]


def test_parameters_buffers_and_mode_are_left_to_the_evaluator():
    module = Part()
    state = PythonState(module)
    module.weight.data.fill_(3)
    module.buffer.fill_(4)
    module.eval()
    state.restore()
    assert module.weight.tolist() == [3, 3]
    assert module.buffer.tolist() == [4, 4]
    assert not module.training


def test_the_attributes_of_torchs_own_layers_are_left_alone():
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))
    state = PythonState(module)
    module[1].p = 0.5
    state.restore()
    assert module[1].p == 0.5


def test_the_log_that_replaces_lightnings_stays():
    module = Part()
    state = PythonState(module)
    module.log = print
    state.restore()
    assert module.log is print


def test_a_container_that_holds_itself_ends():
    loop: list = []
    loop.append(loop)
    module = Part(x=loop)
    state = PythonState(module)
    module.x.append(1)
    state.restore()
    assert len(module.x) == 1
    assert module.x[0] is module.x


def test_state_made_before_is_restored_under_inference_mode():
    module = Part(x=torch.zeros(2))
    state = PythonState(module)
    with torch.inference_mode():
        module.x += 1
        state.restore()
    assert module.x.tolist() == [0, 0]


def test_a_tracker_that_is_shared_with_the_original_is_no_state_of_the_step(monkeypatch):
    tracker = ModuleType("wandb.sdk.wandb_run")
    tracker.Run = type("Run", (), {})
    monkeypatch.setitem(sys.modules, tracker.__name__, tracker)
    module = Part(run=tracker.Run())
    state = PythonState(module)
    module.run.step = 5
    state.restore()
    assert module.run.step == 5
