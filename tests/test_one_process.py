"""A world of one process inside of several: torch's fake group of four stands for the others, and never waits."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
import torch.distributed.nn.functional as differentiable
from torch import Tensor, nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from lightning_landscape.distributed.collectives import CollectiveError
from lightning_landscape.distributed.one_process import (
    OneProcessObjective,
    alone,
    forget_ranks,
    one_process,
    several_processes,
)
from lightning_landscape.objectives.base import Batch, LossFunction

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*autograd kernel was not registered"),
]


@pytest.fixture
def four() -> Iterator[None]:
    """This process as rank 1 of 4."""
    dist.init_process_group("fake", rank=1, world_size=4, store=FakeStore())
    yield
    dist.destroy_process_group()


def numbers(rows: int = 4) -> Tensor:
    return torch.arange(3.0 * rows).reshape(rows, 3) + 1


def size() -> int:
    return dist.get_world_size()


def edited(collective: Callable[[Tensor], Any]) -> Callable[[], Tensor]:
    def call() -> Tensor:
        x = numbers()
        handle = collective(x)
        if handle is not None:
            handle.wait()
        return x

    return call


def filled(shape: tuple[int, ...], collective: Callable[[Tensor, Tensor], Any]) -> Callable[[], Tensor]:
    def call() -> Tensor:
        collective(out := torch.zeros(shape), numbers())
        return out

    return call


def listed(collective: Callable[[list[Tensor], Tensor], Any]) -> Callable[[], Tensor]:
    def call() -> Tensor:
        collective(out := [torch.zeros(4, 3) for _ in range(size())], numbers())
        return torch.stack(out)

    return call


def objects(collective: Callable[[list[Any]], Any]) -> Callable[[], list[Any]]:
    def call() -> list[Any]:
        collective(out := [None] * size())
        return out

    return call


def coalesced() -> Tensor:
    x = numbers()
    with dist._coalescing_manager():
        dist.all_reduce(x)
    return x


def world() -> Any:
    return dist.group.WORLD


def waited(collective: Callable[[Tensor], Any]) -> Callable[[], Tensor]:
    return lambda: functional.wait_tensor(collective(numbers())).clone()


def with_gradient(collective: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
    def call() -> Tensor:
        x = numbers().requires_grad_()
        return torch.autograd.grad(collective(x).square().sum(), x)[0]

    return call


# All of these can be asked of a true group of one process, too.
CALLS: dict[str, Callable[[], Any]] = {
    "all_reduce": edited(lambda x: dist.all_reduce(x)),
    "all_reduce max": edited(lambda x: dist.all_reduce(x, op=dist.ReduceOp.MAX, async_op=True)),
    "all_reduce of the world": edited(lambda x: dist.all_reduce(x, group=dist.group.WORLD)),
    "all_reduce of a future": lambda: dist.all_reduce(numbers(), async_op=True).get_future().wait()[0],
    "reduce": edited(lambda x: dist.reduce(x, 0)),
    "broadcast": edited(lambda x: dist.broadcast(x, 0)),
    "coalescing": coalesced,
    "all_gather": listed(dist.all_gather),
    "all_gather_into_tensor": filled((4, 3), dist.all_gather_into_tensor),
    "gather": listed(lambda out, x: dist.gather(x, out, dst=0)),
    "scatter": filled((4, 3), lambda out, x: dist.scatter(out, [x], src=0)),
    "all_to_all_single": filled((4, 3), dist.all_to_all_single),
    "all_gather_object": objects(lambda out: dist.all_gather_object(out, {"rank": dist.get_rank()})),
    "gather_object": objects(lambda out: dist.gather_object("mine", out, dst=0)),
    "broadcast_object_list": objects(lambda out: dist.broadcast_object_list(out, src=0)),
    "barrier": lambda: dist.barrier(),
    "size and rank": lambda: (size(), dist.get_rank(), dist.get_process_group_ranks(world()), world().size()),
    "functional all_reduce": waited(lambda x: functional.all_reduce(x, "sum", world())),
    "functional all_gather": waited(lambda x: functional.all_gather_tensor(x, 0, world())),
    "functional all_gather of columns": waited(lambda x: functional.all_gather_tensor(x, 1, world())),
    "functional reduce_scatter": waited(lambda x: functional.reduce_scatter_tensor(x, "sum", 0, world())),
    "functional all_to_all": waited(lambda x: functional.all_to_all_single(x, [4], [4], world())),
    "functional broadcast": waited(lambda x: functional.broadcast(x, 0, world())),
    "functional, several": lambda: functional.wait_tensor(
        functional.all_reduce_coalesced([numbers()], "sum", world())[0]
    ).clone(),
    "differentiable all_reduce": with_gradient(lambda x: differentiable.all_reduce(x)),
    "differentiable all_gather": with_gradient(lambda x: torch.cat(differentiable.all_gather(x))),
    "differentiable broadcast": with_gradient(lambda x: differentiable.broadcast(x, 0)),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("inference", [False, True])
def test_a_collective_gives_what_a_true_group_of_one_process_gives(name: str, inference: bool) -> None:
    if inference and "differentiable" in name:
        pytest.skip("there are no gradients in inference mode")
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    try:
        expected = CALLS[name]()
    finally:
        dist.destroy_process_group()
    dist.init_process_group("fake", rank=1, world_size=4, store=FakeStore())
    try:
        with torch.inference_mode(inference), one_process(), alone():
            found = CALLS[name]()
    finally:
        dist.destroy_process_group()
    if isinstance(expected, Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "send": (lambda: dist.send(numbers(), 1), r"ProcessGroup\.send\. While a landscape"),
    "recv": (lambda: dist.recv(numbers(), 1), r"ProcessGroup\.recv\. While"),
    "recv of anybody": (lambda: dist.recv(numbers()), r"ProcessGroup\.recv_anysource\. While"),
    "another root": (lambda: dist.broadcast(numbers(), 2), r"ProcessGroup\.broadcast with rank 2 as the root"),
    "reduce to another": (lambda: dist.reduce(numbers(), 3), r"ProcessGroup\.reduce with rank 3 as the root"),
    "four outputs": (
        lambda: dist.all_gather([torch.zeros(4, 3) for _ in range(4)], numbers()),
        r"allgather with inputs of the shapes \[\(4, 3\)\] and outputs of the shapes \[\(4, 3\), \(4, 3\)",
    ),
    "long output": (
        lambda: dist.all_gather_into_tensor(torch.zeros(16, 3), numbers()),
        r"inputs of the shapes \[\(4, 3\)\] and outputs of the shapes \[\(16, 3\)\]",
    ),
    "functional root": (lambda: functional.broadcast(numbers(), 2, world()), r"broadcast with (rank )?2 as the root"),
    "functional size": (
        lambda: torch.ops._c10d_functional.all_gather_into_tensor(numbers(), 4, world().group_name),
        "all_gather_into_tensor with 4 as the number of processes",
    ),
    "new group": (lambda: dist.new_group(), r"torch\.distributed\.new_group"),
    "no more group": (lambda: dist.destroy_process_group(), r"(destroy_process_group|ProcessGroup\.\w+)\b"),
    "from C++": (lambda: dist._broadcast_coalesced(world(), [numbers()], 100, 0), r"torch\.ops\.c10d\.broadcast_"),
    "store": (lambda: world().get_group_store(), "ProcessGroup"),
}


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("name", REFUSED)
def test_what_no_single_process_can_do_is_refused_in_words(name: str) -> None:
    call, words = REFUSED[name]
    if name == "store" and not hasattr(dist.ProcessGroup, "get_group_store"):
        pytest.skip("this version of torch does not give it")
    if name in ("functional size", "from C++") and type(world()) is not dist.ProcessGroup:
        pytest.skip("the fake group of this version of torch is written in python")
    with one_process(), alone(), pytest.raises(CollectiveError, match=words):
        call()
    assert dist.get_world_size() == 4


@pytest.mark.usefixtures("four")
def test_every_method_of_a_group_acts_alone_or_is_refused_or_asks_nobody() -> None:
    with one_process(), alone():
        for name in ("abort", "_get_backend", "split_group", "a_new_method"):
            if name == "a_new_method" or not hasattr(dist.ProcessGroup, name):
                continue
            with pytest.raises(CollectiveError, match=f"ProcessGroup.{name}"):
                getattr(world(), name)(torch.device("cpu"))


@pytest.mark.usefixtures("four")
def test_groups_of_the_users_are_of_one_process_too() -> None:
    group, stored, bound = dist.new_group([1, 3]), world(), world().allreduce
    with one_process(), alone():
        assert (dist.get_world_size(group), dist.get_rank(group)) == (1, 0)
        assert dist.get_process_group_ranks(group) == [0]
        assert dist.get_global_rank(group, 0) == dist.get_group_rank(group, 0) == 0
        assert (stored.size(), stored.rank()) == (1, 0)
        dist.all_reduce(x := numbers(), group=group)
        assert torch.equal(x, numbers())
        if type(stored) is dist.ProcessGroup:  # in older versions it is written in python
            with pytest.raises(CollectiveError, match=r"torch\.ops\.c10d\.allreduce_"):
                bound([numbers()])  # a method that was taken before goes below those that are replaced
    assert (dist.get_world_size(group), dist.get_rank(group)) == (2, 0)


@pytest.mark.usefixtures("four")
def test_only_what_is_alone_is_in_one_process() -> None:
    with alone():
        assert dist.get_world_size() == 4  # nothing is prepared
    with one_process():
        assert (dist.get_world_size(), dist.get_rank()) == (4, 1)
        with alone():
            with alone():
                assert dist.get_world_size() == 1
            assert dist.get_world_size() == 1
        assert dist.get_world_size() == 4
        dist.all_reduce(x := numbers())  # the fake one leaves it as it is
        assert torch.equal(x, numbers())
        assert functional.wait_tensor(functional.all_reduce(x, "sum", world())).shape == (4, 3)


def everything_replaced() -> Any:
    """All that is replaced for a while, and what is registered at the dispatcher."""
    environment, state = type(os.environ), type(dist.distributed_c10d._world)
    mesh = dist.device_mesh.DeviceMesh
    tables = [
        torch._C._dispatch_dump(name)
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith(("c10d::", "_c10d_functional::", "symm_mem::", "_dtensor::"))
    ]
    return [dict(vars(owner)) for owner in (dist.ProcessGroup, environment, state, mesh)], tables


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("sharded", [False, True])
def test_everything_is_put_back_after_an_error_too(sharded: bool) -> None:
    before = everything_replaced()

    def fail() -> None:
        with one_process(sharded), alone():
            assert everything_replaced()[0] != before[0]
            raise KeyError("in the step")

    with pytest.raises(KeyError, match="in the step"):
        fail()
    assert everything_replaced() == before
    assert dist.get_world_size() == 4


@pytest.mark.usefixtures("four")
def test_other_threads_keep_the_world_and_those_of_the_step_do_not() -> None:
    found: dict[str, int] = {}
    may_look, has_looked = threading.Event(), threading.Event()

    def look(name: str) -> None:
        may_look.wait(30)
        found[name] = dist.get_world_size()
        dist.all_reduce(x := numbers())
        assert torch.equal(x, numbers())
        has_looked.set()

    before = threading.Thread(target=look, args=("before",))
    before.start()
    with one_process(), alone():
        may_look.set()
        assert has_looked.wait(30)
        inside = threading.Thread(target=look, args=("inside",))
        inside.start()
        inside.join()
    before.join()
    assert found == {"before": 4, "inside": 1}


class Asks(torch.autograd.Function):
    """Notes how many processes there are when its derivative is taken."""

    sizes: list[int]

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        Asks.sizes.append(dist.get_world_size())
        return gradient


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU"))])  # fmt: skip
def test_a_backward_pass_belongs_to_the_step(device: str) -> None:
    Asks.sizes = []
    x = torch.ones(3, device=device, requires_grad=True)
    Asks.apply(x).sum().backward()
    with one_process(), alone():
        Asks.apply(x).sum().backward()
    assert Asks.sizes == [4, 1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="SyncBatchNorm needs a GPU")
@pytest.mark.usefixtures("four")
def test_synchronised_batch_norm_in_train_mode_is_batch_norm() -> None:
    plain = nn.BatchNorm1d(3).cuda().train()
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm1d(3), process_group=dist.new_group([0, 1])).cuda()
    with one_process(), alone():
        assert torch.equal(synced(numbers().cuda()), plain(numbers().cuda()))
    assert torch.equal(synced.running_var, plain.running_var)


@pytest.mark.usefixtures("four")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nothing_is_compiled_for_one_process_and_nothing_for_several_is_used() -> None:
    share = torch.compile(lambda x: torch.ones_like(x) / dist.get_world_size(), backend="eager")
    shares = []
    with one_process(), torch.no_grad():
        for place in (alone, torch.no_grad, alone):
            with place():
                shares.append(float(share(torch.ones(1))))
    assert shares == [1, 0.25, 1]


@pytest.mark.usefixtures("four")
def test_the_environment_tells_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.delenv("RANK", raising=False)
    with one_process(), alone():
        assert (os.environ["WORLD_SIZE"], os.getenv("LOCAL_RANK"), os.environ.get("RANK", "unset")) == (
            "1",
            "0",
            "unset",
        )
    assert (os.environ["WORLD_SIZE"], os.environ["LOCAL_RANK"]) == ("4", "1")


@pytest.mark.usefixtures("four")
def test_places_give_what_they_would_in_one_process() -> None:
    class Launcher:
        count = property(lambda self: 7)

        def world_size(self) -> int:
            return 4

    class Own(Launcher):
        pass

    launcher = Own()
    with one_process(places=[(Own, {"world_size": 1, "count": 2})]):
        assert (launcher.world_size(), launcher.count) == (4, 7)
        with alone():
            assert (launcher.world_size(), launcher.count) == (1, 2)
    assert set(vars(Own)) & {"world_size", "count"} == set()


@pytest.mark.usefixtures("four")
def test_modules_forget_their_place_in_the_world_and_nothing_else() -> None:
    module = nn.ModuleList([nn.Identity() for _ in range(4)])
    vars(module[0]).update(world_size=4, rank=1, layers=4)
    vars(module[1]).update(rank=1)  # of a matrix, say
    vars(module[2]).update(hparams={"num_gpus": 4, "local_rank": 1, "depth": 1, 4: 4}, num_replicas=3)
    vars(module[3]).update(options=argparse.Namespace(world_size=4, rank=1, rank_of_matrix=1), world_sizes=[4, 4])
    forget_ranks(module)
    assert [vars(module[0])[name] for name in ("world_size", "rank", "layers")] == [1, 0, 4]
    assert module[1].rank == 1
    assert module[2].hparams == {"num_gpus": 1, "local_rank": 0, "depth": 1, 4: 4}
    assert module[2].num_replicas == 3
    assert vars(module[3].options) == {"world_size": 1, "rank": 0, "rank_of_matrix": 1}
    assert module[3].world_sizes == [4, 4]


@pytest.mark.usefixtures("four")
def test_an_objective_is_in_one_process_for_as_long_as_it_is_asked() -> None:
    class Told(LossFunction):
        def rehearse(self, module: nn.Module, batch: Batch) -> None:
            seen.append(dist.get_world_size())

        def start(self) -> None:
            seen.append(dist.get_world_size())

        def finish(self) -> dict[str, float]:
            return {"size": float(dist.get_world_size())}

    seen: list[int] = []
    objective = OneProcessObjective(Told(lambda module, batch: torch.tensor(float(dist.get_world_size())), "a"))
    batch = Batch(None, 1)
    with one_process():
        objective.rehearse(nn.Identity(), batch)
        objective.start()
        assert float(objective(nn.Identity(), batch)["a"].value) == 1
        assert objective.finish() == {"size": 1.0}
        assert dist.get_world_size() == 4
    assert seen == [1, 1]
    assert objective.divisible
    assert objective.main(["b", "a"]) == "a"


def test_one_process_alone_is_left_as_it_is() -> None:
    before = dict(vars(dist.ProcessGroup))
    assert not several_processes()
    with one_process(), alone():
        assert dict(vars(dist.ProcessGroup)) == before
