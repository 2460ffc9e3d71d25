"""Landscapes as NumPy archives (.npz): plain arrays and one JSON header, for scripts that have only numpy.

The arrays have the names of `codec`; ``header`` is its header as JSON, in bytes.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np

from ..landscape import Landscape
from .codec import from_arrays, to_arrays
from .layout import LandscapeFileError, check_header


def encode(landscape: Landscape) -> bytes:
    """The bytes of a file that holds the whole landscape."""
    header, arrays = to_arrays(landscape)
    # Bytes, since numpy's text costs four bytes a letter; json writes ASCII.
    text = json.dumps(header, allow_nan=False).encode("ascii")
    file = io.BytesIO()
    np.savez(file, header=np.array(text), **arrays)  # type: ignore[arg-type]  # numpy's own option shares the keywords
    return file.getvalue()


def read(path: Path) -> Landscape:
    """The landscape in a file that `encode` made."""
    # numpy takes what is no archive for a pickle, and its message invites to execute it.
    if not zipfile.is_zipfile(path):
        raise LandscapeFileError(f"{path} is no landscape: it is not an .npz archive, or was cut short.")
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        header = check_header(path, json.loads(archive["header"].item()) if "header" in archive else None)
        return from_arrays(header, {name: archive[name] for name in archive.files if name != "header"})
