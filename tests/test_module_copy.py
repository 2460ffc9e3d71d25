"""A copy of a module uses its own parts wherever the original uses its own, and nothing of the original's."""

from __future__ import annotations

import functools
import gc
import io
import operator
import queue
import random
import sqlite3
import threading
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from lightning_landscape.isolation.copying import UncopyablePartError
from lightning_landscape.isolation.module_copy import UncopiedError, module_copy

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A layer, and something that leads to it."""

    def __init__(self, **held: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        for name, value in held.items():
            setattr(self, name, value)

    def run(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Owner:
    """An object of the user's that leads to a module, and refuses to be copied."""

    def __init__(self, net: Any) -> None:
        self.net = net
        self.function = lambda x: net.layer(x)

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("not me")


class Slots:
    __slots__ = ("__hidden", "net")

    def __init__(self, net: Any) -> None:
        self.net, self.__hidden = net, threading.Lock()

    def run(self, x: Tensor) -> Tensor:
        with self.__hidden:
            return self.net.run(x)


class Shared(Owner):
    """Says that its copy is itself, but leads to a part of the module."""

    def __deepcopy__(self, memo: Any) -> Any:
        return self


class RefusingDict(dict):  # type: ignore[type-arg]
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("not me")


def default_argument(net: Any) -> Any:
    def function(x: Tensor, owner: Any = net, *, other: Any = net) -> Tensor:
        return owner.layer(x) if other is owner else x

    return function


def local(net: Any) -> threading.local:
    result = threading.local()
    result.net = net
    return result


def wrapped(net: Any) -> Any:
    @functools.wraps(net.run)
    def function(x: Tensor) -> Tensor:
        return net.run(x)

    return function


# What a module may keep, made from it, and how it computes with that.
LEADS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    "function": (lambda net: lambda x: net.layer(x), lambda held, x: held(x)),
    "function in a list": (lambda net: [lambda x: net.layer(x)], lambda held, x: held[0](x)),
    "function in a dictionary": (lambda net: {"f": lambda x: net.layer(x)}, lambda held, x: held["f"](x)),
    "function in a tuple": (lambda net: (lambda x: net.layer(x), 1), lambda held, x: held[0](x)),
    "function in another's closure": (lambda net: wrapped(net), lambda held, x: held(x)),
    "function as a default": (lambda net: defaultdict(lambda: net.layer), lambda held, x: held[0](x)),
    "defaults": (default_argument, lambda held, x: held(x)),
    "partial": (lambda net: functools.partial(lambda x: net.layer(x)), lambda held, x: held(x)),
    "method": (lambda net: net.run, lambda held, x: held(x)),
    "methods": (lambda net: OrderedDict(f=net.run), lambda held, x: held["f"](x)),
    "vmap": (lambda net: torch.vmap(net.layer), lambda held, x: held(x)),
    "cached function": (lambda net: functools.lru_cache(net.run), lambda held, x: held(x.clone())),
    "weak reference": (lambda net: weakref.ref(net), lambda held, x: held().layer(x)),
    "weak method": (lambda net: weakref.WeakMethod(net.run), lambda held, x: held()(x)),
    "proxy": (lambda net: [weakref.proxy(net)], lambda held, x: held[0].layer(x)),
    "weak keys": (lambda net: weakref.WeakKeyDictionary({net.layer: 1}), lambda held, x: next(iter(held))(x)),
    "weak values": (lambda net: weakref.WeakValueDictionary(a=net.layer), lambda held, x: held["a"](x)),
    "weak set": (lambda net: weakref.WeakSet([net.layer]), lambda held, x: next(iter(held))(x)),
    "view": (lambda net: {"a": net.layer}.values(), lambda held, x: next(iter(held))(x)),
    "view of an ordered one": (lambda net: OrderedDict(a=net.layer).items(), lambda held, x: next(iter(held))[1](x)),
    "read-only mapping": (lambda net: MappingProxyType({"a": net.layer}), lambda held, x: held["a"](x)),
    "object that refuses": (Owner, lambda held, x: held.net.layer(x)),
    "function of an object that refuses": (Owner, lambda held, x: held.function(x)),
    "method of an object that refuses": (lambda net: Owner(net).net.run, lambda held, x: held(x)),
    "object with slots and a lock": (Slots, lambda held, x: held.run(x)),
    "object that shares itself": (Shared, lambda held, x: held.net.layer(x)),
    "dictionary that refuses": (lambda net: RefusingDict(a=net.layer), lambda held, x: held["a"](x)),
    "thread's own": (local, lambda held, x: held.net.layer(x)),
    "parameter as a key": (lambda net: {net.layer.weight: 1}, lambda held, x: x @ next(iter(held)).T),
}  # fmt: skip


@pytest.mark.parametrize("name", LEADS)
def test_what_leads_to_the_module_leads_to_the_copy(name: str) -> None:
    make, use = LEADS[name]
    net = Net()
    net.held = make(net)
    before = use(net.held, X).clone()
    twin = module_copy(net, {})
    gc.collect()  # what is held weakly only
    assert torch.equal(use(twin.held, X), before)
    with torch.no_grad():
        twin.layer.weight.mul_(2)
        twin.layer.bias.add_(1)
    assert torch.equal(use(net.held, X), before)
    assert not torch.allclose(use(twin.held, X), before)
    assert torch.equal(use(twin.held, X), use(make(twin), X))


def test_a_weak_reference_to_what_is_no_part_keeps_its_copy_alive() -> None:
    class Outside:
        number = 3

    outside = Outside()
    net = Net(ref=weakref.ref(outside), proxy=[weakref.proxy(outside)])
    twin = module_copy(net, {})
    gc.collect()
    assert twin.ref() is not outside
    assert twin.ref().number == twin.proxy[0].number == 3
    del outside
    assert module_copy(net, {}).ref() is None


class Counts:
    """State in every place where Python lets one keep it."""

    def __init__(self) -> None:
        calls, self.seen = 0, []

        def count() -> int:
            nonlocal calls
            calls += 1
            return calls

        def note(value: Any, notes: Any = []) -> Any:  # noqa: B006
            notes.append(value)
            return len(notes)

        self.count, self.note, self.append, self.functions = count, note, self.seen.append, {"count": count}
        self.local = threading.local()
        self.local.number = 0


def test_state_in_closures_defaults_and_methods_of_lists_is_the_copys_own() -> None:
    net = Net(held=Counts())
    twin = module_copy(net, {})
    assert (twin.held.count(), twin.held.functions["count"]()) == (1, 2)  # one cell for both
    twin.held.append(5)
    twin.held.local.number += 1
    assert twin.held.note(1) == 1
    assert (twin.held.seen, net.held.seen, net.held.local.number) == ([5], [], 0)
    assert net.held.count() == net.held.note(1) == 1


def test_what_hangs_on_tensors_and_is_left_out_of_pickles_is_copied() -> None:
    class Forgets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.lock = [2.0], threading.Lock()

        def __getstate__(self) -> Any:
            return {key: value for key, value in vars(self).items() if key not in ("scale", "lock")}

    net = Net(part=Forgets(), listed=[nn.Parameter(torch.ones(2))], cached=X.clone().requires_grad_() * 2)
    net.layer.weight.decays, net.layer.weight.group, net.listed[0].decays = False, [1], True  # type: ignore[attr-defined]
    twin = module_copy(net, {})
    assert (twin.layer.weight.decays, twin.layer.weight.group, twin.listed[0].decays) == (False, [1], True)
    assert twin.layer.weight.group is not net.layer.weight.group
    assert twin.part.scale == [2.0]
    assert twin.part.scale is not net.part.scale
    assert twin.part.lock is net.part.lock
    assert torch.equal(twin.cached, net.cached)
    assert twin.cached.grad_fn is None


class Refuses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("not me")

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class SharesItself(Refuses):
    def __deepcopy__(self, memo: Any) -> Any:
        return self


def traced() -> nn.Module:
    return fx.symbolic_trace(nn.Sequential(nn.Linear(4, 3)))


@pytest.mark.parametrize("make", [Refuses, SharesItself, traced])
def test_a_part_whatever_its_class_says_about_copies(make: Any) -> None:
    net = Net(part=make())
    net.tied = net.part.inner if hasattr(net.part, "inner") else net.part
    net.part.register_forward_hook(lambda module, inputs, output: output + net.layer(inputs[0]))
    twin = module_copy(net, {})
    assert not {id(p) for p in net.parameters()} & {id(p) for p in twin.parameters()}
    assert [name for name, _ in twin.named_parameters()] == [name for name, _ in net.named_parameters()]
    before = net.part(X).clone()
    assert torch.equal(twin.part(X), before)
    with torch.no_grad():
        twin.layer.weight.zero_()
        twin.layer.bias.zero_()
    assert torch.equal(net.part(X), before)
    assert torch.allclose(twin.part(X), before - net.layer(X))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*torch.jit")
@pytest.mark.parametrize("script", [torch.jit.script, lambda part: torch.jit.trace(part, X)], ids=["script", "trace"])
@pytest.mark.parametrize("first", [True, False])
def test_torchscript_shares_tensors_with_the_same_parts_as_before(script: Any, first: bool) -> None:
    net = Net()
    if first:
        net.layer, layer = None, net.layer  # type: ignore[assignment]
        net.compiled, net.layer = script(layer), layer
    else:
        net.compiled = script(net.layer)
    net.bias = [net.layer.bias]
    twin = module_copy(net, {})
    assert twin.compiled.weight is twin.layer.weight
    assert isinstance(twin.layer.weight, nn.Parameter)
    assert twin.bias[0] is twin.layer.bias
    assert len(list(twin.parameters())) == len(list(net.parameters())) == 2
    with torch.no_grad():
        twin.layer.weight.zero_()
    assert torch.equal(twin.compiled(X), twin.layer.bias.expand(5, 3))
    assert not torch.equal(net.compiled(X), net.layer.bias.expand(5, 3))


def forever() -> Any:
    while True:
        yield 1


UNCOPYABLE: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "generator": (forever, next),
    "database": (lambda: sqlite3.connect(":memory:"), lambda it: it.execute("select 1")),
    "cursor": (lambda: sqlite3.connect(":memory:").cursor(), list),
    "queue": (queue.SimpleQueue, lambda it: it.put(1)),
    "limited queue": (lambda: queue.Queue(1), lambda it: it.put(1)),
    "memory": (lambda: memoryview(bytearray(3)), lambda it: operator.setitem(it, 0, 1)),
}


@pytest.mark.parametrize("name", UNCOPYABLE)
def test_what_cannot_be_copied_is_named_when_it_is_used_and_only_then(name: str) -> None:
    make, use = UNCOPYABLE[name]
    thing = make()
    net = Net(held={"a": [thing]})
    twin = module_copy(net, {})
    assert torch.equal(twin.run(X), net.run(X))
    assert twin.held["a"][0] is not thing
    assert "self.held['a'][0]" in repr(twin.held["a"][0])
    kind = type(thing).__name__
    with pytest.raises(UncopiedError, match=rf"self\.held\['a'\]\[0\] \({kind}\) can't be copied.*__deepcopy__"):
        use(twin.held["a"][0])
    again = module_copy(twin, {})  # the copy can be copied
    with pytest.raises(UncopiedError, match=rf"self\.held\['a'\]\[0\] \({kind}\)"):
        use(again.held["a"][0])
    if hasattr(thing, "close"):
        thing.close()


def test_files_are_shared_and_streams_in_memory_are_not(tmp_path: Any) -> None:
    with (tmp_path / "file").open("w") as file:
        net = Net(file=file, text=io.StringIO("ab"))
        twin = module_copy(net, {})
        assert twin.file is file
        twin.text.write("xyz")
    assert net.text.getvalue() == "ab"


def test_the_end_of_a_copy_closes_nothing() -> None:
    closed: list[int] = []

    class Opens:
        def __init__(self) -> None:
            self.handle = 7

        def __del__(self) -> None:
            closed.append(self.handle)

    class OpensAndRefuses(Opens):
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise TypeError("not me")

    net = Net(a=Opens(), b=OpensAndRefuses())
    twin = module_copy(net, {})
    assert isinstance(twin.a, Opens)
    assert twin.a.handle == 7
    del twin
    gc.collect()
    assert closed == []
    del net
    gc.collect()
    assert closed == [7, 7]


def test_a_part_with_a_state_outside_of_python_cannot_be_copied() -> None:
    class Odd(nn.Module, io.BytesIO):
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise TypeError("not me")

    with pytest.raises(UncopyablePartError, match=r"self\.part \(Odd\) can't be copied.*TypeError: not me"):
        module_copy(Net(part=Odd()), {})


def test_what_has_a_copy_already_is_not_copied() -> None:
    trainer, twin_of_callback = object(), object()
    callback = [1]
    net = Net(trainer=trainer, callback=callback, function=lambda: trainer)
    twin = module_copy(net, {id(trainer): trainer, id(callback): twin_of_callback})
    assert twin.trainer is trainer
    assert twin.function() is trainer
    assert twin.callback is twin_of_callback


def test_what_shares_memory_shares_it_in_the_copy():
    """A penalty on the way from `weight.data`, buffers over parts of a weight: they move with the weights."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alias: Any = None
            self.net = nn.Linear(3, 3)
            self.alias, self.first = self.net.weight.data, self.net.weight.detach()[0]
            self.register_buffer("column", self.net.weight.detach()[:, 1])

    net = Net()
    twin = module_copy(net, {})
    twin.net.weight.data.fill_(7.0)
    for tensor in (twin.alias, twin.first, twin.column):
        assert torch.equal(tensor, torch.full_like(tensor, 7.0))
    assert not net.net.weight.eq(7).any()
    assert twin.net.weight.requires_grad
    assert twin.column.stride() == net.column.stride()


def test_a_generator_of_the_system_has_no_state_and_is_shared() -> None:
    net = nn.Linear(2, 2)
    net.coin = random.SystemRandom()  # type: ignore[assignment]
    twin = module_copy(net, {})
    assert twin.coin is net.coin
    assert 0 <= twin.coin.random() < 1  # type: ignore[operator, union-attr]
