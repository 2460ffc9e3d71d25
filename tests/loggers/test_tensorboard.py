"""Through Lightning's own TensorBoardLogger to an event file and back."""

import io
import math
import re
import warnings

import lightning.pytorch.loggers
import numpy as np
import PIL.Image
import pytest
import pytorch_lightning.loggers
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_landscape.loggers import log


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
