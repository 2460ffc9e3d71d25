"""A forward pass, watched: which axes of which parameters share one order of units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any, NoReturn

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..weights.parameters import canonical_name, tensors_in
from .units import Label, Labels, Placed, Units, join, pin


@dataclass(frozen=True)
class Tie:
    """A stretch of an axis of a named tensor that is in the order of some units.

    Args:
        axis: of the tensor.
        start: the first entry.
        label: the units.
    """

    axis: int
    start: int
    label: Placed


@dataclass(frozen=True)
class Structure:
    """The permutations that leave a module's function as it is.

    Args:
        ties: of each tensor, by its name.
        blocks: the units of each permutation: one kind, or queries with keys and values of attention, whose heads
            are permuted together.
    """

    ties: dict[str, list[Tie]]
    blocks: list[tuple[Units, ...]]


class Watch(TorchFunctionMode):
    """A mode that follows the units of a module's parameters through its forward pass.

    Args:
        module: in eval mode.
        rules: what happens to the order of units in each function, by the function or its name.

    Every axis of a parameter starts with units of its own. A rule joins those that meet.
    """

    def __init__(self, module: nn.Module, rules: Callable[[Any], Callable[..., None] | None]) -> None:
        super().__init__()
        self._module, self._rules = module, rules
        named = [*module.named_parameters(), *module.named_buffers()]
        self._names = {id(tensor): canonical_name(name) for name, tensor in named}
        self._parameters = {id(parameter): parameter for parameter in module.parameters()}
        self._labels: dict[int, tuple[Tensor, Labels]] = {}  # the tensor is kept, so that no id is used again
        self._axes: dict[tuple[int, int], Placed] = {}
        self._heads: dict[int, tuple[Units, Units]] = {}
        self._ties: dict[str, list[Tie]] = {}
        self._parts: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, and label its output."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        outputs = list(tensors_in(output))
        given = list(tensors_in([args, kwargs]))
        if outputs and any(map(self._is_labelled, given)):
            rule = self._rules(func)
            if rule is None:
                self.refuse(f"{getattr(func, '__name__', func)} has no rule")
            else:
                rule(self, output, *args, **kwargs)
        return output

    def _is_labelled(self, tensor: Tensor) -> bool:
        if id(tensor) in self._parameters:
            return any(size > 1 for size in tensor.shape)
        return any(label is not None for label in self.labels(tensor))

    def refuse(self, reason: str) -> NoReturn:
        """Raises ValueError with the part that runs at the moment."""
        part = self._parts[-1] if self._parts else type(self._module).__name__
        raise ValueError(
            f"The units of {part} can't be aligned: {reason}. Alignment knows linear, convolutional, embedding and "
            "normalisation layers, nn.MultiheadAttention, elementwise functions, pooling and reshapes. Leave out "
            "align=True, or compare the models without it."
        )

    def labels(self, tensor: Tensor) -> Labels:
        """The label of each axis of a tensor."""
        if id(tensor) in self._labels:
            return self._labels[id(tensor)][1]
        if id(tensor) in self._parameters:
            return tuple(self.axis(tensor, axis) for axis in range(tensor.ndim))
        return (None,) * tensor.ndim

    def put(self, tensor: Tensor, labels: Iterable[Label]) -> None:
        """Label a result; an axis of one entry has no order."""
        sizes = zip(labels, tensor.shape, strict=True)
        self._labels[id(tensor)] = tensor, tuple(label if size > 1 else None for label, size in sizes)

    def axis(self, tensor: Tensor, axis: int) -> Label:
        """The units along one axis of a parameter or buffer of the module."""
        if tensor.shape[axis] < 2 or id(tensor) not in self._names:
            return None
        if (id(tensor), axis) not in self._axes:
            self._axes[id(tensor), axis] = label = Placed(Units(tensor.shape[axis]))
            self.tie(tensor, axis, 0, label)
        return self._axes[id(tensor), axis]

    def tie(self, tensor: Tensor, axis: int, start: int, label: Placed) -> None:
        """Put a stretch of an axis of a parameter in the order of some units."""
        if id(tensor) not in self._names:
            self.refuse("it computes a weight from others")
        self._ties.setdefault(self._names[id(tensor)], []).append(Tie(axis, start, label))
        if id(tensor) in self._parameters and not tensor.requires_grad:
            pin(label)

    def heads(self, weight: Tensor, size: int, heads: int) -> tuple[Units, Units, bool]:
        """The units of queries with keys, and of values, of one attention; and True if they are new."""
        is_new = id(weight) not in self._heads
        if is_new:
            self._heads[id(weight)] = Units(size, heads), Units(size, heads)
        return (*self._heads[id(weight)], is_new)

    def structure(self) -> Structure:
        """The permutations that are free after the pass."""
        ties = {name: [Tie(t.axis, t.start, t.label.resolve()) for t in of] for name, of in self._ties.items()}
        roots = dict.fromkeys(tie.label.units for of in ties.values() for tie in of)
        pairs = [pair for pair in self._heads.values() if not (pair[0].pinned or pair[1].pinned)]
        single = [(units,) for units in roots if not units.heads and not units.pinned]
        return Structure(ties, [*single, *pairs])

    @contextmanager
    def naming_parts(self) -> Iterator[None]:
        """Note which part of the module runs, for the words of a refusal."""

        def enter(part: nn.Module, _: object, name: str) -> None:
            self._parts.append(f"{name!r} ({type(part).__name__})" if name else type(part).__name__)

        def leave(*_: object) -> None:
            self._parts.pop()

        with ExitStack() as hooks:
            for name, part in self._module.named_modules():
                hooks.callback(part.register_forward_pre_hook(lambda p, a, name=name: enter(p, a, name)).remove)
                hooks.callback(part.register_forward_hook(leave).remove)
            yield


def watch(module: nn.Module, rules: Callable[[Any], Callable[..., None] | None], run: Callable[[], Any]) -> Structure:
    """The permutations that leave the outputs of a module as they are, from one forward pass.

    Args:
        module: in eval mode.
        rules: the rule of a function; None without one.
        run: calls the module, and gives its outputs.

    Raises:
        ValueError: if the module computes with its units in a way that has no rule.
    """
    following = Watch(module, rules)
    with following.naming_parts(), following:
        outputs = run()
    for tensor in tensors_in(outputs):
        for label in following.labels(tensor):
            pin(label)
    return following.structure()


def join_all(labels: Iterable[Label]) -> Label:
    """One order for axes that all meet."""
    return reduce(join, labels)
