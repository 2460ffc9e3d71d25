"""The landscapes that files, folders of landscapes and folders of runs hold, by short names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..local_paths import local_path, short_names
from ..storage import FORMATS

STEM = "landscape"  # of the files that a pass writes
ON_OTHER_PLANES = "-path"  # the end of the folder of a landscape on the plane of its own path


def find_runs(paths: Sequence[str | os.PathLike[str]]) -> dict[str, Path]:
    """The files to compare, by short names.

    Each run gives its last landscape. A single run gives all of them.

    Args:
        paths: files, folders of landscapes, folders of runs.

    Raises:
        FileNotFoundError: if there is no such file, or a folder holds no landscape.
    """
    runs: list[list[Path]] = []
    for place in (local_path("RUN", path) for path in paths):
        runs += _runs_in(place) if place.is_dir() else [[place]]
    found = runs[0] if len(runs) == 1 else [_last(files) for files in runs]
    names = [name.replace(f"/{STEM}/", "/") for name in short_names(found)]
    return dict(zip(unique(names), found, strict=True))


def _runs_in(folder: Path) -> list[list[Path]]:
    """The landscapes in a folder and below, one file a landscape, a list for each run."""
    files: dict[Path, Path] = {}
    for suffix in FORMATS:
        for path in folder.rglob(f"{STEM}{suffix}"):
            files.setdefault(path.parent, path)
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no landscape: give a folder with files {STEM}.h5 in it or below, or the file itself."
        )
    runs: dict[Path, list[Path]] = {}
    for place in sorted(files, key=lambda path: _natural(str(path))):
        runs.setdefault(place if place == folder else place.parent, []).append(files[place])
    return [
        [file for file in found if not file.parent.name.endswith(ON_OTHER_PLANES)] or found for found in runs.values()
    ]


def _last(files: Sequence[Path]) -> Path:
    """The landscape of the latest step; of one step the first in order, which is that of the training's own weights."""
    return max(files, key=lambda file: _natural(file.parent.name.partition("-")[0]))


def _natural(text: str) -> list[tuple[bool, int, str]]:
    """A key that sorts numbers in texts by their values.

    >>> sorted(["step=10", "step=9"], key=_natural)
    ['step=9', 'step=10']
    """
    return [(piece.isdigit(), int(piece) if piece.isdigit() else 0, piece) for piece in re.split(r"(\d+)", text)]


def unique(names: Sequence[str]) -> list[str]:
    """The names, numbered where some are the same.

    >>> unique(["sgd", "sgd", "adam"])
    ['sgd (1)', 'sgd (2)', 'adam']
    """
    numbers = [list(names[: i + 1]).count(name) for i, name in enumerate(names)]
    return [
        f"{name} ({number})" if list(names).count(name) > 1 else name
        for name, number in zip(names, numbers, strict=True)
    ]
