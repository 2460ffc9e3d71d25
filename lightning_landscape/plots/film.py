"""Films of pictures of equal size, as GIF files that repeat: one palette, so that a colour is the same throughout."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Pace:
    """The times of a film, in seconds.

    Args:
        whole: of all frames together, if `shortest` and `longest` allow it.
        shortest, longest: of a frame.
        last: of the last frame, before the film begins anew.
        colors: how many the palette has; a GIF has 256 at most.
        exact: how many of them are exactly those that occur most.
        looked_at: frames that the palette is chosen from.
    """

    whole: float = 12.0
    shortest: float = 0.12
    longest: float = 0.8
    last: float = 2.0
    colors: int = 256
    exact: int = 32
    looked_at: int = 8

    def durations(self, count: int) -> list[int]:
        """The milliseconds of each of so many frames, in the hundredths of a second that a GIF counts.

        >>> Pace().durations(3), Pace().durations(60)[:2]
        ([800, 800, 2000], [200, 200])
        """
        each = min(max(self.whole / count, self.shortest), self.longest)
        return [10 * round(100 * seconds) for seconds in [each] * (count - 1) + [self.last]]


class Film:
    """The frames of a film, which are kept small until it is encoded.

    Args:
        pace: its times.

    >>> film = Film()
    >>> for step in (20, 10):
    ...     film.add(step, np.full((4, 6, 3), step, np.uint8))
    >>> film.steps, Image.open(io.BytesIO(film.encode())).n_frames
    ([10, 20], 2)
    """

    def __init__(self, pace: Pace = Pace()) -> None:
        self.pace = pace
        self._shape: tuple[int, ...] | None = None
        self._frames: dict[int, bytes] = {}

    @property
    def steps(self) -> list[int]:
        """The steps of the frames, in their order."""
        return sorted(self._frames)

    def add(self, step: int, pixels: NDArray[np.uint8]) -> None:
        """Take a frame, shape (height, width, 3).

        Raises:
            ValueError: if it has another size than those before.
        """
        if self._shape not in (None, pixels.shape):
            raise ValueError(f"a film has frames of one size, got {pixels.shape} after {self._shape}.")
        self._shape = pixels.shape
        self._frames[step] = zlib.compress(pixels.tobytes(), 1)

    def frame(self, step: int) -> NDArray[np.uint8]:
        """The pixels of a frame, as they were taken."""
        assert self._shape is not None
        return np.frombuffer(zlib.decompress(self._frames[step]), np.uint8).reshape(self._shape)

    def encode(self) -> bytes:
        """The bytes of a GIF with the frames in the order of their steps, which begins anew at its end."""
        palette = self._palette()
        first, *later = (_with_palette(self.frame(step), palette) for step in self.steps)
        file = io.BytesIO()
        times = self.pace.durations(len(self._frames))
        first.save(file, "GIF", save_all=True, append_images=later, duration=times, loop=0, optimize=False)
        return file.getvalue()

    def _palette(self) -> NDArray[np.uint8]:
        """The colours of the film, shape (colours, 3), from some frames that are evenly chosen.

        The commonest colours are exact: backgrounds, bands, texts. The others stand for all that occur, as rare as
        they may be: the ends of a colour bar take few pixels.
        """
        steps = self.steps
        places = np.linspace(0, len(steps) - 1, min(len(steps), self.pace.looked_at)).round().astype(int)
        codes, counts = np.unique(
            np.concatenate([_codes(self.frame(steps[place])) for place in places]), return_counts=True
        )
        codes = codes[np.argsort(-counts, kind="stable")]
        exact, rare = _channels(codes[: self.pace.exact]), _channels(codes[self.pace.exact :])
        if not len(rare):
            return exact
        count = self.pace.colors - len(exact)
        table = Image.fromarray(rare[None]).quantize(count, Image.Quantize.MAXCOVERAGE).getpalette() or []
        return np.concatenate([exact, np.reshape(table, (-1, 3))[:count].astype(np.uint8)])


def _with_palette(pixels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Image.Image:
    """A picture of palette colours, of which each pixel takes the nearest.

    Pillow's own search looks at six of eight bits: its white is no white.
    """
    codes, places = np.unique(_codes(pixels), return_inverse=True)
    colors, given = _channels(codes).astype(np.float32), palette.astype(np.float32)
    nearness = colors @ given.T - 0.5 * (given**2).sum(axis=1)  # |c - p|² = |c|² - 2 (c·p - |p|² / 2), all exact
    image = Image.fromarray(nearness.argmax(axis=1).astype(np.uint8)[places].reshape(pixels.shape[:2]), "P")
    image.putpalette(palette.reshape(-1).tolist())
    return image


def _codes(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """A number for each pixel's colour, shape (pixels,)."""
    return pixels.reshape(-1, 3) @ np.array([1 << 16, 1 << 8, 1])


def _channels(codes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The red, green and blue of such numbers, shape (colours, 3)."""
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)
