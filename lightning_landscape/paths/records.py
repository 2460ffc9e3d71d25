"""Records: the weights of a training at some of its steps, read from their files one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from torch import Tensor

from ..weights.parameters import Params
from .record_file import read_record


class Records(Sequence[Params]):
    """Sets of weights on the CPU, oldest first. Each is read from its file when it is asked for.

    Args:
        files: by step, the files of the records.
        now: the step and the weights of a last record, which has no file; None for none.

    Attributes:
        steps: of the records.

    >>> import torch
    >>> records = Records({}, (3, {"weight": torch.zeros(2)}))
    >>> records.steps, records[-1]
    ([3], {'weight': tensor([0., 0.])})
    """

    def __init__(self, files: dict[int, Path], now: tuple[int, dict[str, Tensor]] | None = None) -> None:
        self._files = [*files.items()]
        self._now = now
        self.steps = [step for step, _ in self._files] + ([] if now is None else [now[0]])

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, index: int) -> dict[str, Tensor]: ...

    @overload
    def __getitem__(self, index: slice) -> Records: ...

    def __getitem__(self, index: int | slice) -> dict[str, Tensor] | Records:
        if isinstance(index, slice):
            chosen = [*range(len(self))[index]]
            has_now = self._now is not None and len(self._files) in chosen
            return Records(dict(self._files[i] for i in chosen if i < len(self._files)), self._now if has_now else None)
        place = range(len(self))[index]
        if place < len(self._files):
            return read_record(self._files[place][1])
        assert self._now is not None
        return self._now[1]

    @property
    def files(self) -> list[Path]:
        """The files, oldest first."""
        return [path for _, path in self._files]
