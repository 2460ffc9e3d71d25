"""Detection of the weights that a user's code computes with: those of the copy, or the originals.

The weights of the copy move. The original weights never move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..isolation.effects import record_effects
from .base import Batch, CannotMeasureError, Objective, Observation


class OriginalsTouchedError(CannotMeasureError):
    """A user's code computes with weights that never move."""


class OriginalsEditedError(OriginalsTouchedError):
    """A user's code was about to edit weights that are not its to move; it was stopped."""


class Touched(TorchDispatchMode):
    """Sees every operation on the memory of some tensors; one on a forbidden tensor is refused before it is made.

    Views and detached aliases are no operations; what is computed with them is.

    Args:
        forbidden: what must not be touched, by name.
        watched: what may be.

    Attributes:
        forbidden: the names of those that were touched; so `watched`.
        edited: the names of the forbidden ones that were to be edited.

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

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operation, and remember what it touched.

        Raises:
            CannotMeasureError: if that is forbidden.
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
            made = tree_leaves(result)
            if made and all(isinstance(t, Tensor) and _memory(t) in homes for t in made):
                return result
        for table, name in found:
            table += [name] if name not in table else []
        if forbidden:
            raise OriginalsTouchedError(f"{forbidden[0]!r} must not be touched.")
        return result


def _memory(tensor: Tensor) -> int:
    """The address of a tensor's memory; 0 where it has none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse, or without data
        return 0


class Rehearsed(Objective):
    """An objective whose first call, and rehearsal, must not touch the original weights.

    Args:
        objective: the one that is measured.
        touched: what sees the call.
        refused: says what to do, with the name of an original weight in place of ``{}``.

    Attributes:
        noticed: what the first call did to the world, and how often (`effects.record_effects`).
    """

    def __init__(self, objective: Objective, touched: Touched, refused: str) -> None:
        self.objective, self.touched, self.refused = objective, touched, refused
        self.divisible = objective.divisible
        self.start, self.finish, self.main = objective.start, objective.finish, objective.main  # type: ignore[method-assign]
        self.noticed: dict[str, int] = {}
        self._seen = False

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """Rehearse the objective, and refuse a touch of the original weights.

        Raises:
            CannotMeasureError: if an original weight is touched.
        """
        self._watch(lambda: self.objective.rehearse(module, batch))

    def __call__(self, module: nn.Module, batch: Batch) -> dict[str, Observation]:
        """The objective's observations; the first call is watched for touches of the original weights.

        Raises:
            CannotMeasureError: if an original weight is touched.
        """
        if self._seen:
            return self.objective(module, batch)
        with record_effects() as self.noticed:
            observed = self._watch(lambda: self.objective(module, batch))
        self._seen = True
        return observed

    def _watch(self, call: Callable[[], Any]) -> Any:
        try:
            with self.touched:
                result = call()
        except Exception:  # noqa: BLE001  # raised again by the call below, if it is the call's
            self._check()
            return call()  # its own error once more; or what can't be watched, but can be done
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
