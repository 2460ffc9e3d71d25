"""Records of weights in memory or in files, and the step that a checkpoint is of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import overload

from torch import Tensor

from ..directions.between import read_checkpoint, state_dict_of, weights_of
from ..local_paths import local_path
from ..weights.parameters import Params

STEP_KEYS = ("global_step", "last_iter")  # of Lightning, and of DI-engine with LightZero
NAME = "the number in its name"
STEP_WORDS = ("step", "iteration", "iter", "epoch")  # before the number in a file's name, the finest unit first


class Kept(Sequence[Params]):
    """The records of a training, oldest first: those in files are read each time that they are asked for.

    Args:
        records: sets of weights, or files of them.

    >>> import torch
    >>> kept = Kept([{"w": torch.zeros(1)}, {"w": torch.ones(1)}])
    >>> len(kept), kept[-1], len(kept[:1])
    (2, {'w': tensor([1.])}, 1)
    """

    def __init__(self, records: Iterable[Params | Path] = ()) -> None:
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, place: int) -> Params: ...
    @overload
    def __getitem__(self, place: slice) -> Kept: ...
    def __getitem__(self, place: int | slice) -> Params | Kept:
        if isinstance(place, slice):
            return Kept(self._records[place])
        record = self._records[place]
        return weights_of(record) if isinstance(record, Path) else record

    def append(self, record: Params) -> None:
        """Add a record, the newest."""
        self._records.append(record)


def steps_of(paths: Iterable[str | PathLike[str]]) -> dict[Path, float]:
    """Checkpoint files by their steps, in ascending order, with the step of each.

    All steps come from one source: ``global_step`` in the files, else ``last_iter`` in them, else the number in their
    names. One file is in memory at a time.

    Args:
        paths: files with a state dict, in any order.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if a file holds no state dict, has no step, or two have the same.
    """
    found = [(path, _sources(path)) for path in (local_path("paths", path) for path in paths)]
    for path, sources in found:
        if not sources:
            raise ValueError(
                f"{path} has no step: it holds neither {' nor '.join(STEP_KEYS)}, and its name has no number. Name "
                'it after its step, e.g. "step_100.pt".'
            )
    common = [source for source in (*STEP_KEYS, NAME) if all(source in sources for _, sources in found)]
    if not common:
        ways = "; ".join(f"{path.name} by {' and '.join(sources)}" for path, sources in found)
        raise ValueError(
            f'The files tell their steps in different ways ({ways}): name each after its step, e.g. "step_100.pt".'
        )
    ordered = sorted((sources[common[0]], path) for path, sources in found)
    for (step, path), (other_step, other) in pairwise(ordered):
        if step == other_step:
            raise ValueError(f"{path} and {other} are both of step {step:g}, by {common[0]}: give one file a step.")
    return {path: step for step, path in ordered}


def step_in(name: str) -> float | None:
    """The number after step, iteration, iter or epoch in the name of a file, else the last one; None without any.

    >>> step_in("iteration_10000"), step_in("epoch=3-step=400-v1"), step_in("resnet18_7"), step_in("last")
    (10000.0, 400.0, 7.0, None)
    """
    for word in STEP_WORDS:
        if match := re.search(rf"{word}[^a-z0-9]?(\d+)", name, re.IGNORECASE):
            return float(match[1])
    numbers = re.findall(r"\d+", name)
    return float(numbers[-1]) if numbers else None


def _sources(path: Path) -> dict[str, float]:
    """The steps of a file, by where they are said."""
    content = read_checkpoint(path)
    state_dict_of(content, path)
    steps = {key: step for key in STEP_KEYS if (step := _number(content, key)) is not None}
    named = step_in(re.sub(r"(\.[a-z]+)+$", "", path.name, flags=re.IGNORECASE))
    return steps if named is None else {**steps, NAME: named}


def _number(content: object, key: str) -> float | None:
    """The number under a key of a checkpoint."""
    value = content.get(key) if isinstance(content, Mapping) else None
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
