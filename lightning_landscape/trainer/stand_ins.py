"""Stand-ins for optimisers and schedulers: a step reads copies of their state, and moves nothing of the user's."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from torch import nn

log = logging.getLogger(__name__)
# These methods only read: they run on the stand-in itself, which holds copies.
READERS = frozenset({"state_dict", "get_last_lr", "get_lr"})
FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType, partial)


class StandIns:
    """Stand-ins for the user's optimisers and schedulers, one each.

    Args:
        classes: of the objects for which a copy of the module gets stand-ins.

    Attributes:
        copies: the probe's parameters and modules, by the ids of the originals, which the stand-ins show instead.

    >>> import torch
    >>> weight, probe = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    >>> stand_ins = StandIns((torch.optim.Optimizer,))
    >>> stand_ins.copies[id(weight)] = probe
    >>> optimizer = stand_ins.of(torch.optim.SGD([weight], lr=0.5))
    >>> isinstance(optimizer, torch.optim.SGD), optimizer.param_groups[0]["params"][0] is probe
    (True, True)
    >>> probe.grad = torch.ones(1)
    >>> optimizer.step(); optimizer.param_groups[0]["lr"] = 7.0
    >>> weight.item(), probe.item()
    (1.0, 1.0)
    """

    def __init__(self, classes: Sequence[type] = ()) -> None:
        self.classes = tuple(classes)
        self.copies: dict[int, Any] = {}
        self._stand_ins: dict[int, Any] = {}

    def of(self, original: object) -> Any:
        """The stand-in of an optimiser or scheduler; the same one at every call."""
        if isinstance(original, StandIn):
            return original
        if id(original) not in self._stand_ins:
            stand_in: Any = object.__new__(_stand_in_class(type(original)))
            vars(stand_in)["_access"] = _Access(original, self)
            self._stand_ins[id(original)] = stand_in
        return self._stand_ins[id(original)]

    def memo(self) -> dict[int, Any]:
        """The memo for `copy.deepcopy`: the replacements of the user's objects, by the ids of the originals."""
        return {**self.copies, **self._stand_ins}

    def reset(self) -> None:
        """Forget what a step wrote to the stand-ins."""
        for stand_in in self._stand_ins.values():
            access = vars(stand_in)["_access"]
            access.reset()
            vars(stand_in).clear()
            vars(stand_in)["_access"] = access

    def close(self) -> None:
        """Let go of the copies: a stand-in and its access to the original hold each other."""
        self.copies.clear()
        for stand_in in self._stand_ins.values():
            vars(stand_in).clear()
        self._stand_ins.clear()

    @contextmanager
    def met_by_copies(self) -> Iterator[None]:
        """Let `copy.deepcopy` of any optimiser or scheduler give its stand-in, however deep it lies."""
        originals = [(c, vars(c).get("__deepcopy__")) for c in self.classes]
        for c in self.classes:
            c.__deepcopy__ = lambda original, memo: self.of(original)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            for c, before in originals:
                if before is None:
                    del c.__deepcopy__  # type: ignore[attr-defined]
                else:
                    c.__deepcopy__ = before  # type: ignore[attr-defined]


class _Access:
    """The access of a stand-in to its original: copies of attributes, and calls on a scratch copy."""

    def __init__(self, original: object, stand_ins: StandIns) -> None:
        self.original, self.stand_ins = original, stand_ins
        is_wrapper = any(c.__name__ == "LightningOptimizer" for c in type(original).__mro__)
        self.wrapped = vars(original).get("_optimizer") if is_wrapper else None
        self.idle: set[str] = set()
        self.reset()

    def reset(self) -> None:
        """Forget the copies."""
        self.memo: dict[int, Any] | None = None
        self.scratch: Any = None

    def copy_of(self, name: str) -> Any:
        """A copy of one attribute of the original; the probe's parameters and modules stand for the user's.

        Raises:
            AttributeError: if it can't be copied.
        """
        if self.memo is None:
            self.memo = self.stand_ins.memo()
        try:
            return copy.deepcopy(vars(self.original)[name], self.memo)
        except Exception as error:
            raise AttributeError(
                f"{type(self.original).__name__}.{name} can't be copied for the landscape ({error}). "
                "Give its class a __deepcopy__."
            ) from error

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        """The result of a method that may move something, called on the scratch copy.

        A method that raises there, or gives nothing, does nothing from then on.
        """
        if name in self.idle:
            return None
        try:
            if self.scratch is None:
                self.scratch = self._scratch_copy()
            result = getattr(self.scratch, name)(*args, **options)
        except Exception as error:  # noqa: BLE001  # the user's code, on a copy without gradients
            log.debug("%s.%s does nothing while measuring: %s", type(self.original).__name__, name, error)
            result = None
        if result is None:
            self.idle.add(name)
        return result

    def _scratch_copy(self) -> Any:
        """A copy of the original, with parameters of its own, and without hooks, which would reach the user's."""
        memo = {
            key: nn.Parameter(value.detach().clone())
            for key, value in self.stand_ins.copies.items()
            if isinstance(value, nn.Parameter)
        }
        scratch = object.__new__(type(self.original))
        for name, value in vars(self.original).items():
            if not isinstance(value, FUNCTIONS):
                vars(scratch)[name] = type(value)() if name.endswith("_hooks") else copy.deepcopy(value, memo)
        return scratch


class StandIn:
    """An optimiser or scheduler that moves nothing: attributes are copies, and `step` runs its closure for the loss.

    Methods beside `READERS` run on a scratch copy (`_Access.call`).
    """

    def __getattribute__(self, name: str) -> Any:
        get = partial(object.__getattribute__, self)
        attributes = get("__dict__")
        if name in attributes or name.startswith("__") or name in vars(StandIn):
            return get(name)
        access = attributes["_access"]
        if access.wrapped is not None:  # of Lightning's wrapper, the user's optimiser
            wrapped = access.stand_ins.of(access.wrapped)
            return wrapped if name in ("optimizer", "_optimizer") else getattr(wrapped, name)
        originals, kind = vars(access.original), type(access.original)
        if name in originals and not isinstance(originals[name], FUNCTIONS):
            attributes[name] = access.copy_of(name)
            return attributes[name]
        member = next((vars(c)[name] for c in kind.__mro__ if name in vars(c)), originals.get(name))
        if name in READERS or isinstance(member, property):
            return get(name)
        if isinstance(member, (*FUNCTIONS, classmethod, staticmethod)):
            return partial(access.call, name)
        if member is not None or hasattr(kind, name):
            return copy.deepcopy(get(name))
        for c in kind.__mro__:
            if "__getattr__" in vars(c):
                return vars(c)["__getattr__"](self, name)
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")

    def step(self, closure: Callable[[], Any] | None = None, *args: Any, **options: Any) -> Any:
        """The result of the closure, if there is one."""
        return closure() if callable(closure) else None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of the probe's own parameters."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def toggle_model(self, sync_grad: bool = True) -> Any:
        """A context that does nothing, in place of that of Lightning's optimisers."""
        return nullcontext()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


def _stand_in_class(cls: type) -> type:
    """A class of stand-ins that pass `isinstance` for `cls`."""
    try:
        return type(cls.__name__, (StandIn, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__})
    except TypeError:  # a class that can't be derived from
        return StandIn
