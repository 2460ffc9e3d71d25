"""Films, read back by Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from lightning_landscape.plots.film import Film, Pace


def frames(gif: bytes) -> tuple[list[np.ndarray], list[int], int]:
    """The pixels of each frame, its milliseconds, and how often the film is shown (0: for ever)."""
    with Image.open(io.BytesIO(gif)) as image:
        assert image.format == "GIF"
        both = [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
        return [pixels for pixels, _ in both], [time for _, time in both], image.info["loop"]


def film(pictures: dict[int, np.ndarray], pace: Pace | None = None) -> Film:
    result = Film() if pace is None else Film(pace)
    for step, picture in pictures.items():
        result.add(step, picture)
    return result


def pictures(count: int, colors: int, size: int = 40) -> dict[int, np.ndarray]:
    generator = np.random.default_rng(count)
    table = generator.integers(0, 256, (colors, 3), dtype=np.uint8)
    return {step: table[generator.integers(0, colors, (size, size + 7))] for step in range(count)}


def test_frames_of_few_colours_return_pixel_by_pixel_in_the_order_of_their_steps():
    given = pictures(5, 200)
    shuffled = film({step: given[step] for step in (4, 0, 2, 1, 3)})
    found, times, loop = frames(shuffled.encode())
    assert shuffled.steps == [0, 1, 2, 3, 4]
    assert len(found) == 5
    for step, pixels in enumerate(found):
        np.testing.assert_array_equal(pixels, given[step])
        np.testing.assert_array_equal(shuffled.frame(step), given[step])
    assert times == [800, 800, 800, 800, 2000]
    assert loop == 0


@pytest.mark.parametrize("count, each", [(2, 800), (30, 400), (60, 200), (200, 120)])
def test_a_film_is_neither_slow_nor_a_blur(count, each):
    assert Pace().durations(count) == [each] * (count - 1) + [2000]


def test_a_colour_is_the_same_in_every_frame_and_white_is_white():
    """With more colours than a GIF has: pictures of a ramp that moves on a white page."""
    ramp = np.stack(np.meshgrid(np.arange(256), np.arange(0, 256, 4), [90], indexing="ij"), axis=-1)[..., 0, :]
    given = {}
    for step in range(4):
        given[step] = np.full((300, 100, 3), 255, np.uint8)
        given[step][10 * step : 10 * step + 256, 3 * step : 3 * step + 64] = ramp
    found, _, _ = frames(film(given).encode())
    assert len({color for image in found for color in map(tuple, image.reshape(-1, 3))}) <= 256
    for step, image in enumerate(found):
        assert (image[given[step].min(axis=-1) == 255] == 255).all()
        assert np.abs(image.astype(int) - given[step]).mean() < 8
        moved = image[10 * step : 10 * step + 256, 3 * step : 3 * step + 64]
        np.testing.assert_array_equal(moved, found[0][:256, :64])


def test_rare_colours_are_not_forgotten():
    """One yellow pixel among thousands of greens."""
    generator = np.random.default_rng(0)
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[..., 1] = generator.integers(0, 256, (200, 200))
    picture[..., 2] = generator.integers(0, 256, (200, 200))
    picture[5, 5] = (253, 231, 37)
    other = picture.copy()
    other[9, 9] = 0
    found, _, _ = frames(film({0: picture, 1: other}).encode())
    assert np.abs(found[0][5, 5].astype(int) - picture[5, 5]).max() < 40


def test_frames_have_one_size():
    one = film({0: np.zeros((4, 6, 3), np.uint8)})
    with pytest.raises(ValueError, match=r"a film has frames of one size, got \(4, 5, 3\) after \(4, 6, 3\)"):
        one.add(1, np.zeros((4, 5, 3), np.uint8))
