"""The files of one pass: its folder, the points that are there already, and those of a landscape in progress."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from ..distributed.ranks import from_first
from ..landscape import Landscape
from ..output import DATA_FORMATS, DATA_NAME, Files, whole_formats, write_data
from ..storage import LandscapeFileError, encode, load
from ..storage.lock import Lock
from ..survey.group import merge
from ..survey.resume import differences, is_finished, is_same_pass
from ..weights.sharding import author_class
from . import compat
from .earlier_ranges import earlier_ranges
from .folders import MAIN, is_taken

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch import nn

    from .measure import Settings


log = logging.getLogger(__name__)
PARTS = f"{DATA_NAME}.rank*.h5"  # of the other ranks, while they measure


class PassFiles:
    """The folder of one pass: ``<root>/<name>``, or ``<root>/<name>_2`` and so on where that is another landscape's.

    A pass that finds its recipe in a folder goes on there; any other folder is left as it is. Rank 0 decides, and
    its process has the folder alone until `close`. Every rank writes its points to a file of its own.

    Args:
        root: the folder of all passes; None for no files.
        name: of the pass, e.g. "step=000240".
        elsewhere: other folders of passes, where an earlier run may have left this one.
        rank: of this process.
        twin: the name of the pass that would be of the same weights; its points are taken over into a new folder.

    Attributes:
        folder: where the files go; None before `find`, and where there is none.
        finished: whether the folder held the whole landscape before.
        error: the reason why the pass has no folder.
        notes: messages to the user about other folders.
    """

    def __init__(
        self, root: Path | None, name: str, elsewhere: Sequence[Path] = (), rank: int = 0, twin: str | None = None
    ) -> None:
        self.root, self.name, self.rank, self.twin = root, name, rank, twin
        self.elsewhere = [place for place in elsewhere if place != root]
        self.folder: Path | None = None
        self.finished = False
        self.error: Exception | None = None
        self.notes: list[str] = []
        self._lock: Lock | None = None
        self._files: Files | None = None

    def planned_before(self, settings: Settings) -> int | None:
        """The samples that an earlier run of the same settings planned in these folders; None if there was none."""
        roots = [root for root in (self.root, *self.elsewhere) if root is not None and root.is_dir()]
        files = sorted(
            (path for root in roots for path in root.glob(f"*/{MAIN}")), key=lambda path: path.stat().st_mtime
        )
        for path in reversed(files):
            try:
                recipe = load(path).recipe
            except (LandscapeFileError, OSError) as error:
                log.info("%s tells no plan: %s", path, error)
                continue
            given = (recipe.budget, recipe.max_samples, recipe.seed, recipe.mode, [*recipe.data])
            if given == (settings.budget, settings.max_samples, settings.seed, settings.mode, [*settings.data]):
                return recipe.planned_samples
        return None

    def find(self, trainer: Trainer, landscape: Landscape) -> Landscape | None:
        """Take a folder for a landscape of which the centre is known; gives its points that are on disk already.

        Every rank must call it equally often.

        Args:
            trainer: connects the ranks.
            landscape: with its whole recipe.
        """
        earlier = None
        if self.rank == 0 and self.root is not None:
            try:
                earlier = self._take(landscape)
            except Exception as error:  # noqa: BLE001  # a pass without files is better than none; the caller warns
                self.error = error
        self.folder, self.finished, earlier = from_first(trainer, (self.folder, self.finished, earlier))
        return earlier

    def earlier_ranges(self, trainer: Trainer, settings: Settings, module: nn.Module) -> Landscape | None:
        """The landscape of this training whose ranges are to be kept, where it goes on from a checkpoint; or None.

        Every rank must call it equally often.
        """
        if not settings.searched or trainer.ckpt_path is None:
            return None
        roots = [self.root, *self.elsewhere] if self.rank == 0 and self.root is not None else []
        step = compat.training_step_count(trainer)
        return from_first(trainer, earlier_ranges(roots, settings, author_class(module).__name__, step))

    def keep(self, landscape: Landscape) -> list[tuple[str, Exception]]:
        """Write this rank's points of a landscape in progress; gives the files that could not be written, and why."""
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
        """Remove the files in progress once all of a landscape is in a file.

        Args:
            landscape: of all ranks, as written by the `Files` of `begin`.
            formats: that were asked for.

        Returns:
            The files that could not be written, and why.
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

    def _take(self, landscape: Landscape) -> Landscape | None:
        """Take the folder of this landscape, or a new one; gives its points that are in any folder."""
        assert self.root is not None
        folders = [f for root in (self.root, *self.elsewhere) for f in _folders(root, self.name)]
        contents: dict[Path, Content] = {}
        for folder in folders:
            contents[folder] = content = Content.of(folder, landscape)
            if content.finished is not None:
                return self._finish(folder, content.finished)
        parts = [part for content in contents.values() for part in content.same]
        for folder in [folder for folder, content in contents.items() if content.is_resumable]:
            self._lock = _lock_or_none(folder)
            if self._lock is not None:
                content = Content.of(folder, landscape)  # another process may have gone on since
                if content.finished is not None:
                    return self._finish(folder, content.finished)
                self.folder = folder
                parts += content.same
                break
        else:
            self._take_new()
        self.notes = []
        for folder, content in contents.items():
            unfinished = [entry for entry in content.different if not entry[0].done.all()]
            if unfinished and folder.parent == self.root and not is_taken(folder):
                self.notes += [_note(folder, part, reasons, self.folder) for part, reasons in unfinished]
        twins = self._twins(landscape)
        return merge([part.without_interpolated() for part in (*parts, *twins)]) if parts or twins else None

    def _twins(self, landscape: Landscape) -> list[Landscape]:
        """The points of this landscape in the folders of its twin, with its own recipe."""
        if self.twin is None:
            return []
        folders = [f for root in (self.root, *self.elsewhere) if root for f in _folders(root, self.twin)]
        twins = [part for folder in folders for part in Content.of(folder, landscape).same]
        for twin in twins:
            twin.recipe = replace(landscape.recipe, same_as_loss=twin.recipe.same_as_loss)
        return twins

    def _finish(self, folder: Path, landscape: Landscape) -> Landscape:
        """Take a folder with the finished landscape: only missing files are written, unless another process does."""
        self.folder, self.finished = folder, True
        if self._lock is None:
            with suppress(OSError):  # the folder may be read-only
                self._lock = Lock.take(folder)
        return landscape

    def _take_new(self) -> None:
        """Take the first folder that nobody has written to."""
        assert self.root is not None
        for number in count(1):
            folder = self.root / (self.name if number == 1 else f"{self.name}_{number}")
            is_new = not folder.exists()
            lock = Lock.take(folder) if is_new or _is_empty(folder) else None
            if lock is None:
                continue
            if (lock.is_sure or is_new) and _is_empty(folder):
                self.folder, self._lock = folder, lock
                return
            lock.release()


def _lock_or_none(folder: Path) -> Lock | None:
    """The lock of a folder; None if a process is at work there, or nobody can write there."""
    try:
        return Lock.take(folder)
    except OSError:
        return None


@dataclass
class Content:
    """The contents of one folder, compared with a landscape.

    Args:
        same: points of the same function and grid.
        different: points of another function or grid, each with the names of the differences.
        finished: the landscape that a pass of the same settings has finished.
        is_resumable: whether all is of this landscape, so that a pass may go on there.
    """

    same: list[Landscape] = field(default_factory=list)
    different: list[tuple[Landscape, list[str]]] = field(default_factory=list)
    finished: Landscape | None = None
    is_resumable: bool = False

    @classmethod
    def of(cls, folder: Path, landscape: Landscape) -> Content:
        """The contents of a folder, compared with this landscape.

        A folder with a file that can't be read is not resumable.
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
            reasons = differences(part, landscape)
            if reasons:
                content.different.append((part, reasons))
            else:
                content.same.append(part)
        if is_readable and content.same and not content.different:
            content.is_resumable = all(is_same_pass(part, landscape) for part in content.same)
            content.finished = next((part for part in content.same if is_finished(part, landscape)), None)
        return content


def _folders(root: Path, name: str) -> list[Path]:
    """The folders of a pass and those that were numbered after it, in that order."""
    pattern = re.compile(rf"{re.escape(name)}(?:_(\d+))?")
    matches = [(pattern.fullmatch(path.name), path) for path in root.iterdir()] if root.is_dir() else []
    numbered = sorted((int(match[1] or 1), path) for match, path in matches if match and path.is_dir())
    return [path for _, path in numbered]


def _is_empty(folder: Path) -> bool:
    """True if nobody has written anything to a folder; locks and half-written files do not count."""
    return not folder.is_dir() or all(path.name.startswith(".") for path in folder.iterdir())


def _note(folder: Path, earlier: Landscape, reasons: list[str], new: Path | None) -> str:
    return (
        f"The unfinished landscape of this step in {folder} has another {', '.join(reasons)}. Its "
        f"{int(earlier.evaluated.sum())} points stay there and are not used. This landscape is measured anew"
        f"{f' in {new}' if new else ''}. Ignore this if you meant to change it."
    )
