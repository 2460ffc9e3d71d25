"""Recording: which weights of a training are kept, and in which number type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional, Union


@dataclass(frozen=True)
class Recording:
    """The settings of a recorder that keeps a bounded number of records, whatever the length of the training.

    Records are made at the steps 0, s, 2s, …. When `keep` of them are there, s doubles, and every second one goes.

    Args:
        every_n_steps: the first s, in steps of the optimisers. None: 1 for up to 500,000 parameters. For larger modules
            it is 2, 4, 8, …, the more the larger: a record of them takes as long as some of their steps.
        keep: the largest number of records, at least 8; the current weights are one of them.
        max_bytes: of all records, a number or a text such as "256MiB". Up to it, the weights are kept in float32. Above
            it they are differences to the first record in float16, and fewer records are kept, but 8 at least.
        folder: in which the folder "trajectory" is made; None for that of the landscapes.

    Raises:
        ValueError: for a number out of its range, or a size that is none.

    >>> Recording(max_bytes="1.5GB").size_limit
    1500000000
    >>> form = Recording(keep=8).form(numbers=1000)
    >>> [form.stride(step) for step in (6, 7, 12, 13)]
    [1, 2, 2, 4]
    """

    every_n_steps: Optional[int] = None
    keep: int = 64
    max_bytes: Union[int, str] = "256MiB"
    folder: Optional[str] = None

    def __post_init__(self) -> None:
        every = 1 if self.every_n_steps is None else self.every_n_steps
        least = {"every_n_steps": (every, 1), "keep": (self.keep, 8)}
        for name, (value, lowest) in least.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise ValueError(f"{name}={value!r}: give a whole number of at least {lowest}.")
        _ = self.size_limit

    @property
    def size_limit(self) -> int:
        """`max_bytes` as a number."""
        return _bytes_of(self.max_bytes)

    def form(self, numbers: int, statistics: int = 0, number_size: int = 4) -> Form:
        """The form of the records of so many trained numbers and statistics of BatchNorm.

        Args:
            numbers: in all trained parameters.
            statistics: in all buffers, which are kept in float32.
            number_size: the bytes of a number of the first record: 8 for a module in float64.

        >>> Recording(max_bytes=30_000).form(100), Recording(max_bytes=30_000).form(1000)
        (Form(is_half=False, keep=64, nbytes=25600, every=1), Form(is_half=True, keep=14, nbytes=30000, every=1))
        """
        first, every = number_size * numbers + 4 * statistics, self.every_n_steps or _first_stride(numbers)
        whole, half = 4 * (numbers + statistics), 2 * numbers + 4 * statistics
        if first + (self.keep - 1) * whole <= self.size_limit:
            return Form(False, self.keep, first + (self.keep - 1) * whole, every)
        keep = min(max((self.size_limit - first) // half + 1, 8), self.keep)
        return Form(True, keep, first + (keep - 1) * half, every)


@dataclass(frozen=True)
class Form:
    """The form of the records of one module.

    Args:
        is_half: True for differences to the first record in float16, False for weights in float32.
        keep: the largest number of records.
        nbytes: of so many records.
        every: the steps between two records at the start.
    """

    is_half: bool
    keep: int
    nbytes: int
    every: int = 1

    def stride(self, count: int) -> int:
        """The steps between two records after `count` steps."""
        stride = self.every
        while count > (self.keep - 2) * stride:  # the current weights are one more
            stride *= 2
        return stride


def _first_stride(numbers: int, small: int = 2**19) -> int:
    """A power of two that grows with the size of a module, as does the time of a record."""
    stride = 1
    while numbers > small * stride:
        stride *= 2
    return stride


def _bytes_of(size: int | str) -> int:
    """A number of bytes.

    Raises:
        ValueError: if it is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?\s*", str(size))
    if isinstance(size, bool) or not match:
        raise ValueError(f'max_bytes={size!r}: give a number of bytes, or a text such as "256MiB" or "1GB".')
    number, prefix, binary = match.groups()
    return round(float(number) * (1024 if binary else 1000) ** " kMGT".index(prefix or " "))
