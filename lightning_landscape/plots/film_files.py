"""Frames of equal size as the bytes of a film: a GIF of one palette, a lossless WebP, an MP4."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Frames = Sequence[Pixels]


@dataclass(frozen=True)
class Palette:
    """The choice of the colours of a GIF, which are the same throughout.

    Args:
        colors: how many it has; a GIF has 256 at most.
        exact: how many of them are exactly those that occur most.
        looked_at: frames that they are chosen from.
    """

    colors: int = 256
    exact: int = 32
    looked_at: int = 8

    def of(self, frames: Frames) -> Pixels:
        """The colours of a film, shape (colours, 3), from some frames that are evenly chosen.

        The commonest colours are exact: backgrounds, bands, texts. The others stand for all that occur, as rare as
        they may be: the ends of a colour bar take few pixels.
        """
        places = np.linspace(0, len(frames) - 1, min(len(frames), self.looked_at)).round().astype(int)
        codes, counts = np.unique(np.concatenate([_codes(frames[place]) for place in places]), return_counts=True)
        codes = codes[np.argsort(-counts, kind="stable")]
        exact, rare = _channels(codes[: self.exact]), _channels(codes[self.exact :])
        if not len(rare):
            return exact
        count = self.colors - len(exact)
        table = Image.fromarray(rare[None]).quantize(count, Image.Quantize.MAXCOVERAGE).getpalette() or []
        return np.concatenate([exact, np.reshape(table, (-1, 3))[:count].astype(np.uint8)])


def encode_gif(frames: Frames, times: Sequence[int], palette: Palette = Palette()) -> bytes:
    """The bytes of a GIF that begins anew at its end.

    Args:
        frames: uint8, shape (height, width, 3) each.
        times: of each, in milliseconds.
        palette: the choice of its colours.
    """
    colors = palette.of(frames)
    first, *later = (_with_palette(frame, colors) for frame in frames)
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=later, duration=list(times), loop=0, optimize=False)
    return file.getvalue()


def encode_webp(frames: Frames, times: Sequence[int]) -> bytes:
    """The bytes of a WebP with the exact pixels of all frames, which begins anew at its end; arguments as above."""
    first, *later = (Image.fromarray(frame) for frame in frames)
    file = io.BytesIO()
    first.save(file, "WEBP", save_all=True, append_images=later, duration=list(times), loop=0, lossless=True)
    return file.getvalue()


def encode_mp4(frames: Frames, times: Sequence[int]) -> bytes:
    """The bytes of an MP4 (H.264); arguments as above.

    Its frames have one length, that of the first; a longer one is repeated. Players ask for even numbers of pixels.
    """
    import imageio_ffmpeg

    height, width = (size + size % 2 for size in frames[0].shape[:2])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        writer = imageio_ffmpeg.write_frames(
            str(path), (width, height), fps=1000 / times[0], codec="libx264", quality=8, macro_block_size=2
        )
        writer.send(None)  # opens the file
        for frame, time in zip(frames, times, strict=True):
            whole = padded(frame, (height, width))
            for _ in range(max(1, round(time / times[0]))):
                writer.send(whole)
        writer.close()
        return path.read_bytes()


def padded(pixels: Pixels, shape: tuple[int, ...]) -> Pixels:
    """A picture with white at its right and below, up to that height and width."""
    room = [(0, size - have) for size, have in zip(shape, pixels.shape, strict=False)]
    return np.ascontiguousarray(np.pad(pixels, [*room, (0, 0)], constant_values=255))


def _with_palette(pixels: Pixels, palette: Pixels) -> Image.Image:
    """A picture of palette colours, of which each pixel takes the nearest.

    Pillow's own search looks at six of eight bits: its white is no white.
    """
    codes, places = np.unique(_codes(pixels), return_inverse=True)
    colors, given = _channels(codes).astype(np.float32), palette.astype(np.float32)
    nearness = colors @ given.T - 0.5 * (given**2).sum(axis=1)  # |c - p|² = |c|² - 2 (c·p - |p|² / 2), all exact
    image = Image.fromarray(nearness.argmax(axis=1).astype(np.uint8)[places].reshape(pixels.shape[:2]), "P")
    image.putpalette(palette.reshape(-1).tolist())
    return image


def _codes(pixels: Pixels) -> NDArray[np.int64]:
    """A number for each pixel's colour, shape (pixels,)."""
    return pixels.reshape(-1, 3) @ np.array([1 << 16, 1 << 8, 1])


def _channels(codes: NDArray[np.int64]) -> Pixels:
    """The red, green and blue of such numbers, shape (colours, 3)."""
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)
