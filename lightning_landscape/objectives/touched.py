"""Detection of the weights in a user's computation: those of the copy, which move, or the originals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..isolation.effects import record_effects
from .base import Batch, CannotMeasureError, Objective, ObjectiveWrapper, Observation

T = TypeVar("T")


class OriginalsTouchedError(CannotMeasureError):
    """An error for a user's code that computes with weights that never move."""


class OriginalsEditedError(OriginalsTouchedError):
    """An error for a user's code that was stopped before it edited the training's weights."""


class Touched(TorchDispatchMode):
    """A recorder of the operations on the memory of given tensors.

    Views and detached aliases are no operations; computations with them are. An operation with a forbidden tensor
    raises an error. If the operation would edit the tensor, it is not made.

    Args:
        forbidden: tensors that must not be touched, by name.
        watched: tensors that may be touched, by name.

    Attributes:
        forbidden: the names of the forbidden tensors that were touched.
        watched: the names of the watched tensors that were touched.
        edited: the names of the forbidden tensors that an operation would have edited.

    >>> import torch
    >>> w = torch.ones(2)
    >>> with Touched({}, {"w": w}) as touched:
    ...     _ = w.view(2, 1).detach()
    ...     touched.watched
    ...     _ = w.view(2, 1) * 2
    []
    >>> touched.watched
    ['w']
    """

    def __init__(self, forbidden: Mapping[str, Tensor], watched: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.forbidden: list[str] = []
        self.watched: list[str] = []
        self.edited: list[str] = []
        self._homes: dict[int, tuple[list[str], str]] = {}
        for found, named in ((self.watched, watched), (self.forbidden, forbidden)):
            self._homes |= {_memory(tensor): (found, name) for name, tensor in named.items()}
        self._homes.pop(0, None)

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation, and record the tensors that it touches.

        Raises:
            OriginalsTouchedError: if one of them is forbidden.
        """
        kwargs = kwargs or {}
        addresses = {_memory(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        homes = [home for home in self._homes if home in addresses] if addresses & self._homes.keys() else []
        found = [self._homes[home] for home in homes]
        forbidden = [name for table, name in found if table is self.forbidden]
        result = None
        self.edited += forbidden if func._schema.is_mutable else []
        if not (forbidden and func._schema.is_mutable):
            result = func(*args, **kwargs)
            outputs = tree_leaves(result)
            if outputs and all(isinstance(t, Tensor) and _memory(t) in homes for t in outputs):
                return result
        for table, name in found:
            table += [name] if name not in table else []
        if forbidden:
            raise OriginalsTouchedError(
                f"{forbidden[0]!r} of the original module is used: use self, or the model that the function is given."
            )
        return result


def _memory(tensor: Tensor) -> int:
    """The address of a tensor's memory; 0 if it has none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse, or without data
        return 0


class Rehearsed(ObjectiveWrapper):
    """An objective that is checked on its rehearsal and first call: they must not touch the original weights.

    Args:
        objective: the one that is measured.
        touched: the recorder of the weights that are touched.
        refused: the error message, with the name of an original weight in place of ``{}``.

    Attributes:
        noticed: the effects of the first call that no hook holds back, in words, with their counts.
    """

    def __init__(self, objective: Objective, touched: Touched, refused: str) -> None:
        super().__init__(objective)
        self.touched, self.refused = touched, refused
        self.noticed: dict[str, int] = {}
        self._is_checked = False

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """Rehearse the objective, and check that it does not touch the original weights.

        Raises:
            OriginalsTouchedError: if an original weight is touched.
        """
        self._watch(lambda: self.objective.rehearse(module, batch))

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """The objective's observations; the first call is checked.

        Raises:
            OriginalsTouchedError: if an original weight is touched.
        """
        if self._is_checked:
            return self.objective(module, batch)
        with record_effects() as self.noticed:
            observed = self._watch(lambda: self.objective(module, batch))
        self._is_checked = True
        return observed

    def _watch(self, call: Callable[[], T]) -> T:
        try:
            with self.touched:
                result = call()
        except Exception:  # noqa: BLE001  # the call below raises it again, if it is the user's
            self._check()
            return call()  # the same error; or the result of a call that only the recorder disturbs
        self._check()
        return result

    def _check(self) -> None:
        if self.touched.edited:
            raise OriginalsEditedError(
                f"Measuring would have moved the training itself: {self.touched.edited[0]}. It was stopped. The step "
                "reaches it by a global, a list or another object: let it use self."
            )
        if self.touched.forbidden:
            raise OriginalsTouchedError(self.refused.format(repr(self.touched.forbidden[0])))
