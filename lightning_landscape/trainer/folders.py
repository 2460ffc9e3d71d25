"""The folders of a run's landscapes: where they are, whether they can be written, and those of earlier runs."""

from __future__ import annotations

import errno
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..local_paths import is_remote, local_path
from ..objectives.base import CannotMeasureError
from ..output import DATA_NAME
from ..storage import LandscapeFileError, load
from ..storage.lock import Lock
from . import compat

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

log = logging.getLogger(__name__)
MAIN = f"{DATA_NAME}.h5"  # of rank 0, and of all in the end
VERSION = "version_"  # how Lightning's loggers number their runs
PERMANENT = (errno.EROFS, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)  # errors of the path, not of a moment


def root_of(trainer: Trainer, dirpath: Path | None, tag: str) -> Path | None:
    """The folder in which the passes of a run make their folders; None for no files.

    Every rank must call it equally often, because log_dir broadcasts.

    Args:
        trainer: knows where the run's files are.
        dirpath: the folder that the user wants; None for one beside the run's logs.
        tag: of the callback.

    Raises:
        CannotMeasureError: if there is no local folder.
    """
    log_dir = trainer.log_dir
    if compat.is_smoke_test(trainer):
        return None
    if dirpath is not None:
        return dirpath if tag == "landscape" else dirpath / tag
    if not log_dir or is_remote(log_dir):
        log_dir = trainer.default_root_dir
    if is_remote(log_dir):
        raise CannotMeasureError(f"default_root_dir={str(log_dir)!r} is remote: give dirpath=, a local folder.")
    return local_path("log_dir", log_dir) / tag


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
        is_permanent = isinstance(error, FileExistsError | NotADirectoryError | PermissionError)
        if not is_permanent and error.errno not in PERMANENT:
            return error
        raise CannotMeasureError(
            f"dirpath={str(root)!r} can't be written ({error.strerror}): give another dirpath."
        ) from error
    return None


def continuation_advice(root: Path) -> str | None:
    """Advice on how to continue the landscape that the run before this one left unfinished; None without one.

    Args:
        root: the folder of the passes of this run. Lightning has numbered its parent: ``version_1``.
    """
    number = int(root.parent.name.removeprefix(VERSION)) if re.fullmatch(rf"{VERSION}\d+", root.parent.name) else 0
    earlier = root.parent.with_name(f"{VERSION}{number - 1}") / root.name
    files = sorted(earlier.glob(f"*/{MAIN}"), key=lambda path: path.stat().st_mtime) if number else []
    try:
        landscape = load(files[-1]) if files else None
        if landscape is None or landscape.done.all() or is_taken(files[-1].parent):
            return None
    except (LandscapeFileError, OSError) as error:
        log.info("%s can't be continued: %s", files[-1], error)
        return None
    return (
        f"The run before this one left {files[-1].parent} with {int(landscape.done.sum())} of {landscape.grid.size} "
        f'points. To continue it, train again with the same settings and dirpath="{earlier}", or from its last '
        "checkpoint with trainer.fit(..., ckpt_path=...). Ignore this if you want another one."
    )


def continued_folders(root: Path, checkpoint: str | os.PathLike[str]) -> list[Path]:
    """Folders in which the training that goes on from a checkpoint may have left its landscapes.

    The folders lie beside the checkpoint or in other versions of the run.

    Args:
        root: the folder of the passes of this run.
        checkpoint: its path.
    """
    runs = [*Path(checkpoint).absolute().parents[:2]]
    if re.fullmatch(rf"{VERSION}\d+", root.parent.name):
        runs += sorted(root.parent.parent.glob(f"{VERSION}*"))
    return list(dict.fromkeys(run / root.name for run in runs))


def is_taken(folder: Path) -> bool:
    """True if a process is at work in a folder."""
    try:
        lock = Lock.take(folder)
    except OSError:  # where nobody can write
        return False
    if lock is not None:
        lock.release()
    return lock is None
