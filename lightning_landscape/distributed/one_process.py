"""A world of one process for a step, where each of several processes measures its share of the points."""

from __future__ import annotations

import inspect
import os
import re
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.library import Library

from ..objectives.base import Batch, Objective, Observation
from ..weights.lockstep import several_processes, synchronize_ranks
from ..weights.parameters import tensors_in
from .collectives import ENVIRONMENT, LOCAL, MEETING, NAMESPACES, WAITING, method_alone, operator_alone, refusal


class OneProcessObjective(Objective):
    """An objective in a world of one process.

    Args:
        objective: the objective of each process.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective, self.divisible = objective, objective.divisible

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """Rehearse the objective in a world of one process."""
        with alone():
            self.objective.rehearse(module, batch)

    def start(self) -> None:
        """Start the objective in a world of one process."""
        with alone():
            self.objective.start()

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """Measure the objective in a world of one process."""
        with alone():
            return self.objective(module, batch)

    def finish(self) -> dict[str, float]:
        """The metrics of the whole data set, in a world of one process."""
        with alone():
            return self.objective.finish()

    def main(self, names: list[str]) -> str:
        """The name of the loss among the measured names."""
        return self.objective.main(names)

    def around(self) -> AbstractContextManager[None]:
        """A world of one process, for the collectives of a backward pass."""
        return alone()


class _Scope:
    """The decision which calls see a world of one process, once the scope is `active`.

    Args:
        sharded: the parameters are divided among the processes, which gather them in every step.
    """

    def __init__(self, sharded: bool) -> None:
        self.sharded, self.active = sharded, False
        # Another thread may write a checkpoint. Autograd's threads, which Python did not start, belong to the step.
        started = [t for t in threading.enumerate() if type(t).__name__ != "_DummyThread"]
        self._other_threads = [thread for thread in started if thread.ident != threading.get_ident()]

    def caller(self) -> str | None:
        """The origin of the current call: "step", "sharding" (FSDP, a DTensor), or None for any other."""
        ident = threading.get_ident()  # of a finished thread, it may be used again
        if not self.active or any(thread.ident == ident and thread.is_alive() for thread in self._other_threads):
            return None
        frame = inspect.currentframe() if self.sharded else None
        while frame is not None:
            module = frame.f_globals.get("__name__", "")
            if module.startswith(_SHARDING):  # which never calls a step
                return "sharding"
            if module == synchronize_ranks.__module__:
                return None
            frame = frame.f_back
        return "step"


_SHARDING = tuple(f"torch.distributed.{part}" for part in ("fsdp", "_composable", "tensor", "_tensor"))
_scope: _Scope | None = None


def _caller() -> str | None:
    return None if _scope is None else _scope.caller()


@contextmanager
def one_process(sharded: bool = False, places: Iterable[tuple[type, dict[str, Any]]] = ()) -> Iterator[None]:
    """Prepare for `alone`, which has an effect inside this context only. A single process needs no preparation.

    The methods of the classes of process groups are replaced, so that every group of a step is covered. The operators
    that C++ code calls are replaced at torch's dispatcher.

    Args:
        sharded: the parameters are divided among the processes (FSDP2), whose own collectives stay real.
        places: further classes that know the number of processes, with the values of their attributes in one process.
    """
    global _scope
    if not several_processes():
        yield
        return
    with ExitStack() as stack:
        try:
            _scope = _Scope(sharded)
            for owner, values in places:
                for name, value in values.items():
                    _replace(stack, owner, name, lambda *_, value=value: value)
            _replace_torch(stack)
            # The other collectives of sharded processes stay real.
            _replace_operators(stack, ("_c10d_functional",) if sharded else NAMESPACES)
            yield
        finally:
            _scope = None


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process is the only one, if `one_process` has prepared it; else nothing changes."""
    scope = _scope
    if scope is None or scope.active:
        yield
        return
    with _nothing_compiled():
        scope.active = True
        try:
            yield
        finally:
            scope.active = False


_SIZES = re.compile("world|gpus|devices|processes|nprocs|replicas|num_ranks", re.IGNORECASE)
_RANKS = re.compile("^_?((global|local|world)_?)?rank$", re.IGNORECASE)


def forget_ranks(module: nn.Module) -> None:
    """Replace the number of processes and the rank that modules have stored, by those of one process.

    The constructors of contrastive losses of several libraries take both. They are recognised by name and value in
    attributes, dictionaries and namespaces. A rank counts only beside a number of processes.
    """
    if not several_processes():
        return
    size, rank = dist.get_world_size(), dist.get_rank()
    for part in module.modules():
        for table in _tables(part):
            sizes = dict.fromkeys(_names_of(size, _SIZES, table), 1)
            ranks = dict.fromkeys(_names_of(rank, _RANKS, table), 0)
            table.update({**ranks, **sizes} if sizes else {})


def _tables(part: nn.Module) -> list[dict[Any, Any]]:
    values = list(vars(part).values())
    spaces = [vars(value) for value in values if isinstance(value, Namespace | SimpleNamespace)]
    return [vars(part), *(value for value in values if isinstance(value, dict)), *spaces]


def _names_of(number: int, pattern: re.Pattern[str], table: dict[Any, Any]) -> list[str]:
    """The names in a table that match a pattern and belong to `number`."""
    items = [(name, value) for name, value in table.items() if isinstance(name, str) and type(value) is int]
    return [name for name, value in items if value == number and pattern.search(name)]


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    """Run compiled code eagerly: it holds the number of processes unguarded, and the training would use it, too."""
    if "torch._dynamo" not in sys.modules:
        yield
    elif hasattr(torch.compiler, "set_stance"):
        with torch.compiler.set_stance("force_eager"):
            yield
    else:  # before torch 2.6
        frames: Any = sys.modules["torch._dynamo.eval_frame"]
        name = "_maybe_set_eval_frame" if hasattr(frames, "_maybe_set_eval_frame") else "set_eval_frame"
        evaluate = getattr(frames, name)
        setattr(frames, name, lambda callback: evaluate(None))
        try:
            yield
        finally:
            setattr(frames, name, evaluate)


def _replace_torch(stack: ExitStack) -> None:
    """Replace the functions of torch that know other processes or reach them."""
    state, environment = dist.distributed_c10d._world, type(os.environ)
    world = type(state)
    kinds = {kind for group in state.pg_map for kind in type(group).__mro__} | {dist.ProcessGroup}
    for kind in [kind for kind in kinds if issubclass(kind, dist.ProcessGroup)]:
        for name in [name for name in vars(kind) if inspect.isroutine(getattr(kind, name))]:
            if name == "__init__" or not (name.startswith("__") or name in LOCAL):
                _replace(stack, kind, name, method_alone(name))
    _replace(stack, world, "pg_group_ranks", lambda world: _Ranks())
    _replace_setter(stack, world, "group_count", refusal("torch.distributed.new_group"))
    _replace_setter(stack, world, "default_pg", refusal("torch.distributed.destroy_process_group"))
    read: Any = environment.__getitem__
    # `read` raises the KeyError of a variable that is not set.
    _replace(stack, environment, "__getitem__", lambda environ, key: ENVIRONMENT.get(key, read(environ, key)))
    meshes = sys.modules.get("torch.distributed.device_mesh")
    if meshes is not None:
        _replace(stack, meshes.DeviceMesh, "size", lambda mesh, *_, **__: 1)
        _replace(stack, meshes.DeviceMesh, "get_coordinate", lambda mesh: [0] * mesh.ndim)
        if hasattr(meshes.DeviceMesh, "shape"):
            _replace(stack, meshes.DeviceMesh, "shape", lambda mesh: (1,) * mesh.ndim)


class _Ranks(dict[object, dict[int, int]]):
    """A table with the ranks of the members of every group: rank 0 in the world, which is rank 0 in the group."""

    def __missing__(self, group: object) -> dict[int, int]:
        return {0: 0}

    def __contains__(self, group: object) -> bool:
        return True


def _replace(stack: ExitStack, owner: type, name: str, alone: Callable[..., Any]) -> None:
    """Replace a method, or the getter of a property, by `alone` for the calls of the scope."""
    original: Any = getattr(owner, name)
    is_property = isinstance(original, property)
    method = original.fget if is_property else original

    def call(self: object, *args: object, **kwargs: object) -> Any:
        caller = _caller()
        if caller == "sharding" and name in MEETING:
            synchronize_ranks()
        return (alone if caller == "step" else method)(self, *args, **kwargs)

    _set_attribute(stack, owner, name, property(call, original.fset, original.fdel) if is_property else call)


def _replace_setter(stack: ExitStack, owner: type, name: str, alone: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    def put(self: object, value: object) -> None:
        (alone if _caller() == "step" else original.fset)(self, value)

    _set_attribute(stack, owner, name, property(original.fget, put, original.fdel))


def _set_attribute(stack: ExitStack, owner: type, name: str, value: object) -> None:
    """Set an attribute of a class until the stack is closed."""
    before = vars(owner).get(name)
    setattr(owner, name, value)
    stack.callback(partial(delattr, owner, name) if before is None else partial(setattr, owner, name, before))


def _replace_operators(stack: ExitStack, namespaces: Iterable[str]) -> None:
    """Replace torch's operators that communicate, for the calls of the scope."""
    names = torch._C._dispatch_get_all_op_names()
    for namespace in namespaces:
        library = [Library(namespace, "IMPL")]  # it ends with its last reference
        stack.callback(library.clear)
        for name in [full.partition("::")[2] for full in names if full.startswith(f"{namespace}::")]:
            if name not in WAITING:
                library[0].impl(name, _kernel(namespace, name), "BackendSelect")


def _kernel(namespace: str, name: str) -> Callable[..., Any]:
    """The replacement of an operator."""
    plain, _, overload = name.partition(".")
    operator = getattr(getattr(getattr(torch.ops, namespace), plain), overload or "default")
    alone = operator_alone(namespace, plain)

    def kernel(*args: object, **kwargs: object) -> Any:
        caller = _caller()
        if caller == "step":
            return alone(*args, **kwargs)
        if caller == "sharding":
            synchronize_ranks()
        key = _dispatch_key((*args, *kwargs.values()))
        if hasattr(operator, "redispatch"):
            return operator.redispatch(torch._C.DispatchKeySet(key), *args, **kwargs)
        return operator._op_dk(key, *args, **kwargs)  # before torch 2.4

    return kernel


def _dispatch_key(arguments: tuple[object, ...]) -> Any:
    """The dispatcher's key of the first tensor among the arguments."""
    tensor = next(tensors_in(arguments), None)
    device = "cpu" if tensor is None else tensor.device.type
    sparse = "Sparse" if tensor is not None and tensor.layout is torch.sparse_coo else ""
    name = sparse + ("PrivateUse1" if device == "privateuseone" else device.upper())
    return getattr(torch._C.DispatchKey, name)
