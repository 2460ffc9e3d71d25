"""Weight matching: the permutations of one model's units that bring its weights nearest to another's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..weights.parameters import Params, dot, working_dtype
from .units import Placed, Units
from .watch import Structure, Tie

Order = NDArray[np.intp]
Orders = Mapping[Units, Order]


def match(structure: Structure, fixed: Params, moved: Params, *, most_rounds: int = 100) -> dict[Units, Order]:
    """Orders of units that maximise the inner product of two models (Ainsworth et al. 2023, section 3.2).

    One kind of units after the other is assigned by the Hungarian method, the others being as they are. That is
    repeated until nothing changes: a local optimum. It need not be the best one.

    Args:
        structure: which axes share an order.
        fixed: the parameters of the model that stays as it is.
        moved: those of the other; those of its buffers are left out.
        most_rounds: through all kinds of units; a few are usually enough.

    Returns:
        For all units their places in `moved`.
    """
    orders: dict[Units, Order] = {units: np.arange(units.size) for block in structure.blocks for units in block}
    matching = _Matching(structure, fixed, moved)
    for _ in range(most_rounds):
        improved = [matching.improve(block, orders) for block in structure.blocks]
        if not any(improved):
            break
    return orders


class _Matching:
    """The inner product of two models, as a function of the orders of units in one of them."""

    def __init__(self, structure: Structure, fixed: Params, moved: Params) -> None:
        self._ties = structure.ties
        names = [name for name in structure.ties if name in fixed]
        self._fixed, self._moved = (
            {name: of[name].to(working_dtype(of[name].dtype)) for name in names} for of in (fixed, moved)
        )
        self._with: dict[Units, list[str]] = {}
        for name in names:
            for units in {tie.label.units for tie in self._ties[name]}:
                self._with.setdefault(units, []).append(name)

    def improve(self, block: tuple[Units, ...], orders: dict[Units, Order]) -> bool:
        """Reorder the units of one block if that raises the inner product; True if it does."""
        profits = [self._profit(units, orders) for units in block]
        found = _assign_heads(profits, block[0].heads) if block[0].heads else [_assign(profit) for profit in profits]
        trial = {**orders, **dict(zip(block, found, strict=True))}
        if self._are_linear(block):
            before, after = (_gain(profits, [of[units] for units in block]) for of in (orders, trial))
        else:
            before, after = (self._product(block, of) for of in (orders, trial))
        improved = after - before > 1e-6 * abs(before)  # rounding must not go round in circles
        if improved:
            orders.update(trial)
        return improved

    def _are_linear(self, block: tuple[Units, ...]) -> bool:
        """True if no tensor has units of the block along two axes: the gains do not depend on their own order."""
        counts = [{tie.axis for tie in ties if tie.label.units in block} for ties in self._ties.values()]
        return max(map(len, counts)) < 2

    def _product(self, block: tuple[Units, ...], orders: Orders) -> float:
        """The part of the inner product that depends on the order of a block."""
        names = sorted({name for units in block for name in self._with.get(units, [])})
        return dot({name: reorder(self._moved[name], self._ties[name], orders) for name in names}, self._fixed)

    def _profit(self, units: Units, orders: Orders) -> NDArray[np.float64]:
        """The gain of each unit of the moved model in each place, shape (places, units)."""
        total = torch.zeros(units.size, units.size, dtype=torch.float64)
        for name in self._with.get(units, []):
            for tie in self._ties[name]:
                if tie.label.units is units:
                    across = [other for other in self._ties[name] if other.axis != tie.axis]
                    moved = reorder(self._moved[name], across, orders)
                    total += _rows(self._fixed[name], tie) @ _rows(moved, tie).T  # in the precision of the weights
        return total.numpy()


def _rows(tensor: Tensor, tie: Tie) -> Tensor:
    """The entries of each unit in a row."""
    along = tensor.narrow(tie.axis, tie.start, tie.label.size).movedim(tie.axis, 0)
    split = along.reshape(tie.label.outer, tie.label.units.size, -1)
    return split.movedim(1, 0).reshape(tie.label.units.size, -1)


def reorder(tensor: Tensor, ties: Iterable[Tie], orders: Orders) -> Tensor:
    """A tensor with its units in these orders; units without an order stay.

    >>> units = Units(3)
    >>> tie = Tie(0, 0, Placed(units, inner=2))
    >>> reorder(torch.arange(6), [tie], {units: np.array([2, 0, 1])}).tolist()
    [4, 5, 0, 1, 2, 3]
    """
    for axis in range(tensor.ndim):
        index = np.arange(tensor.shape[axis])
        for tie in ties:
            if tie.axis == axis and tie.label.units in orders:
                index[tie.start : tie.start + tie.label.size] = tie.start + _entries(tie.label, orders)
        if (index != np.arange(len(index))).any():
            tensor = tensor.index_select(axis, torch.from_numpy(index).to(tensor.device))
    return tensor


def _entries(label: Placed, orders: Orders) -> Order:
    """The places of all entries along an axis, from the order of its units."""
    entries = np.arange(label.size).reshape(label.outer, label.units.size, label.inner)
    return entries[:, orders[label.units]].reshape(-1)


def _gain(profits: Sequence[NDArray[np.float64]], orders: Sequence[Order]) -> float:
    """The sum of the gains of all units in their places."""
    return sum(float(profit[range(len(order)), order].sum()) for profit, order in zip(profits, orders, strict=True))


def _assign(profit: NDArray[np.float64]) -> Order:
    """The order with the largest sum of gains."""
    from scipy.optimize import linear_sum_assignment

    order: Order = linear_sum_assignment(profit, maximize=True)[1]
    return order


def _assign_heads(profits: list[NDArray[np.float64]], heads: int) -> list[Order]:
    """The orders of queries with keys, and of values, that permute heads as a whole and the entries within each."""
    size = len(profits[0]) // heads
    split = [profit.reshape(heads, size, heads, size) for profit in profits]
    within = np.empty((len(profits), heads, heads, size), int)
    gains = np.zeros((heads, heads))
    for k, a, b in np.ndindex(len(profits), heads, heads):
        block = split[k][a, :, b]
        within[k, a, b] = _assign(block)
        gains[a, b] += block[np.arange(size), within[k, a, b]].sum()
    taken = _assign(gains)
    return [
        np.concatenate([taken[a] * size + within[k, a, taken[a]] for a in range(heads)]) for k in range(len(profits))
    ]
