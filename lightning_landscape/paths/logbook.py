"""Logbook: the records of one training in its folder, thinned as they grow, and what a checkpoint carries of them."""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor, nn

from ..storage.atomic import write_whole
from .flat_weights import FlatWeights, by_name
from .history import History, lengths
from .record_file import RecordFileError, encode, half_differences, half_notes, read_arrays, read_header
from .recording import Recording
from .records import Records

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = "trajectory"


class State(TypedDict):
    """The names and numbers of a logbook in a checkpoint; no weights.

    The records are at the numbers of steps `records`, each in the folder of this index in `folders`.
    """

    name: str
    count: int
    start: int
    has_start: bool
    folders: list[str]
    records: list[list[int]]
    history: Tensor
    checkpoints: list[int]


class Logbook:
    """Records of a module at the steps that `Recording` chooses, in a new folder; rows of their numbers in a history.

    Weights are copied before and after a step that is recorded. The lengths are those of single steps, however far
    apart the records are.

    Args:
        module: that is trained.
        recording: the settings.
        root: in which a folder is made with the first file; None writes no files.
        start: the number of the training's step at which the records begin.
        cosine_limit: the number of parameters up to which the angle between two steps is computed: 10 million. It
            needs one copy of the weights more.
        patience: the seconds that a record waits in memory at most; a crash loses no more than these.
        most_waiting: the bytes of all that wait: 16 MiB. A large record is written at once.

    Attributes:
        count: the steps since the start.
        history: the rows.
        checkpoints: the steps at which one was saved, the last of them.

    Raises:
        ValueError: if the module has no weights that can be recorded.
    """

    def __init__(
        self,
        module: nn.Module,
        recording: Recording,
        root: Path | None,
        start: int = 0,
        *,
        cosine_limit: int = 10_000_000,
        patience: float = 5.0,
        most_waiting: int = 2**24,
    ) -> None:
        self.flat = FlatWeights(module)
        self.recording, self.root, self.start, self.count = recording, root, start, 0
        self.form = recording.form(self.flat.size, self.flat.statistics_size, self.flat.dtype.itemsize)
        self.history = History()
        self.checkpoints: list[int] = []
        self.has_start = True
        self.folder: Path | None = None
        self.lookback = 2 if self.flat.size < cosine_limit else 1  # the steps back that a row looks
        self._name = uuid.uuid4().hex[:12]
        self._kept: dict[int, Path] = {}
        self._waiting: dict[int, tuple[Tensor, Tensor]] = {}  # weights and statistics that have no file yet
        self._patience, self._most_waiting, self._written = patience, most_waiting, 0.0
        self._least_stride = 1  # of the files
        self._first: Tensor | None = None
        self._copies: dict[int, Tensor] = {}  # of the weights, by the count of steps
        self._next = 0  # the count at which the next record is due, once it was asked for

    @property
    def step(self) -> int:
        """The number of the training's step now."""
        return self.start + self.count

    @property
    def is_due(self) -> bool:
        """True if a record is to be made now."""
        return self.count % self.form.stride(self.count) == 0

    def is_due_within(self, steps: int) -> bool:
        """True if a record is to be made after one of so many steps from now."""
        if self.count >= self._next:
            self._next = next(then for then in count(self.count + 1) if then % self.form.stride(then) == 0)
        return self._next - self.count <= steps

    def copy(self, module: nn.Module) -> Tensor:
        """A copy of the weights of now, which stays until a later one needs its memory."""
        if self.count not in self._copies:
            old = [then for then in self._copies if then < self.count - self.lookback]
            into = self._copies.pop(min(old)) if old else None
            self._copies[self.count] = self.flat.take(module, into)
        return self._copies[self.count]

    def record(self, module: nn.Module, learning_rate: float = math.nan, loss: float = math.nan) -> None:
        """Add the module of now: a row, unless it has one, and a file.

        Args:
            module: that is trained.
            learning_rate: of the last step.
            loss: of the last step.

        Raises:
            OSError: if the file can't be written. The row is there.
        """
        weights = self.copy(module)
        if self._first is None:
            self._first = weights.clone()
        self._drop_last_row()
        if self.history.last_step != self.step:
            before, earlier = (self._copies.get(self.count - back) for back in (1, 2))
            numbers = lengths(weights, self._first, before, earlier if self.lookback == 2 else None)
            if not self.has_start:
                del numbers["distance"]
            self.history.add(self.step, **numbers, learning_rate=learning_rate, loss=loss)
        self._thin()
        self._keep(weights, self.flat.take_statistics(module))

    @property
    def has_file(self) -> bool:
        """True if the weights of now have a file."""
        return self.count in self._kept

    @property
    def is_empty(self) -> bool:
        """True if there is no file."""
        return not self._kept

    def records(self, module: nn.Module | None = None) -> Records:
        """The records that are in files, and the weights of a module of now as the last of them."""
        files = {self.start + then: path for then, path in self._kept.items()}
        if module is None or self.count in self._kept:
            return Records(files)
        vector = self._copies[self.count].clone() if self.count in self._copies else self.flat.take(module)
        tensors = by_name(vector.float(), self.flat.trained)
        for place in self.flat.trained:
            if place.is_complex:
                tensors[place.name] = torch.view_as_complex(tensors[place.name])
        return Records(
            files, (self.step, {**tensors, **by_name(self.flat.take_statistics(module), self.flat.statistics)})
        )

    def _stride(self) -> int:
        """The steps between two files."""
        return max(self._least_stride, self.form.stride(self.count))

    def _thin(self) -> None:
        """Forget the records between those that stay, but that of now; remove the files of this training among them."""
        stride = self._stride()
        for then in [then for then in self._kept if then % stride and then != self.count]:
            path = self._kept.pop(then)
            if self._waiting.pop(then, None) is None and path.parent == self.folder:
                path.unlink(missing_ok=True)

    def _keep(self, weights: Tensor, statistics: Tensor) -> None:
        """Keep a record in memory until it is written: many are removed again before."""
        if self.root is None:
            return
        is_first = not self._kept
        if self.folder is None:
            self.folder = _new_folder(self.root)
        self._kept[self.count] = self.folder / f"step={self.step:08d}.safetensors"
        size = (len(self._waiting) + 1) * (weights.nbytes + statistics.nbytes)
        is_late = time.monotonic() - self._written > self._patience
        if is_first or is_late or size > self._most_waiting:
            self._waiting[self.count] = (weights, statistics)
            self.flush()
        else:
            self._waiting[self.count] = (weights.clone(), statistics)

    def flush(self) -> None:
        """Write the records that wait.

        Raises:
            OSError: if one can't be written. It is given up, and the others are written.
        """
        failure: OSError | None = None
        for then, (weights, statistics) in self._waiting.items():
            try:
                self._write(then, weights, statistics)
            except OSError as error:
                failure = failure or error
                del self._kept[then]
        self._waiting.clear()
        self._written = time.monotonic()
        if failure is not None:
            raise failure

    def _write(self, then: int, weights: Tensor, statistics: Tensor) -> None:
        path = self._kept[then]
        notes = {"step": str(self.start + then), "recording": self._name}
        if complex_names := [place.name for place in self.flat.trained if place.is_complex]:
            notes["complex"] = json.dumps(complex_names)
        named = _arrays(by_name(weights, self.flat.trained))
        if then != min(self._kept):
            if self.form.is_half:
                assert self._first is not None
                named, scales = half_differences(named, _arrays(by_name(self._first, self.flat.trained)))
                notes |= half_notes(path, self._kept[min(self._kept)], scales)
            else:
                named = {name: array.astype("<f4", copy=False) for name, array in named.items()}
        named |= _arrays(by_name(statistics, self.flat.statistics))
        write_whole(path, *encode(named, notes), synced=False)

    def note_checkpoint(self, count: int = 256) -> None:
        """Note that a checkpoint is saved now; so many are remembered, of which pictures show far fewer."""
        if self.step not in self.checkpoints[-1:]:
            self.checkpoints = [*self.checkpoints, self.step][-count:]

    def state(self) -> State:
        """The names and numbers for a checkpoint; call `flush` before."""
        folders = list(dict.fromkeys(str(path.parent) for path in self._kept.values()))
        records = [[then, folders.index(str(path.parent))] for then, path in self._kept.items()]
        return State(
            name=self._name,
            count=self.count,
            start=self.start,
            has_start=self.has_start,
            folders=folders,
            records=records,
            history=self.history.state(),
            checkpoints=self.checkpoints,
        )

    def resume(self, state: State, places: Sequence[Path] = ()) -> str | None:
        """Go on where a checkpoint left off; gives the reason why the records so far are lost, or None.

        Records that have been removed since then are given up, with those that would make the others uneven.

        Args:
            state: of the checkpoint.
            places: folders in which the folders of the records may lie, if they were moved.
        """
        self.start, self.count, self.has_start = state["start"], state["count"], state["has_start"]
        self.history.load(state["history"])
        self.checkpoints = [*state["checkpoints"]]
        folders = [Path(folder) for folder in state["folders"]]
        files = {}
        for then, index in state["records"]:
            name = f"step={self.start + then:08d}.safetensors"
            for folder in (folders[index], *(place / folders[index].name for place in places)):
                if _is_record(folder / name, state["name"]):
                    files[then] = folder / name
                    break
        lost = self._take_over(files, [then for then, _ in state["records"]], folders)
        if lost is not None:
            self.start, self.count, self.has_start, self._kept = self.start + self.count, 0, False, {}
        else:
            self._name = state["name"]
        return lost

    def _drop_last_row(self) -> None:
        """Drop the row of a training's end, if the training has gone on since: one without an end has none."""
        then = (self.history.last_step or 0) - self.start
        if 0 < then < self.count and then % self.form.stride(then):
            self.history.drop_last()

    def _take_over(self, files: dict[int, Path], named: Sequence[int], folders: Sequence[Path]) -> str | None:
        """Keep the records that are there, evenly; gives the reason why that can't be."""
        if 0 not in files:
            where = ", ".join(str(folder) for folder in folders) or "no folder"
            return f"the first record of the training is no longer in {where}"
        try:
            arrays, _ = read_arrays(files[0])
        except (OSError, RecordFileError) as error:
            return f"the first record can't be read ({error})"
        shapes = {place.name: list(place.shape) for place in self.flat.trained}
        if {name: list(arrays[name].shape) for name in shapes if name in arrays} != shapes:
            return "the records are of other parameters"
        parts = [torch.from_numpy(arrays[name]).to(self.flat.dtype).reshape(-1) for name in shapes]
        self._first = torch.cat(parts)
        self._kept = files
        stride = self.form.stride(self.count)
        while any(then % stride == 0 and then not in files for then in named):
            stride *= 2
        self._least_stride = stride
        self._thin()
        return None


def _arrays(tensors: dict[str, Tensor]) -> dict[str, NDArray]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _new_folder(root: Path) -> Path:
    """A folder that nobody has written to, made by this call."""
    root.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = root / (FOLDER if number == 1 else f"{FOLDER}_{number}")
        try:
            os.mkdir(folder)
        except FileExistsError:
            continue
        return folder
    raise AssertionError


def _is_record(path: Path, name: str) -> bool:
    """True if a file is a whole record of this recording."""
    try:
        header, _ = read_header(path)
    except (OSError, RecordFileError):
        return False
    return bool(header.get("__metadata__", {}).get("recording") == name)
