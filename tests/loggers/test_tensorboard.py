"""Through Lightning's own TensorBoardLogger to an event file and back."""

import io
import json
import math
import re
import threading
import time
import urllib.parse
import urllib.request
import warnings

import lightning.pytorch.loggers
import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest
import pytorch_lightning.loggers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_landscape.loggers import Shown, log
from lightning_landscape.plots.film import Film


@pytest.fixture(params=[lightning.pytorch.loggers, pytorch_lightning.loggers])
def logger(request, tmp_path):
    return request.param.TensorBoardLogger(tmp_path)


def events(logger) -> EventAccumulator:
    accumulator = EventAccumulator(logger.log_dir, size_guidance={"images": 0, "scalars": 0})
    return accumulator.Reload()


def test_pictures_return_pixel_by_pixel(logger, one_pass):
    assert log([logger], one_pass.shown, one_pass.step).taken == ("tensorboard",)
    found = events(logger)  # without closing the writer: what is logged is on disk
    assert set(found.Tags()["images"]) == {*one_pass.images}
    for tag, image in one_pass.images.items():
        (event,) = found.Images(tag)
        assert event.step == 12
        pixels = np.asarray(PIL.Image.open(io.BytesIO(event.encoded_image_string)))
        np.testing.assert_array_equal(pixels, image)


def test_numbers_return_with_nan_and_inf(logger, one_pass):
    log([logger], one_pass.shown, one_pass.step)
    found = events(logger)
    values = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in one_pass.scalars}
    assert values["landscape/relief"] == [(12, 1.5)]
    assert math.isnan(values["landscape/curvature"][0][1])
    assert values["landscape/worst"] == [(12, math.inf)]


def test_passes_follow_each_other_under_one_tag(logger, one_pass):
    for step in (3, 8):
        log([logger], one_pass.shown, step)
    assert [event.step for event in events(logger).Images("landscape/surface")] == [3, 8]


def test_text_is_a_list_that_says_what_it_said(logger, one_pass):
    """By the HTML of TensorBoard itself, in which no sign of the text has become markup."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a part that TensorBoard brings along
        from tensorboard.plugins.text.text_plugin import text_array_to_html

    log([logger], one_pass.shown, one_pass.step)
    (event,) = events(logger).Tensors("landscape/reading/text_summary")
    assert event.step == 12
    page = text_array_to_html(np.array(event.tensor_proto.string_val), enable_markdown=True)
    items = [" ".join(item.split()) for item in re.findall("<li>(.*?)</li>", page, re.DOTALL)]
    assert items == ["train_loss *rises* [by] 10 % at &lt;b&gt; &amp; \\.", "Nothing more."]


def film_of(count: int) -> tuple[Film, np.ndarray]:
    """A film of so many different pictures of few colours, and their pixels."""
    generator = np.random.default_rng(count)
    pictures = generator.integers(0, 256, (20, 3), dtype=np.uint8)[generator.integers(0, 20, (count, 31, 45))]
    film = Film()
    for step, picture in enumerate(pictures):
        film.add(step, picture)
    return film, pictures


def frames_of(gif: bytes) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(gif)) as image:
        assert image.format == "GIF"
        return np.stack([np.asarray(each.convert("RGB")) for each in PIL.ImageSequence.Iterator(image)])


def test_a_film_returns_with_all_its_frames(logger):
    film, pictures = film_of(40)
    log([logger], Shown({}, {}, films={"landscape_path/contour_film": film.encode()}), 12)
    (event,) = events(logger).Images("landscape_path/contour_film")
    assert (event.step, event.height, event.width) == (12, 31, 45)
    np.testing.assert_array_equal(frames_of(event.encoded_image_string), pictures)


@pytest.fixture
def server(tmp_path):
    """The address of a TensorBoard of its own, on a free port of this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorBoard and its parts
        from tensorboard import default, program

        board = program.TensorBoard(plugins=default.get_plugins())
        board.configure(logdir=str(tmp_path), host="127.0.0.1", port=0, load_fast="false", reload_interval=1)
        server = board._make_server()  # `launch` is the public way, and never ends
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.get_url()
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(url: str, path: str, **query: str) -> tuple[bytes, str]:
    with urllib.request.urlopen(f"{url}data/plugin/images/{path}?{urllib.parse.urlencode(query)}", timeout=30) as got:
        return got.read(), got.headers["Content-Type"]


def test_tensorboard_serves_a_film_as_a_gif_with_all_its_frames(logger, server):
    """As its Images tab asks for it."""
    film, pictures = film_of(40)
    tag = "landscape_path/contour_film"
    log([logger], Shown({}, {}, films={tag: film.encode()}), 12)
    for _ in range(100):
        runs = json.loads(fetch(server, "tags")[0])
        if any(tag in tags for tags in runs.values()):
            break
        time.sleep(0.2)
    (run,) = runs
    (found,) = json.loads(fetch(server, "images", tag=tag, run=run, sample="0")[0])
    query = dict(urllib.parse.parse_qsl(found["query"]))
    content, kind = fetch(server, "individualImage", **query)
    assert (found["step"], kind) == (12, "image/gif")
    np.testing.assert_array_equal(frames_of(content), pictures)
