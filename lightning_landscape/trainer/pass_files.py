"""The files of one pass: whose folder it is, what is measured there already, and what is kept while it is measured."""

from __future__ import annotations

import errno
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from ..distributed.ranks import from_first, merge
from ..landscape import Landscape
from ..objectives.base import CannotMeasureError
from ..output import DATA_FORMATS, DATA_NAME, Files, whole_formats, write_data
from ..storage import LandscapeFileError, encode, load
from ..storage.lock import Lock
from ..survey.resume import differences, is_finished, is_same_pass

log = logging.getLogger(__name__)
MAIN = f"{DATA_NAME}.h5"  # of rank 0, and of all in the end
VERSION = "version_"  # how Lightning's loggers number their runs
NEVER = (errno.EROFS, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)  # of the path, not of a moment
PARTS = f"{DATA_NAME}.rank*.h5"  # of the other ranks, while they measure


class PassFiles:
    """The folder of one pass: ``<root>/<name>``, or ``<root>/<name>_2`` and so on where that is another landscape's.

    A pass that finds its own recipe in a folder goes on there; any other folder is left as it is. Rank 0 decides, and
    its process has the folder alone until `close`. Every rank keeps its points in a file of its own.

    Args:
        root: the folder of all passes; None for no files.
        name: of the pass, e.g. "step=000240".
        elsewhere: other folders of passes, where an earlier run may have left this one.
        rank: of this process.

    Attributes:
        folder: where the files go; None before `find`, and where there is none.
        finished: whether the folder held the whole landscape before.
        error: what kept the pass from having a folder.
        notes: what the user should know of other folders.
    """

    def __init__(self, root: Path | None, name: str, elsewhere: Sequence[Path] = (), rank: int = 0) -> None:
        self.root, self.name, self.rank = root, name, rank
        self.elsewhere = [place for place in elsewhere if place != root]
        self.folder: Path | None = None
        self.finished = False
        self.error: Exception | None = None
        self.notes: list[str] = []
        self._lock: Lock | None = None
        self._files: Files | None = None

    def find(self, trainer: Any, landscape: Landscape, anew: bool = False) -> Landscape | None:
        """Take a folder for a landscape of which the centre is known; gives its points that are on disk already.

        Every rank must call it equally often.

        Args:
            trainer: connects the ranks.
            landscape: with its whole recipe.
            anew: take over no points, and a folder without any.
        """
        earlier = None
        if self.rank == 0 and self.root is not None:
            try:
                earlier = self._take(landscape, anew)
            except Exception as error:  # noqa: BLE001  # a pass without files is better than none: the caller tells it
                self.error = error
        self.folder, self.finished, earlier = from_first(trainer, (self.folder, self.finished, earlier))
        return earlier

    def keep(self, landscape: Landscape) -> list[tuple[str, Exception]]:
        """Write this rank's points of a landscape in progress; gives what could not be written, and why."""
        if self.folder is None or self.finished:
            return []
        files = Files(self.folder)
        if self.rank == 0:
            write_data(landscape, ("h5",), files.write)
        else:
            files.write(PARTS.replace("*", str(self.rank)), lambda: encode(landscape, ".h5"))
        return files.failures

    def begin(self) -> Files | None:
        """The writer of a measured landscape's files, on rank 0; None for no files."""
        if self.folder is None and self.root is not None:
            try:  # there may be room now
                self._take_new()
            except OSError as error:
                self.error = error
        if self.folder is not None and self._lock is not None:
            self._files = Files(self.folder, replace=not self.finished)
        return self._files

    def end(self, landscape: Landscape, formats: Sequence[str]) -> list[tuple[str, Exception]]:
        """Once all of a landscape is in a file, what was in progress goes away; gives what could not be written.

        Args:
            landscape: of all ranks, which the files that `begin` gave have got.
            formats: that were asked for.
        """
        if self._files is None:
            return [] if self.error is None else [("The folder", self.error)]
        failures = self._files.failures
        failed = {name for name, _ in failures}
        whole = [name for name in whole_formats(landscape, formats) if f"{DATA_NAME}.{name}" not in failed]
        if whole:
            needless = [*self._files.folder.glob(PARTS), *self._files.folder.glob(".*.tmp")]
            if "h5" not in whole and landscape.done.all():
                needless.append(self._files.folder / MAIN)
            for path in needless:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    failures.append((path.name, error))
        return failures

    def data(self, landscape: Landscape, formats: Sequence[str]) -> Path | None:
        """The file that holds all of a landscape; None if there is none."""
        names = [f"{DATA_NAME}.{name}" for name in whole_formats(landscape, formats)]
        return next((path for name in names if self.folder and (path := self.folder / name).exists()), None)

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _take(self, landscape: Landscape, anew: bool) -> Landscape | None:
        """Take this landscape's own folder, or a new one; gives the points of all folders that are of it."""
        assert self.root is not None
        parts: list[Landscape] = []
        others: list[tuple[Path, Landscape, list[str]]] = []
        mine: list[Path] = []
        for folder in [] if anew else [f for root in (self.root, *self.elsewhere) for f in _folders(root, self.name)]:
            content = Content.of(folder, landscape)
            if content.finished is not None:
                return self._finish(folder, content.finished)
            parts += content.same
            others += [(folder, part, what) for part, what in content.others if folder.parent == self.root]
            if content.is_own:
                mine.append(folder)
        for folder in mine:
            self._lock = Lock.take(folder)
            if self._lock is not None:
                content = Content.of(folder, landscape)  # who had it may have gone on since
                if content.finished is not None:
                    return self._finish(folder, content.finished)
                self.folder = folder
                parts += content.same
                break
        else:
            self._take_new()
        unfinished = [other for other in others if not other[1].done.all() and not _is_taken(other[0])]
        self.notes = [_note(*other, self.folder) for other in unfinished]
        return merge([part.without_interpolated() for part in parts]) if parts else None

    def _finish(self, folder: Path, landscape: Landscape) -> Landscape:
        """Nothing is to be measured, and only files that are missing are written, if nobody else does it."""
        self.folder, self.finished = folder, True
        if self._lock is None:
            with suppress(OSError):  # it may be read alone
                self._lock = Lock.take(folder)
        return landscape

    def _take_new(self) -> None:
        """Take the first folder that nobody has written to."""
        assert self.root is not None
        for number in count(1):
            folder = self.root / (self.name if number == 1 else f"{self.name}_{number}")
            is_made = not folder.exists()
            if not is_made and not _is_empty(folder):
                continue
            lock = Lock.take(folder)
            if lock is None:
                continue
            if (lock.is_sure or is_made) and _is_empty(folder):
                self.folder, self._lock = folder, lock
                return
            lock.release()


def check_folder(root: Path) -> OSError | None:
    """The error of a disk to which nothing can be written now; the folder of all passes is made.

    Raises:
        CannotMeasureError: naming dirpath, where it never can.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        if not isinstance(error, FileExistsError | NotADirectoryError | PermissionError) and error.errno not in NEVER:
            return error
        raise CannotMeasureError(
            f"dirpath={str(root)!r} can't be written ({error.strerror}): give another dirpath."
        ) from error
    return None


def how_to_continue(root: Path) -> str | None:
    """Says how to continue what the run before this one has left unfinished; None if it is not known to have.

    Args:
        root: the folder of the passes of this run, of which Lightning has numbered the folder above: ``version_1``.
    """
    number = int(root.parent.name.removeprefix(VERSION)) if re.fullmatch(rf"{VERSION}\d+", root.parent.name) else 0
    earlier = root.parent.with_name(f"{VERSION}{number - 1}") / root.name
    files = sorted(earlier.glob(f"*/{MAIN}"), key=lambda path: path.stat().st_mtime) if number else []
    try:
        landscape = load(files[-1]) if files else None
        if landscape is None or landscape.done.all() or _is_taken(files[-1].parent):
            return None
    except (LandscapeFileError, OSError) as error:
        log.info("%s can't be continued: %s", files[-1], error)
        return None
    return (
        f"The run before this one left {files[-1].parent} with {int(landscape.done.sum())} of {landscape.grid.size} "
        f'points. To continue it, train again as then with dirpath="{earlier}", or from its last checkpoint with '
        "trainer.fit(..., ckpt_path=...). Ignore this if you want another one."
    )


def _is_taken(folder: Path) -> bool:
    """True if a process is at work in a folder."""
    try:
        lock = Lock.take(folder)
    except OSError:  # where nobody can write
        return False
    if lock is not None:
        lock.release()
    return lock is None


def continued_folders(root: Path, checkpoint: str | os.PathLike[str]) -> list[Path]:
    """Folders in which the training that goes on from a checkpoint may have left its landscapes.

    The folders lie beside the checkpoint or in other versions of the run.

    Args:
        root: the folder of the passes of this run.
        checkpoint: its path.
    """
    beside = [folder / root.name for folder in Path(checkpoint).absolute().parents[:2]]
    is_numbered = re.fullmatch(rf"{VERSION}\d+", root.parent.name)
    versions = sorted(root.parent.parent.glob(f"{VERSION}*")) if is_numbered else []
    return list(dict.fromkeys([*beside, *(folder / root.name for folder in versions)]))


@dataclass
class Content:
    """The contents of one folder, compared with a landscape.

    Args:
        same: the points that are of this very function and grid.
        others: those of others, and what is different in them.
        finished: what a pass of the same settings has brought to its end.
        is_own: whether all is of this landscape, so that a pass may go on there.
    """

    same: list[Landscape] = field(default_factory=list)
    others: list[tuple[Landscape, list[str]]] = field(default_factory=list)
    finished: Landscape | None = None
    is_own: bool = False

    @classmethod
    def of(cls, folder: Path, landscape: Landscape) -> Content:
        """The contents of a folder, compared with this landscape.

        A folder with a file that can't be read is not this landscape's own.
        """
        content, is_readable = cls(), True
        data = [path for name in DATA_FORMATS if (path := folder / f"{DATA_NAME}.{name}").exists()]
        for path in [*data[:1], *sorted(folder.glob(PARTS))]:
            try:
                part = load(path)
            except (LandscapeFileError, OSError) as error:
                log.info("%s is left as it is: %s", path, error)
                is_readable = False
                continue
            what = differences(part, landscape)
            if what:
                content.others.append((part, what))
            else:
                content.same.append(part)
        if is_readable and content.same and not content.others:
            content.is_own = all(is_same_pass(part, landscape) for part in content.same)
            content.finished = next((part for part in content.same if is_finished(part, landscape)), None)
        return content


def _folders(root: Path, name: str) -> list[Path]:
    """The folders of a pass and those that were numbered after it, in that order."""
    pattern = re.compile(rf"{re.escape(name)}(?:_(\d+))?")
    found = [(pattern.fullmatch(path.name), path) for path in root.iterdir()] if root.is_dir() else []
    numbered = [(int(match[1] or 1), path) for match, path in found if match and path.is_dir()]
    return [path for _, path in sorted(numbered)]


def _is_empty(folder: Path) -> bool:
    """True if nobody has written anything to a folder; locks and halves of files do not count."""
    return not folder.is_dir() or all(path.name.startswith(".") for path in folder.iterdir())


def _note(folder: Path, earlier: Landscape, others: list[str], new: Path | None) -> str:
    return (
        f"The unfinished landscape found for this step has another {', '.join(others)}: its "
        f"{int(earlier.evaluated.sum())} points are not of this surface, which is measured anew"
        f"{f' in {new}' if new else ''}, and stay in {folder}. Ignore this if you meant to change it."
    )
