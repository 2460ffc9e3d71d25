"""The file of one surface, and those beside it of surfaces in progress: none takes the place of a finished one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from ..landscape import Landscape
from ..storage import load, save
from .resume import differences

log = logging.getLogger(__name__)
SAVE_EVERY = 5.0  # seconds between two saves of a landscape in progress


class SurfaceFile:
    """The file that keeps a surface, ``surface.h5`` for example.

    A surface in progress goes to ``surface.part.h5`` if ``surface.h5`` holds another one already.

    Args:
        path: its suffix says the format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._earlier: dict[Path, Landscape] = {}
        self._place, self._taken = path, [path]
        self._has_warned = False

    def earlier(self) -> list[Landscape]:
        """The surfaces on disk, in progress or not, of which one may be continued.

        Raises:
            LandscapeFileError: if one of the files can't be read.
        """
        names = islice(self._names(), 100)  # more surfaces in progress than anyone leaves
        self._earlier = {path: load(path) for path in names if path.exists()}
        return list(self._earlier.values())

    def begin(self, landscape: Landscape) -> None:
        """Choose where a landscape in progress goes: where a part of it lies, else where nothing is."""
        same = [path for path, earlier in self._earlier.items() if not differences(earlier, landscape)]
        parts = [path for path in same if not self._earlier[path].done.all()]
        self._place = parts[0] if parts else next(path for path in self._names() if not path.exists())
        self._taken = [self._place, *parts]
        self._has_warned = False

    def keep(self, landscape: Landscape) -> None:
        """Write a landscape, a finished one in the place of an earlier one; it warns once if that can't be done."""
        try:
            if not landscape.done.all():
                save(landscape, self._place)
                return
            save(landscape, self.path)
            for path in self._taken:
                if path != self.path:
                    path.unlink(missing_ok=True)
        except Exception as error:  # noqa: BLE001  # whatever it is, the values are worth more
            if not self._has_warned:
                self._has_warned = True
                _warn(
                    f"The surface could not be saved in {self.path} ({type(error).__name__}: {error}). Its values are "
                    "in landscape.landscape. Make room, then call lightning_landscape.save(landscape.landscape, path)."
                )

    def _names(self) -> Iterator[Path]:
        """The file itself, then those beside it."""
        yield self.path
        for number in count(1):
            part = "part" if number == 1 else f"part{number}"
            yield self.path.with_name(f"{self.path.stem}.{part}{self.path.suffix}")


def _warn(message: str) -> None:
    """Warn; where warnings are errors, write to the log: the values that are measured must not be lost for it."""
    try:
        warnings.warn(message, stacklevel=3)
    except UserWarning:
        log.warning(message)
