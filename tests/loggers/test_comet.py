import numpy as np
import pytest

from lightning_landscape.loggers import log


class Experiment:
    """As comet_ml's experiment takes them; its arrays are stretched from image_minmax to bytes."""

    def __init__(self):
        self.images, self.metrics, self.texts = {}, [], []

    def log_image(
        self,
        image_data,
        name=None,
        overwrite=False,
        image_format="png",
        image_scale=1.0,
        image_shape=None,
        image_colormap=None,
        image_minmax=None,
        image_channels="last",
        copy_to_tmp=True,
        step=None,
    ):
        assert image_channels == "last"
        low, high = (image_data.min(), image_data.max()) if image_minmax is None else image_minmax
        stretched = (image_data.astype(float) - low) * 255 / (float(high) - float(low))
        self.images[name, step] = np.rint(stretched).astype(np.uint8)

    def log_metrics(self, dic, prefix=None, step=None, epoch=None):
        self.metrics.append((dic, step))

    def log_text(self, text, step=None, metadata=None):
        self.texts.append((text, step, metadata))


@pytest.fixture
def experiment(make_logger, one_pass):
    """An experiment after one pass."""
    logger = make_logger("CometLogger", experiment=Experiment())
    assert log([logger], one_pass.shown, one_pass.step).taken == ("comet",)
    return logger.experiment


def test_pictures_keep_their_contrast(experiment, one_pass):
    assert [*experiment.images] == [("landscape/surface", 12), ("landscape/contour", 12)]
    for found, image in zip(experiment.images.values(), one_pass.images.values(), strict=True):
        np.testing.assert_array_equal(found, image)


def test_numbers_are_one_call(experiment, one_pass):
    assert experiment.metrics == [(one_pass.scalars, 12)]


def test_texts_carry_their_step_and_name(experiment, one_pass):
    assert experiment.texts == [(one_pass.text["landscape/reading"], 12, {"name": "landscape/reading"})]
