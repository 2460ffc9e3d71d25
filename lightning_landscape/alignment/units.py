"""Units: the places along an axis of a tensor whose order is free, and which axes share one order."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(eq=False)
class Units:
    """The channels, neurons or heads that one permutation reorders.

    Args:
        size: how many.
        heads: the number of blocks of equal size that are permuted as a whole, and within; 0 without such blocks.
        pinned: True if their order is fixed: the data, the outputs or a frozen parameter tell them apart.
    """

    size: int
    heads: int = 0
    pinned: bool = False
    _inside: Placed | None = field(default=None, repr=False)  # the units that these are, or are made of


@dataclass(frozen=True)
class Placed:
    """Units along an axis of outer × units × inner entries, as flattening puts channels along an axis.

    Args:
        units: whose order is free.
        outer: copies of all units, one after the other.
        inner: entries of each unit, side by side.
    """

    units: Units
    outer: int = 1
    inner: int = 1

    @property
    def size(self) -> int:
        """The length of the axis."""
        return self.outer * self.units.size * self.inner

    def resolve(self) -> Placed:
        """The same entries by the units that the order depends on in the end."""
        inside = self.units._inside
        if inside is None:
            return self
        return Placed(inside.units, self.outer * inside.outer, inside.inner * self.inner).resolve()


Label = Placed | None  # None: the order along the axis has a meaning
Labels = tuple[Label, ...]


def pin(label: Label) -> None:
    """Fix the order of the units along an axis."""
    if label is not None:
        label.resolve().units.pinned = True


def join(p: Label, q: Label) -> Label:
    """One order for two axes whose entries meet one to one; a fixed order if one of them is fixed.

    >>> channels, neurons = Placed(Units(4), inner=9), Placed(Units(36))
    >>> joined = join(channels, neurons)
    >>> neurons.resolve() == channels
    True
    """
    if p is None or q is None:
        pin(p)
        pin(q)
        return None
    a, b = p.resolve(), q.resolve()
    if a == b:
        return a
    if not (_place_within(a, b) or _place_within(b, a)):
        pin(a)
        pin(b)
    return p.resolve()


def _place_within(a: Placed, b: Placed) -> bool:
    """Make the units of `b` out of those of `a`, if they are; True if that was possible."""
    possible = a.units is not b.units and a.outer % b.outer == 0 and a.inner % b.inner == 0 and not b.units.heads
    if possible:
        a.units.pinned |= b.units.pinned
        b.units._inside = Placed(a.units, a.outer // b.outer, a.inner // b.inner)
    return possible
