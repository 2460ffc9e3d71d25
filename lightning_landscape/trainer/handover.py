"""Paths that a spawned process leaves for the process that has started it, whose objects it can't reach."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
import weakref
from collections.abc import Mapping
from pathlib import Path

from ..storage import write_whole


class Handover:
    """A note of where the landscape of each step is, in the system's folder for such files.

    The process that makes it takes the note, at its end at the latest; its copies in other processes write it.

    Attributes:
        of_path: after `take`, where the landscape of the path is; None where there is none.
    """

    of_path: Path | None = None

    def __init__(self) -> None:
        self.path = Path(tempfile.gettempdir()) / f"lightning_landscape-{uuid.uuid4().hex}.json"
        self.process = os.getpid()
        weakref.finalize(self, _remove, self.path, self.process)

    def leave(self, paths: Mapping[int, Path], of_path: Path | None = None) -> None:
        """Write where the landscapes are, by step, and that of the path.

        Raises:
            OSError: if it can't be written.
        """
        steps = {step: str(path.absolute()) for step, path in paths.items()}
        note = {"steps": steps, "path": None if of_path is None else str(of_path.absolute())}
        write_whole(self.path, json.dumps(note).encode())

    def take(self) -> dict[int, Path]:
        """Take the paths that another process has left since the last call, by step and in its order.

        Only the process that made the note gets paths.
        """
        if os.getpid() != self.process or not self.path.exists():
            return {}
        note = json.loads(self.path.read_bytes())
        self.path.unlink()
        self.of_path = None if note["path"] is None else Path(note["path"])
        return {int(step): Path(path) for step, path in note["steps"].items()}


def _remove(path: Path, process: int) -> None:
    if os.getpid() == process:  # a forked process has the same finalizer
        path.unlink(missing_ok=True)
