"""A seal on the training: its state is remembered, compared after a pass, and restored if it moved."""

from __future__ import annotations

import random
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

from ..isolation.edits import EditWatch, caller
from ..objectives.touched import OriginalsEditedError
from ..weights.parameters import checksum, parts
from ..weights.sharding import FSDPState, is_sharded, local
from . import compat

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

_NO_STATE = (nn.Module, Generator, ModuleType, type, *weakref.ProxyTypes)  # not part of an optimiser's state


class TrainingMovedError(RuntimeError):
    """An error for a measurement that moved the user's training, or was stopped before it could.

    A training that was moved has been put back.
    """


class Seal:
    """The state of a training, for comparison: weights, buffers, gradients, optimisers, flags, random streams.

    It holds copies on the CPU, as much memory as the module, its gradients and its optimisers' state take.

    Args:
        trainer: in the middle of its work.
        module: its LightningModule.
    """

    def __init__(self, trainer: Trainer, module: nn.Module) -> None:
        self._at_rest = FSDPState(module) if is_sharded(module) else None  # in their sharded form the parameters stay
        self._states: list[_State] = []
        self._seen: set[int] = set()
        self._names = {id(p): name for name, p in module.named_parameters()}
        for name, part in module.named_modules():
            self._add_module(name, part)
        for name, parameter in module.named_parameters():
            self._states.append(_AttributeState(f"requires_grad of {name}", parameter, "requires_grad"))
            self._states.append(_AttributeState(f"the gradient of {name}", parameter, "grad"))
            self._add(f"the gradient of {name}", parameter.grad)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        for owner in (*compat.optimizers_and_schedulers(trainer, wrappers=False), scaler):
            self._add(type(owner).__name__, owner)
        for callback in compat.callbacks_of(trainer):
            for key, value in list(vars(callback).items()):
                if isinstance(value, nn.Module) and value is not module:
                    self._add(f"{type(callback).__name__}.{key}", dict(value.state_dict(keep_vars=True)))
        for counter in compat.counters(trainer):
            self._states.append(_ContainerState("the Trainer's counters", vars(counter)))
        self._states.append(_AttributeState("should_stop of the Trainer", trainer, "should_stop"))
        self._states.append(_RandomState())
        tensors = [state for state in self._states if isinstance(state, _TensorState)]
        # One block: NumPy asks the system for large pages, which makes the copies twice as fast.
        memory = torch.from_numpy(np.empty(sum(state.nbytes for state in tensors), dtype=np.uint8))
        for state, block in zip(tensors, memory.split([state.nbytes for state in tensors]), strict=True):
            state.copy_to(block)

    def _add_module(self, name: str, part: nn.Module) -> None:
        where = name or type(part).__name__
        self._states.append(_AttributeState(f"the training flag of {where}", part, "training"))
        for table in (part._parameters, part._buffers):
            if isinstance(table, dict):  # not of TorchScript, which has the tensors only
                self._states.append(_ContainerState(f"the parameters and buffers of {where}", table))
            for key, tensor in table.items():
                self._add(".".join(filter(None, (name, key))), tensor)

    def _add(self, name: str, value: object, levels: int = 7) -> None:
        """Add a tensor, or the tensors and numbers in so many levels of containers and plain objects."""
        if value is None or id(value) in self._seen or not levels:
            return
        self._seen.add(id(value))
        if isinstance(value, Tensor):
            if not (is_lazy(value) or value.is_meta):
                self._states.append(_TensorState(name, value))
        elif isinstance(value, dict | list | set | deque):
            self._states.append(_ContainerState(name, value))
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                self._add(f"{name}[{self._names.get(id(key), key)}]", item, levels - 1)
        elif isinstance(value, tuple):
            for item in value:
                self._add(name, item, levels - 1)
        elif hasattr(value, "__dict__") and not callable(value) and not isinstance(value, _NO_STATE):
            self._states.append(_ContainerState(name, vars(value)))
            for key, item in vars(value).items():
                self._add(f"{name}.{key}", item, levels - 1)

    def restore(self) -> list[str]:
        """Restore what has moved; gives the names of it."""
        if self._at_rest is not None:
            self._at_rest.restore()
        moved = [state for state in self._states if not state.is_unchanged()]
        with torch.no_grad():
            for state in moved:
                state.restore()
        return list(dict.fromkeys(state.name for state in moved))

    @property
    def tensors(self) -> list[tuple[str, Tensor]]:
        """The name of each tensor under the seal, and the tensor."""
        return [(state.name, state.tensor) for state in self._states if isinstance(state, _TensorState)]


class _TensorState:
    """The bits of a tensor, in the memory where they lay; `copy_to` must be called once."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        self.name, self.tensor = name, tensor
        self._place = local(tensor).detach()  # the same memory, whatever is put under the tensor
        self._parts = _plain(self._place)
        self._values: list[Tensor] = []
        self.nbytes = sum(map(_aligned, self._parts))

    def copy_to(self, memory: Tensor) -> None:
        """Copy the bits to `memory`, which has `nbytes` bytes."""
        for part in self._parts:
            value = memory[: part.nbytes].view(part.dtype).view(part.shape)
            self._values.append(value.copy_(part))
            memory = memory[_aligned(part) :]
        self._digest = checksum(self._values)

    def is_unchanged(self) -> bool:
        return checksum(_plain(local(self.tensor).detach())) == self._digest

    def restore(self) -> None:
        if _first_address(local(self.tensor)) != _first_address(self._place):
            self.tensor.data = self._place
        for part, value in zip(_plain(self._place), self._values, strict=True):
            part.copy_(value)


class _ContainerState:
    """The items of a container; numbers and texts by their values, all else as the same objects."""

    def __init__(self, name: str, container: dict[Any, Any] | list[Any] | set[Any] | deque[Any]) -> None:
        self.name, self._container, self._items = name, container, container.copy()

    def is_unchanged(self) -> bool:
        now, before = self._container, self._items
        if isinstance(now, set):
            return now == before
        if len(now) != len(before):
            return False
        if isinstance(now, dict) and isinstance(before, dict):
            return all(map(_is_same, now, before)) and all(map(_is_same, now.values(), before.values()))
        return all(map(_is_same, now, before))

    def restore(self) -> None:
        self._container.clear()
        if isinstance(self._container, list | deque):
            self._container.extend(self._items)
        else:
            self._container.update(self._items)


class _AttributeState:
    """An attribute that is one object, number or flag."""

    def __init__(self, name: str, owner: object, attribute: str) -> None:
        self.name, self._owner, self._attribute = name, owner, attribute
        self._value = getattr(owner, attribute)

    def is_unchanged(self) -> bool:
        return _is_same(getattr(self._owner, self._attribute), self._value)

    def restore(self) -> None:
        setattr(self._owner, self._attribute, self._value)


class _RandomState:
    """The global random streams of torch, NumPy and Python."""

    name = "a global random stream"

    def __init__(self) -> None:
        self._torch, self._numpy = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
        self._python = random.getstate()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def is_unchanged(self) -> bool:
        now: Any = np.random.get_state()  # noqa: NPY002
        before: Any = self._numpy
        same_numpy = now[2:] == before[2:] and np.array_equal(now[1], before[1])
        cuda = torch.cuda.get_rng_state_all() if self._cuda else []
        same_torch = torch.equal(torch.get_rng_state(), self._torch) and all(map(torch.equal, cuda, self._cuda))
        return same_torch and same_numpy and random.getstate() == self._python

    def restore(self) -> None:
        torch.set_rng_state(self._torch)
        np.random.set_state(self._numpy)  # noqa: NPY002
        random.setstate(self._python)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)


_State = _TensorState | _ContainerState | _AttributeState | _RandomState


def _aligned(part: Tensor) -> int:
    """The bytes that a tensor takes in a block: a multiple of 64, so that any type may come after it."""
    return -(-part.nbytes // 64) * 64


def _plain(tensor: Tensor) -> tuple[Tensor, ...]:
    """The dense tensors that hold the bits of any tensor, in the same memory."""
    if not tensor.is_quantized:
        return parts(tensor)
    return (torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage()),)


def _first_address(tensor: Tensor) -> int:
    return _plain(tensor)[0].data_ptr()


def _is_same(a: object, b: object) -> bool:
    """True if two values are one object, or numbers or texts of one value."""
    if a is b:
        return True
    if not isinstance(a, bool | int | float | str) or type(a) is not type(b):
        return False
    return a == b or repr(a) == repr(b) == "nan"


@contextmanager
def sealed(trainer: Trainer, module: nn.Module, *, watch: bool = False) -> Iterator[None]:
    """A frame that proves that the training is as it was before.

    Args:
        trainer: in the middle of its work.
        module: its LightningModule.
        watch: look for the calls that move it; calls take longer then.

    Raises:
        TrainingMovedError: if the training has moved. All of it has been put back then. The message says what moved,
            and by which call where that is known.
    """
    seal = Seal(trainer, module)
    edits, steps = EditWatch(seal.tensors), list[str]()
    try:
        with _steps_stopped(seal, steps), edits if watch else nullcontext():
            yield
    except Exception as error:
        _check(seal, steps, edits, error)
        raise
    except BaseException:  # somebody stops the program
        seal.restore()
        raise
    _check(seal, steps, edits, None)


def _check(seal: Seal, steps: list[str], edits: EditWatch, failure: Exception | None) -> None:
    """Raises TrainingMovedError if the training has moved, or a step had to be stopped; the training is restored."""
    moved = seal.restore()
    if moved or steps or isinstance(failure, OriginalsEditedError):
        calls = [*steps, *(f"{function}() on {name} at {where}" for name, function, where in edits.seen if where)]
        raise TrainingMovedError(_message(moved, list(dict.fromkeys(calls)))) from failure


def _message(moved: list[str], calls: list[str], maximum: int = 5) -> str:
    """The text of an error, with so many names and calls at most."""
    names = ", ".join(moved[:maximum]) + (f" and {len(moved) - maximum} more" if len(moved) > maximum else "")
    callers = f" (by {', '.join(calls[:maximum])})" if calls else ""
    result = f"has moved the training itself: {names}{callers}. All of it has been put back, bit by bit"
    if not moved:
        result = f"would have moved the training itself{callers}. It was stopped"
    return (
        f"Measuring {result}. The step reaches the training by a global variable, a closure or another object than "
        "self: let it use self, or give objective=function(module, batch)."
    )


@contextmanager
def _steps_stopped(seal: Seal, steps: list[str]) -> Iterator[None]:
    """Stop an optimiser over sealed tensors that is about to step: the call raises, and is noted in `steps`."""
    sealed_ids = {id(tensor) for _, tensor in seal.tensors}

    def stop(optimizer: Optimizer, *args: object) -> None:
        if any(id(p) in sealed_ids for group in optimizer.param_groups for p in group["params"]):
            steps.append(f"{type(optimizer).__name__}.step() at {caller()}")
            raise TrainingMovedError(_message([], steps[-1:]))

    handle = register_optimizer_step_pre_hook(stop)
    try:
        yield
    finally:
        handle.remove()
