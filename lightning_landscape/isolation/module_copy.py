"""Copies of whole modules, with stand-ins for objects that can't be copied."""

from __future__ import annotations

import copyreg
import io
from types import FunctionType
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, nn

from .copying import Copier, UncopyablePartError
from .observers import LOGGERS, TABLES, Observers, children_of, root_of

TREE = frozenset(["_modules", "_parameters", "_buffers"])


class StandIns(Protocol):
    """Stand-ins for the objects of certain classes."""

    classes: tuple[type, ...]

    def of(self, original: object) -> Any:
        """The stand-in of an object of these classes."""


class UncopiedError(RuntimeError):
    """A step uses an object that could not be copied."""


class Uncopied:
    """The stand-in for an object that can be neither copied nor shared: any use raises an error with its name.

    Args:
        path: the place of the original in the module.
        kind: the class of the original.
        error: the reason why it can't be copied.
    """

    __slots__ = ("_text",)

    def __init__(self, path: str, kind: type, error: Exception) -> None:
        text = (
            f"{path} ({kind.__name__}) can't be copied for the landscape ({type(error).__name__}: {error}). The step "
            "uses it, which could not be undone. Give its class a __deepcopy__ (one that returns self shares the "
            "object with the landscape), or keep it out of the step."
        )
        object.__setattr__(self, "_text", text)

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        self.__refuse__()

    def __refuse__(self, *_: Any, **__: Any) -> NoReturn:
        raise UncopiedError(object.__getattribute__(self, "_text"))

    def __deepcopy__(self, memo: dict[int, Any]) -> Uncopied:
        return self

    def __repr__(self) -> str:
        return f"<{object.__getattribute__(self, '_text')}>"

    __setattr__ = __delattr__ = __call__ = __getitem__ = __setitem__ = __delitem__ = __contains__ = __refuse__
    __iter__ = __next__ = __reversed__ = __len__ = __bool__ = __enter__ = __exit__ = __await__ = __refuse__
    __int__ = __float__ = __index__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __refuse__
    __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = __lt__ = __le__ = __gt__ = __ge__ = __refuse__


class ModuleCopier(Copier):
    """A copier of a module with its attributes and the hooks that compute, but without the hooks that only observe.

    An object that can't be copied becomes an `Uncopied` in the copy. Open files are shared.

    Args:
        module: the original.
        memo: as for a `Copier`.
        stand_ins: for objects that are not copied; None to copy all.
        in_place: copy the attributes of the parts, but not the parts and parameters themselves.
    """

    def __init__(
        self, module: nn.Module, memo: dict[int, Any], stand_ins: StandIns | None = None, *, in_place: bool = False
    ) -> None:
        originals = {id(part): part for part in (*module.modules(), *module.parameters())}
        super().__init__(memo | (originals if in_place else {}), originals)
        self._original = self.anchored | set(map(id, module.buffers()))
        self._observers, self._in_place = Observers(module), in_place
        self._provider = stand_ins
        self._provided: tuple[type, ...] = () if stand_ins is None else stand_ins.classes

    def make(self, value: object, path: str) -> Any:
        """Make the copy of an object that has none yet, or its stand-in."""
        if self._provider is not None and isinstance(value, self._provided):
            return self._provider.of(value)
        kind = type(value)
        if root_of(kind.__module__) in LOGGERS and kind not in copyreg.dispatch_table:
            return self.stand_in(value, path, TypeError("a logger's"))
        return super().make(value, path)

    def attribute(self, name: str, value: object, path: str) -> Any:
        """The copy of one attribute of the object at `path`."""
        if (name not in TREE and name not in TABLES) or not isinstance(value, dict):
            return super().attribute(name, value, path)
        twin = self.remember(value, type(value)())
        twin.clear()  # `copy.deepcopy` may have filled it
        for key, item in value.items():
            if name in TREE:
                twin[key] = self(item, f"{path}.{key}")
            elif item not in self._observers:
                twin[key] = self(item, f"{path}.{name}[{key}]")
        return twin

    def copy_by_class(self, value: object, path: str) -> Any:
        """Copy an object by its ``__deepcopy__``, unless that uses parts of the original."""
        twin = super().copy_by_class(value, path)
        if self._uses_original(twin, value):
            self.memo.pop(id(value), None)
            return self.copy_by_attributes(value, path, TypeError("its __deepcopy__ shares parts of the module"))
        if isinstance(value, nn.Module) and isinstance(twin, nn.Module):
            self._complete(value, twin, path)
        return twin

    def _complete(self, value: nn.Module, twin: nn.Module, path: str) -> None:
        """Add to a module of `copy.deepcopy` what that loses, and copies of the functions that it shares."""
        twins = dict(twin.named_modules())
        for name, part in value.named_modules(prefix=path):
            part_twin = twins.get(name.removeprefix(path).removeprefix("."))
            if part_twin is None:  # a __deepcopy__ may give another structure
                continue
            self.copy_missing(part, part_twin, name)
            attributes = part_twin.__dict__
            attributes.update({key: self.attribute(key, vars(part)[key], name) for key in TABLES & vars(part).keys()})
            for key, item in list(attributes.items()):
                if isinstance(item, FunctionType) and id(item) not in self.copies:
                    attributes[key] = self(item, f"{name}.{key}")
        parameters = dict(twin.named_parameters())
        for name, parameter in value.named_parameters():
            if name in parameters:
                self.copy_missing(parameter, parameters[name], path)

    def _uses_original(self, twin: object, value: object) -> bool:
        """True if a copy leads to a part, parameter or buffer of the original."""
        seen: set[int] = set()
        waiting = [twin]
        while waiting:
            item = waiting.pop()
            if id(item) in self._original and self.memo.get(id(item)) is not item:
                return True
            is_shared = item is not value and self.memo.get(id(item)) is item
            if id(item) not in seen and not is_shared and not isinstance(item, (Tensor, *self._provided)):
                waiting += children_of(item)
            seen.add(id(item))
        return False

    def replace_uncopyable(self, value: object, path: str, error: Exception) -> Any:
        """The replacement of an object that can't be copied: an `Uncopied`, or an open file or CUDA graph itself.

        Raises:
            UncopyablePartError: if it is a module, a tensor, or a CUDA graph that runs on the memory of the original.
        """
        is_graph = isinstance(value, torch.cuda.CUDAGraph)
        if isinstance(value, nn.Module | Tensor) or (is_graph and not self._in_place):
            raise UncopyablePartError(
                f"{path} ({type(value).__name__}) can't be copied for the landscape ({type(error).__name__}: {error}). "
                "Give its class a __deepcopy__, or keep it outside of the module."
            )
        return value if is_graph or isinstance(value, io.IOBase) else Uncopied(path, type(value), error)


def module_copy(module: nn.Module, memo: dict[int, Any], stand_ins: StandIns | None = None) -> nn.Module:
    """A copy of a module that shares no parameter, buffer or other state with it.

    Args:
        module: the original, which is only read.
        memo: the existing copies, by the ids of the originals.
        stand_ins: as for a `ModuleCopier`.

    Raises:
        UncopyablePartError: if one of its parts can't be copied.

    >>> net = nn.Linear(2, 2)
    >>> net.bias.scale, net.double = 3.0, lambda x: 2 * net(x)
    >>> twin = module_copy(net, {})
    >>> twin.bias.scale, bool(twin.double(torch.ones(2)).eq(2 * twin(torch.ones(2))).all())
    (3.0, True)
    """
    copier = ModuleCopier(module, memo, stand_ins)
    twin = copier(module, "self")
    copier.memo.clear()  # a cycle may hold it, and so keep the copy in memory until the next garbage collection
    return twin
