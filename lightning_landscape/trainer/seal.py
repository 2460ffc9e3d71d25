"""A seal on the training: what a pass must leave as it was is kept, compared afterwards, and put back if it moved."""

from __future__ import annotations

import random
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ..isolation.edits import EditWatch, caller
from ..objectives.touched import OriginalsEditedError
from ..weights.parameters import checksum, parts
from ..weights.sharding import FSDPState, is_sharded, local
from . import compat

DEPTH = 6  # of containers and objects inside an optimiser or scheduler
ALIGNED = 64  # bytes between the beginnings of two kept tensors
MOST_NAMED = 5  # of what moved, in a message


_NOT_HELD = (nn.Module, Generator, ModuleType, type, *weakref.ProxyTypes)  # not part of an optimiser's state


class TrainingMovedError(RuntimeError):
    """An error for a measurement that moved the user's training, or was stopped before it could.

    A training that was moved has been put back.
    """


class Seal:
    """The state of a training, kept for comparison: weights, buffers, gradients, optimisers, flags, random streams.

    Kept are copies (on the CPU), as much memory as the module, its gradients and its optimisers' state take.

    Args:
        trainer: in the middle of its work.
        module: its LightningModule.
    """

    def __init__(self, trainer: Any, module: nn.Module) -> None:
        self._rest = FSDPState(module) if is_sharded(module) else None  # in their sharded form the parameters stay
        self._kept: list[_Kept] = []
        self._seen: set[int] = set()
        self._names = {id(p): name for name, p in module.named_parameters()}
        for name, part in module.named_modules():
            self._keep_module(name, part)
        for name, parameter in module.named_parameters():
            self._kept.append(_Attribute(f"requires_grad of {name}", parameter, "requires_grad"))
            self._kept.append(_Attribute(f"the gradient of {name}", parameter, "grad"))
            self._keep(f"the gradient of {name}", parameter.grad)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        for owner in (*compat.optimizers_and_schedulers(trainer, wrappers=False), scaler):
            self._keep(type(owner).__name__, owner)
        for callback in trainer.callbacks:
            for key, value in list(vars(callback).items()):
                if isinstance(value, nn.Module) and value is not module:
                    self._keep(f"{type(callback).__name__}.{key}", dict(value.state_dict(keep_vars=True)))
        for counter in compat.counters(trainer):
            self._kept.append(_Items("the Trainer's counters", vars(counter)))
        self._kept.append(_Attribute("should_stop of the Trainer", trainer, "should_stop"))
        self._kept.append(_Streams())
        numbers = [kept for kept in self._kept if isinstance(kept, _Numbers)]
        # One block: NumPy asks the system for large pages, which makes the copies twice as fast.
        memory = torch.from_numpy(np.empty(sum(kept.nbytes for kept in numbers), dtype=np.uint8))
        for kept, part in zip(numbers, memory.split([kept.nbytes for kept in numbers]), strict=True):
            kept.keep_in(part)

    def _keep_module(self, name: str, part: nn.Module) -> None:
        where = name or type(part).__name__
        self._kept.append(_Attribute(f"the training flag of {where}", part, "training"))
        for table in (part._parameters, part._buffers):
            if isinstance(table, dict):  # not of TorchScript, which has the tensors only
                self._kept.append(_Items(f"the parameters and buffers of {where}", table))
            for key, tensor in table.items():
                self._keep(".".join(filter(None, (name, key))), tensor)

    def _keep(self, name: str, value: Any, depth: int = 0) -> None:
        """A tensor, or whatever containers and plain objects hold tensors and numbers."""
        if value is None or id(value) in self._seen or depth > DEPTH:
            return
        self._seen.add(id(value))
        if isinstance(value, Tensor):
            if not (is_lazy(value) or value.is_meta):
                self._kept.append(_Numbers(name, value))
        elif isinstance(value, dict | list | set | deque):
            self._kept.append(_Items(name, value))
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                self._keep(f"{name}[{self._names.get(id(key), key)}]", item, depth + 1)
        elif isinstance(value, tuple):
            for item in value:
                self._keep(name, item, depth + 1)
        elif hasattr(value, "__dict__") and not callable(value) and not isinstance(value, _NOT_HELD):
            self._kept.append(_Items(name, vars(value)))
            for key, item in vars(value).items():
                self._keep(f"{name}.{key}", item, depth + 1)

    def put_back(self) -> list[str]:
        """The names of all that was not as it was, and is so again."""
        if self._rest is not None:
            self._rest.restore()
        moved = [kept for kept in self._kept if not kept.stayed()]
        with torch.no_grad():
            for kept in moved:
                kept.put_back()
        return list(dict.fromkeys(kept.name for kept in moved))

    @property
    def tensors(self) -> list[tuple[str, Tensor]]:
        """The name of each tensor that is kept, and the tensor."""
        return [(kept.name, kept.tensor) for kept in self._kept if isinstance(kept, _Numbers)]


class _Kept:
    """One thing that must stay as it is: its name, whether it stayed, and the way back."""

    name: str

    def stayed(self) -> bool:
        raise NotImplementedError

    def put_back(self) -> None:
        raise NotImplementedError


class _Numbers(_Kept):
    """The bits of a tensor, in the memory where they lay; kept in `keep_in`."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        self.name, self.tensor = name, tensor
        self._place = local(tensor).detach()  # the same memory, whatever is put under the tensor
        self._parts = _plain(self._place)
        self._values: list[Tensor] = []
        self.nbytes = sum(-(-part.nbytes // ALIGNED) * ALIGNED for part in self._parts)

    def keep_in(self, memory: Tensor) -> None:
        """Copy the bits to `memory`, which has `nbytes` bytes."""
        for part in self._parts:
            value = memory[: part.nbytes].view(part.dtype).view(part.shape)
            self._values.append(value.copy_(part))
            memory = memory[-(-part.nbytes // ALIGNED) * ALIGNED :]
        self._digest = checksum(self._values)

    def stayed(self) -> bool:
        return checksum(_plain(local(self.tensor).detach())) == self._digest

    def put_back(self) -> None:
        if _first_address(local(self.tensor)) != _first_address(self._place):
            self.tensor.data = self._place
        for part, value in zip(_plain(self._place), self._values, strict=True):
            part.copy_(value)


class _Items(_Kept):
    """The items of a container; numbers and texts by their values, all else as the same objects."""

    def __init__(self, name: str, container: Any) -> None:
        self.name, self._container, self._items = name, container, container.copy()

    def stayed(self) -> bool:
        now, before = self._container, self._items
        if isinstance(now, set):
            return now == before
        if len(now) != len(before):
            return False
        if isinstance(now, dict):
            return all(_same(a, b) and _same(x, y) for (a, x), (b, y) in zip(now.items(), before.items(), strict=True))
        return all(map(_same, now, before))

    def put_back(self) -> None:
        self._container.clear()
        if isinstance(self._container, list | deque):
            self._container.extend(self._items)
        else:
            self._container.update(self._items)


class _Attribute(_Kept):
    """An attribute that is one object, number or flag."""

    def __init__(self, name: str, owner: Any, attribute: str) -> None:
        self.name, self._owner, self._attribute = name, owner, attribute
        self._value = getattr(owner, attribute)

    def stayed(self) -> bool:
        return _same(getattr(self._owner, self._attribute), self._value)

    def put_back(self) -> None:
        setattr(self._owner, self._attribute, self._value)


class _Streams(_Kept):
    """The global random streams of torch, NumPy and Python."""

    name = "a global random stream"

    def __init__(self) -> None:
        self._torch, self._numpy = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
        self._python = random.getstate()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def stayed(self) -> bool:
        now: Any = np.random.get_state()  # noqa: NPY002
        before: Any = self._numpy
        numpy_stayed = now[2:] == before[2:] and np.array_equal(now[1], before[1])
        cuda = torch.cuda.get_rng_state_all() if self._cuda else []
        same = torch.equal(torch.get_rng_state(), self._torch) and all(map(torch.equal, cuda, self._cuda))
        return same and numpy_stayed and random.getstate() == self._python

    def put_back(self) -> None:
        torch.set_rng_state(self._torch)
        np.random.set_state(self._numpy)  # noqa: NPY002
        random.setstate(self._python)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)


def _plain(tensor: Tensor) -> tuple[Tensor, ...]:
    """The dense tensors that hold the bits of any tensor."""
    return (tensor.int_repr(),) if tensor.is_quantized else parts(tensor)


def _first_address(tensor: Tensor) -> int:
    return _plain(tensor)[0].data_ptr() if not tensor.is_quantized else tensor.data_ptr()


def _same(a: Any, b: Any) -> bool:
    """True if two values are one object, or numbers or texts of one value."""
    if a is b:
        return True
    if not isinstance(a, bool | int | float | str) or type(a) is not type(b):
        return False
    return a == b or repr(a) == repr(b) == "nan"


@contextmanager
def sealed(trainer: Any, module: nn.Module, *, watch: bool = False) -> Iterator[None]:
    """A frame that proves that the training is as it was before.

    Args:
        trainer: in the middle of its work.
        module: its LightningModule.
        watch: look for the calls that move it; calls take longer then.

    Raises:
        TrainingMovedError: if it was not; then all has been put back, and the message says what moved, and by which
            call where that is known.
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
        seal.put_back()
        raise
    _check(seal, steps, edits, None)


def _check(seal: Seal, steps: list[str], edits: EditWatch, failure: Exception | None) -> None:
    """Raises TrainingMovedError, after all has been put back, if the seal is broken or a step had to be stopped."""
    moved = seal.put_back()
    if moved or steps or isinstance(failure, OriginalsEditedError):
        calls = [*steps, *(f"{function}() on {name} at {where}" for name, function, where in edits.seen if where)]
        raise TrainingMovedError(_message(moved, list(dict.fromkeys(calls)))) from failure


def _message(moved: list[str], calls: list[str]) -> str:
    names = ", ".join(moved[:MOST_NAMED]) + (f" and {len(moved) - MOST_NAMED} more" if len(moved) > MOST_NAMED else "")
    by = f" (by {', '.join(calls[:MOST_NAMED])})" if calls else ""
    what = f"has moved the training itself: {names}{by}. All of it has been put back, bit by bit"
    if not moved:
        what = f"would have moved the training itself{by}. It was stopped"
    return (
        f"Measuring {what}. The step reaches the training by a global variable, a closure or another object than self: "
        "let it use self, or give objective=function(module, batch)."
    )


@contextmanager
def _steps_stopped(seal: Seal, steps: list[str]) -> Iterator[None]:
    """Inside, an optimiser over sealed tensors does not step: the call raises, and is noted in `steps`."""
    known = {id(tensor) for _, tensor in seal.tensors}

    def stop(optimizer: Any, *args: Any) -> None:
        if any(id(p) in known for group in optimizer.param_groups for p in group["params"]):
            steps.append(f"{type(optimizer).__name__}.step() at {caller()}")
            raise TrainingMovedError(_message([], steps[-1:]))

    handle = register_optimizer_step_pre_hook(stop)
    try:
        yield
    finally:
        handle.remove()
