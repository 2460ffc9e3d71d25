"""A world of one process while a step is measured, so that each of several may measure points of its own."""

from __future__ import annotations

import inspect
import os
import re
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.library import Library

from ..objectives.base import Batch, Objective, Observation
from ..weights.lockstep import together
from .collectives import ENVIRONMENT, LOCAL, MEETING, NAMESPACES, WAITING, method_alone, operator_alone, refused


def several_processes() -> bool:
    """True if this process is connected with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class InOneProcess(Objective):
    """An objective that finds itself in the only process there is.

    Args:
        objective: what is measured.
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
        """The objective's observations in a world of one process."""
        with alone():
            return self.objective(module, batch)

    def finish(self) -> dict[str, float]:
        """The objective's metrics of the whole set, in a world of one process."""
        with alone():
            return self.objective.finish()

    def main(self, names: list[str]) -> str:
        """The objective's choice of the loss among the measured names."""
        return self.objective.main(names)


class _Scope:
    """The calls that find a world of one process, once `active`.

    Args:
        sharded: the processes share the parameters, take the same steps together, and gather in them.
    """

    def __init__(self, sharded: bool) -> None:
        self.sharded, self.active = sharded, False
        # A checkpoint may be on its way in the background. Autograd's threads, which python did not start, are ours.
        started = [t for t in threading.enumerate() if type(t).__name__ != "_DummyThread"]
        self._others = [thread for thread in started if thread.ident != threading.get_ident()]

    def caller(self) -> str | None:
        """The origin of the current call: "step", "sharding" (FSDP, a DTensor), or None for all others."""
        me = threading.get_ident()  # may have been that of a thread which is over
        if not self.active or any(thread.ident == me and thread.is_alive() for thread in self._others):
            return None
        frame = inspect.currentframe() if self.sharded else None
        while frame is not None:
            module = frame.f_globals.get("__name__", "")
            if module.startswith(_SHARDING):  # it never calls a step
                return "sharding"
            if module == together.__module__:
                return None
            frame = frame.f_back
        return "step"


_SHARDING = tuple(f"torch.distributed.{part}" for part in ("fsdp", "_composable", "tensor", "_tensor"))
_scope: _Scope | None = None


def _caller() -> str | None:
    return None if _scope is None else _scope.caller()


@contextmanager
def one_process(sharded: bool = False, places: Iterable[tuple[type, dict[str, Any]]] = ()) -> Iterator[None]:
    """Prepare for `alone`, which acts in here only; where there is but one process, there is nothing to prepare.

    The methods of process groups are replaced, so that it holds for every group, however a step came by it. What is
    called below them, from C++, meets a guard at torch's dispatcher.

    Args:
        sharded: the processes share the parameters (FSDP2), whose own collectives stay real.
        places: what else tells of other processes: classes, and what their attributes give in one process.
    """
    global _scope
    if not several_processes():
        yield
        return
    with ExitStack() as until_the_end:
        try:
            _scope = _Scope(sharded)
            for owner, values in places:
                for name, value in values.items():
                    _replace(until_the_end, owner, name, lambda *_, value=value: value)
            _replace_torch(until_the_end)
            # Sharded processes meet in all that is real.
            _guard(until_the_end, ("_c10d_functional",) if sharded else NAMESPACES)
            yield
        finally:
            _scope = None


@contextmanager
def alone() -> Iterator[None]:
    """Within `one_process`, this process is the only one inside; elsewhere nothing changes."""
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


def forget_place(module: nn.Module) -> None:
    """Let modules that keep the number of processes, and perhaps their rank, keep those of one process.

    Contrastive losses of several libraries are given both when they are made. They are known by name and value, in
    attributes, dictionaries and namespaces; a rank, beside a number of processes only.
    """
    if not several_processes():
        return
    size, rank = dist.get_world_size(), dist.get_rank()
    for part in module.modules():
        for table in _tables(part):
            sizes = {name: 1 for name in table if _is_kept(table, name, _SIZES, size)}
            ranks = {name: 0 for name in table if _is_kept(table, name, _RANKS, rank)}
            table.update({**ranks, **sizes} if sizes else {})


def _tables(part: nn.Module) -> list[dict[Any, Any]]:
    values = list(vars(part).values())
    spaces = [vars(value) for value in values if isinstance(value, Namespace | SimpleNamespace)]
    return [vars(part), *(value for value in values if isinstance(value, dict)), *spaces]


def _is_kept(table: dict[Any, Any], name: Any, names: re.Pattern[str], number: int) -> bool:
    return isinstance(name, str) and bool(names.search(name)) and type(table[name]) is int and table[name] == number


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    """Compiled code holds the number of processes, unguarded; and what is compiled here would serve the training."""
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


def _replace_torch(until: ExitStack) -> None:
    """Replace what tells of other processes or reaches them."""
    state, environment = dist.distributed_c10d._world, type(os.environ)
    world = type(state)
    kinds = {kind for group in state.pg_map for kind in type(group).__mro__} | {dist.ProcessGroup}
    for kind in [kind for kind in kinds if issubclass(kind, dist.ProcessGroup)]:
        for name in [name for name in vars(kind) if inspect.isroutine(getattr(kind, name))]:
            if name == "__init__" or not (name.startswith("__") or name in LOCAL):
                _replace(until, kind, name, method_alone(name))
    _replace(until, world, "pg_group_ranks", lambda world: _Ranks())
    _replace_setter(until, world, "group_count", refused("torch.distributed.new_group"))
    _replace_setter(until, world, "default_pg", refused("torch.distributed.destroy_process_group"))
    read = environment.__getitem__
    _replace(until, environment, "__getitem__", lambda self, key: _read_alone(key, read(self, key)))
    meshes = sys.modules.get("torch.distributed.device_mesh")
    if meshes is not None:
        _replace(until, meshes.DeviceMesh, "size", lambda mesh, *_, **__: 1)
        _replace(until, meshes.DeviceMesh, "get_coordinate", lambda mesh: [0] * mesh.ndim)
        if hasattr(meshes.DeviceMesh, "shape"):
            _replace(until, meshes.DeviceMesh, "shape", lambda mesh: (1,) * mesh.ndim)


def _read_alone(key: str, value: str) -> str:
    return ENVIRONMENT.get(key, value)


class _Ranks(dict[Any, Any]):
    """The ranks in the world, and the ranks in the group, of every group's members."""

    def __missing__(self, group: Any) -> dict[int, int]:
        return {0: 0}

    def __contains__(self, group: object) -> bool:
        return True


def _replace(until: ExitStack, owner: type, name: str, alone: Callable[..., Any]) -> None:
    """Put `alone` in the place of a method, or of the getter of a property, for the calls of the scope."""
    original: Any = getattr(owner, name)
    getter: Any = original.fget if isinstance(original, property) else original

    def call(self: Any, *args: Any, **named: Any) -> Any:
        caller = _caller()
        if caller == "sharding" and name in MEETING:
            together()
        return (alone if caller == "step" else getter)(self, *args, **named)

    is_property = isinstance(original, property)
    _put(until, owner, name, property(call, original.fset, original.fdel) if is_property else call)


def _replace_setter(until: ExitStack, owner: type, name: str, alone: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    def put(self: Any, value: Any) -> None:
        (alone if _caller() == "step" else original.fset)(self, value)

    _put(until, owner, name, property(original.fget, put, original.fdel))


def _put(until: ExitStack, owner: type, name: str, value: Any) -> None:
    """Set an attribute of a class, and put back what was there in the end."""
    before = vars(owner).get(name)
    setattr(owner, name, value)
    until.callback(partial(delattr, owner, name) if before is None else partial(setattr, owner, name, before))


def _guard(until: ExitStack, namespaces: Iterable[str]) -> None:
    """Replace torch's operators that communicate, for the calls of the scope."""
    names = torch._C._dispatch_get_all_op_names()
    for namespace in namespaces:
        library = [Library(namespace, "IMPL")]  # it ends with its last reference
        until.callback(library.clear)
        for name in [full.partition("::")[2] for full in names if full.startswith(f"{namespace}::")]:
            if name not in WAITING:
                library[0].impl(name, _guarded(namespace, name), "BackendSelect")


def _guarded(namespace: str, name: str) -> Callable[..., Any]:
    plain, _, overload = name.partition(".")
    operator = getattr(getattr(getattr(torch.ops, namespace), plain), overload or "default")
    alone = operator_alone(namespace, plain)

    def kernel(*args: Any, **named: Any) -> Any:
        caller = _caller()
        if caller == "step":
            return alone(*args, **named)
        if caller == "sharding":
            together()
        key = _backend((*args, *named.values()))
        if hasattr(operator, "redispatch"):
            return operator.redispatch(torch._C.DispatchKeySet(key), *args, **named)
        return operator._op_dk(key, *args, **named)  # before torch 2.4

    return kernel


def _backend(arguments: Iterable[Any]) -> Any:
    """The dispatcher's key of the first tensor among the arguments."""
    tensor = next(_tensors(arguments), None)
    device = "cpu" if tensor is None else tensor.device.type
    sparse = "Sparse" if tensor is not None and tensor.layout is torch.sparse_coo else ""
    name = sparse + ("PrivateUse1" if device == "privateuseone" else device.upper())
    return getattr(torch._C.DispatchKey, name)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
