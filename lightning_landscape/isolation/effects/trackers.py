"""Libraries that write in threads or processes of their own, whose functions do nothing during a measurement."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any

from .hooks import Function, Hook, thread

LOGS = ("log*", "set_*", "add_*", "append", "extend", "track", "update", "upload*", "assign", "report_*", "save")
# A module, a class in it (None for the module), and patterns for the names of the functions that write.
WRITERS: tuple[tuple[str, str | None, tuple[str, ...]], ...] = (
    ("torch.utils.tensorboard.writer", "SummaryWriter", ("_get_file_writer", "flush", "close")),
    ("tensorboardX.writer", "SummaryWriter", ("_get_file_writer", "_get_comet_logger", "flush", "close")),
    ("tensorboard.summary.writer.event_file_writer", "EventFileWriter", ("add_event", "flush", "close")),
    ("wandb", None, ("log*", "save", "alert", "finish", "define_metric", "watch", "unwatch")),
    ("wandb.sdk.wandb_run", "Run", ("log*", "save", "alert", "finish", "define_metric", "watch", "unwatch")),
    ("wandb.sdk.wandb_summary", "SummaryDict", ("update", "__setitem__")),
    ("mlflow", None, ("log_*", "set_*", "delete_*", "start_run", "end_run", "register_model")),
    ("mlflow.tracking.client", "MlflowClient", ("log_*", "set_*", "delete_*", "create_*", "update_*")),
    ("comet_ml", "CometExperiment", LOGS),
    ("comet_ml.experiment", "BaseExperiment", LOGS),
    ("neptune.handler", "Handler", LOGS),
    ("neptune.metadata_containers.metadata_container", "MetadataContainer", (*LOGS, "__setitem__")),
    ("aim.sdk.run", "Run", (*LOGS, "__setitem__")),
    ("clearml.logger", "Logger", LOGS),
    ("swanlab", None, ("log*",)),
    ("dvclive.live", "Live", (*LOGS, "next_step", "make_*")),
    ("loguru._logger", "Logger", ("_log",)),
)


class Nothing:
    """The result of a suppressed writer, which is also each of its own attributes, items and results.

    >>> with Nothing().start(1)["run"] as run:
    ...     bool(run), list(run.info), str(run.name)
    (False, [], '')
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: object, **kwargs: object) -> Nothing:
        return self

    def __getitem__(self, key: object) -> Nothing:
        return self

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *raised: object) -> None:
        """Suppress no exception."""

    def __bool__(self) -> bool:
        return False

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __str__(self) -> str:
        return ""

    __fspath__ = __str__


NOTHING = Nothing()


def _give_nothing(original: Function, *args: object, **kwargs: object) -> Nothing:
    return NOTHING


_shown: set[tuple[Any, ...]] = set()
# What torch warns of where an acceleration, and not the user, calls vmap or the compiler.
FOREIGN_MESSAGES = ("There is a performance drop because we have not yet implemented the batching rule",)
FOREIGN_FILES = ("/torch/_dynamo/", "/torch/_inductor/", "/torch/_functorch/", "/torch/utils/cpp_extension.py")
FOREIGN_LOGGERS = ("torch.utils.cpp_extension",)  # says that it found CUDA_HOME and no CUDA, when it is imported


@contextmanager
def without_foreign_noise() -> Iterator[None]:
    """A context for accelerations: torch does not warn of its compiler and of vmap, which the user did not call.

    All other warnings of the user's code are shown as ever.
    """
    loggers = [logging.getLogger(name) for name in FOREIGN_LOGGERS]
    before = thread.is_accelerated, [logger.disabled for logger in loggers]
    thread.is_accelerated = True
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        thread.is_accelerated = before[0]
        for logger, disabled in zip(loggers, before[1], strict=True):
            logger.disabled = disabled


def _is_foreign(message: warnings.WarningMessage) -> bool:
    """True for a warning of torch's compiler, or of vmap."""
    file = message.filename.replace("\\", "/")
    return str(message.message).startswith(FOREIGN_MESSAGES) or any(part in file for part in FOREIGN_FILES)


def warning_function() -> Function | None:
    """The function that shows warnings now; code that catches warnings replaces it."""
    return vars(warnings).get("_showwarnmsg_impl")


def _show_once(original: Function, message: warnings.WarningMessage) -> None:
    """Show the first warning of each line of code, and all those that the code catches."""
    place = (message.category, message.filename, message.lineno)
    is_caught = warning_function() is not thread.warning_function
    if thread.is_accelerated and not is_caught and _is_foreign(message):
        return
    if is_caught or place not in _shown:
        _shown.update([] if is_caught else [place])
        original(message)


def writer_classes() -> Iterator[type]:
    """The loaded classes of `WRITERS`, with their subclasses."""
    waiting = [getattr(sys.modules.get(module), kind, None) for module, kind, _ in WRITERS if kind is not None]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type):
            yield kind
            waiting += kind.__subclasses__()


_cached: tuple[list[ModuleType] | None, list[Hook]] = (None, [])  # the loaded modules, and the hooks for them


def hooks() -> list[Hook]:
    """The hooks for logging, warnings, and the loaded libraries of `WRITERS`."""
    global _cached
    loaded = [sys.modules[name] for name, _, _ in WRITERS if name in sys.modules]
    if loaded != _cached[0]:
        result = [Hook(logging.Logger, "callHandlers", _give_nothing), Hook(warnings, "_showwarnmsg", _show_once)]
        for module, kind, patterns in WRITERS:
            owner = sys.modules.get(module) if kind is None else getattr(sys.modules.get(module), kind, None)
            for name in vars(owner) if owner is not None else ():
                value = getattr(owner, name)
                writes = any(fnmatchcase(name, pattern) for pattern in patterns)
                if writes and callable(value) and not isinstance(value, type):
                    result.append(Hook(owner, name, _give_nothing))
        _cached = (loaded, result)
    return _cached[1]
