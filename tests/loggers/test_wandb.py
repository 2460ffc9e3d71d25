import html.parser
import os
import sys
from types import ModuleType

import lightning.pytorch.loggers
import numpy as np
import pytest

from lightning_landscape.loggers import Shown, log

from .conftest import LINE


class Image:
    """The first arguments of wandb.Image."""

    def __init__(self, data_or_path, mode=None, caption=None):
        self.data = data_or_path


class Html:
    """The first arguments of wandb.Html, which reads a file where a string is the path of one."""

    def __init__(self, data, inject=True):
        assert not os.path.exists(data)
        self.html = data


class Words(html.parser.HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags = "", []
        self.feed(page)

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)


@pytest.fixture(autouse=True)
def wandb(monkeypatch):
    module = ModuleType("wandb")
    module.Image, module.Html = Image, Html
    monkeypatch.setitem(sys.modules, "wandb", module)


def check(metrics, one_pass):
    assert {tag: metrics[tag] for tag in one_pass.scalars} == one_pass.scalars
    for tag, image in one_pass.images.items():
        assert isinstance(metrics[tag], Image)
        np.testing.assert_array_equal(metrics[tag].data, image)
    for tag, text in one_pass.text.items():
        words = Words(metrics[tag].html)
        assert (words.text, words.tags) == (text, ["pre"])


def test_a_pass_is_one_call(make_logger, one_pass):
    logger = make_logger("WandbLogger")
    assert log([logger], one_pass.shown, one_pass.step).taken == ("wandb",)
    ((metrics, step),) = logger.metrics
    assert step == 12
    assert set(metrics) == {*one_pass.images, *one_pass.scalars, *one_pass.text}
    check(metrics, one_pass)
    assert logger.experiment.calls == []


def test_lightnings_own_log_metrics_logs_it_once_with_the_trainers_step(make_logger, one_pass):
    calls = make_logger("Run").experiment
    own = lightning.pytorch.loggers.WandbLogger

    class WandbLogger(own):
        experiment = calls

    logger = WandbLogger.__new__(WandbLogger)  # the real constructor needs wandb
    logger._prefix, logger._wandb_init = "", {}
    assert log([logger], one_pass.shown, one_pass.step).failed == ()
    ((name, (metrics,), keywords),) = calls.calls
    assert (name, keywords) == ("log", {})
    assert metrics["trainer/global_step"] == 12
    check(metrics, one_pass)


def test_a_missing_package_is_a_failure_that_says_so(make_logger, one_pass, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    ((kind, error),) = log([make_logger("WandbLogger")], Shown(one_pass.images, {}, LINE), 0).failed
    assert kind == "wandb"
    assert isinstance(error, ImportError)
