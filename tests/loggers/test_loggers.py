import subprocess
import sys
from types import SimpleNamespace

import lightning.pytorch.loggers
import numpy as np
import pytest
import pytorch_lightning.loggers

from lightning_landscape.loggers import LOGGERS, Shown, log

from .conftest import LINE

NAMESPACES = [lightning.pytorch.loggers, pytorch_lightning.loggers]
CLASSES = {
    "tensorboard": "TensorBoardLogger",
    "wandb": "WandbLogger",
    "mlflow": "MLFlowLogger",
    "comet": "CometLogger",
}


@pytest.fixture(autouse=True)
def wandb(monkeypatch):
    """A stand-in for the package wandb."""
    monkeypatch.setitem(
        sys.modules, "wandb", SimpleNamespace(Image=lambda data: ("image", data), Html=lambda data: ("html", data))
    )


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("kind", LOGGERS)
def test_each_kind_knows_lightnings_class_of_both_namespaces_and_no_other(namespace, kind):
    real = getattr(namespace, CLASSES[kind])
    logger = real.__new__(real)  # most of them cannot be built without their package
    assert [other for other, row in LOGGERS.items() if row.matches(logger)] == [kind]


@pytest.mark.parametrize("kind", LOGGERS)
def test_every_kind_takes_a_pass_of_a_users_subclass(kind, make_logger, one_pass):
    logger = make_logger(CLASSES[kind], run_id="run")
    logged = log([logger], one_pass.shown, one_pass.step)
    assert logged.taken == (kind,)
    assert logged.failed == ()
    assert logger.metrics or logger.experiment.calls


@pytest.mark.parametrize("kind", LOGGERS)
def test_nothing_to_log_is_no_error(kind, make_logger):
    logger = make_logger(CLASSES[kind], run_id="run")
    assert log([logger], Shown({}, {}, LINE), 0).taken == (kind,)
    assert [call for call in logger.experiment.calls if call[0] != "flush"] == []
    assert logger.metrics == []


def test_one_failure_leaves_the_others_their_share(make_logger, one_pass):
    def fail(*args, **kwargs):
        raise ConnectionError("no network")

    broken = SimpleNamespace(log_image=fail)
    first = make_logger("TensorBoardLogger")
    loggers = [
        first,
        make_logger("CometLogger", experiment=broken),
        make_logger("MLFlowLogger", run_id="run"),
    ]
    logged = log(loggers, one_pass.shown, one_pass.step)
    assert logged.taken == ("tensorboard", "mlflow")
    ((kind, error),) = logged.failed
    assert kind == "comet"
    assert isinstance(error, ConnectionError)
    assert len(loggers[2].experiment.calls) == 4


def test_an_experiment_that_cannot_start_is_a_failure(make_logger, one_pass):
    class CometLogger:
        @property
        def experiment(self):
            raise PermissionError("no API key")

    logged = log([CometLogger(), make_logger("TensorBoardLogger")], one_pass.shown, 0)
    assert logged.taken == ("tensorboard",)
    assert [(kind, str(error)) for kind, error in logged.failed] == [("comet", "no API key")]


def test_ctrl_c_is_no_failure_of_a_logger(make_logger, one_pass):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt("by the user")

    logger = make_logger("CometLogger", experiment=SimpleNamespace(log_image=interrupt))
    with pytest.raises(KeyboardInterrupt, match="by the user"):
        log([logger], one_pass.shown, 0)


def test_two_loggers_of_one_kind_both_take_it(make_logger, one_pass):
    loggers = [make_logger("TensorBoardLogger"), make_logger("TensorBoardLogger")]
    assert log(iter(loggers), Shown(one_pass.images, {}, LINE), 0).taken == ("tensorboard", "tensorboard")
    assert loggers[0].experiment.calls == loggers[1].experiment.calls


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_csv_log_stays_as_the_user_knows_it(namespace, one_pass, tmp_path):
    logger = namespace.CSVLogger(tmp_path)
    logged = log([logger], one_pass.shown, one_pass.step)
    assert logged.taken == logged.failed == ()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_loggers_that_do_not_log_here_are_passed_over(namespace, one_pass, make_logger):
    dummy = namespace.logger.DummyLogger()
    silent = make_logger("TensorBoardLogger", experiment=dummy.experiment)  # as on rank 1
    absent = make_logger("TensorBoardLogger")
    absent.experiment = None
    logged = log([dummy, silent, absent, object(), None], one_pass.shown, one_pass.step)
    assert logged.taken == logged.failed == ()


@pytest.mark.parametrize(
    "image, shown",
    [
        (np.zeros((2, 3, 4), dtype=np.uint8), r"uint8 \(2, 3, 4\)"),
        (np.zeros((2, 3), dtype=np.uint8), r"uint8 \(2, 3\)"),
        (np.zeros((2, 3, 3)), r"float64 \(2, 3, 3\)"),
    ],
)
def test_a_picture_of_another_kind_is_refused_before_any_logging(image, shown, make_logger, one_pass):
    logger = make_logger("TensorBoardLogger")
    with pytest.raises(ValueError, match=rf"images\['bad'\] must be uint8 of shape .*, got {shown}"):
        Shown({**one_pass.images, "bad": image}, {}, LINE)
    assert logger.experiment.calls == []


def test_loggers_load_nothing_heavy():
    code = "import sys, lightning_landscape.loggers; assert not {'torch', 'lightning', 'wandb'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
