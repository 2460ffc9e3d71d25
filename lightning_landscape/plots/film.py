"""Films of pictures, and the formats of their files, one row each in FILMS."""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import overload

import numpy as np

from .film_files import Frames, Pixels, encode_gif, encode_mp4, encode_webp, padded


@dataclass(frozen=True)
class Pace:
    """The times of a film, in seconds.

    Args:
        whole: of all frames together, if `shortest` and `longest` allow it.
        shortest, longest: of a frame.
        last: of the last frame, before the film begins anew.
    """

    whole: float = 12.0
    shortest: float = 0.12
    longest: float = 0.8
    last: float = 2.0

    def durations(self, count: int) -> list[int]:
        """The milliseconds of each of so many frames, in the hundredths of a second that a GIF counts.

        >>> Pace().durations(3), Pace().durations(60)[:2]
        ([800, 800, 2000], [200, 200])
        """
        each = min(max(self.whole / count, self.shortest), self.longest)
        return [10 * round(100 * seconds) for seconds in [each] * (count - 1) + [self.last]]


@dataclass(frozen=True)
class FilmFormat:
    """One format of film files.

    Args:
        encode: a function (frames, milliseconds of each) that gives the bytes of a file.
        module: the module that it needs beside Pillow; None for nothing more.
        library: the library of that module.
        extra: of this package, which installs the library.
    """

    encode: Callable[[Frames, Sequence[int]], bytes]
    module: str | None = None
    library: str = ""
    extra: str = ""


FILMS: dict[str, FilmFormat] = {
    ".gif": FilmFormat(encode_gif),
    ".webp": FilmFormat(encode_webp),
    ".mp4": FilmFormat(encode_mp4, "imageio_ffmpeg", "imageio-ffmpeg", "video"),
}


def check_film(suffix: str) -> None:
    """Raise an error unless films of this format can be written here.

    Args:
        suffix: e.g. ".gif".

    Raises:
        ValueError: if no film has this format.
        ImportError: if its library is not installed.

    >>> check_film(".avi")
    Traceback (most recent call last):
    ValueError: films are written as .gif, .webp, .mp4, not as '.avi'.
    """
    if suffix not in FILMS:
        raise ValueError(f"films are written as {', '.join(FILMS)}, not as {suffix!r}.")
    kind = FILMS[suffix]
    if kind.module is not None and find_spec(kind.module) is None:
        raise ImportError(
            f'{suffix} films are written by {kind.library}: pip install "lightning-landscape[{kind.extra}]" '
            "(.gif and .webp need nothing more)."
        )


class Film(Sequence[Pixels]):
    """The frames of a film in the order of their steps, which are kept small until it is encoded.

    A notebook shows it. Frames that are smaller than others have white at their right and below.

    Args:
        pace: its times.

    >>> film = Film()
    >>> for step in (20, 10):
    ...     film.add(step, np.full((4, 6, 3), step, np.uint8))
    >>> film.steps, len(film), film[0].max(), film.encode()[:6]
    ([10, 20], 2, 10, b'GIF89a')
    """

    def __init__(self, pace: Pace = Pace()) -> None:
        self.pace = pace
        self._frames: dict[int, tuple[tuple[int, ...], bytes]] = {}

    @property
    def steps(self) -> list[int]:
        """The steps of the frames, in their order."""
        return sorted(self._frames)

    def add(self, step: int, pixels: Pixels) -> None:
        """Take a frame, shape (height, width, 3)."""
        self._frames[step] = (pixels.shape, zlib.compress(pixels.tobytes(), 1))

    def frame(self, step: int) -> Pixels:
        """The pixels of a frame, as it was taken."""
        shape, packed = self._frames[step]
        return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape)

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pixels]: ...
    def __getitem__(self, index: int | slice) -> Pixels | Sequence[Pixels]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        height, width = (max(sizes) for sizes in zip(*(shape[:2] for shape, _ in self._frames.values()), strict=True))
        return padded(self.frame(self.steps[index]), (height, width))

    def encode(self, suffix: str = ".gif") -> bytes:
        """The bytes of a file with all frames, which begins anew at its end.

        Args:
            suffix: one of FILMS.

        Raises:
            ValueError: if there is no such format.
            ImportError: if its library is not installed.
        """
        check_film(suffix)
        return FILMS[suffix].encode(self, self.pace.durations(len(self)))

    def save(self, path: str | PathLike[str]) -> Path:
        """Write a file; the end of its name, one of FILMS, says the format. Errors are those of `encode`."""
        from ..storage.atomic import write_whole  # late: most films are written by the caller

        return write_whole(Path(path), self.encode(Path(path).suffix.lower()))

    def _repr_html_(self) -> str:
        return f'<img src="data:image/gif;base64,{b64encode(self.encode()).decode()}">'
