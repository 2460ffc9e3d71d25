"""Copies of whole modules, and what stands in them for objects that can't be copied."""

from __future__ import annotations

import copyreg
import io
from types import FunctionType
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from .copying import Copier, UncopyablePartError
from .observers import LOGGERS, TABLES, Observers, held_by, root_of

TREE = frozenset(["_modules", "_parameters", "_buffers"])


class UncopiedError(RuntimeError):
    """A step uses an object that could not be copied."""


class Uncopied:
    """Stands in a copy of a module for what can't be copied, and shared neither: any use of it names the original.

    Args:
        path: of the original in the module.
        kind: the class of the original.
        why: it can't be copied.
    """

    __slots__ = ("_text",)

    def __init__(self, path: str, kind: type, why: Exception) -> None:
        text = (
            f"{path} ({kind.__name__}) can't be copied for the landscape ({type(why).__name__}: {why}), and is used "
            "there, which could not be undone. Give its class a __deepcopy__ (one that returns self shares the object "
            "with the landscape), or keep it out of the step."
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
    """Copies a module with all that it holds, but not the hooks that only look on.

    What can't be copied is an `Uncopied` in the copy; open files are shared.

    Args:
        module: the original.
        memo: as of a `Copier`.
        stand_ins: for objects of some classes (`StandIns`); None for copies.
        in_place: copy what its parts hold, but not the parts and parameters themselves.
    """

    def __init__(
        self, module: nn.Module, memo: dict[int, Any], stand_ins: Any = None, *, in_place: bool = False
    ) -> None:
        fixed = [*module.modules(), *module.parameters()]
        super().__init__(memo | ({id(thing): thing for thing in fixed} if in_place else {}), map(id, fixed))
        self._original = self.anchored | set(map(id, module.buffers()))
        self._observers, self._in_place = Observers(module), in_place
        self._lent, self._replaced = stand_ins, () if stand_ins is None else stand_ins.classes

    def make(self, value: Any, path: str) -> Any:
        """A copy of an object that has none yet, or what stands for it."""
        if isinstance(value, self._replaced):
            return self._lent.of(value)
        kind = type(value)
        if root_of(kind.__module__) in LOGGERS and kind not in copyreg.dispatch_table:
            return self.stand_in(value, path, TypeError("a logger's"))
        return super().make(value, path)

    def attribute(self, name: str, value: Any, path: str) -> Any:
        """The copy of one attribute of the object at `path`."""
        if (name not in TREE and name not in TABLES) or not isinstance(value, dict):
            return super().attribute(name, value, path)
        twin = self.remember(value, type(value)())
        twin.clear()  # of what `copy.deepcopy` has put into it
        for key, item in value.items():
            if name in TREE:
                twin[key] = self(item, f"{path}.{key}")
            elif item not in self._observers:
                twin[key] = self(item, f"{path}.{name}[{key}]")
        return twin

    def by_class(self, value: Any, path: str) -> Any:
        """A copy by the object's own ``__deepcopy__``, unless that uses parts of the original."""
        twin = super().by_class(value, path)
        if self._uses_original(twin, value):
            self.memo.pop(id(value), None)
            return self.by_attributes(value, path, TypeError("its __deepcopy__ shares parts of the module"))
        return self._rebound(value, twin, path) if isinstance(twin, nn.Module) else twin

    def _rebound(self, value: nn.Module, twin: nn.Module, path: str) -> nn.Module:
        """A module of `copy.deepcopy`, with what that forgets, and whose functions are those of the original."""
        twins = dict(twin.named_modules())
        for name, part in value.named_modules(prefix=path):
            own: Any = twins.get(name.removeprefix(path).removeprefix("."))
            if own is None:  # a __deepcopy__ may give something else
                continue
            self.fill(part, own, name)
            own.__dict__.update({key: self.attribute(key, vars(part)[key], name) for key in TABLES & vars(part).keys()})
            for key, item in list(vars(own).items()):
                if isinstance(item, FunctionType) and not self.is_made(item):
                    own.__dict__[key] = self(item, f"{name}.{key}")
        parameters = dict(twin.named_parameters())
        for name, parameter in value.named_parameters():
            if name in parameters:
                self.fill(parameter, parameters[name], path)
        return twin

    def _uses_original(self, twin: Any, value: Any) -> bool:
        """True if a copy leads to a part, parameter or buffer of the original."""
        seen: set[int] = set()
        waiting = [twin]
        while waiting:
            item = waiting.pop()
            if id(item) in self._original and self.memo.get(id(item)) is not item:
                return True
            is_shared = item is not value and self.memo.get(id(item)) is item
            if id(item) not in seen and not is_shared and not isinstance(item, (Tensor, *self._replaced)):
                waiting += held_by(item)
            seen.add(id(item))
        return False

    def refused(self, value: Any, path: str, error: Exception) -> Any:
        """The stand-in for an object that can't be copied: an `Uncopied`, or an open file or CUDA graph itself.

        Raises:
            UncopyablePartError: if it is a module, a tensor, or a CUDA graph, which runs on the memory of the original.
        """
        is_graph = isinstance(value, torch.cuda.CUDAGraph)
        if isinstance(value, nn.Module | Tensor) or (is_graph and not self._in_place):
            raise UncopyablePartError(
                f"{path} ({type(value).__name__}) can't be copied for the landscape ({type(error).__name__}: {error}). "
                "Give its class a __deepcopy__, or keep it outside of the module."
            )
        return value if is_graph or isinstance(value, io.IOBase) else Uncopied(path, type(value), error)


def module_copy(module: nn.Module, memo: dict[int, Any], stand_ins: Any = None) -> nn.Module:
    """A copy of a module that shares no parameter, buffer or other state with it.

    Args:
        module: the original, which is only read.
        memo: copies that there are already, by the ids of the originals.
        stand_ins: as of a `ModuleCopier`.

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
    copier.memo.clear()  # it holds the copy, and a cycle may hold it: the memory would stay until the next collection
    return twin
