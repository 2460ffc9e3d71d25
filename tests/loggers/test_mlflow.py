import posixpath
import re

import numpy as np
import pytest

from lightning_landscape.loggers import Shown, log
from lightning_landscape.loggers.mlflow import safe_names

from .conftest import LINE


class MlflowClient:
    """As mlflow.tracking.MlflowClient takes them, with its rule for names."""

    def __init__(self):
        self.images, self.metrics, self.texts = {}, {}, {}

    def check(self, name):
        assert re.fullmatch(r"[/\w.\- ]*", name), name
        assert posixpath.normpath(name) == name, name
        assert not name.startswith(("/", "..")), name

    def log_image(self, run_id, image, artifact_file=None, key=None, step=None, timestamp=None):
        self.check(artifact_file)
        assert run_id == "run-1"
        assert artifact_file not in self.images
        self.images[artifact_file] = image

    def log_metric(self, run_id, key, value, timestamp=None, step=None):
        self.check(key)
        assert run_id == "run-1"
        self.metrics[key] = (value, step)

    def log_text(self, run_id, text, artifact_file):
        self.check(artifact_file)
        assert run_id == "run-1"
        self.texts[artifact_file] = text


@pytest.fixture
def logger(make_logger):
    return make_logger("MLFlowLogger", experiment=MlflowClient(), run_id="run-1")


def test_a_pass_is_one_artifact_a_picture_and_finite_metrics(logger, one_pass):
    assert log([logger], one_pass.shown, one_pass.step).taken == ("mlflow",)
    images = logger.experiment.images
    assert [*images] == ["landscape/surface/step_00000012.png", "landscape/contour/step_00000012.png"]
    for found, image in zip(images.values(), one_pass.images.values(), strict=True):
        np.testing.assert_array_equal(found, image)
    assert logger.experiment.metrics == {"landscape/relief": (1.5, 12)}
    assert logger.experiment.texts == {"landscape/reading/step_00000012.txt": one_pass.text["landscape/reading"]}


def test_a_later_step_keeps_the_earlier_pictures(logger, one_pass):
    for step in (1, 2):
        assert log([logger], Shown(one_pass.images, {}, LINE), step).failed == ()
    assert len(logger.experiment.images) == 4


def test_any_tag_gets_a_name_of_its_own_that_mlflow_accepts(logger, one_pass):
    tags = [
        "val/acc@1",
        "val/acc_1",
        "../../etc",
        "/root",
        "a//b",
        "a/./b",
        "a/b",
        "精度 θ*",
        "",
        "..",
        "x: y",
        "a/",
    ]
    (image, *_) = one_pass.images.values()
    logged = log([logger], Shown(dict.fromkeys(tags, image), dict.fromkeys(tags, 1.0), LINE), 3)
    assert logged.failed == ()
    assert len(logger.experiment.images) == len(logger.experiment.metrics) == len(tags)


def test_a_good_tag_is_kept():
    assert safe_names(["landscape/train_loss-1.5 x"]) == {"landscape/train_loss-1.5 x": "landscape/train_loss-1.5 x"}
