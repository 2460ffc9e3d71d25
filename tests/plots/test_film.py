"""Films, read back by Pillow."""

from __future__ import annotations

import io
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageSequence

from lightning_landscape.plots.film import FILMS, Film, Pace


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


def test_smaller_frames_have_white_at_their_right_and_below():
    small, large = np.zeros((4, 6, 3), np.uint8), np.full((7, 5, 3), 9, np.uint8)
    found, _, _ = frames(film({0: small, 1: large}).encode())
    expected = np.full((2, 7, 6, 3), 255, np.uint8)
    expected[0, :4, :6], expected[1, :7, :5] = 0, 9
    np.testing.assert_array_equal(found, expected)


def test_a_webp_has_every_pixel_of_every_frame(tmp_path: Path):
    """More colours than a GIF has."""
    given = pictures(5, 3000)
    path = film(given).save(tmp_path / "film.webp")
    with Image.open(path) as image:
        assert (image.format, image.n_frames, image.info["loop"]) == ("WEBP", 5, 0)
        for step in range(5):
            image.seek(step)
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), given[step])
            assert image.info["duration"] == (800 if step < 4 else 2000)


def test_an_mp4_without_its_library_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("lightning_landscape.plots.film.find_spec", lambda name: None)
    said = r'\.mp4 films are written by imageio-ffmpeg: pip install "lightning-landscape\[video\]" \(\.gif and \.webp'
    with pytest.raises(ImportError, match=said):
        film(pictures(2, 9)).save(tmp_path / "film.mp4")
    assert not [*tmp_path.iterdir()]


def test_other_formats_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"films are written as \.gif, \.webp, \.mp4, not as '\.avi'"):
        film(pictures(2, 9)).save(tmp_path / "film.avi")


def test_an_mp4_gets_its_frames_in_order_with_even_sides_and_a_long_last_one(tmp_path: Path, monkeypatch):
    """By a library that writes what it gets, and asks for what the true one asks for: whole frames of even sides."""
    asked = {}

    def write_frames(path, size, pix_fmt_in="rgb24", pix_fmt_out="yuv420p", fps=16, **options):
        asked.update(size=size, fps=fps, **options)
        assert not any(side % options["macro_block_size"] for side in size)
        with open(path, "wb") as file:
            while True:
                frame = yield
                assert memoryview(frame).nbytes == 3 * size[0] * size[1]
                file.write(frame)

    module = ModuleType("imageio_ffmpeg")
    module.write_frames, module.__spec__ = write_frames, find_spec("io")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", module)
    given = pictures(3, 50, size=41)  # 41 × 48 pixels
    path = film(given).save(tmp_path / "film.mp4")
    assert asked["size"] == (48, 42)
    assert asked["fps"] == 1 / 0.8
    found = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 42, 48, 3)
    assert len(found) == 2 + 2  # the last frame is 2 s long, the others 0.8 s
    for step, frame in zip((0, 1, 2, 2), found, strict=True):
        np.testing.assert_array_equal(frame[:41], given[step])
        assert (frame[41] == 255).all()


# The library leaves the pipes of its program to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_an_mp4_of_ffmpeg_has_the_frames_that_it_got(tmp_path: Path):
    """Its colours are compressed, so each frame is compared with all that were given."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the extra [video] is not installed")
    given = [
        np.kron(np.random.default_rng(step).integers(0, 255, (4, 6, 3)), np.ones((16, 16, 1))) for step in range(3)
    ]
    made = film({step: frame.astype(np.uint8) for step, frame in enumerate(given)}).save(tmp_path / "film.mp4")
    reader = ffmpeg.read_frames(str(made))
    width, height = next(reader)["size"]
    found = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    assert (height, width, len(found)) == (64, 96, 4)
    nearest = [int(np.argmin([np.abs(frame - other).mean() for other in given])) for frame in found]
    assert nearest == [0, 1, 2, 2]


@pytest.mark.parametrize("suffix", [suffix for suffix, kind in FILMS.items() if kind.module is None])
def test_every_format_has_every_frame(suffix):
    given = pictures(7, 40)
    with Image.open(io.BytesIO(film(given).encode(suffix))) as image:
        assert image.n_frames == 7


def test_a_notebook_shows_a_film():
    assert film(pictures(2, 9))._repr_html_().startswith('<img src="data:image/gif;base64,R0lGODlh')
