"""Sharded tensors with one process: what FSDP2 keeps is put back; two processes stand in test_sharded.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lightning_landscape import Random, Snapshot
from lightning_landscape.isolation.module_copy import TREE, ModuleCopier
from lightning_landscape.weights.parameters import checksum, filter_norms
from lightning_landscape.weights.sharding import (
    FSDPState,
    author_class,
    cut,
    fsdp_parts,
    is_sharded,
    local,
    whole,
    zero,
)


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Any]:
    """A mesh of this process alone."""
    if not hasattr(pytest.importorskip("torch.distributed.fsdp"), "fully_shard"):
        pytest.skip("torch before 2.6 has fully_shard elsewhere")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        yield torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


class Stumbles(nn.Linear):
    """Raises in the middle of a forward pass when told to."""

    stumbles = False

    def forward(self, x: Tensor) -> Tensor:
        if self.stumbles:
            raise RuntimeError("in the middle")
        return super().forward(x)


def net(mesh: Any) -> nn.Sequential:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), Stumbles(4, 2))
    for part in (*module, module):
        torch.distributed.fsdp.fully_shard(part, mesh=mesh, reshard_after_forward=False)
    return module


def test_a_plain_tensor_is_its_own_whole_and_part() -> None:
    tensor = torch.ones(2, 3)
    assert whole(tensor) is tensor
    assert cut(tensor, like=torch.zeros(2, 3)) is tensor
    assert local(tensor).data_ptr() == tensor.data_ptr()
    assert not is_sharded(nn.Linear(2, 3))


def test_a_tensor_is_cut_as_another_is_and_made_whole_again(mesh: Any) -> None:
    weight = net(mesh)[0].weight
    numbers = torch.arange(12.0).reshape(4, 3)
    part = cut(numbers, like=weight)
    assert part.placements == weight.placements
    assert torch.equal(whole(part), numbers)
    assert torch.equal(whole(zero(weight, torch.float32)), torch.zeros(4, 3))
    assert local(zero(weight, torch.float32)).stride() == (0, 0)


def test_a_sharded_module_has_the_directions_of_the_same_module_unsharded(mesh: Any) -> None:
    module = net(mesh)
    single = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    single.load_state_dict({name: whole(tensor) for name, tensor in module.state_dict().items()})
    snapshots = Snapshot.of(module), Snapshot.of(single)
    one, other = (Random(seed=3, ignore=None)(snapshot, 2) for snapshot in snapshots)
    for d, e in zip(one, other, strict=True):
        assert all(torch.equal(whole(d[name]), e[name]) for name in e)
    assert checksum(snapshots[0].params.values()) == checksum(snapshots[1].params.values())
    name = "0.weight"
    norms = [filter_norms(s.params[name], s.filters[name]) for s in snapshots]
    assert torch.equal(*norms)


@pytest.mark.parametrize("warmed_up", [False, True])
def test_fsdp_is_put_back_after_an_error_in_the_middle_of_a_forward_pass(mesh: Any, warmed_up: bool) -> None:
    module, x = net(mesh), torch.ones(5, 3)
    if warmed_up:
        module(x).sum().backward()
    state = FSDPState(module)
    before = [(dict(worn), dict(saved)) for worn, saved in state._objects]
    module[1].stumbles = True
    with torch.no_grad(), pytest.raises(RuntimeError, match="in the middle"):
        module(x)
    state.restore()
    module[1].stumbles = False
    assert all(hasattr(p, "full_tensor") for p in module.parameters())
    assert all(worn == saved for (worn, saved) in before)
    assert all(dict(worn) == was for (worn, _), (was, _) in zip(state._objects, before, strict=True))

    with torch.no_grad():  # what is written into a part is what the next pass gathers
        for p in module.parameters():
            local(p).zero_()
        assert torch.equal(module(x), torch.zeros(5, 2))


def test_the_hooks_of_fsdp_are_not_pointed_at_copies(mesh: Any) -> None:
    """Those of a group share a set, of which each would get a copy of its own."""
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    torch.distributed.fsdp.fully_shard(list(module), mesh=mesh)
    before = [hook for part in module for hook in part._forward_pre_hooks.values()]
    notes = [part._get_fsdp_state() for part in fsdp_parts(module)]
    copier = ModuleCopier(module, {id(note): note for note in notes}, in_place=True)
    worn = [copier.attributes({k: v for k, v in vars(part).items() if k not in TREE}, "self") for part in module]
    assert len(before) == 2
    assert [hook for attributes in worn for hook in attributes["_forward_pre_hooks"].values()] == before


def test_the_class_of_a_module_is_that_of_its_author(mesh: Any) -> None:
    module = net(mesh)
    assert [author_class(part) for part in module.modules()] == [nn.Sequential, nn.Linear, Stumbles]
    assert len(fsdp_parts(module)) == 3
